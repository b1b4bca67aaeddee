"""The contract of a target: a runtime that executes models.

Sessions are opened in a worker's child process (see ``optkit.measurement.worker``), except by ``optkit.load``.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from optkit import lazy
from optkit.errors import UsageError
from optkit.formats.model import Model
from optkit.formats.operators import Profile
from optkit.formats.tensors import Arrays, Signature
from optkit.lazy import Library
from optkit.progress import Progress, no_progress
from optkit.targets.precisions import Precisions
from optkit.targets.table import DEFAULT, TARGETS

if TYPE_CHECKING:  # pydantic, which child processes do without
    from optkit.notes import Note
    from optkit.records.machine import LibraryRecord, Machine
    from optkit.targets.options import RuntimeOptions


class Session(ABC):
    """A model loaded on a target, ready to run; a context manager that owns the runtime's memory."""

    signature: Signature
    clock: Callable[[], float] = staticmethod(time.perf_counter)
    """Seconds on the clock that an inference is timed by."""

    @abstractmethod
    def run(self, feed: Arrays) -> Arrays:
        """Outputs by name for one feed. Raises TargetError when the runtime fails."""

    def prepared(self, feed: Arrays) -> Callable[[], object]:
        """One inference as a call without arguments, as near to the runtime as Python comes: the call that is timed.

        It returns when the inference is done, on a device too, and raises the runtime's own errors; ``explaining``
        makes them readable.
        """
        return partial(self.run, feed)

    def timed(self, feed: Arrays) -> Callable[[], float]:
        """One inference as a call that returns its seconds, by the clock around the ``prepared`` call.

        A session on a GPU may ask the device instead.
        """
        call, clock = self.prepared(feed), self.clock

        def seconds() -> float:
            start = clock()
            call()
            return clock() - start

        return seconds

    def explaining(self) -> AbstractContextManager[None]:
        """Turn the runtime's errors into TargetErrors."""
        return nullcontext()

    def sibling(self) -> Session:
        """A session that may run at the same time as this one, on the same weights where the runtime shares them."""
        return self

    def wait(self, until: float) -> None:
        """Sleep until the clock shows ``until``."""
        time.sleep(max(0.0, until - self.clock()))

    def facts(self) -> dict[str, Any]:
        """Return the runtime's own account of the session: providers or device, precision, threads; plain JSON values.

        ``gpu`` is there for a session on a GPU alone: its name.
        """
        return {}

    def peak_memory_bytes(self) -> int | None:
        """Return peak of memory that the operating system does not see (a device's); ``None`` when there is none."""
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
    """A node of a model that a target refuses, with the reason; ``node`` is its name, empty where it has none."""

    operator: str
    node: str
    reason: str


@dataclass(frozen=True)
class EngineLayer:
    """A kernel of a built engine.

    ``precision`` is the type of its inputs, and that of its outputs where it differs; ``nodes`` are the ONNX nodes
    fused into it.
    """

    name: str
    kind: str
    precision: str
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Examination:
    """The nodes of a model that a target refuses, and its layers where it tells them."""

    refused: tuple[RefusedNode, ...] = ()
    layers: tuple[EngineLayer, ...] = ()


class Target(ABC):
    """A runtime. ``options`` are spelled as the runtime spells them and are plain JSON values, checked by its model."""

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]
    """The formats of models that ``open`` takes."""
    options_model: ClassVar[str]
    """``module:Class`` of the RuntimeOptions that check its options: as text, for child processes do not need it."""
    thread_options: ClassVar[tuple[str, ...]] = ()
    """The options that hold a number of threads."""

    modules: ClassVar[tuple[str, ...]] = ()
    """Import names of the runtime; the first that is installed is used."""
    extra: ClassVar[str | None] = None
    """The extra of optkit that installs it; ``None`` where it comes with optkit, or from elsewhere."""
    libraries: ClassVar[tuple[Library, ...]] = ()
    """The distributions that its results depend on."""

    deploys: ClassVar[bool] = True
    """True if ``compile`` makes bundles for it."""
    offered: ClassVar[bool] = True
    """False if it is used only where it is named."""
    builds_engines: ClassVar[bool] = False
    """True if ``build_options`` takes compute capabilities and sizes of dynamic dimensions."""
    tells_operators: ClassVar[bool] = False
    """True if ``profile`` works."""
    without_operators: ClassVar[str | None] = None
    """The hint of the error that ``profile`` raises where it does not work."""
    fused_operators: ClassVar[bool] = False
    """True if it runs the fused operators that the stage ``fuse`` makes."""

    precisions: ClassVar[Precisions] = Precisions()
    """The precisions that models can be brought to for it."""
    zeros: ClassVar[str | None] = None
    """The use that it makes of zeros among the weights, in a sentence."""
    search_priority: ClassVar[int] = 0
    """A search tries targets with a higher number first, at the same cost."""

    @abstractmethod
    def version(self) -> str:
        """Return the runtime's version. Raises MissingLibraryError."""

    def absence(self) -> str | None:
        """Return the reason why models made for it cannot run on this machine; ``None`` where they can."""
        return None

    def parts(self) -> Iterator[tuple[str, str | None, str | None]]:
        """Try each part of the runtime that may be there and not work (execution providers), for ``doctor``.

        Yields its name, the reason why it does not work, and a hint. Called in a process of its own. None by default.
        """
        yield from ()

    def advice(self, here: Machine, found: LibraryRecord) -> Iterable[Note]:
        """Notes of ``doctor`` on this machine and the runtime as ``found`` on it; ``found.error`` where it fails."""
        return ()

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return options as plain JSON values. Raises UsageError for an unknown one and for a value of another kind."""
        model: type[RuntimeOptions] = lazy.load(self.options_model)
        return model.read(self.name, options)

    @abstractmethod
    def default_options(self, *, threads: int | None = None) -> dict[str, Any]:
        """Return every option that matters, made explicit: precision, threads, latency hint."""

    @abstractmethod
    def parallel_options(self, *, threads: int, sessions: int = 1) -> dict[str, Any]:
        """Return the options that let ``sessions`` sessions run at once with ``threads`` threads each."""

    def device_options(self, device: str) -> dict[str, Any]:
        """The options that make it run on ``device``, "cpu" or "cuda". Raises UsageError where it does not run there.

        Where it would run there but this machine does not let it, ``open`` raises MissingDeviceError.
        """
        if device != "cpu":
            raise UsageError(f"{self.name} does not run on {device!r}", hint="leave --device out, or choose a --target")
        return {}

    def build_options(
        self, signature: Signature | None, *, compute_capability: Sequence[str] = (), shapes: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Return options to build engines for GPUs of these compute capabilities and for sizes ``NAME=MIN/OPT/MAX``.

        None by default: a recipe names them for those of its targets that build engines. Raises UsageError.
        """
        return {}

    def variants(self) -> dict[str, dict[str, Any]]:
        """Options that a search tries for speed beside the default ones, by the name of the variant."""
        return {}

    def half_options(self) -> dict[str, Any]:
        """Options that make float operators compute in half precision; none where this machine does not."""
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
        """Return the nodes of the model that the target refuses and, with ``layers``, its layers where it tells them.

        By default the model is opened: raises TargetError.
        """
        self.open(model, options).close()
        return Examination()

    def profile(self, model: Model, options: dict[str, Any], feeds: Sequence[Arrays], seconds: float) -> Profile:
        """Return the time of each operator, in a session of its own that goes through ``feeds`` for about ``seconds``.

        Raises TargetError, and UsageError where ``tells_operators`` is false.
        """
        raise UsageError(f"{self.name} does not tell what each operator takes", hint=self.without_operators)

    def warnings(self, options: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        """Kind and text of each warning about a session with these options, from its own ``facts``."""
        return ()

    def expected_kernel(self, options: Mapping[str, Any]) -> str | None:
        """Return the kernel name that all operators should have; ``None`` where kernels do not tell of a fallback."""
        return None


def in_turn(calls: Sequence[Callable[[], object]], seconds: float, *, fewest: int = 1, most: int = 1_000_000) -> int:
    """Make the calls one after the other, over and over, until the time is up; returns their number.

    At least ``fewest`` and at most ``most``, in whole turns where the time allows.
    """
    until, made = time.perf_counter() + seconds, 0
    while made < fewest or (made < most and (made % len(calls) or time.perf_counter() < until)):
        calls[made % len(calls)]()
        made += 1
    return made


def target(name: str) -> Target:
    """Return the target called ``name``. Raises UsageError for an unknown one."""
    found: Target = lazy.resolve(TARGETS, name, kind="target")()
    return found


def loaded(entry: str) -> Target:
    """The target of a line of the table, ``module:Class``: a child process knows no other lines than optkit's own."""
    found: Target = lazy.load(entry)()
    return found


def native(format: str) -> str:
    """Return target on which a model of this format runs where none is named: the first of the table that opens it."""
    return next((name for name in TARGETS if format in target(name).formats), DEFAULT)


def offered() -> list[Target]:
    """Return all targets but those that are used only where they are named."""
    return [found for found in map(target, TARGETS) if found.offered]


def engine_builders() -> str:
    """Return the names of the targets whose options take compute capabilities and sizes."""
    return " or ".join(each.name for each in offered() if each.builds_engines)


def profilable(format: str) -> list[str]:
    """Return the offered targets that make bundles of such models and tell the time of each operator."""
    return [each.name for each in offered() if each.deploys and each.tells_operators and format in each.formats]
