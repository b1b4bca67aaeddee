"""Operators as a runtime executed them: what each took, in which precision, and which layers of the model it is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from optkit.records.explanation import Family

WEIGHTED: tuple[Family, ...] = ("convolution", "matrix product", "recurrent")
"""Where nearly all arithmetic is, and what quantizers turn into integers."""


_INTEGERS = ("int8", "int4")


# Runtimes name operators each in their way (QLinearConv, NhwcFusedConv, Deconvolution); the first that fits counts.
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
    """One operator of the graph that a runtime made of a model, with mean seconds per inference.

    ``kind`` is the runtime's own word (``QLinearConv``, ``Reorder``), ``kernel`` what carried it out (a provider, a
    primitive). ``layers`` are the nodes of the model's file that it is, the one with most arithmetic first; ``tensors``
    are those nodes' outputs. ``sources`` are the operators that it takes its inputs from.
    """

    name: str
    kind: str
    seconds: float
    precision: str
    kernel: str = ""
    layers: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def family(self) -> Family:
        return family(self.kind)

    @property
    def integer(self) -> bool:
        """Whether its arithmetic is in integers of 8 bits or less."""
        return self.precision in _INTEGERS and self.family != "conversion"

    @property
    def weighted(self) -> bool:
        """Whether it is one of those with nearly all arithmetic."""
        return self.family in WEIGHTED


@dataclass(frozen=True)
class Profile:
    """The operators of an inference in the order of execution, over so many ``inferences`` after warming up.

    ``seconds`` is an inference while it was watched, which takes a little longer than unwatched.
    """

    operators: tuple[Operator, ...]
    inferences: int
    seconds: float


def family(kind: str) -> Family:
    """What sort of work an operator does, so that runtimes can be compared."""
    return next((name for name, pattern in _FAMILIES if re.search(pattern, kind.lower())), "other")


def precision(kind: str, inputs: list[str], outputs: list[str]) -> str:
    """What an operator computes in, by the dtypes of what goes in and comes out: ``int8`` for signed and unsigned.

    A conversion has two: ``float32 to int8``.
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
    """A layer's name without what optimizers add: OpenVINO splits biases off, onnxruntime's quantizer adds a suffix."""
    return re.sub(r"^fused |(/WithoutBiases)?(/Dequantization\w+)?(_quant)?$", "", layer)
