"""A torch module as a session: on the CPU, and on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import numpy as np

from optkit import lazy
from optkit.errors import MissingDeviceError, TargetError
from optkit.formats.tensors import Array, Arrays, Signature
from optkit.formats.torch.outputs import named_outputs, on_host
from optkit.system import native
from optkit.targets.target import Session

_BEFORE_CAPTURE = 3
"""Inferences before a graph is captured: libraries allocate and choose kernels on first use, torch.compile compiles."""


def library() -> Any:
    """torch. Raises MissingLibraryError."""
    return lazy.require("torch", extra="torch")


def require_gpu() -> None:
    """Raises MissingDeviceError, with torch's own reason, where torch has no GPU to compute on."""
    torch = library()
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:
        for_cpu = torch.version.cuda is None
        raise MissingDeviceError(
            f"torch {torch.__version__} has no GPU to compute on: {native.reason(error)}",
            hint="this build of torch is without CUDA; install one with it: https://pytorch.org/get-started/locally"
            if for_cpu
            else "nvidia-smi shows the driver and its GPUs",
        ) from None


def explaining(what: str) -> AbstractContextManager[None]:
    """Turn exceptions of torch or of a module into a TargetError of one line."""
    return native.foreign(f"torch failed to {what} the model", TargetError)


class TorchSession(Session):
    """A module in eval mode, called with the signature's inputs in order."""

    def __init__(self, module: Any, signature: Signature) -> None:
        self._module = module
        self.signature = signature

    def run(self, feed: Arrays) -> Arrays:
        with self.explaining():
            return self._named(self.prepared(feed)())

    def prepared(self, feed: Arrays) -> Callable[[], object]:
        torch, tensors = library(), self._tensors(feed)

        def inference() -> object:
            with torch.inference_mode():
                return self._module(*tensors)

        return inference

    def explaining(self) -> AbstractContextManager[None]:
        return explaining("run")

    def facts(self) -> dict[str, Any]:
        torch = library()
        build = "Debug" if torch.version.debug else "Release"
        return {"version": str(torch.__version__), "build": build, "threads": int(torch.get_num_threads())}

    def close(self) -> None:
        self._module = None

    def _tensors(self, feed: Arrays) -> list[Any]:
        """Return the feed on the host, in the order of the inputs."""
        return [library().from_numpy(_writable(feed[spec.name])) for spec in self.signature.inputs]

    def _named(self, outputs: Any) -> Arrays:
        found = named_outputs(outputs)
        names = [spec.name for spec in self.signature.outputs]
        if isinstance(outputs, Mapping) or len(names) != len(found):
            names = list(found)
        return {name: _array(value) for name, value in zip(names, found.values(), strict=True)}


class CudaSession(TorchSession):
    """A module on a GPU, with a stream of its own, so that several sessions really work at once.

    With ``copies``, an inference is what a caller sees: from arrays on the host to outputs on the host. Without, inputs
    lie on the GPU before, outputs stay there, and an inference is timed by events of the stream. With ``cuda_graph``,
    inputs of each shape are computed by a graph that was captured once.
    """

    def __init__(self, module: Any, signature: Signature, *, copies: bool, cuda_graph: bool) -> None:
        super().__init__(module, signature)
        self._copies, self._cuda_graph = copies, cuda_graph
        self._stream = library().cuda.Stream()
        self._graphs: dict[Any, _Graph] = {}

    def prepared(self, feed: Arrays) -> Callable[[], object]:
        bring, compute = self._steps(feed)

        def inference() -> object:
            with self._enqueueing():
                bring()
                outputs = compute()
                if self._copies:
                    outputs = on_host(outputs)
            self._stream.synchronize()
            return outputs

        return inference

    def timed(self, feed: Arrays) -> Callable[[], float]:
        if self._copies:
            return super().timed(feed)
        bring, compute = self._steps(feed)
        begin, end = (library().cuda.Event(enable_timing=True) for _ in range(2))

        def seconds() -> float:
            with self._enqueueing():
                bring()
                begin.record()
                compute()
                end.record()
            end.synchronize()
            return float(begin.elapsed_time(end)) / 1e3

        return seconds

    def sibling(self) -> Session:
        return CudaSession(self._module, self.signature, copies=self._copies, cuda_graph=self._cuda_graph)

    def facts(self) -> dict[str, Any]:
        torch = library()
        return super().facts() | {
            "gpu": str(torch.cuda.get_device_name()),
            "cuda": str(torch.version.cuda),
            "allow_tf32": bool(torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32),
            "copies": self._copies,
            "cuda_graph": self._cuda_graph,
        }

    def peak_memory_bytes(self) -> int | None:
        return int(library().cuda.max_memory_allocated())

    def close(self) -> None:
        super().close()
        self._graphs.clear()
        library().cuda.empty_cache()

    @contextmanager
    def _enqueueing(self) -> Iterator[None]:
        torch = library()
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            yield

    def _steps(self, feed: Arrays) -> tuple[Callable[[], object], Callable[[], Any]]:
        """Return a call that copies the feed to the device, and a call that computes; both are enqueued on the stream.

        Without ``copies`` the feed comes from the GPU's own memory.
        """
        torch = library()
        with torch.cuda.stream(self._stream):
            sources = self._tensors(feed)
            if not self._copies:
                sources = [source.to("cuda") for source in sources]
            if self._cuda_graph:
                graph = self._graph(sources)
                return partial(_fill, graph.inputs, sources), graph.launch
            inputs = [torch.empty_like(source, device="cuda") for source in sources] if self._copies else sources
        # A tensor that is copied onto itself is left alone.
        return partial(_fill, inputs, sources), partial(self._module, *inputs)

    def _graph(self, sources: Sequence[Any]) -> _Graph:
        shapes = tuple((source.shape, source.dtype) for source in sources)
        if shapes not in self._graphs:
            self._graphs[shapes] = _Graph(self._module, sources, self._stream)
        return self._graphs[shapes]


class _Graph:
    """The module's work on ``inputs``, captured on a stream; outputs are overwritten by every launch."""

    def __init__(self, module: Any, sources: Sequence[Any], stream: Any) -> None:
        torch = library()
        self.inputs = [torch.empty_like(source, device="cuda") for source in sources]
        self._graph = torch.cuda.CUDAGraph()
        with torch.inference_mode():
            _fill(self.inputs, sources)
            for _ in range(_BEFORE_CAPTURE):
                module(*self.inputs)
            stream.synchronize()
            with torch.cuda.graph(self._graph, stream=stream):
                self._outputs = module(*self.inputs)

    def launch(self) -> Any:
        self._graph.replay()
        return self._outputs


def _fill(places: Sequence[Any], sources: Sequence[Any]) -> None:
    for place, source in zip(places, sources, strict=True):
        place.copy_(source)


def _writable(array: Array) -> Array:
    """Return the array, copied where it is read-only: torch warns of such."""
    return array if array.flags.writeable else array.copy()


def _array(tensor: Any) -> Array:
    torch, found = library(), tensor.cpu()
    array: Array = np.asarray(found.float() if found.dtype is torch.bfloat16 else found)
    return array
