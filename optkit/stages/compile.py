"""Compile: a model in the form that one target loads, with its runtime options explicit."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, ClassVar

from optkit.errors import UsageError
from optkit.formats import opening
from optkit.formats.model import Model
from optkit.notes import Note
from optkit.options.verbs.compile import CompileOptions
from optkit.stages.stage import Context, Outcome, Stage
from optkit.targets.target import target


class Compile(CompileOptions, Stage):
    """The file that the target loads fastest, and the options to load it with."""

    name: ClassVar[str] = "compile"

    def check(self, model: Model, context: Context) -> None:
        """Refuse a format that the target does not take."""
        formats = target(context.target).formats
        if model.format not in formats:
            raise UsageError(
                f"{model.path}: {context.target} takes {', '.join(formats)}, not {model.format}",
                hint="export it first" if "onnx" in formats and model.format != "openvino" else "choose another target",
            )
        target(context.target).checked(self.options)
        self._built(model, context)

    def apply(self, model: Model, context: Context) -> Outcome:
        """Write the target's own form. Raises TargetError, which names the refused operators."""
        runtime = target(context.target)
        kept = dict(model.options) if model.target == context.target else {}
        defaults = runtime.default_options(threads=self.threads)
        if self.threads is not None:
            kept = {key: value for key, value in kept.items() if key not in runtime.thread_options}
        on_device = {} if self.device is None else runtime.device_options(self.device)
        options = runtime.checked(defaults | kept | on_device | self.options | self._built(model, context))
        started = time.monotonic()
        compiled = runtime.compile(model, options, context.workdir, context.progress)
        seconds = time.monotonic() - started
        result = replace(
            opening.open(compiled.path), signature=model.signature, target=context.target, options=compiled.options
        )
        notes = tuple(Note(text) for text in compiled.notes)
        return Outcome(result, notes, context.target, "compile", seconds, compiled.facts)

    def _built(self, model: Model, context: Context) -> dict[str, Any]:
        """Options for engines, of which targets that build none take none. Raises UsageError."""
        return target(context.target).build_options(
            model.signature, compute_capability=self.compute_capability, shapes=self.shapes
        )
