"""The diagnosis behind ``doctor``: which runtimes import, which providers open a session, and why not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from optkit import lazy
from optkit.notes import Note
from optkit.records.machine import LibraryRecord, Machine, ProviderRecord
from optkit.system import fingerprint, native
from optkit.targets.table import TARGETS
from optkit.targets.target import Target

_TIME_LIMIT = 120
_NOT_INSTALLED = "not installed"


def tried(runtime: Target) -> LibraryRecord:
    """Import the runtime in a process of its own, which it may crash."""
    found = LibraryRecord(name=runtime.name, version=None, extra=runtime.extra, error=_NOT_INSTALLED)
    for module in filter(lazy.available, runtime.modules):
        version, error = _imported(module)
        version = fingerprint.version(module) or version
        found = LibraryRecord(name=runtime.name, version=version, extra=runtime.extra, error=error)
        if error is None:
            break
    return found


def _imported(module: str) -> tuple[str | None, str | None]:
    """Return the version that the module tells, and the reason why it does not import."""
    done = _run(f"import {module}; print(getattr({module}, '__version__', ''))")
    if done is None:
        return None, f"does not import within {_TIME_LIMIT} s"
    if done.returncode:
        return None, _reason(done, "on import")
    return done.stdout.strip() or None, None


def tried_parts(runtime: Target) -> tuple[list[ProviderRecord], list[Note]]:
    """Try the parts of a runtime in a process that they may crash; notes tell what to do where one fails."""
    if type(runtime).parts is Target.parts or not any(map(lazy.available, runtime.modules)):
        return [], []
    root = str(Path(__file__).parents[2])
    code = f"import sys, json; sys.path.append({root!r}); from optkit.targets.target import loaded"
    done = _run(f"{code}; print(json.dumps(list(loaded({TARGETS[runtime.name]!r}).parts())))")
    if done is None or done.returncode:
        reason = f"no answer within {_TIME_LIMIT} s" if done is None else _reason(done, "when its parts are tried")
        return [], [Note(text=reason, where=runtime.name, level="warning")]
    answers = json.loads(done.stdout.splitlines()[-1])
    found = [ProviderRecord(name=name, error=error, hint=hint) for name, error, hint in answers]
    return found, [Note(text=each.hint, where=each.name) for each in found if each.hint]


def _run(code: str) -> subprocess.CompletedProcess[str] | None:
    """Run Python code in a process of its own; ``None`` where it takes too long."""
    # In a folder of its own, so that no file in the user's folder is taken for a library.
    with tempfile.TemporaryDirectory(prefix="optkit-") as folder:
        try:
            return subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True, text=True, errors="replace", timeout=_TIME_LIMIT, cwd=folder, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None


def _reason(done: subprocess.CompletedProcess[str], when: str) -> str:
    if done.returncode < 0:
        return f"crashes {when}: {signal.Signals(-done.returncode).name}"
    last = done.stderr.strip().rpartition("\n")[2]
    return native.readable(last) or f"ends with exit code {done.returncode} {when}"


def of_libraries(here: Machine, targets: Sequence[LibraryRecord]) -> Iterable[Note]:
    """Note missing libraries of optkit's extras, with the command that installs them, and targets that do not import.

    A runtime from outside that imports may tell no version.
    """
    absent = [each for each in targets if each.error == _NOT_INSTALLED]
    missing: dict[str, list[str]] = {}
    for library in (*absent, *(each for each in here.libraries if each.version is None)):
        if library.extra is not None and library.extra in lazy.EXTRAS:
            missing.setdefault(library.extra, []).append(library.name)
    for extra, names in missing.items():
        one = "is" if len(set(names)) == 1 else "are"
        text = f"{', '.join(dict.fromkeys(names))} {one} not installed: {lazy.pip_command(extra)}"
        yield Note(text=text)
    for target in targets:
        if target.error not in (None, _NOT_INSTALLED):
            text = f"is installed and does not work: {target.error}"
            yield Note(text=text, where=target.name, level="warning")


def of_cpu(here: Machine) -> Iterable[Note]:
    """Yield notes on the processor that concern quantized models."""
    if fingerprint.saturates(here.isa):
        text = "no VNNI: INT8 sums saturate on this CPU, so the same INT8 file computes something else than elsewhere"
        yield Note(text=f"{text}, and INT8 gains less speed", where="CPU", level="warning")
