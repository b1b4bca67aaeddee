"""A module of PyTorch around a model that returns a dict, for the tracing exporter, which knows none.

It imports torch: import it inside functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from optkit.formats.torch.outputs import named_outputs


class FlatOutputs(torch.nn.Module):  # type: ignore[misc]
    """Returns the tensors among a model's outputs as a tuple, in the order of ``torchoutputs.named``."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *given: Any) -> tuple[Any, ...]:
        """Return the tensors that the model returns for its inputs."""
        return tuple(named_outputs(self.inner(*given)).values())


def flat(module: Any, inputs: tuple[Any, ...], outputs: Any) -> Any:
    """Return the module itself, or where its ``outputs`` are a dict, a frozen trace of it that returns a tuple."""
    if not isinstance(outputs, Mapping):
        return module
    return torch.jit.freeze(torch.jit.trace(FlatOutputs(module).eval(), inputs, check_trace=False))
