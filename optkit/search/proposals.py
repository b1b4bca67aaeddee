"""Proposals of a search: the candidates it may try, each as the chain of stages that makes it.

None depends on a model's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optkit.decisions.choice import Wish
from optkit.formats.model import TORCH_FORMATS, Model
from optkit.records.layers import LayerRecord
from optkit.runs import chain as chains
from optkit.runs.chain import FLOAT, Chain
from optkit.runs.recipe import Recipe
from optkit.stages.compile import Compile
from optkit.stages.fuse import Fuse
from optkit.stages.prune import Prune
from optkit.stages.quantize import Quantize
from optkit.stages.stage import Stage
from optkit.system import cgroup, fingerprint
from optkit.targets.target import target
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
_RECURRENT = {"LSTM", "GRU", "RNN"}
"""Recurrent operators, whose errors accumulate over time; the sensitivity of layers does not cover them."""
_STRENGTHS = (0.5, 0.75)
"""Values of alpha for SmoothQuant: its authors' default, and theirs for models with many outliers; NNCF's is 0.95."""
_SPARSITIES = (0.3, 0.5)
"""Pruning ratios: shares of the operations to cut, if there is training data."""
_EPOCHS = 3
"""Epochs of training after pruning and of quantization-aware training."""
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
        if "onnxruntime" in self.recipe.targets and self.operators & _FUSED and fingerprint.version("onnxscript"):
            found.append(self._chain(FUSED, "onnxruntime", [Fuse()]))
        halves = [name for name in self.recipe.targets if target(name).half_options()]
        found += [self._chain(HALF, name, [Quantize(precision="bf16")]) for name in halves]
        return found

    def baselines(self) -> list[Chain]:
        """Return the original model with other options of its own runtime; no bundle is made of these."""
        runtime = target(self.native)
        if runtime.deploys or self.model.format == "torchscript":  # which torch.compile does not take
            return []
        return [Chain(name, self.native, (), options) for name, options in runtime.variants().items()]

    def broad(self, *, fused: bool) -> list[Chain]:
        """Return the methods in their plain form, the cheapest first; ``fused`` adds operator fusion on onnxruntime."""
        first = {"onnxruntime": [Fuse()] if fused else []}
        targets = [name for name in ("openvino", "onnxruntime", "tensorrt") if name in self.recipe.targets]
        found = []
        if "tensorrt" in targets:
            found += [self._chain(each, "tensorrt", [Quantize(precision=each)]) for each in ("fp16", "bf16")]
        if "onnxruntime" in targets and self.operators & _MATRICES:
            stages = [*first["onnxruntime"], Quantize(method="dynamic")]
            found.append(self._chain("int8 dynamic", "onnxruntime", stages))
        if self.calibrated:
            static = Quantize(method="static")
            found += [self._chain("int8", name, [*first.get(name, ()), static]) for name in targets]
            if "openvino" in targets:
                symmetric = static.model_copy(update={"preset": "performance"})
                found.insert(-1, self._chain("int8 symmetric", "openvino", [symmetric]))
            if "tensorrt" in targets:
                halved = static.model_copy(update={"floats": "fp16"})
                found.append(self._chain("int8, fp16 between", "tensorrt", [halved]))
        if self.wish.goal in ("size", "memory"):
            found += [each for name in targets if name != "tensorrt" for each in self._small(name)]
        return found

    def repairs(self, chain: Chain) -> list[Chain]:
        """Return other quantization schemes for a chain that is fast and loses too much."""
        stage = quantize_of(chain)
        if stage is None:
            return []
        others: dict[str, dict[str, object]] = {}
        recurrent = tuple(sorted(self.operators & _RECURRENT))
        if recurrent and (chain.target == "openvino" or stage.method == "dynamic"):
            others["but recurrence"] = {"exclude": (*stage.exclude, *recurrent)}
        if chain.target == "openvino" and stage.method == "static":
            between = self._rounded_between(stage)
            if between:
                others["of layers alone"] = {"exclude": (*stage.exclude, *recurrent, *between)}
            if self.operators >= _ATTENTION:
                other = "transformer" if "Conv" in self.operators else "none"
                others[other] = {"model_type": other}
        return self._varied(chain, others)

    def refinements(self, chain: Chain) -> list[Chain]:
        """Return other calibration methods and corrections in the same scheme, which recover little of the loss."""
        stage = quantize_of(chain)
        if stage is None or stage.method != "static":
            return []
        if chain.target == "openvino":
            strengths = _STRENGTHS if self.operators >= _ATTENTION and stage.model_type != "none" else ()
            others: dict[str, dict[str, object]] = {
                f"SmoothQuant {each}": {"model_type": "transformer", "smooth_quant": each} for each in strengths
            }
            return self._varied(chain, others | {"accurate bias": {"bias_correction": "accurate"}})
        return self._varied(chain, {name: {"calibrate": name} for name in ("percentile", "entropy")})

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
        if chain.target == "tensorrt" or self.model.format not in MODULES or stage is None or stage.method != "static":
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
        """Return the operators between layers that NNCF quantizes."""
        return tuple(sorted(self.operators & _BETWEEN - set(stage.exclude)))

    def _small(self, target_name: str) -> Iterator[Chain]:
        yield self._chain("int8 weights", target_name, [Quantize(method="weight-only")])
        yield self._chain("int4 weights", target_name, [Quantize(precision="int4")])
        yield self._chain("fp16", target_name, [Quantize(precision="fp16")])

    def _chain(self, name: str, target_name: str, stages: Sequence[Stage]) -> Chain:
        complete = chains.complete_stages(stages, self.recipe, self.model, target_name)
        static = target(target_name).static_options(self.shapes) if self.shapes else {}
        return Chain(name, target_name, tuple(_with_options(stage, static) for stage in complete))

    @property
    def _is_torch(self) -> bool:
        return self.model.format in TORCH_FORMATS


def quantize_of(chain: Chain) -> Quantize | None:
    """Return the chain's quantize stage, if it has one."""
    return next((stage for stage in chain.stages if isinstance(stage, Quantize)), None)


def quantizes(chain: Chain, layer: LayerRecord) -> bool:
    """Return True if the chain's method quantizes the layer, so that it can be kept in float."""
    stage = quantize_of(chain)
    if stage is None or (layer.nncf_only and chain.target != "openvino"):
        return False
    if chain.target == "tensorrt" and layer.operator == "ConvTranspose":
        return False  # the quantizer for TensorRT leaves it in float
    return stage.method != "dynamic" or layer.operator in _MATRICES


def with_options(chain: Chain, more: dict[str, Any]) -> Chain:
    """Return the chain compiled with these runtime options, too."""
    return replace(chain, stages=tuple(_with_options(stage, more) for stage in chain.stages))


def _with_options(stage: Stage, more: dict[str, object]) -> Stage:
    if not isinstance(stage, Compile):
        return stage
    return stage.model_copy(update={"options": stage.options | more})
