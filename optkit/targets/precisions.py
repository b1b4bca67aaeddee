"""The precisions of a target: who makes them, why others are refused, and how its quantized models are rounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Maker(NamedTuple):
    """A member of ``QUANTIZERS``: a method of an engine."""

    engine: str
    method: str

    @property
    def key(self) -> str:
        """Its name in the table: ``nncf-static``."""
        return f"{self.engine}-{self.method}"


@dataclass(frozen=True)
class Precisions:
    """The precisions that ``quantize`` makes for a target; by default none."""

    makers: Mapping[str, tuple[Maker, ...]] = field(default_factory=dict)
    """The quantizers by precision (``int8``); the engine of the first is what ``auto`` takes."""
    engines: tuple[str, ...] = ()
    """Other engines that may be asked for by name, since the target opens their results."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """The reason why a precision is not made, where it is another than missing kernels."""
    floats: tuple[str, ...] = ("float32",)
    """The types that integers may leave the other operators in."""
    suffix: str = ".onnx"
    """The suffix of the file that the quantizers write."""
    only_static: str | None = None
    """The reason why integers need calibration ranges, where there is no other method."""
    quantization_aware: bool = False
    """True if a model can be trained with rounded values first."""
    rounds_outputs: bool = False
    """True if static quantization rounds the outputs of convolutions, too."""
    rounds_between: bool = False
    """True if static quantization rounds the inputs of operators between layers, too."""
    half_kernels: bool = False
    """True if files in half precision compute in it, and so are tried for speed, not for size alone."""

    @property
    def engine(self) -> str | None:
        """The engine that makes the first precision of all; ``None`` where nothing is quantized."""
        return next((makers[0].engine for makers in self.makers.values()), None)
