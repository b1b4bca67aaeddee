"""Where training runs, in which precision, and what running out of memory there looks like."""

from __future__ import annotations

import os
from typing import Any

from optkit.system import cgroup, fingerprint


def device() -> str:
    """The GPU where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def prepare(device: str) -> None:
    """Have torch compute the same for the same on this device, with as many threads as cores are allowed."""
    import torch

    torch.set_num_threads(max(1, int(cgroup.cores_allowed())))
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)


def seed(number: int) -> None:
    """Seed torch's generators."""
    import torch

    torch.manual_seed(number)


def random_state() -> list[Any]:
    """torch's generators: the CPU's, then each GPU's."""
    import torch

    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ())]


def set_random_state(states: list[Any]) -> None:
    """What ``random_state`` gave."""
    import torch

    torch.set_rng_state(states[0].cpu())
    if states[1:]:
        torch.cuda.set_rng_state_all([state.cpu() for state in states[1:]])


def precision(device: str, *, mixed: bool = True) -> tuple[str, Any]:
    """The dtype of arithmetic on a device, by name, and the scaler of gradients that float16 needs.

    Without ``mixed``, float32 on every device.
    """
    import torch

    half = "float32"
    if mixed and device == "cuda":
        half = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    elif mixed and fingerprint.computes_bf16():
        half = "bfloat16"
    return half, torch.amp.GradScaler(device, enabled=half == "float16")


def autocast(device: str, precision: str) -> Any:
    """A context in which operators compute in this precision where that is safe."""
    import torch

    return torch.autocast(device, dtype=getattr(torch, precision), enabled=precision != "float32")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not do, as torch and the system word it."""
    told = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in told
        # The last is oneDNN's word for it.
        for words in ("out of memory", "not enough memory", "can't allocate memory", "could not create a primitive")
    )
