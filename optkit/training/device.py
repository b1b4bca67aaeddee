"""The device that training runs on: its precision, random state, and errors of memory."""

from __future__ import annotations

import os
from typing import Any

from optkit.system import cgroup, fingerprint


def choose_device() -> str:
    """Return ``cuda`` if there is a GPU, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def prepare_device(device: str) -> None:
    """Make torch deterministic on this device, with as many threads as cores are allowed."""
    import torch

    torch.set_num_threads(max(1, int(cgroup.cores_allowed())))
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)


def seed_everything(number: int) -> None:
    """Seed torch's generators."""
    import torch

    torch.manual_seed(number)


def random_state() -> list[Any]:
    """Return the states of torch's random generators: the CPU's, then each GPU's."""
    import torch

    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ())]


def set_random_state(states: list[Any]) -> None:
    """Restore the states that ``random_state`` returned."""
    import torch

    torch.set_rng_state(states[0].cpu())
    if states[1:]:
        torch.cuda.set_rng_state_all([state.cpu() for state in states[1:]])


def choose_precision(device: str, *, mixed: bool = True) -> tuple[str, Any]:
    """Choose the dtype of arithmetic on a device, and make the gradient scaler that float16 needs.

    Returns the dtype's name and the scaler. Without ``mixed`` precision, float32 on every device.
    """
    import torch

    half = "float32"
    if mixed and device == "cuda":
        half = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    elif mixed and fingerprint.computes_bf16():
        half = "bfloat16"
    return half, torch.amp.GradScaler(device, enabled=half == "float16")


def autocast(device: str, precision: str) -> Any:
    """Return a context in which operators compute in this precision where that is safe."""
    import torch

    return torch.autocast(device, dtype=getattr(torch, precision), enabled=precision != "float32")


def out_of_memory(error: BaseException) -> bool:
    """Return True if an error of torch or the system means that memory ran out."""
    message = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in message
        # The last one is oneDNN's message for it.
        for words in ("out of memory", "not enough memory", "can't allocate memory", "could not create a primitive")
    )
