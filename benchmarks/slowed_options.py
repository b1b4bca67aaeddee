"""The options of the slowed target, in a module of their own: child processes do without pydantic."""

from pydantic import Field

from optkit.targets.onnxruntime.options import OnnxRuntimeOptions


class SlowedOptions(OnnxRuntimeOptions):
    """Those of ONNX Runtime, and two more."""

    extra: float = Field(0.0, ge=0)
    """The share of its own time that each inference goes on working."""
    stall: list[float] | None = None
    """``[number, seconds]``: the inference that sleeps so long."""
