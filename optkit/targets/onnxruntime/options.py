"""The options of ONNX Runtime: attributes of ``SessionOptions`` (enums by name), and what else a session takes."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, field_validator

from optkit.targets.onnxruntime import providers
from optkit.targets.options import RuntimeOptions, Scalar


class OnnxRuntimeOptions(RuntimeOptions):
    """Any other attribute of ``SessionOptions`` may be given as well."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Scalar] = Field(init=False)

    providers: list[Any] = Field(default_factory=lambda: [providers.CPU])
    """Execution providers in the order of preference, each a name or ``[name, {option: value}]``. One that does not
    load is an error: who consents to the CPU asks for the CPU.
    """
    graph_optimization_level: str = "ORT_ENABLE_ALL"
    """``ORT_DISABLE_ALL`` to ``ORT_ENABLE_ALL``."""
    execution_mode: str = "ORT_SEQUENTIAL"
    """``ORT_SEQUENTIAL`` or ``ORT_PARALLEL``."""
    intra_op_num_threads: int = Field(0, ge=0)
    """Threads inside an operator; 0 leaves the number to the runtime."""
    inter_op_num_threads: int = Field(0, ge=0)
    """Threads between operators, where the execution mode is parallel; 0 leaves the number to the runtime."""
    session_config: dict[str, Scalar] = Field(default_factory=dict)
    """Session config entries: ``session.force_spinning_stop``."""

    @field_validator("providers", mode="before")
    @classmethod
    def _checked(cls, given: Any) -> Any:
        """Refuse another shape than that of a list of providers. Raises UsageError."""
        providers.shape(given)
        return [*given]
