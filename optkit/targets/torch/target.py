"""PyTorch: the runtime that a torch model is measured on as it came, in all of torch's formats."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from optkit.errors import SignatureError, TargetError
from optkit.formats.model import TORCH_FORMATS, Model
from optkit.formats.torch import loading
from optkit.lazy import Library
from optkit.progress import Progress, no_progress
from optkit.system.cgroup import cores_allowed
from optkit.targets.table import DEFAULT
from optkit.targets.target import Compiled, Session, Target
from optkit.targets.torch.session import CudaSession, TorchSession, explaining, library, require_gpu

if TYPE_CHECKING:
    from pathlib import Path

    from optkit.formats.tensors import Signature


class Torch(Target):
    """PyTorch models, on CPUs and on the first GPU that CUDA_VISIBLE_DEVICES leaves."""

    name = "torch"
    deploys = False
    formats = TORCH_FORMATS
    options_model = "optkit.targets.torch.options:TorchOptions"
    thread_options = ("num_threads",)
    modules = ("torch",)
    extra = "torch"
    libraries = (Library("torch", "torch"), Library("onnxscript", "torch"))
    without_operators = "optkit export MODEL -o model.onnx, and explain that"

    def version(self) -> str:
        return str(library().__version__)

    def default_options(self, *, threads: int | None = None) -> dict[str, Any]:
        return self.parallel_options(threads=threads or max(1, int(cores_allowed()))) | self.device_options("cpu")

    def device_options(self, device: str) -> dict[str, Any]:
        """Return the device; on a GPU also no TF32, which torch by itself takes in convolutions."""
        if device == "cuda":
            return {"device": device, "copies": True, "cuda_graph": False, "allow_tf32": False}
        return super().device_options(device) | {"device": device}

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
            hint=f"compile for another target: optkit compile MODEL --target {DEFAULT} -o BUNDLE",
        )

    def open(self, model: Model, options: dict[str, Any]) -> Session:
        if model.signature is None:
            raise SignatureError(
                f"{model.path.name} does not tell its inputs", hint="give them: --input 'x:float32[batch,3,224,224]'"
            )
        library().set_num_threads(options["num_threads"])
        place = _on_gpu if options.get("device") == "cuda" else _on_cpu
        return place(model, model.signature, options)


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
    """Return module, compiled when it is first called; by this process, as others would outlive a worker's child."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    return library().compile(module)
