"""The child process of ``optkit.measurement.worker``: it opens one session and answers requests until its parent ends.

It imports what its target needs and nothing else.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from optkit.errors import OptkitError, WorkerError
from optkit.formats.model import Model
from optkit.formats.operators import Profile
from optkit.formats.tensors import Arrays, Signature
from optkit.measurement import loadgen
from optkit.targets.target import Examination, Session, loaded

_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29
"""Option of prctl that sets the timer slack: a nanosecond instead of 50 microseconds, so that queries start on time."""
_RESET_PEAK = "5"
"""Value for ``/proc/self/clear_refs`` that resets the peak to the memory resident now."""


def main() -> None:
    """Serve the socket whose number is the first argument, for the parent whose process id is the second."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    _die_with(parent)
    _volunteer()
    wake_promptly()
    with Connection(descriptor) as connection:
        _serve(connection)
    _end_at_once()


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; an idle child would see the socket close anyway."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent ended before this process began")


def _end_at_once() -> NoReturn:
    """End without the interpreter's finalization, half a second for torch: the sessions are freed already."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def wake_promptly() -> None:
    """Make sleeps in this thread, and in threads that it starts, end on time."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)


def _volunteer() -> None:
    """Have the kernel end this process when memory runs out, and not its parent, which reports it."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        return


def _serve(connection: Connection) -> None:
    desk = _Desk()
    while True:
        try:
            request, arguments = connection.recv()
        except EOFError:
            desk.close()
            return
        connection.send(_answer(desk, request, arguments))


def _answer(desk: _Desk, request: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    try:
        return "done", getattr(desk, request)(*arguments)
    except OptkitError as error:
        return "error", error
    except MemoryError:
        return "error", WorkerError("out of memory")
    except Exception:  # noqa: BLE001  a bug of ours: the parent shows this traceback
        return "bug", traceback.format_exc()


class _Desk:
    """The requests of a worker: a method each."""

    def __init__(self) -> None:
        self._sessions: list[Session] = []
        self._feeds: list[Arrays] = []

    def open(self, model: Model, entry: str, options: dict[str, Any], count: int) -> tuple[Signature, dict[str, Any]]:
        runtime = loaded(entry)
        runtime.version()
        _reset_peak()
        first = runtime.open(model, options)
        self._sessions = [first, *(first.sibling() for _ in range(count - 1))]
        return first.signature, first.facts()

    def examine(self, model: Model, entry: str, options: dict[str, Any], layers: bool) -> Examination:
        return loaded(entry).examine(model, options, layers=layers)

    def run(self, feed: Arrays) -> Arrays:
        return self._sessions[0].run(feed)

    def load(self, feeds: list[Arrays]) -> None:
        self._feeds = feeds

    def time(self, count: int, core: int | None) -> list[float]:
        if core is not None:
            _hop(core)
        with _no_garbage_collection():
            return loadgen.one_by_one(self._sessions[0], self._feeds, count)

    def drain(self, count: int) -> float:
        with _no_garbage_collection():
            return loadgen.closed_loop(self._sessions, self._feeds, count)

    def serve(self, arrivals: list[float]) -> list[float]:
        with _no_garbage_collection():
            return loadgen.open_loop(self._sessions, self._feeds, arrivals)

    def profile(self, model: Model, entry: str, options: dict[str, Any], seconds: float) -> Profile:
        """Profile the model in a new session; the open one is closed first, to free its memory."""
        self.close()
        self._sessions = []
        with _no_garbage_collection():
            return loaded(entry).profile(model, options, self._feeds, seconds)

    def peak_memory_bytes(self) -> int | None:
        known = self._sessions[0].peak_memory_bytes()
        return _peak() if known is None else known

    def close(self) -> None:
        for session in self._sessions:
            session.close()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _hop(core: int) -> None:
    """Move this thread to ``core``, without binding it there."""
    allowed = os.sched_getaffinity(0)
    if core in allowed:
        os.sched_setaffinity(0, {core})
        os.sched_setaffinity(0, allowed)


def _reset_peak() -> None:
    """Reset the peak of memory, which includes imports; without permission it keeps including them."""
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return


def _peak() -> int:
    """Read the peak of resident memory, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
