"""PyTorch: what the model that came in is measured with, in all of torch's formats."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from optkit.errors import SignatureError, TargetError, UsageError
from optkit.formats.model import TORCH_FORMATS, Model
from optkit.formats.torch import loading
from optkit.progress import Progress, no_progress
from optkit.system.cgroup import cores_allowed
from optkit.targets.target import Compiled, Session, Target
from optkit.targets.torch.session import CudaSession, TorchSession, explaining, library, require_gpu

if TYPE_CHECKING:
    from pathlib import Path

    from optkit.formats.tensors import Signature


class Torch(Target):
    """Options: ``num_threads``, which torch keeps per process and not per session; ``compile`` for torch.compile.

    ``device`` is ``cpu``, or ``cuda``: the first GPU that CUDA_VISIBLE_DEVICES leaves. There, ``copies`` says whether
    an inference includes the way of inputs to the GPU and of outputs back (true: timed by the host's clock; false: by
    events on the device around the inference alone), ``cuda_graph`` whether it is captured and launched as one, and
    ``allow_tf32`` whether products and convolutions of float32 may round to TF32, per process.
    """

    name = "torch"
    deploys = False
    formats = TORCH_FORMATS
    without_operators = "optkit export MODEL -o model.onnx, and explain that"

    def version(self) -> str:
        return str(library().__version__)

    def default_options(self, *, threads: int | None = None) -> dict[str, Any]:
        return self.parallel_options(threads=threads or max(1, int(cores_allowed()))) | self.device_options("cpu")

    def device_options(self, device: str) -> dict[str, Any]:
        """What is to be said of a device; on a GPU no TF32, as torch by itself would have it in convolutions."""
        on_gpu = {"copies": True, "cuda_graph": False, "allow_tf32": False}
        return {"device": device} | (on_gpu if device == "cuda" else {})

    def parallel_options(self, *, threads: int, sessions: int = 1) -> dict[str, Any]:
        """torch's pool is the process's; each session's thread that calls it has one of its own."""
        return {"num_threads": threads}

    def variants(self) -> dict[str, dict[str, Any]]:
        return {"torch.compile": {"compile": True}}

    def compile(
        self, model: Model, options: dict[str, Any], workdir: Path, progress: Progress = no_progress
    ) -> Compiled:
        raise TargetError(
            "torch has nothing to compile a model to",
            hint="compile for another target: optkit compile MODEL --target onnxruntime -o BUNDLE",
        )

    def open(self, model: Model, options: dict[str, Any]) -> Session:
        if model.signature is None:
            raise SignatureError(
                f"{model.path.name} does not tell its inputs", hint="give them: --input 'x:float32[batch,3,224,224]'"
            )
        device = options.get("device", "cpu")
        if device not in ("cpu", "cuda"):
            raise UsageError(f"torch's option device cannot be {device!r}", hint="known: cpu, cuda")
        library().set_num_threads(options["num_threads"])
        return (_on_gpu if device == "cuda" else _on_cpu)(model, model.signature, options)


def _on_cpu(model: Model, signature: Signature, options: dict[str, Any]) -> Session:
    module = loading.load(model)
    if model.format == "exported-program":
        module = module.module()
    return TorchSession(_compiled(module) if options.get("compile") else module, signature)


def _on_gpu(model: Model, signature: Signature, options: dict[str, Any]) -> Session:
    require_gpu()
    torch = library()
    tf32 = options.get("allow_tf32", False)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    module = loading.load(model)
    with explaining("open"):
        from torch.export.passes import move_to_device_pass

        if model.format == "exported-program":
            module = move_to_device_pass(module, "cuda").module()
        else:
            module = module.to("cuda")
        torch.cuda.synchronize()  # sessions have streams of their own, which do not wait for the weights
    return CudaSession(
        _compiled(module) if options.get("compile") else module,
        signature,
        copies=options.get("copies", True),
        cuda_graph=options.get("cuda_graph", False),
    )


def _compiled(module: Any) -> Any:
    """The module, compiled when it is first called; by this process, as others would outlive a worker's child."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    return library().compile(module)
