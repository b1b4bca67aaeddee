"""The candidates of a search, each as the chain of stages that makes it.

Nothing depends on a model's or a target's name: a target has precisions and methods, a quantizer options that it heeds.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optkit.decisions.choice import Wish
from optkit.formats.model import TORCH_FORMATS, Model
from optkit.quantization.quantizer import Quantizer, quantizer
from optkit.quantization.selection import RECURRENT
from optkit.records.layers import LayerRecord
from optkit.runs.chain import FLOAT, Chain, complete_stages
from optkit.runs.recipe import Recipe
from optkit.stages.compile import Compile
from optkit.stages.fuse import Fuse
from optkit.stages.prune import Prune
from optkit.stages.quantize import Quantize
from optkit.stages.stage import Stage
from optkit.system import cgroup, fingerprint
from optkit.targets.target import Target, target
from optkit.training.lesson import MODULES

FUSED = "fused"
"""Name of the float chain with onnxruntime's fused operators."""
HALF = "bf16"
"""Name of the float chain that computes in half precision."""
_FUSED = {"Softmax", "LayerNormalization", "Erf", "Gelu"}
"""Operators of attention, normalization and GELU, which onnxruntime can fuse."""
_ATTENTION = {"MatMul", "Softmax"}
"""Operators of attention."""
_MATRICES = {"MatMul", "Gemm", "LSTM"}
"""Operators that dynamic INT8 quantizes."""
_STRENGTHS = (0.5, 0.75)
"""Values of alpha for SmoothQuant: its authors' default, and theirs for models with many outliers; NNCF's is 0.95."""
_SPARSITIES = (0.3, 0.5)
"""Pruning ratios: shares of the operations to cut, if there is training data."""
_EPOCHS = 3
"""Epochs of training after pruning and of quantization-aware training."""
_CALIBRATIONS = ("percentile", "entropy")
"""Calibration methods to try beside minmax."""
_BETWEEN = {
    "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "ReduceMean", "AveragePool", "GlobalAveragePool", "Resize",
    "Upsample", "BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization",
}  # fmt: skip
"""Operators that NNCF quantizes between layers: that saves little time, and squares, sums and quotients may underflow.
"""
_IN_FLOAT = re.compile(r", \d+ in (float|bf16)$")
"""Suffix of the name of a chain with layers kept in float."""


@dataclass(frozen=True)
class Proposals:
    """The candidates for one model and a recipe without stages."""

    recipe: Recipe
    model: Model
    native: str
    """The target that runs the original model."""
    wish: Wish
    """The goal and hard limits."""
    operators: frozenset[str]
    """Operators of the ONNX graph; empty if there is no such graph."""
    calibrated: bool
    """True if there is calibration data."""
    shapes: dict[str, list[int]] = field(default_factory=dict)
    """Shapes of the inputs, if the model's are dynamic and all feeds have the same."""
    halved: frozenset[str] = frozenset()
    """Targets on which layers kept out of INT8 compute in bf16."""

    def floats(self) -> list[Chain]:
        """Return the float model on every target, with fused operators, and in bf16 where the target supports it."""
        found = [self._chain(FLOAT, name, []) for name in self.recipe.targets if name != self.native or self._is_torch]
        if self.operators & _FUSED and fingerprint.version("onnxscript"):
            found += [
                self._chain(FUSED, name, [Fuse()]) for name in self.recipe.targets if target(name).fused_operators
            ]
        halves = [name for name in self.recipe.targets if target(name).half_options()]
        found += [self._chain(HALF, name, [Quantize(precision="bf16")]) for name in halves]
        return found

    def baselines(self) -> list[Chain]:
        """Return the original model with other options of its own runtime; no bundle is made of these."""
        runtime = target(self.native)
        if runtime.deploys or self.model.format == "torchscript":  # which torch.compile does not take
            return []
        return [Chain(name, self.native, (), options) for name, options in runtime.variants().items()]

    def broad(self, *, fused: Collection[str]) -> list[Chain]:
        """Return methods in their plain form, the cheapest first; ``fused`` targets are faster with fused operators."""
        names = sorted(self.recipe.targets, key=lambda name: -target(name).search_priority)
        kinds = [self._converted, self._dynamic]
        kinds += [self._static] if self.calibrated else []
        kinds += [self._small] if self.wish.goal in ("size", "memory") else []
        found = [(label, name, made) for kind in kinds for name in names for label, made in kind(target(name))]
        return [self._chain(label, name, [*_first(made, name in fused), made]) for label, name, made in found]

    def _converted(self, runtime: Target) -> Iterator[tuple[str, Quantize]]:
        """Half precision for speed."""
        for precision in ("fp16", "bf16"):
            if runtime.precisions.half_kernels and precision in runtime.precisions.makers:
                yield precision, Quantize(precision=precision)

    def _dynamic(self, runtime: Target) -> Iterator[tuple[str, Quantize]]:
        if self.operators & _MATRICES and "dynamic" in _methods(runtime):
            yield "int8 dynamic", Quantize(method="dynamic")

    def _static(self, runtime: Target) -> Iterator[tuple[str, Quantize]]:
        if "static" not in _methods(runtime):
            return
        yield "int8", Quantize(method="static")
        if "preset" in _static_options(runtime):
            yield "int8 symmetric", Quantize(method="static", preset="performance")
        if "fp16" in runtime.precisions.floats:
            yield "int8, fp16 between", Quantize(method="static", floats="fp16")

    def _small(self, runtime: Target) -> Iterator[tuple[str, Quantize]]:
        """Smaller files, whatever their speed."""
        precisions = runtime.precisions
        if "weight-only" in _methods(runtime):
            yield "int8 weights", Quantize(method="weight-only")
        if "int4" in precisions.makers:
            yield "int4 weights", Quantize(precision="int4")
        if "fp16" in precisions.makers and not precisions.half_kernels:
            yield "fp16", Quantize(precision="fp16")

    def repairs(self, chain: Chain) -> list[Chain]:
        """Other schemes, for a chain that is fast and loses too much."""
        stage, runtime = quantize_of(chain), target(chain.target)
        if stage is None:
            return []
        others: dict[str, dict[str, object]] = {}
        # Errors accumulate over time, and the sensitivity of layers does not cover them.
        recurrent = tuple(sorted(self.operators.intersection(RECURRENT)))
        everywhere = runtime.precisions.rounds_between
        if recurrent and (everywhere or stage.method == "dynamic"):
            others["but recurrence"] = {"exclude": (*stage.exclude, *recurrent)}
        if stage.method == "static":
            between = self._rounded_between(stage) if everywhere else ()
            if between:
                others["of layers alone"] = {"exclude": (*stage.exclude, *recurrent, *between)}
            if self.operators >= _ATTENTION and "model_type" in _static_options(runtime):
                other = "transformer" if "Conv" in self.operators else "none"
                others[other] = {"model_type": other}
        return self._varied(chain, others)

    def refinements(self, chain: Chain) -> list[Chain]:
        """Other ranges and means in the same scheme, which win back little."""
        stage, runtime = quantize_of(chain), target(chain.target)
        if stage is None or stage.method != "static":
            return []
        options, others = _static_options(runtime), dict[str, dict[str, object]]()
        if "smooth_quant" in options and self.operators >= _ATTENTION and stage.model_type != "none":
            for each in _STRENGTHS:
                others[f"SmoothQuant {each}"] = {"model_type": "transformer", "smooth_quant": each}
        if "bias_correction" in options:
            others["accurate bias"] = {"bias_correction": "accurate"}
            return self._varied(chain, others)
        known = _static_calibrations(runtime)
        return self._varied(chain, others | {name: {"calibrate": name} for name in _CALIBRATIONS if name in known})

    def _varied(self, chain: Chain, others: dict[str, dict[str, object]]) -> list[Chain]:
        return [self._changed(chain, f"{chain.name} {name}", fields) for name, fields in others.items()]

    def kind(self, chain: Chain) -> tuple[str, str, str, bool]:
        """Return the key under which chains lose quality for the same reasons.

        It consists of target, method, preset, and True if only layers are quantized; if not only layers are, keeping
        layers in float may not help.
        """
        stage = quantize_of(chain)
        method, preset = (stage.method, stage.preset) if stage else ("", "")
        return chain.target, method, preset, stage is None or not self._rounded_between(stage)

    def trimmed(self, chain: Chain, slow: Sequence[str]) -> Chain:
        """Return the chain with the layers in float that are slower in integers."""
        return self._changed(chain, f"{chain.name} where it pays", {"exclude": tuple(slow)})

    def mixed(self, chain: Chain, in_float: Sequence[str]) -> Chain:
        """Return the chain with these layers, too, in float or bf16."""
        stage = quantize_of(chain)
        names = tuple(dict.fromkeys([*(stage.exclude if stage else ()), *in_float]))
        layers = sum(name not in self.operators for name in names)
        precision = "bf16" if chain.target in self.halved else "float"
        return self._changed(chain, f"{_IN_FLOAT.sub('', chain.name)}, {layers} in {precision}", {"exclude": names})

    def recovered(self, chain: Chain) -> Chain | None:
        """Return the chain with quantization-aware training; ``None`` if model, target or method do not support it."""
        stage = quantize_of(chain)
        able = target(chain.target).precisions.quantization_aware and self.model.format in MODULES
        if not able or stage is None or stage.method != "static":
            return None
        trained = stage.model_copy(update={"method": "qat", "epochs": _EPOCHS})
        return self._chain(f"{chain.name} trained", chain.target, [trained])

    def pruned(self, chain: Chain) -> list[Chain]:
        """Return the chain with the model pruned first, the smaller ratio first; empty if it cannot be trained."""
        if self.model.format not in MODULES:
            return []
        kept = [stage for stage in chain.stages if stage.name not in ("export", "compile")]
        return [
            self._chain(
                f"{chain.name} pruned {share:.0%}", chain.target, [Prune(sparsity=share, epochs=_EPOCHS), *kept]
            )
            for share in _SPARSITIES
        ]

    def options(self, chain: Chain) -> list[Chain]:
        """Return the chain with other runtime options."""
        runtime = target(chain.target)
        variants = runtime.variants()
        stage = quantize_of(chain)
        if stage is not None and stage.precision == "int8" and runtime.half_options():
            variants["bf16 between"] = runtime.half_options()
        for threads in self._fewer_threads():
            fewer = runtime.parallel_options(threads=threads)
            variants |= {f"threads {threads}": fewer} if fewer else {}
        return [replace(with_options(chain, more), name=f"{chain.name}, {name}") for name, more in variants.items()]

    def _fewer_threads(self) -> list[int]:
        """Return numbers of threads with which a small model may be faster, unless the recipe fixes the number."""
        cores = max(1, int(cgroup.cores_allowed()))
        return [] if self.recipe.benchmark.threads else sorted({1, max(1, cores // 2)} - {cores})

    def _changed(self, chain: Chain, name: str, fields: dict[str, object]) -> Chain:
        """Return the chain with other fields of its quantize stage; excluded layers compute in bf16 where that pays."""
        stages = [each.model_copy(update=fields) if isinstance(each, Quantize) else each for each in chain.stages]
        halved = fields.get("exclude") and chain.target in self.halved
        half = target(chain.target).half_options() if halved else {}
        return replace(chain, name=name, stages=tuple(_with_options(stage, half) for stage in stages))

    def _rounded_between(self, stage: Quantize) -> tuple[str, ...]:
        """Return the operators between layers that a quantizer may round."""
        return tuple(sorted(self.operators & _BETWEEN - set(stage.exclude)))

    def _chain(self, name: str, target_name: str, stages: Sequence[Stage]) -> Chain:
        complete = complete_stages(stages, self.recipe, self.model, target_name)
        static = target(target_name).static_options(self.shapes) if self.shapes else {}
        return Chain(name, target_name, tuple(_with_options(stage, static) for stage in complete))

    @property
    def _is_torch(self) -> bool:
        return self.model.format in TORCH_FORMATS


def quantize_of(chain: Chain) -> Quantize | None:
    """Return the chain's quantize stage, if it has one."""
    return next((stage for stage in chain.stages if isinstance(stage, Quantize)), None)


def quantizes(chain: Chain, layer: LayerRecord) -> bool:
    """True if the chain's method puts such a layer into integers; only then there is something to give back."""
    stage, runtime = quantize_of(chain), target(chain.target)
    if stage is None or (layer.nncf_only and not runtime.precisions.rounds_between):
        return False
    static = _static(runtime)
    if static is not None and layer.operator in static.in_float:
        return False
    return stage.method != "dynamic" or layer.operator in _MATRICES


def _first(stage: Quantize, fused: bool) -> list[Stage]:
    """Return the stage ahead of a quantization into integers, where fused operators are faster."""
    return [Fuse()] if fused and stage.method in ("dynamic", "static") else []


def _methods(runtime: Target) -> list[str]:
    """Return the methods of INT8 that a target has."""
    return [each.method for each in runtime.precisions.makers.get("int8", ())]


def _static(runtime: Target) -> Quantizer | None:
    """Return the quantizer of static INT8 for a target."""
    makers = runtime.precisions.makers.get("int8", ())
    return next((quantizer(*each) for each in makers if each.method == "static"), None)


def _static_options(runtime: Target) -> frozenset[str]:
    static = _static(runtime)
    return static.options if static else frozenset()


def _static_calibrations(runtime: Target) -> tuple[str, ...]:
    static = _static(runtime)
    return static.calibrations if static else ()


def with_options(chain: Chain, more: dict[str, Any]) -> Chain:
    """Return the chain compiled with these runtime options, too."""
    return replace(chain, stages=tuple(_with_options(stage, more) for stage in chain.stages))


def _with_options(stage: Stage, more: dict[str, object]) -> Stage:
    if not isinstance(stage, Compile):
        return stage
    return stage.model_copy(update={"options": stage.options | more})
