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
from optkit.targets.tensorrt import shape_profiles


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
        shape_profiles.parsed(self.shapes)

    def apply(self, model: Model, context: Context) -> Outcome:
        """Write the target's own form. Raises TargetError, which names the refused operators."""
        runtime = target(context.target)
        kept = dict(model.options) if model.target == context.target else {}
        defaults = runtime.default_options(threads=self.threads)
        if self.threads is not None:
            kept = {key: value for key, value in kept.items() if "threads" not in key.lower()}
        on_device = {} if self.device is None else runtime.device_options(self.device)
        of_tensorrt = self._of_tensorrt() if context.target == "tensorrt" else {}
        options = defaults | kept | on_device | self.options | of_tensorrt
        started = time.monotonic()
        compiled = runtime.compile(model, options, context.workdir, context.progress)
        seconds = time.monotonic() - started
        result = replace(
            opening.open(compiled.path), signature=model.signature, target=context.target, options=compiled.options
        )
        notes = tuple(Note(text) for text in compiled.notes)
        return Outcome(result, notes, context.target, "compile", seconds, compiled.facts)

    def _of_tensorrt(self) -> dict[str, Any]:
        """Return the options that only tensorrt takes; other targets of a recipe ignore them."""
        found: dict[str, Any] = {}
        if self.compute_capability:
            found["compute_capabilities"] = list(self.compute_capability)
        if self.shapes:
            found["shapes"] = {name: str(sizes) for name, sizes in shape_profiles.parsed(self.shapes).items()}
        return found
