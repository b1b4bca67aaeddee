"""An engine loaded on a GPU, with device memory for its inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from optkit.errors import TargetError
from optkit.formats import tensorrt_engine
from optkit.formats.model import Model
from optkit.formats.tensors import Array, Arrays, Signature, TensorSpec
from optkit.system.native import reason
from optkit.targets import cuda
from optkit.targets.target import Session
from optkit.targets.tensorrt import bindings

_REASONS = {
    "VERSION_MISMATCH": "another version of the library built it",
    "UNSUPPORTED_CC": "it is for another GPU",
    "OLD_CUDA_DRIVER": "this machine's NVIDIA driver is too old for it",
    "OLD_CUDA_RUNTIME": "this machine's CUDA runtime is too old for it",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory for it",
    "MALFORMED_ENGINE": "it is damaged",
}


class LoadedEngine:
    """A deserialized engine, which sessions share. Raises TargetError for one that does not fit here."""

    def __init__(self, data: bytes, model: Model) -> None:
        from optkit.targets.tensorrt.callbacks import Log

        self.log = Log()
        self._runtime = bindings.library().Runtime(self.log)
        self._check(data, model)
        self.handle = self._runtime.deserialize_cuda_engine(data)
        if self.handle is None:
            raise TargetError(
                f"{bindings.name()} does not load {model.path.name}: {self.reason()}", hint=_remake(model)
            )

    def names(self, mode: str) -> list[str]:
        """Return the tensors of mode ``INPUT`` or ``OUTPUT``."""
        wanted = bindings.library().TensorIOMode.__members__[mode]
        every = (self.handle.get_tensor_name(number) for number in range(self.handle.num_io_tensors))
        return [name for name in every if self.handle.get_tensor_mode(name) == wanted]

    def dtype(self, name: str) -> np.dtype[Any]:
        found: np.dtype[Any] = np.dtype(bindings.library().nptype(self.handle.get_tensor_dtype(name)))
        return found

    def signature(self) -> Signature:
        """Return the signature in the engine, which forgets the names of dynamic dimensions."""
        return Signature(*(tuple(map(self._spec, self.names(mode))) for mode in ("INPUT", "OUTPUT")))

    def sizes(self, name: str) -> str:
        """Return the shapes of an input that it was built for."""
        least, _, most = (list(each) for each in self.handle.get_tensor_profile_shape(name, 0))
        return f"it was built for {least} to {most}"

    def reason(self) -> str:
        """Return the library's last error message."""
        return self.log.errors[-1] if self.log.errors else "it gives no reason"

    def _spec(self, name: str) -> TensorSpec:
        sizes = enumerate(self.handle.get_tensor_shape(name))
        dims = tuple(size if size >= 0 else f"{name}_{axis}" for axis, size in sizes)
        return TensorSpec(name, self.dtype(name).name, dims)

    def _check(self, data: bytes, model: Model) -> None:
        """The error for an engine that does not fit, with the library's reason where it gives one."""
        ask = getattr(self._runtime, "get_engine_validity", None)
        if ask is None:
            return
        validity, flags = ask(data[: getattr(self._runtime, "engine_header_size", tensorrt_engine.HEADER_BYTES)])
        if validity.name != "INVALID":
            return
        found = tensorrt_engine.header(data) or tensorrt_engine.Header()
        known = bindings.library().EngineInvalidityDiagnostics.__members__
        reasons = [_REASONS[name] for name, flag in known.items() if int(flag) & int(flags) and name in _REASONS]
        built = f"built by {found.version} for {', '.join(found.capabilities)}" if found.version else "it is invalid"
        here = f"here are {bindings.name()} and compute capability {cuda.compute_capability()}"
        told = "; ".join([*reasons, built, here])
        raise TargetError(f"{bindings.name()} does not load {model.path.name}: {told}", hint=_remake(model))


class TensorRtSession(Session):
    """One execution context and one stream on an engine."""

    def __init__(self, engine: LoadedEngine, signature: Signature | None, options: dict[str, Any]) -> None:
        self._engine, self._options = engine, options
        self.signature = signature or engine.signature()
        self._inputs, self._outputs = engine.names("INPUT"), engine.names("OUTPUT")
        told = {spec.name: spec.dtype for spec in self.signature.outputs}
        self._dtypes = {name: told.get(name, engine.dtype(name).name) for name in self._outputs}
        self._context = engine.handle.create_execution_context()
        if self._context is None:
            raise TargetError(f"tensorrt cannot prepare to run the model: {engine.reason()}")
        self._stream, self._timer = cuda.Stream(), cuda.Timer()
        self._buffers: dict[str, cuda.Buffer] = {}
        self._graph: cuda.CudaGraph | None = None

    def run(self, feed: Arrays) -> Arrays:
        with self.explaining():
            return self._inference(feed)()

    def prepared(self, feed: Arrays) -> Callable[[], object]:
        return self._inference(feed)

    def timed(self, feed: Arrays) -> Callable[[], float]:
        """Time from host to host by the host's clock where copies count, else the computation by the device's clock."""
        if self._options["copies"]:
            return super().timed(feed)
        arrays = self._arrays(feed)

        def seconds() -> float:
            self._upload(arrays)
            self._prepare()
            self._stream.synchronize()
            self._timer.start(self._stream)
            self._launch()
            self._timer.stop(self._stream)
            return self._timer.seconds()

        self._inference(feed)()  # so that what is allocated on first use is not timed
        return seconds

    def _inference(self, feed: Arrays) -> Callable[[], Arrays]:
        arrays = self._arrays(feed)

        def inference() -> Arrays:
            self._upload(arrays)
            outputs = self._prepare()
            self._launch()
            for name, array in outputs.items():
                self._buffers[name].copy_to(array, self._stream)
            self._stream.synchronize()
            return {name: array.astype(self._dtypes[name], copy=False) for name, array in outputs.items()}

        return inference

    def _arrays(self, feed: Arrays) -> Arrays:
        """In the engine's types: TensorRT knows no float64."""
        return {name: np.require(feed[name], self._engine.dtype(name), "C") for name in self._inputs}

    def _upload(self, arrays: Arrays) -> None:
        for name, array in arrays.items():
            if tuple(self._context.get_tensor_shape(name)) != array.shape:
                self._drop_graph()
                if not self._context.set_input_shape(name, array.shape):
                    raise TargetError(
                        f"the engine does not take {name!r} of shape {list(array.shape)}: {self._engine.sizes(name)}",
                        hint="build it for such sizes: optkit compile MODEL --target tensorrt --shapes batch=1/8/32",
                    )
            self._buffer(name, array.nbytes).copy_from(array, self._stream)

    def _prepare(self) -> Arrays:
        """Room for the outputs, here and on the device; and the graph, where the inference is to be one launch.

        A graph is of no use once the context has changed, so there is one at a time.
        """
        outputs = {name: self._empty(name) for name in self._outputs}
        if self._options["cuda_graph"] and self._graph is None:
            self._enqueue()  # what is allocated on first use cannot be captured
            self._stream.synchronize()
            self._graph = cuda.CudaGraph(self._enqueue, self._stream)
        return outputs

    def _empty(self, name: str) -> Array:
        shape = tuple(self._context.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise TargetError(f"the size of output {name!r} depends on the data, which optkit does not run on tensorrt")
        array = np.empty(shape, self._engine.dtype(name))
        self._buffer(name, array.nbytes)
        return array

    def _buffer(self, name: str, size: int) -> cuda.Buffer:
        """Return the tensor's device memory, of this size at least."""
        found = self._buffers.get(name)
        if found is not None and found.size >= size:
            return found
        self._drop_graph()
        if found is not None:
            found.close()
        made = self._buffers[name] = cuda.Buffer(size)
        self._context.set_tensor_address(name, made.address)
        return made

    def _launch(self) -> None:
        if self._graph is None:
            self._enqueue()
        else:
            self._graph.launch(self._stream)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise TargetError(f"tensorrt failed to run the model: {self._engine.reason()}")

    @contextmanager
    def explaining(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, RuntimeError, TypeError) as error:
            raise TargetError(f"tensorrt failed to run the model: {reason(error)}; {self._engine.reason()}") from None

    def sibling(self) -> Session:
        """Another context on the same weights."""
        return TensorRtSession(self._engine, self.signature, self._options)

    def facts(self) -> dict[str, Any]:
        return {
            "version": bindings.name(),
            "gpu": cuda.device_name(),
            "compute_capability": cuda.compute_capability(),
            "cuda_graph": self._options["cuda_graph"],
            "copies": self._options["copies"],
        }

    def peak_memory_bytes(self) -> int | None:
        """Device memory of the tensors and the execution context, without weights: TensorRT does not report them."""
        return sum(each.size for each in self._buffers.values()) + int(self._engine.handle.device_memory_size_v2)

    def close(self) -> None:
        self._drop_graph()
        for each in (*self._buffers.values(), self._timer, self._stream):
            each.close()
        self._buffers = {}
        self._context = None

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._graph.close()
            self._graph = None


def _remake(model: Model) -> str:
    return f"build it again: optkit compile MODEL --target tensorrt -o {model.path.parent.name or 'BUNDLE'}"
