"""Quantize: lower precision by the method that fits model, target and data."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, ClassVar

from optkit.errors import UsageError
from optkit.formats import opening
from optkit.formats.model import TORCH_FORMATS, Model
from optkit.formats.onnx import graph, nodes
from optkit.formats.onnx.quantized import quantized
from optkit.formats.openvino import ir
from optkit.notes import Note
from optkit.options.training import Schedule
from optkit.options.verbs.quantize import Floats, QuantizeOptions
from optkit.quantization.quantizer import CALIBRATES, QUANTIZERS, Request, quantizer
from optkit.stages import quantization_aware
from optkit.stages.stage import Context, Interrupted, Outcome, Stage
from optkit.system.native import Engine
from optkit.training import lesson as lessons

_TARGETS = ("onnxruntime", "openvino", "tensorrt")
_MODULES = ("module", "state-dict", "exported-program")
_DATA_HINT = "give --data (or --calibration), or --method dynamic or weight-only"


class Quantize(QuantizeOptions, Schedule, Stage):
    """A model in lower precision. With ``auto``, data, target and operators decide, and a note says so.

    The options of training are for ``qat`` alone: quantization-aware training, then static INT8.
    """

    name: ClassVar[str] = "quantize"
    needs_calibration: ClassVar[bool] = True

    @property
    def takes_torch(self) -> bool:
        return self.engine == "neural-compressor" or self.trains

    @property
    def trains(self) -> bool:
        return self.method == "qat"

    def check(self, model: Model, context: Context) -> None:
        """Refuse combinations that cannot work, before any work."""
        self._check_format(model, context)
        if model.format == "openvino" and context.target != "openvino":
            raise UsageError(f"{model.path}: an OpenVINO model is quantized for openvino", hint="--target openvino")
        if context.target not in _TARGETS:
            raise UsageError(
                f"nothing is quantized for target {context.target}", hint=f"--target {' or '.join(_TARGETS)}"
            )
        if context.target == "tensorrt":
            self._check_tensorrt(context)
        if self.precision == "fp8" and context.target != "tensorrt":
            raise UsageError(f"{context.target} has no fp8 kernels", hint="--target tensorrt, or --int8")
        if self.floats != "float32":
            self._check_floats(context)
        if self.precision == "bf16" and context.target == "onnxruntime":
            raise UsageError("onnxruntime has no bf16 kernels on CPUs", hint="--target openvino, or --fp16")
        if self.precision == "int4" and self.method not in ("auto", "weight-only"):
            raise UsageError(f"int4 is for weights only, not {self.method}", hint="leave --method out")
        if (self.method == "static" or self.takes_torch) and context.calibration is None:
            raise UsageError("static quantization needs calibration data", hint=_DATA_HINT)
        engine, method = self._engine(context), "static" if self.trains else self.method
        if self.smooth_quant is not None and engine != "nncf":
            raise UsageError(f"{engine} has no SmoothQuant", hint="--target openvino, or leave --smooth-quant out")
        if self.calibrate not in CALIBRATES[engine]:
            known = " or ".join(CALIBRATES[engine])
            raise UsageError(f"{engine} cannot calibrate by {self.calibrate}", hint=f"--calibrate {known}")
        if method != "auto" and f"{engine}-{method}" not in QUANTIZERS:
            known = ", ".join(sorted(name for name in QUANTIZERS if name.startswith(engine)))
            raise UsageError(f"{engine} has no method {method!r} for {context.target}", hint=f"known: {known}")

    def _check_floats(self, context: Context) -> None:
        if self.precision not in ("int8", "fp8"):
            raise UsageError(f"floats goes with int8 and fp8, not with {self.precision}", hint="leave floats out")
        if context.target != "tensorrt":
            raise UsageError(
                f"{self.floats} beside {self.precision} is for tensorrt, not for {context.target}",
                hint=f"--target tensorrt, or --{self.precision} alone",
            )

    def _check_tensorrt(self, context: Context) -> None:
        if self.precision == "int4":
            raise UsageError("nothing is made int4 for tensorrt", hint="--int8, --fp8, --fp16 or --bf16")
        if self.engine != "auto" or self.trains:
            asked = "qat" if self.trains else self.engine
            raise UsageError(f"{asked} makes nothing for tensorrt", hint="leave --engine and --method out")
        if self.precision in ("int8", "fp8") and self.method not in ("auto", "static"):
            raise UsageError(f"{self.precision} for tensorrt is static, not {self.method}", hint="leave --method out")
        if self.precision in ("int8", "fp8") and context.calibration is None:
            raise UsageError("static quantization needs calibration data", hint="give --data (or --calibration)")

    def _check_format(self, model: Model, context: Context) -> None:
        if model.format == "tensorrt":
            raise UsageError(
                f"{model.path}: an engine is built already", hint="quantize the ONNX model it was built of"
            )
        if self.trains:
            lessons.check(model, context.training, "quantization-aware training")
            if self.precision != "int8" or self.engine == "neural-compressor":
                raise UsageError("qat makes int8 with onnxruntime or nncf", hint="--int8, and leave --engine out")
            return
        if not self.takes_torch and model.format in TORCH_FORMATS:
            raise UsageError(f"{model.path}: quantize works on ONNX, not on {model.format}", hint="export it first")
        if self.takes_torch and model.format not in _MODULES:
            raise UsageError(
                f"{model.path}: neural-compressor works on modules of PyTorch, not on {model.format}",
                hint="--engine auto, or give a state dict (--code), a module or a .pt2",
            )
        if self.takes_torch and self.precision != "int8":
            raise UsageError(f"neural-compressor makes int8, not {self.precision}", hint="--engine auto")

    def apply(self, model: Model, context: Context) -> Outcome:
        """Write the quantized model. Raises StageError where nothing can be quantized."""
        found = _quantized(model)
        if found is not None:
            return self._again(model, context, found)
        if not self.trains:
            return self._in_integers(model, context)
        try:
            model, learnt, facts = quantization_aware.trained(model, context, self, per_channel=self.per_channel)
        except Interrupted as stopped:
            best = stopped.finish
            raise Interrupted(lambda: self._in_integers(best(), context).model) from None
        return self._in_integers(model, context, learnt, facts)

    def _again(self, model: Model, context: Context, found: str) -> Outcome:
        """Leave a model alone that is ``found`` quantized; on tensorrt, convert the operators that it left in float."""
        leaves = self._floats != "float32" and context.target == "tensorrt" and found.startswith("QDQ")
        if not leaves or "between" in found:
            return Outcome(model, (Note(f"already quantized ({found}): not done again", level="warning"),))
        rest = self.model_copy(update={"precision": self._floats, "floats": "float32", "method": "auto"})
        told = Note(f"already quantized ({found}): what that leaves in float becomes {self._floats}", level="warning")
        return rest._in_integers(model, context, (told,))

    def _in_integers(
        self, model: Model, context: Context, learnt: tuple[Note, ...] = (), facts: dict[str, Any] | None = None
    ) -> Outcome:
        engine, method, why = self._choose(model, context)
        changes = {"floats": self._floats, "bias_correction": "none" if self.trains else self.bias_correction}
        request = Request(
            model=model,
            workdir=context.workdir,
            bits=self._bits(),
            calibration=context.calibration,
            options=self.part(QuantizeOptions).model_copy(update=changes),  # bias correction would undo what was learnt
            progress=context.progress,
            engine=Engine(engine),
        )
        done = quantizer(engine, method)(request)
        result = replace(
            opening.open(done.path),
            signature=model.signature,
            target=context.target if done.options else model.target,
            options=model.options | done.options,
        )
        notes = (why, *learnt, *done.notes, *_size_notes(model, result))
        between = "" if self.floats == "float32" else f" and {self.floats}"
        how = f"{self.precision}{between} {self.method if self.trains else method}"
        return Outcome(result, notes, engine, how, request.engine.seconds, done.facts | (facts or {}))

    def _engine(self, context: Context) -> str:
        if self.engine != "auto":
            return self.engine
        return {"openvino": "nncf"}.get(context.target, context.target)

    @property
    def _floats(self) -> Floats:
        return self.precision if self.precision in ("fp16", "bf16") else self.floats

    def _bits(self) -> int:
        return {"int4": 4, "int8": 8, "fp8": 8, "fp16": 16, "bf16": 0}[self.precision]

    def _choose(self, model: Model, context: Context) -> tuple[str, str, Note]:
        engine = self._engine(context)
        if self.precision in ("fp16", "bf16"):
            how = f"{self.precision} by converting the graph"
            return context.target, "convert", Note(how if engine == "tensorrt" else f"{how} with {context.target}")
        if self.precision == "fp8":
            return engine, "float8", Note("static fp8: calibration samples give the ranges")
        if self.precision == "int4":
            return engine, "weight-only", Note(f"int4 weights with {engine}")
        if self.trains:
            return engine, "static", Note(f"static int8 with {engine} after quantization-aware training")
        if self.method != "auto":
            return engine, self.method, Note(f"{self.method} int8 with {engine}, as asked for")
        if engine == "tensorrt":
            half = (
                "; what stays float is float32: --fp16 beside --int8 makes it half" if self._floats == "float32" else ""
            )
            return engine, "static", Note(f"static int8: strongly typed networks take ranges from the graph{half}")
        if engine == "onnxruntime" and _mostly_matrices(model):
            why = "MatMul and Gemm dominate, and lose least when activations are measured at every run"
            more = "--method static takes fixed ranges from data instead"
            return engine, "dynamic", Note(f"dynamic int8 with {engine}: {why}; {more}")
        if context.calibration is not None:
            count = len(context.calibration)
            return engine, "static", Note(f"static int8 with {engine}: {count} calibration samples give the ranges")
        why = "dynamic int8 makes Conv many times slower" if engine == "onnxruntime" else "no data was given"
        more = "with --data, static int8 would also make Conv and the activations int8"
        return engine, "weight-only", Note(f"weight-only int8 with {engine}: {why}; {more}")


def _quantized(model: Model) -> str | None:
    if model.format in TORCH_FORMATS:
        return None
    if model.format == "openvino":
        return ir.quantized(ir.read(model.path))
    found = quantized(graph.parse(model.path))
    return None if found == "float16" else found


def _mostly_matrices(model: Model) -> bool:
    counts: Counter[str] = Counter(nodes.operators(graph.parse(model.path)))
    return counts["MatMul"] + counts["Gemm"] + counts["LSTM"] > counts["Conv"] + counts["ConvTranspose"]


def _size_notes(before: Model, after: Model) -> tuple[Note, ...]:
    grown = after.size_bytes / before.size_bytes
    if grown <= 1:
        return ()
    why = (
        "the weights are too few to pay"
        if before.format == after.format
        else f"{after.format} takes more for the graph than the weights save"
    )
    return (Note(f"the file grew to {grown:.2f} times its size: {why}", level="warning"),)
