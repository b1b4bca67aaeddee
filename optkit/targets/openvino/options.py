"""The options of OpenVINO: its properties, the device, and shapes to compile for."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ConfigDict, Field

from optkit.targets.options import RuntimeOptions, Scalar


class OpenVinoOptions(RuntimeOptions):
    """Any other property of OpenVINO may be given as well. ``None`` leaves a property to OpenVINO."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Scalar] = Field(init=False)

    device: str = "CPU"
    """The device to compile for."""
    static_shapes: dict[str, Sequence[int]] = Field(default_factory=dict)
    """The shape of each input that most feeds have, for example ``{x: [1, 3, 224, 224]}``: these run on a graph
    compiled for just such shapes, others on the general one, compiled when the first comes.
    """
    INFERENCE_PRECISION_HINT: str | None = None
    """The type of float operators: ``f32``, ``bf16`` or ``f16``."""
    PERFORMANCE_HINT: str | None = None
    """``LATENCY`` or ``THROUGHPUT``."""
    ENABLE_CPU_PINNING: bool | None = None
    """True if threads stay on their cores."""
    DYNAMIC_QUANTIZATION_GROUP_SIZE: int | None = None
    """Activations that share a scale where weights alone are integers."""
    INFERENCE_NUM_THREADS: int | None = None
    """Threads of all streams together."""
    NUM_STREAMS: int | str | None = None
    """Inferences at a time."""
