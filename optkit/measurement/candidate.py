"""A candidate: a model on a target with its options, named as tables show it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from optkit.errors import MissingDeviceError, TargetError, UsageError
from optkit.formats import opening
from optkit.formats.model import TORCH_FORMATS, Model
from optkit.lazy import did_you_mean
from optkit.options.measuring import TimeLimit
from optkit.targets.table import TARGETS
from optkit.targets.target import Target, native, target

TIME_LIMIT = TimeLimit().time_limit
"""Seconds that one request may take before its child counts as hung."""


@dataclass(frozen=True)
class Candidate:
    """A model on a target with its options, under the name that tables show.

    ``sessions`` is the number of sessions at once in its process. It counts as hung after ``time_limit`` seconds
    without an answer.
    """

    name: str
    model: Model
    target: str
    options: dict[str, Any] = field(default_factory=dict)
    sessions: int = 1
    time_limit: float = TIME_LIMIT

    def in_parallel(self, *, sessions: int, threads: int) -> Candidate:
        """Return the same with ``sessions`` sessions at once, of ``threads`` threads each."""
        options = self.options | target(self.target).parallel_options(threads=threads, sessions=sessions)
        return replace(self, options=options, sessions=sessions)


def resolve_candidate(
    source: str | Path | Model,
    *,
    target: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    inputs: tuple[str, ...] = (),
    code: str | None = None,
    trust: bool = False,
    time_limit: float = TIME_LIMIT,
    runs: bool = True,
) -> Candidate:
    """Return a model, or ``PATH@TARGET``, with the options it will run with.

    The target is the one after ``@``, else ``target``, else the bundle's own, else what fits the format. A bundle's
    options hold on its own target, but for what ``device`` ("cpu" or "cuda") and ``threads`` say. Raises ModelError,
    UsageError, TargetError, MissingLibraryError, and MissingDeviceError unless it is not to run.
    """
    if isinstance(source, Model):
        model, asked = source, target
    else:
        path, suffix = _split(str(source))
        model, asked = opening.open(path, inputs=inputs, code=code, trust=trust), suffix or target
    name = asked or model.target or native(model.format)
    runtime = _fitting(model, name)
    if runs:
        check_present(runtime)
    options = _options(runtime, model, threads) | ({} if device is None else runtime.device_options(device))
    return Candidate(_name(source), model, name, options, time_limit=time_limit)


def check_present(found: Target) -> None:
    """Raise MissingDeviceError for a target whose device is missing."""
    absence = found.absence()
    if absence is not None:
        raise MissingDeviceError(f"{found.name} cannot run here: {absence}", hint="optkit doctor shows what is there")


def _split(text: str) -> tuple[str, str | None]:
    """``PATH@TARGET`` -> path and target; a path that exists may hold an ``@`` of its own."""
    path, at, name = text.rpartition("@")
    if not at or Path(text).exists():
        return text, None
    if name not in TARGETS:
        raise UsageError(f"{text}: unknown target {name!r}", hint=did_you_mean(name, TARGETS))
    return path, name


def _name(source: str | Path | Model) -> str:
    path = source.path if isinstance(source, Model) else Path(_split(str(source))[0])
    return path.name or str(path)


def _fitting(model: Model, name: str) -> Target:
    found = target(name)
    if model.format not in found.formats:
        allowed = ", ".join(found.formats)
        exportable = model.format in TORCH_FORMATS and "onnx" in found.formats
        hint = f"optkit export {model.path} -o {model.path.stem}.onnx" if exportable else None
        raise TargetError(f"{model.path}: {name} takes {allowed}, not {model.format}", hint=hint)
    found.version()
    return found


def _options(found: Target, model: Model, threads: int | None) -> dict[str, Any]:
    defaults = found.default_options(threads=threads)
    if model.target != found.name:
        return defaults
    return defaults | model.options | (found.parallel_options(threads=threads) if threads else {})
