"""Export: a torch model to ONNX, dynamic dimensions kept, outputs compared."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from optkit.errors import OptkitError, SignatureError, UsageError
from optkit.formats import opening
from optkit.formats.model import TORCH_FORMATS, Model
from optkit.formats.onnx import graph
from optkit.formats.tensors import Arrays, Signature
from optkit.formats.torch import loading, onnx_export
from optkit.formats.torch.onnx_export import Example, FixedDimensionError
from optkit.measurement import parity
from optkit.measurement.parity import Tolerance
from optkit.notes import Note
from optkit.options.verbs.export import ExportOptions
from optkit.stages.stage import Context, Outcome, Stage

if TYPE_CHECKING:
    import onnx

_EXAMPLE = "give them: --input 'x:float32[batch,3,224,224]'"


class Export(ExportOptions, Stage):
    """A torch model as ONNX.

    Opset 18 is the one that torch's exporter writes; others it converts to, where it can. ``rtol`` and ``atol``
    bound the difference between both models' outputs, element by element: sums of float32 in another order differ by
    about 1e-5 of the largest; the bounds leave room for deep nets and none for a wrong operator.
    """

    name: ClassVar[str] = "export"
    needs_target: ClassVar[bool] = False

    @property
    def takes_torch(self) -> bool:
        return True

    def check(self, model: Model, context: Context) -> None:
        """Refuse other models than torch's, and those with unknown inputs."""
        if model.format == "tensorrt":
            raise UsageError(
                f"{model.path}: an engine cannot be exported to ONNX", hint="take the model it was built of"
            )
        if model.format == "openvino":
            raise UsageError(f"{model.path}: an OpenVINO model cannot be exported to ONNX", hint="export its source")
        if model.format not in TORCH_FORMATS:
            return
        if model.signature is None or not model.signature.inputs:
            raise SignatureError(f"{model.path} does not tell its inputs", hint=_EXAMPLE)
        for spec in model.signature.inputs:
            if spec.dtype == "string":
                raise SignatureError(f"{model.path}: input {spec}: torch has no tensors of strings", hint=_EXAMPLE)

    def apply(self, model: Model, context: Context) -> Outcome:
        """Write ``model.onnx``. Raises StageError where torch cannot export, ParityError where it exported wrongly."""
        if model.format == "onnx" or model.signature is None:
            return Outcome(model, (Note("already ONNX: nothing to export", model.path.name),))
        started = time.monotonic()
        with onnx_export.in_one_line(model.path):
            loaded = loading.load(model)
            example = onnx_export.example(
                loaded, model.signature, _real(model.signature, context), name=str(model.path)
            )
        if model.format == "torchscript":
            return self._traced(model, context, loaded, example, started)
        try:
            with onnx_export.in_one_line(model.path):
                proto, limits = onnx_export.by_program(loaded, example, model.signature, self.opset)
        except FixedDimensionError as fixed:
            if model.format == "exported-program":
                raise
            return self._traced(model, context, loaded, example, started, instead=fixed)
        notes = tuple(Note(f"is {limit} in the export, as in the model", dim) for dim, limit in limits.notes.items())
        return self._proven(model, context, proto, example, started, notes=notes, method="torch.export")

    def _traced(
        self,
        model: Model,
        context: Context,
        loaded: Any,
        example: Example,
        started: float,
        *,
        instead: FixedDimensionError | None = None,
    ) -> Outcome:
        """Export by tracing; ``instead`` is the error of torch.export, raised again where tracing fails too."""
        signature = model.signature or Signature(())
        notes = () if instead is None else (Note(f"traced, since torch.export would not do: {instead.message}"),)
        try:
            with onnx_export.in_one_line(model.path):
                proto = onnx_export.by_trace(loaded, example, signature, self.opset)
            outcome = self._proven(model, context, proto, example, started, notes=notes, method="trace")
        except OptkitError as error:
            raise (instead or error) from None
        if instead is not None and any(note.level == "warning" for note in outcome.notes):
            raise instead  # nothing shows that the trace is right at other sizes
        return outcome

    def _proven(
        self,
        source: Model,
        context: Context,
        proto: onnx.ModelProto,
        example: Example,
        started: float,
        *,
        notes: tuple[Note, ...],
        method: str,
    ) -> Outcome:
        seconds = time.monotonic() - started
        graph.save(proto, context.workdir / "model.onnx")
        result = opening.open(context.workdir / "model.onnx")
        signature = source.signature or Signature(())
        feeds, origin = parity.feeds(signature, context.evaluation or context.calibration, size=example.size)
        agreement = parity.prove(source, result, signature, feeds, Tolerance(self.rtol, self.atol))
        worst = agreement.worst
        told = Note(
            f"agrees with {source.path.name}: largest difference {worst.largest:.1e} (output "
            f"{worst.output!r}) at {'; '.join(agreement.sizes)}; on {origin}"
        )
        skipped = tuple(Note(text, level="warning") for text in agreement.skipped)
        facts = {
            "dynamic": sorted({dim for spec in result.signature.inputs for dim in onnx_export.dynamic(spec).values()})
            if result.signature
            else [],
            "parity": {
                "max_difference": worst.largest,
                "output": worst.output,
                "sizes": list(agreement.sizes),
                "data": origin,
            },
        }
        return Outcome(result, (*notes, told, *skipped), "torch", method, seconds, facts)


def _real(signature: Signature, context: Context) -> Arrays | None:
    """Return a feed of real data to export with, if any: made-up inputs may be out of a model's range."""
    dataset = context.evaluation or context.calibration
    if dataset is None:
        return None
    return next(dataset.batches(signature.fixed_batch or 2, pad=True)).feed
