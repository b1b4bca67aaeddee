"""The options of PyTorch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from optkit.targets.options import RuntimeOptions


class TorchOptions(RuntimeOptions):
    """Threads and TF32 are torch's per process, not per session."""

    num_threads: int = Field(1, ge=1)
    """Threads inside an operator."""
    device: Literal["cpu", "cuda"] = "cpu"
    """``cuda`` is the first GPU that CUDA_VISIBLE_DEVICES leaves."""
    compile: bool = False
    """True to run the module through ``torch.compile``."""
    copies: bool = True
    """On a GPU, true if an inference includes the copies of inputs to the device and of outputs back: it is then timed
    by the host's clock, else by events on the device.
    """
    cuda_graph: bool = False
    """True if an inference on a GPU is captured as a CUDA graph and launched as one."""
    allow_tf32: bool = False
    """True if products and convolutions of float32 may round to TF32 on a GPU."""
