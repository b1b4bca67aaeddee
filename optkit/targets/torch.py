"""PyTorch: what the model that came in is measured with, in all of torch's formats."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit import checkpoint, lazy, torchoutputs
from optkit.cgroup import cores_allowed
from optkit.errors import SignatureError, TargetError
from optkit.model import TORCH_FORMATS, Model
from optkit.progress import Progress, no_progress
from optkit.target import Compiled, Session, Target
from optkit.tensors import Array, Arrays, Signature

if TYPE_CHECKING:
    from pathlib import Path


class Torch(Target):
    """Options: ``num_threads``, which torch keeps per process and not per session; ``compile`` for torch.compile."""

    name = "torch"
    deploys = False
    formats = TORCH_FORMATS
    without_operators = "optkit export MODEL -o model.onnx, and explain that"

    def version(self) -> str:
        return str(_library().__version__)

    def default_options(self, *, threads: int | None = None) -> dict[str, Any]:
        return self.parallel_options(threads=threads or max(1, int(cores_allowed())))

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
        _library().set_num_threads(options["num_threads"])
        module = checkpoint.load(model)
        if model.format == "exported-program":
            module = module.module()
        return TorchSession(_compiled(module) if options.get("compile") else module, model.signature)


class TorchSession(Session):
    """A module in eval mode, called with the signature's inputs in order."""

    def __init__(self, module: Any, signature: Signature) -> None:
        self._module = module
        self.signature = signature

    def run(self, feed: Arrays) -> Arrays:
        with self.explaining():
            return self._named(self.prepared(feed)())

    def prepared(self, feed: Arrays) -> Callable[[], object]:
        torch = _library()
        tensors = [torch.from_numpy(_writable(feed[spec.name])) for spec in self.signature.inputs]

        def inference() -> object:
            with torch.inference_mode():
                return self._module(*tensors)

        return inference

    @contextmanager
    def explaining(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001  a module may raise anything
            reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
            raise TargetError(f"torch failed to run the model: {reason.strip()}") from None

    def _named(self, outputs: Any) -> Arrays:
        found = torchoutputs.named(outputs)
        names = [spec.name for spec in self.signature.outputs]
        if isinstance(outputs, Mapping) or len(names) != len(found):
            names = list(found)
        return {name: _array(value) for name, value in zip(names, found.values(), strict=True)}

    def facts(self) -> dict[str, Any]:
        torch = _library()
        build = "Debug" if torch.version.debug else "Release"
        return {"version": str(torch.__version__), "build": build, "threads": int(torch.get_num_threads())}

    def close(self) -> None:
        self._module = None


def _compiled(module: Any) -> Any:
    """The module, compiled when it is first called; by this process, as others would outlive a worker's child."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    return _library().compile(module)


def _library() -> Any:
    return lazy.require("torch", extra="torch")


def _writable(array: Array) -> Array:
    """torch warns of arrays that it could not write to."""
    return array if array.flags.writeable else array.copy()


def _array(tensor: Any) -> Array:
    torch = _library()
    array: Array = np.asarray(tensor.float() if tensor.dtype is torch.bfloat16 else tensor)
    return array
