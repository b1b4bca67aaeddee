"""Operators as a runtime executed them: time, precision, and the layers of the model that are fused into each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optkit.records.explanation import Family  # a session's process does without pydantic


WEIGHTED: tuple[Family, ...] = ("convolution", "matrix product", "recurrent")
"""The families with nearly all arithmetic; quantizers turn their layers into integers."""
_INTEGERS = ("int8", "int4")


# Each runtime has names of its own (QLinearConv, NhwcFusedConv, Deconvolution); the first pattern that fits counts.
_FAMILIES: tuple[tuple[Family, str], ...] = (
    ("conversion", r"^(|de|dynamic)quantize(linear)?$|^cast|^reorder|^convert|^fake(quantize|convert)$|^memcpy"),
    ("recurrent", r"lstm|gru|rnn"),
    ("convolution", r"conv"),
    ("matrix product", r"matmul|gemm|fullyconnected|attention|einsum|mlp$|projection$"),
    ("normalization", r"norm|^mvn$|^lrn$"),
    ("pooling", r"pool|^reduce|argm|topk"),
    (
        "layout",
        r"reshape|transpose|concat|slice|gather|split|squeeze|flatten|expand|^pad$|^tile$|shape|identity|permute"
        r"|broadcast|depthtospace|spacetodepth|shuffle|scatter|constant|memory(input|output)|^range$",
    ),
    (
        "elementwise",
        r"eltwise|subgraph|elu|gelu|swish|sigmoid|tanh|clip|clamp|add|sub|mul|div|pow|sqrt|erf|exp|log|softmax|softplus"
        r"|abs|neg|^not$|^and$|^or$|equal|less|greater|where|select|math|max$|min$|^sum$|round|floor|ceil|mod|silu|mish"
        r"|sign|sin$|cos$|rope|rotary",
    ),
)


@dataclass(frozen=True)
class Operator:
    """One operator of the graph that a runtime executes."""

    name: str
    """The operator's name in the executed graph; unique in a profile."""
    kind: str
    """The runtime's word for the operator: ``QLinearConv``, ``Reorder``."""
    seconds: float
    """Mean seconds per inference."""
    precision: str
    """The dtype that it computes in, ``int8`` also for unsigned integers; of a conversion both: ``float32 to int8``."""
    kernel: str = ""
    """The provider or primitive that carried it out; empty where the runtime does not say."""
    layers: tuple[str, ...] = ()
    """Names of the nodes of the model's file that are fused into it, the one with most arithmetic first."""
    tensors: tuple[str, ...] = ()
    """Outputs of those nodes."""
    sources: tuple[str, ...] = ()
    """Names of the operators that its inputs come from."""

    @property
    def family(self) -> Family:
        """The sort of work that it does."""
        return family(self.kind)

    @property
    def integer(self) -> bool:
        """True if its arithmetic is in integers of 8 bits or less."""
        return self.precision in _INTEGERS and self.family != "conversion"

    @property
    def weighted(self) -> bool:
        """True if it belongs to the families with nearly all arithmetic."""
        return self.family in WEIGHTED


@dataclass(frozen=True)
class Profile:
    """An inference taken apart into its operators."""

    operators: tuple[Operator, ...]
    """The operators, in the order of execution."""
    inferences: int
    """Number of profiled inferences, warm-up aside."""
    seconds: float
    """Mean seconds of a profiled inference, which takes a little longer than without profiling."""


def family(kind: str) -> Family:
    """Return the sort of work that an operator of this kind does, so that runtimes can be compared."""
    return next((name for name, pattern in _FAMILIES if re.search(pattern, kind.lower())), "other")


def precision(kind: str, inputs: list[str], outputs: list[str]) -> str:
    """Return the dtype that an operator computes in, by the dtypes of its inputs and outputs.

    ``int8`` stands for signed and unsigned integers. A conversion has two dtypes: ``float32 to int8``.
    """
    given, made = _dtype(inputs[:1]), _dtype(outputs[:1])
    if family(kind) == "conversion":
        return given if given == made else f"{given} to {made}"
    if kind.startswith(("QLinear", "DynamicQuantize", "QGemm", "QAttention")) or "Integer" in kind:
        return "int8"
    floats = [dtype for dtype in inputs if "float" in dtype]
    return _dtype(floats or inputs or outputs)


def _dtype(dtypes: list[str]) -> str:
    return {"uint8": "int8", "uint4": "int4"}.get(dtypes[0], dtypes[0]) if dtypes else "unknown"


def plain(layer: str) -> str:
    """Strip from a layer's name the affixes of optimizers: OpenVINO splits biases off, onnxruntime's quantizer adds a
    suffix.
    """
    return re.sub(r"^fused |(/WithoutBiases)?(/Dequantization\w+)?(_quant)?$", "", layer)
