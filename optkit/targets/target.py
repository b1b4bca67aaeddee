"""The contract of a target: a runtime that executes models.

Sessions are opened in a worker's child process (see ``optkit.measurement.worker``), except by ``optkit.load``.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from optkit import lazy
from optkit.errors import UsageError
from optkit.formats.model import Model
from optkit.formats.operators import Profile
from optkit.formats.tensors import Arrays, Signature
from optkit.progress import Progress, no_progress

TARGETS = {
    "onnxruntime": "optkit.targets.onnxruntime.target:OnnxRuntime",
    "openvino": "optkit.targets.openvino.target:OpenVino",
    "tensorrt": "optkit.targets.tensorrt.target:TensorRT",
    "torch": "optkit.targets.torch.target:Torch",
    "fake": "optkit.targets.fake:Fake",
}


class Session(ABC):
    """A model loaded on a target, ready to run; a context manager that owns the runtime's memory."""

    signature: Signature
    clock: Callable[[], float] = staticmethod(time.perf_counter)
    """Seconds on the clock that an inference is timed by."""

    @abstractmethod
    def run(self, feed: Arrays) -> Arrays:
        """Outputs by name for one feed. Raises TargetError when the runtime fails."""

    def prepared(self, feed: Arrays) -> Callable[[], object]:
        """One inference as a call without arguments, as near to the runtime as Python comes: what is timed.

        It returns when the inference is done, on a device too, and raises the runtime's own errors; ``explaining``
        makes them readable.
        """
        return partial(self.run, feed)

    def timed(self, feed: Arrays) -> Callable[[], float]:
        """One inference as a call that gives the seconds it took, by the clock around what is ``prepared``.

        A session on a GPU may ask the device instead.
        """
        call, clock = self.prepared(feed), self.clock

        def seconds() -> float:
            start = clock()
            call()
            return clock() - start

        return seconds

    def explaining(self) -> AbstractContextManager[None]:
        """Inside, what the runtime raises becomes a TargetError."""
        return nullcontext()

    def sibling(self) -> Session:
        """One that may run at the same time as this one, on the same weights where the runtime can share them."""
        return self

    def wait(self, until: float) -> None:
        """Sleep until the clock shows ``until``."""
        time.sleep(max(0.0, until - self.clock()))

    def facts(self) -> dict[str, Any]:
        """What the runtime really does: providers or device, precision, threads; plain JSON values.

        ``gpu`` is there for a session on a GPU alone: its name.
        """
        return {}

    def peak_memory_bytes(self) -> int | None:
        """The peak of memory that the operating system does not see (a device's); ``None`` when there is none."""
        return None

    def close(self) -> None:
        """Free the runtime's memory."""

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Compiled:
    """A model made ready for a target: the file to load and the options to load it with, as the runtime spells them."""

    path: Path
    format: str
    options: dict[str, Any]
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RefusedNode:
    """A node of a model that a target does not take, and why; ``node`` is its name, empty where it has none."""

    operator: str
    node: str
    reason: str


@dataclass(frozen=True)
class EngineLayer:
    """A kernel of a built engine.

    ``precision`` is the type that it reads, and the one that it makes where that is another; ``nodes`` are the ONNX
    nodes that went into it.
    """

    name: str
    kind: str
    precision: str
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Examination:
    """What a target refuses in a model, and the layers that it makes of it where it tells."""

    refused: tuple[RefusedNode, ...] = ()
    layers: tuple[EngineLayer, ...] = ()


class Target(ABC):
    """A runtime. ``options`` are spelled as the runtime spells them and are plain JSON values."""

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]
    """The formats of models that ``open`` takes."""
    deploys: ClassVar[bool] = True
    """Whether ``compile`` makes bundles of it."""
    tells_operators: ClassVar[bool] = False
    """Whether ``profile`` works."""
    without_operators: ClassVar[str | None] = None
    """What to do instead where it does not."""

    @abstractmethod
    def version(self) -> str:
        """The runtime's version. Raises MissingLibraryError."""

    def absence(self) -> str | None:
        """Why models made for it cannot run on this machine; ``None`` where they can."""
        return None

    @abstractmethod
    def default_options(self, *, threads: int | None = None) -> dict[str, Any]:
        """Every option that matters, made explicit: precision, threads, latency hint."""

    @abstractmethod
    def parallel_options(self, *, threads: int, sessions: int = 1) -> dict[str, Any]:
        """The options that let so many sessions run at once with so many threads each."""

    def device_options(self, device: str) -> dict[str, Any]:
        """The options that make it run on ``device``, "cpu" or "cuda". Raises UsageError where it does not run there.

        Where it would run there but this machine does not let it, ``open`` raises MissingDeviceError.
        """
        if device != "cpu":
            raise UsageError(f"{self.name} does not run on {device!r}", hint="leave --device out, or choose a --target")
        return {}

    def variants(self) -> dict[str, dict[str, Any]]:
        """Options that are worth trying for speed beside the default ones, by what they are called."""
        return {}

    def half_options(self) -> dict[str, Any]:
        """Options that make what is in float compute in half precision; none where this machine does not so."""
        return {}

    def static_options(self, shapes: dict[str, list[int]]) -> dict[str, Any]:
        """Options that make inputs of these shapes fast and leave others possible; none where that wins nothing."""
        return {}

    @abstractmethod
    def compile(
        self, model: Model, options: dict[str, Any], workdir: Path, progress: Progress = no_progress
    ) -> Compiled:
        """Write what ``open`` loads fastest below ``workdir``. Raises TargetError, naming the refused operator."""

    @abstractmethod
    def open(self, model: Model, options: dict[str, Any]) -> Session:
        """Load ``model``. Raises TargetError, naming the refused operator."""

    def examine(self, model: Model, options: dict[str, Any], *, layers: bool = False) -> Examination:
        """What the target takes of the model and, with ``layers``, makes of it where it tells.

        By default the model is opened: raises TargetError.
        """
        self.open(model, options).close()
        return Examination()

    def profile(self, model: Model, options: dict[str, Any], feeds: Sequence[Arrays], seconds: float) -> Profile:
        """What each operator takes, in a session of its own that goes through ``feeds`` for about so many seconds.

        Raises TargetError, and UsageError where ``tells_operators`` is false.
        """
        raise UsageError(f"{self.name} does not tell what each operator takes", hint=self.without_operators)


def in_turn(calls: Sequence[Callable[[], object]], seconds: float, *, fewest: int = 1, most: int = 1_000_000) -> int:
    """Make the calls one after the other, over and over, until the time is up; how many were made.

    At least ``fewest`` and at most ``most``, in whole turns where the time allows.
    """
    until, made = time.perf_counter() + seconds, 0
    while made < fewest or (made < most and (made % len(calls) or time.perf_counter() < until)):
        calls[made % len(calls)]()
        made += 1
    return made


def target(name: str) -> Target:
    """The target called ``name``. Raises UsageError for an unknown one."""
    found: Target = lazy.resolve(TARGETS, name, kind="target")()
    return found
