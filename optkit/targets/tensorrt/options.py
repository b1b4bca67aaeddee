"""The options of TensorRT: attributes of ``IBuilderConfig`` (enums by name), profiles, and how an engine is run."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from optkit.targets.options import RuntimeOptions

_Bytes = Annotated[int, Field(ge=0)]


class TensorRtOptions(RuntimeOptions):
    """Nothing else can be given: no part of a build or a session would read it."""

    compute_capabilities: list[str] = Field(default_factory=list)
    """The GPUs that TensorRT-RTX builds for (``8.9``); TensorRT builds for the GPU that is there."""
    builder_optimization_level: int = Field(3, ge=0, le=5)
    """The effort of the builder: 0 is the fastest build."""
    flags: list[str] = Field(default_factory=list)
    """Members of ``BuilderFlag``. Without ``TF32`` products of float32 stay float32."""
    memory_pool_limits: dict[str, _Bytes] = Field(default_factory=dict)
    """Bytes by member of ``MemoryPoolType``."""
    hardware_compatibility_level: str = "NONE"
    """A member of ``HardwareCompatibilityLevel``."""
    shapes: dict[str, str | int] = Field(default_factory=dict)
    """The sizes of dynamic dimensions that profiles are made of: ``{"batch": "1/8/32"}``."""
    profiles: list[dict[str, dict[str, list[int]]]] = Field(default_factory=list)
    """Optimization profiles: ``min``, ``opt`` and ``max`` shape of each input; made of ``shapes`` where not given."""
    timing_cache: str | None = None
    """A file that the builder reads and writes. It stays behind when a bundle goes."""
    cuda_graph: bool = False
    """True if an inference is one launch of a captured CUDA graph."""
    copies: bool = True
    """True if copies from and to the host count when an inference is timed."""
