"""Quantize: lower precision by the method that fits model, target and data."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, ClassVar

from optkit.errors import UsageError
from optkit.formats import opening
from optkit.formats.model import TORCH_FORMATS, Model
from optkit.formats.onnx import graph
from optkit.formats.onnx.nodes import count_operators
from optkit.formats.onnx.quantized import quantization_scheme
from optkit.formats.openvino import ir
from optkit.notes import Note
from optkit.options.training import Schedule
from optkit.options.verbs.quantize import Floats, QuantizeOptions
from optkit.quantization.quantizer import (
    QUANTIZERS,
    Request,
    quantizer,
    static_quantizer,
)
from optkit.stages import quantization_aware
from optkit.stages.stage import Context, Interrupted, Outcome, Stage
from optkit.system.native import Engine
from optkit.targets.target import Target, native, offered, target
from optkit.training.lesson import check_trainable

_NEAR = {"bf16": ("fp16",), "fp16": ("bf16",), "fp8": ("int8",), "int4": ("int8",), "int8": ("fp16",)}
"""The precisions to try in place of one that a target lacks."""
_INTEGERS = ("int8", "fp8")
"""The precisions that leave other operators in float."""
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
        self._check_target(model, context)
        if self.floats != "float32":
            self._check_floats(context)
        if self.precision == "int4" and self.method not in ("auto", "weight-only"):
            raise UsageError(f"int4 is for weights only, not {self.method}", hint="leave --method out")
        engine, method = self._engine(context), "static" if self.trains else self.method
        if method != "auto" and f"{engine}-{method}" not in QUANTIZERS:
            known = ", ".join(sorted(name for name in QUANTIZERS if name.startswith(f"{engine}-")))
            raise UsageError(f"{engine} has no method {method!r} for {context.target}", hint=f"known: {known}")
        if context.calibration is None and self._calibrates(context):
            raise UsageError("static quantization needs calibration data", hint=_DATA_HINT)
        self._check_calibration(engine)

    def _check_target(self, model: Model, context: Context) -> None:
        """Refuse what cannot be made for the target, and engines whose results it does not open."""
        precisions = target(context.target).precisions
        able = [each.name for each in offered() if each.precisions.makers]
        if not precisions.makers:
            raise UsageError(f"nothing is quantized for target {context.target}", hint=f"--target {' or '.join(able)}")
        formats = target(context.target).formats
        if model.format not in (*formats, *TORCH_FORMATS):
            raise UsageError(
                f"{model.path}: {context.target} takes {', '.join(formats)}, not {model.format}",
                hint=f"--target {native(model.format)}",
            )
        if self.precision not in precisions.makers:
            others = [each.name for each in offered() if self.precision in each.precisions.makers]
            near = next((each for each in _NEAR[self.precision] if each in precisions.makers), None)
            ways = [*(f"--target {name}" for name in others[:1]), *([f"--{near}"] if near else [])]
            told = precisions.refused.get(self.precision, f"{context.target} has no {self.precision} kernels")
            raise UsageError(told, hint=", or ".join(ways))
        if self.engine not in ("auto", precisions.engine, *precisions.engines):
            raise UsageError(f"{self.engine} makes nothing for {context.target}", hint="leave --engine out")
        if precisions.only_static and self.precision in _INTEGERS and self.method not in ("auto", "static", "qat"):
            told = f"{self.precision} for {context.target} is static, not {self.method}"
            raise UsageError(told, hint="leave --method out")
        if self.trains and not precisions.quantization_aware:
            raise UsageError(f"qat makes nothing for {context.target}", hint="leave --method out")

    def _check_floats(self, context: Context) -> None:
        if self.precision not in _INTEGERS:
            raise UsageError(f"floats goes with int8 and fp8, not with {self.precision}", hint="leave floats out")
        if self.floats not in target(context.target).precisions.floats:
            able = " or ".join(each.name for each in offered() if self.floats in each.precisions.floats)
            raise UsageError(
                f"{self.floats} beside {self.precision} is for {able}, not for {context.target}",
                hint=f"--target {able}, or --{self.precision} alone",
            )

    def _check_calibration(self, engine: str) -> None:
        """Refuse what the engine's static method does not know."""
        static = static_quantizer(engine)
        if self.smooth_quant is not None and (static is None or "smooth_quant" not in static.options):
            able = " or ".join(each.name for each in offered() if _knows_smooth_quant(each))
            raise UsageError(f"{engine} has no SmoothQuant", hint=f"--target {able}, or leave --smooth-quant out")
        calibrations = static.calibrations if static else ("minmax",)
        if self.calibrate not in calibrations:
            raise UsageError(
                f"{engine} cannot calibrate by {self.calibrate}", hint=f"--calibrate {' or '.join(calibrations)}"
            )

    def _calibrates(self, context: Context) -> bool:
        """True if every quantizer that may be chosen needs calibration data."""
        makers = target(context.target).precisions.makers[self.precision]
        if self.takes_torch or self.method == "static":
            return True
        return self.method == "auto" and all(quantizer(*each).calibrations for each in makers)

    def _check_format(self, model: Model, context: Context) -> None:
        if model.format == "tensorrt":
            raise UsageError(
                f"{model.path}: an engine is built already", hint="quantize the ONNX model it was built of"
            )
        if self.trains:
            check_trainable(model, context.training, "quantization-aware training")
            if self.precision != "int8" or self.engine == "neural-compressor":
                raise UsageError("qat makes int8, and not by neural-compressor", hint="--int8; leave --engine out")
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
        """Leave a model that is ``found`` quantized alone, but convert its floats if the target has other types."""
        floats = target(context.target).precisions.floats
        leaves = self._floats != "float32" and self._floats in floats and found.startswith("QDQ")
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
            ranges=context.ranges,
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
        """Return the engine asked for, else the target's own."""
        return target(context.target).precisions.engine or "" if self.engine == "auto" else self.engine

    @property
    def _floats(self) -> Floats:
        return self.precision if self.precision in ("fp16", "bf16") else self.floats

    def _bits(self) -> int:
        return {"int4": 4, "int8": 8, "fp8": 8, "fp16": 16, "bf16": 0}[self.precision]

    def _choose(self, model: Model, context: Context) -> tuple[str, str, Note]:
        """Engine and method, and a note on the reason."""
        precisions = target(context.target).precisions
        engine, maker = self._engine(context), precisions.makers[self.precision][0]
        if self.precision in ("fp16", "bf16"):
            return *maker, Note(f"{self.precision} by converting the graph for {context.target}")
        if self.precision == "fp8":
            return *maker, Note("static fp8: calibration samples give the ranges")
        if self.precision == "int4":
            return engine, maker.method, Note(f"int4 weights with {engine}")
        if self.trains:
            return engine, "static", Note(f"static int8 with {engine} after quantization-aware training")
        if self.method != "auto":
            return engine, self.method, Note(f"{self.method} int8 with {engine}, as asked for")
        if precisions.only_static:
            told = f"static int8: {precisions.only_static}"
            if self.floats == "float32" and "fp16" in precisions.floats:
                told += "; what stays float is float32: --fp16 beside --int8 makes it half"
            return engine, "static", Note(told)
        return self._by_model_and_data(model, context, engine)

    def _by_model_and_data(self, model: Model, context: Context, engine: str) -> tuple[str, str, Note]:
        """Dynamic INT8 for matrices, static where there is calibration data, else weights alone."""
        dynamic = f"{engine}-dynamic" in QUANTIZERS
        if dynamic and _mostly_matrices(model):
            why = "MatMul and Gemm dominate, and lose least when activations are measured at every run"
            more = "--method static takes fixed ranges from data instead"
            return engine, "dynamic", Note(f"dynamic int8 with {engine}: {why}; {more}")
        if context.calibration is not None and static_quantizer(engine) is not None:
            count = len(context.calibration)
            return engine, "static", Note(f"static int8 with {engine}: {count} calibration samples give the ranges")
        method = target(context.target).precisions.makers["int8"][-1].method
        why = "dynamic int8 makes Conv many times slower" if dynamic else "no data was given"
        more = "with --data, static int8 would also make Conv and the activations int8"
        return engine, method, Note(f"{method} int8 with {engine}: {why}; {more}")


def _knows_smooth_quant(found: Target) -> bool:
    engine = found.precisions.engine
    static = static_quantizer(engine) if engine else None
    return static is not None and "smooth_quant" in static.options


def _quantized(model: Model) -> str | None:
    if model.format in TORCH_FORMATS:
        return None
    if model.format == "openvino":
        return ir.quantized(ir.read(model.path))
    found = quantization_scheme(graph.parse(model.path))
    return None if found == "float16" else found


def _mostly_matrices(model: Model) -> bool:
    counts: Counter[str] = Counter(count_operators(graph.parse(model.path)))
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
