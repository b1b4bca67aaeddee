"""An engine loaded on a GPU, with device memory for its inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from optkit import cuda, trt, trtengine
from optkit.errors import TargetError
from optkit.model import Model
from optkit.target import Session
from optkit.tensors import Array, Arrays, Signature, TensorSpec

_REASONS = {
    "VERSION_MISMATCH": "another version of the library built it",
    "UNSUPPORTED_CC": "it is for another GPU",
    "OLD_CUDA_DRIVER": "this machine's NVIDIA driver is too old for it",
    "OLD_CUDA_RUNTIME": "this machine's CUDA runtime is too old for it",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory for it",
    "MALFORMED_ENGINE": "it is damaged",
}


class TensorRtSession(Session):
    """One execution context and one stream. Raises TargetError for an engine that does not fit here."""

    def __init__(self, engine: bytes, model: Model, options: dict[str, Any]) -> None:
        from optkit.trtcallbacks import Log

        self._log, self._options = Log(), options
        self._runtime = trt.library().Runtime(self._log)
        self._check(engine, model)
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise TargetError(
                f"{trt.name()} does not load {model.path.name}: {self._last_error()}", hint=_remake(model)
            )
        self._context = self._engine.create_execution_context()
        self._stream, self._timer = cuda.Stream(), cuda.Timer()
        self._buffers: dict[str, cuda.Buffer] = {}
        self._graphs: dict[tuple[tuple[int, ...], ...], cuda.Graph] = {}
        self.signature = model.signature or self._own_signature()

    def run(self, feed: Arrays) -> Arrays:
        with self.explaining():
            outputs: Any = self._inference(feed)()
        return dict(outputs)

    def prepared(self, feed: Arrays) -> Callable[[], object]:
        return self._inference(feed)

    def timed(self, feed: Arrays) -> Callable[[], float]:
        """Where copies count, from host to host on the host's clock, else what the device computes, on its own."""
        if self._options["copies"]:
            return super().timed(feed)
        arrays = self._inputs(feed)

        def seconds() -> float:
            self._upload(arrays)
            self._stream.synchronize()
            self._timer.start(self._stream)
            self._launch()
            self._timer.stop(self._stream)
            return self._timer.seconds()

        self._inference(feed)()  # so that what is allocated on first use is not timed
        return seconds

    def _inference(self, feed: Arrays) -> Callable[[], Arrays]:
        arrays = self._inputs(feed)

        def inference() -> Arrays:
            self._upload(arrays)
            outputs = {name: self._output(name) for name in self._names("OUTPUT")}
            self._launch()
            for name, array in outputs.items():
                self._buffers[name].copy_to(array, self._stream)
            self._stream.synchronize()
            return outputs

        return inference

    def _inputs(self, feed: Arrays) -> Arrays:
        return {name: np.ascontiguousarray(feed[name]) for name in self._names("INPUT")}

    def _upload(self, arrays: Arrays) -> None:
        for name, array in arrays.items():
            self._context.set_input_shape(name, array.shape)
            self._buffer(name, array.nbytes).copy_from(array, self._stream)

    def _output(self, name: str) -> Array:
        shape = tuple(self._context.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise TargetError(f"the size of output {name!r} depends on the data, which optkit does not run on tensorrt")
        array = np.empty(shape, trt.library().nptype(self._engine.get_tensor_dtype(name)))
        self._buffer(name, array.nbytes)
        return array

    def _buffer(self, name: str, size: int) -> cuda.Buffer:
        """The tensor's device memory, of this size at least; a new address makes captured graphs void."""
        found = self._buffers.get(name)
        if found is None or found.size < size:
            if found is not None:
                found.close()
                self._drop_graphs()
            found = self._buffers[name] = cuda.Buffer(size)
        self._context.set_tensor_address(name, found.address)
        return found

    def _launch(self) -> None:
        if not self._options["cuda_graph"]:
            self._enqueue()
            return
        shapes = tuple(tuple(self._context.get_tensor_shape(name)) for name in self._names("INPUT"))
        if shapes not in self._graphs:
            self._enqueue()  # what is allocated on first use cannot be captured
            self._stream.synchronize()
            self._graphs[shapes] = cuda.Graph(self._enqueue, self._stream)
        self._graphs[shapes].launch(self._stream)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise TargetError(f"tensorrt failed to run the model: {self._last_error()}")

    def _names(self, mode: str) -> list[str]:
        wanted = trt.library().TensorIOMode.__members__[mode]
        every = (self._engine.get_tensor_name(number) for number in range(self._engine.num_io_tensors))
        return [name for name in every if self._engine.get_tensor_mode(name) == wanted]

    def _own_signature(self) -> Signature:
        return Signature(*(tuple(map(self._spec, self._names(mode))) for mode in ("INPUT", "OUTPUT")))

    def _spec(self, name: str) -> TensorSpec:
        dtype = np.dtype(trt.library().nptype(self._engine.get_tensor_dtype(name))).name
        sizes = enumerate(self._engine.get_tensor_shape(name))
        return TensorSpec(name, dtype, tuple(size if size >= 0 else f"{name}_{axis}" for axis, size in sizes))

    def _check(self, engine: bytes, model: Model) -> None:
        """Say of an engine that does not fit why, as far as the library tells."""
        ask = getattr(self._runtime, "get_engine_validity", None)
        if ask is None:
            return
        validity, flags = ask(engine[: getattr(self._runtime, "engine_header_size", trtengine.HEADER_BYTES)])
        if validity.name != "INVALID":
            return
        found = trtengine.header(engine) or trtengine.Header()
        known = trt.library().EngineInvalidityDiagnostics.__members__
        reasons = [_REASONS[name] for name, flag in known.items() if int(flag) & int(flags) and name in _REASONS]
        built = f"built by {found.version} for {', '.join(found.capabilities)}" if found.version else "it is invalid"
        here = f"here are {trt.name()} and compute capability {cuda.compute_capability()}"
        told = "; ".join([*reasons, built, here])
        raise TargetError(f"{trt.name()} does not load {model.path.name}: {told}", hint=_remake(model))

    def _last_error(self) -> str:
        return self._log.errors[-1] if self._log.errors else "it gives no reason"

    @contextmanager
    def explaining(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, RuntimeError, TypeError) as error:
            raise TargetError(f"tensorrt failed to run the model: {error}; {self._last_error()}") from None

    def sibling(self) -> Session:
        """Another context on the same weights would do; engines are small beside what they need to run."""
        return self

    def facts(self) -> dict[str, Any]:
        return {
            "version": trt.name(),
            "gpu": cuda.device_name(),
            "compute_capability": cuda.compute_capability(),
            "cuda_graph": self._options["cuda_graph"],
            "copies": self._options["copies"],
        }

    def peak_memory_bytes(self) -> int | None:
        return sum(each.size for each in self._buffers.values()) + int(self._engine.device_memory_size_v2)

    def close(self) -> None:
        self._drop_graphs()
        for each in (*self._buffers.values(), self._timer, self._stream):
            each.close()
        self._buffers = {}
        self._context = self._engine = self._runtime = None

    def _drop_graphs(self) -> None:
        for each in self._graphs.values():
            each.close()
        self._graphs = {}


def _remake(model: Model) -> str:
    return f"build it again: optkit compile MODEL --target tensorrt -o {model.path.parent.name or 'BUNDLE'}"
