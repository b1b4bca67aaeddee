"""The CUDA runtime by way of NVIDIA's ``cuda-bindings``: streams, memory, events and graphs of the current device.

Everything is freed by ``close`` or at the end of a ``with``, and by nothing else. Errors are TargetErrors with CUDA's
own name of the error.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np

from optkit import lazy
from optkit.errors import MissingDeviceError, OptkitError, TargetError
from optkit.formats.tensors import Array


def require() -> None:
    """Raises MissingLibraryError without the library, MissingDeviceError without a driver or a GPU."""
    library = _library()
    error, count = library.cudaGetDeviceCount()
    if error == library.cudaError_t.cudaSuccess and count:
        return
    words = "no device" if error == library.cudaError_t.cudaSuccess else _words(error)
    _, driver = library.cudaDriverGetVersion()
    cause = "" if driver else "no NVIDIA driver is installed: "
    raise MissingDeviceError(
        f"no NVIDIA GPU can be used: {cause}{words}", hint="nvidia-smi shows the driver and its GPUs"
    )


def available() -> str | None:
    """Return the reason why no GPU can be used; ``None`` where one can."""
    try:
        require()
    except OptkitError as error:
        return error.message
    return None


def compute_capability(device: int = 0) -> str:
    """Return the device's compute capability: ``8.9``."""
    kinds = _library().cudaDeviceAttr
    parts = (kinds.cudaDevAttrComputeCapabilityMajor, kinds.cudaDevAttrComputeCapabilityMinor)
    return ".".join(str(_call("cudaDeviceGetAttribute", part, device)) for part in parts)


def device_name(device: int = 0) -> str:
    """NVIDIA's name of the device."""
    return str(_call("cudaGetDeviceProperties", device).name.decode())


class _Closing(ABC):
    """A resource that is closed at the end of a ``with``."""

    @abstractmethod
    def close(self) -> None:
        """Free it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Stream(_Closing):
    """Work that the device does in order, beside that of other streams; ``handle`` is CUDA's number for it."""

    def __init__(self) -> None:
        self.handle = int(_call("cudaStreamCreateWithFlags", _library().cudaStreamNonBlocking))

    def synchronize(self) -> None:
        """Wait until all is done."""
        _call("cudaStreamSynchronize", self.handle)

    def close(self) -> None:
        _call("cudaStreamDestroy", self.handle)


class Pinned(_Closing):
    """``size`` bytes of the host's memory that the device copies from and to while the host goes on.

    ``bytes`` is an array over them, of no use once closed.
    """

    def __init__(self, size: int) -> None:
        self._address = int(_call("cudaMallocHost", max(1, size)))
        self.bytes = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self._address))

    def close(self) -> None:
        _call("cudaFreeHost", self._address)


class Buffer(_Closing):
    """``size`` bytes of the device's memory at ``address``.

    Copies wait in the stream for their turn: until it is synchronised, the array must neither change nor go away.
    An array of pinned memory is copied while the host goes on; with another, CUDA may keep the caller waiting.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.address = int(_call("cudaMalloc", max(1, size)))

    def copy_from(self, array: Array, stream: Stream) -> None:
        """Put the bytes of a contiguous array into the beginning of the buffer."""
        self._check(array)
        kind = _library().cudaMemcpyKind.cudaMemcpyHostToDevice
        _call("cudaMemcpyAsync", self.address, array.ctypes.data, array.nbytes, kind, stream.handle)

    def copy_to(self, array: Array, stream: Stream) -> None:
        """Fill a contiguous array with bytes from the beginning of the buffer."""
        self._check(array)
        kind = _library().cudaMemcpyKind.cudaMemcpyDeviceToHost
        _call("cudaMemcpyAsync", array.ctypes.data, self.address, array.nbytes, kind, stream.handle)

    def close(self) -> None:
        _call("cudaFree", self.address)

    def _check(self, array: Array) -> None:
        """Raise ValueError for a copy that would write over foreign memory."""
        if array.nbytes > self.size or not array.flags.c_contiguous:
            raise ValueError(
                f"{array.nbytes} bytes of an array, for a buffer of {self.size}, must fit and be contiguous"
            )


class Timer(_Closing):
    """Two events: the time between two points of a stream on the device's clock, to half a microsecond."""

    def __init__(self) -> None:
        self._start, self._stop = _call("cudaEventCreate"), _call("cudaEventCreate")

    def start(self, stream: Stream) -> None:
        """Record the beginning."""
        _call("cudaEventRecord", self._start, stream.handle)

    def stop(self, stream: Stream) -> None:
        """Record the end."""
        _call("cudaEventRecord", self._stop, stream.handle)

    def seconds(self) -> float:
        """From start to stop; waits until the device has come there."""
        _call("cudaEventSynchronize", self._stop)
        return float(_call("cudaEventElapsedTime", self._start, self._stop)) / 1e3

    def close(self) -> None:
        _call("cudaEventDestroy", self._start)
        _call("cudaEventDestroy", self._stop)


class CudaGraph(_Closing):
    """The work that ``enqueue`` puts on a stream, captured once and not carried out, to be launched as one.

    Addresses and shapes stay as they were. Code that allocates on first use must have run before.
    """

    def __init__(self, enqueue: Callable[[], object], stream: Stream) -> None:
        library = _library()
        _call("cudaStreamBeginCapture", stream.handle, library.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        with ExitStack() as unless_captured:
            unless_captured.callback(library.cudaStreamEndCapture, stream.handle)  # or the stream is of no more use
            enqueue()
            unless_captured.pop_all()
        graph = _call("cudaStreamEndCapture", stream.handle)
        try:
            self._executable = _call("cudaGraphInstantiate", graph, 0)
        finally:
            _call("cudaGraphDestroy", graph)

    def launch(self, stream: Stream) -> None:
        """Put all of it on the stream."""
        _call("cudaGraphLaunch", self._executable, stream.handle)

    def close(self) -> None:
        _call("cudaGraphExecDestroy", self._executable)


def _library() -> Any:
    return lazy.require("cuda.bindings.runtime", extra="tensorrt-rtx")


def _call(name: str, *arguments: Any) -> Any:
    """Call a function of the runtime, which returns an error and values: the value, or a tuple of several."""
    library = _library()
    error, *values = getattr(library, name)(*arguments)
    if error == library.cudaError_t.cudaErrorMemoryAllocation:
        raise TargetError(f"out of memory on the GPU: {name}: {_words(error)}", hint="nvidia-smi shows who has it")
    if error != library.cudaError_t.cudaSuccess:
        raise TargetError(f"CUDA failed: {name}: {_words(error)}")
    return values[0] if len(values) == 1 else tuple(values)


def _words(error: Any) -> str:
    """CUDA's name and description of an error."""
    library = _library()
    (_, name), (_, text) = library.cudaGetErrorName(error), library.cudaGetErrorString(error)
    return f"{name.decode()} ({text.decode()})"
