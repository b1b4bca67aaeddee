"""One session in a child process: isolation, a time limit, peak memory.

Native libraries crash, run out of memory and hang. A worker turns that into an error with a reason in this process.
The child (``optkit.measurement.child``) ends with its worker, and with this process however that ends.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from optkit.errors import WorkerError
from optkit.formats.model import Model
from optkit.formats.operators import Profile
from optkit.formats.tensors import Arrays, Signature, check_feed
from optkit.measurement.candidate import Candidate, resolve_candidate
from optkit.options.option import Options
from optkit.targets.table import TARGETS
from optkit.targets.target import Examination, target

_GRACE = 5.0
"""Seconds that a child has to free its session before it is killed."""
_BOOT = "import sys; sys.path.append(sys.argv.pop(1)); from optkit.measurement.child import main; main()"


def opened(sources: Iterable[str | Path], options: Options) -> list[Candidate]:
    """Open every model with those of a verb's options that ``candidate`` takes. Raises as it does."""
    names = ("target", "device", "threads", "inputs", "code", "trust", "time_limit")
    given = {name: getattr(options, name) for name in names if name in type(options).model_fields}
    return [resolve_candidate(source, **given) for source in sources]


def examined(candidate: Candidate, *, layers: bool = False) -> Examination:
    """The nodes that the candidate's target refuses and, with ``layers``, its layers, found in a process of their own.

    Raises as Worker does.
    """
    with Worker(candidate, opened=False) as worker:
        return worker.examine(layers=layers)


class Worker:
    """A child process with the session of one candidate; a context manager. Not ``opened``, it can only examine.

    All methods raise the child's OptkitErrors as they were raised there, and WorkerError when it crashed, was killed or
    did not answer in its candidate's time limit; after a WorkerError the worker is of no more use.
    """

    signature: Signature
    facts: dict[str, Any]

    def __init__(self, candidate: Candidate, *, opened: bool = True) -> None:
        self.candidate = candidate
        self._options = target(candidate.target).checked(candidate.options)
        self._time_limit = candidate.time_limit
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by _end
        self._connection, self._process = _start(self._output)
        if not opened:
            return
        with ExitStack() as unless_opened:
            unless_opened.callback(self._end, grace=0.0)
            self.signature, self.facts = self._ask("open", *self._what(), candidate.sessions)
            unless_opened.pop_all()

    def examine(self, *, layers: bool) -> Examination:
        """Return nodes of the model that the target refuses and, with ``layers``, its layers where it tells them."""
        found: Examination = self._ask("examine", *self._what(), layers)
        return found

    def run(self, feed: Arrays) -> Arrays:
        """Return the outputs for one feed."""
        outputs: Arrays = self._ask("run", feed)
        return outputs

    def load(self, feeds: Sequence[Arrays]) -> None:
        """Hand over the feeds to run in turn. Raises SignatureError for one that does not fit."""
        for feed in feeds:
            check_feed(feed, self.signature.inputs, where="the feed to time with")
        self._ask("load", list(feeds))

    def time(self, count: int, *, core: int | None = None) -> list[float]:
        """Return the seconds of each of ``count`` inferences, starting with the first feed.

        The child's thread is put on ``core`` before the first; the system may move it from there. A thread tends to
        stay where it is: beside a busy core, two processes of one model would differ for as long as they live.
        """
        seconds: list[float] = self._ask("time", count, core)
        return seconds

    def drain(self, count: int) -> float:
        """Seconds until all sessions together have done ``count`` inferences."""
        seconds: float = self._ask("drain", count)
        return seconds

    def serve(self, arrivals: Sequence[float]) -> list[float]:
        """Seconds from each query's arrival to its end; ``arrivals`` are seconds from now on, in order."""
        seconds: list[float] = self._ask("serve", list(arrivals), within=self._time_limit + arrivals[-1])
        return seconds

    def profile(self, seconds: float) -> Profile:
        """Return the time of each operator on the feeds handed over, watched for about ``seconds``.

        The session is closed for it, so that memory holds the model once; after this the worker can only be closed.
        """
        found: Profile = self._ask("profile", *self._what(), seconds)
        return found

    def peak_memory_bytes(self) -> int | None:
        """Return most memory that the child ever held resident from opening the model on: interpreter, runtime, model.

        The target's own account (a device's memory) where it keeps one. ``None`` where there is no account.
        """
        peak: int | None = self._ask("peak_memory_bytes")
        return peak

    def close(self) -> None:
        """End the child; it frees its session first."""
        self._end(grace=_GRACE)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(grace=_GRACE if error is None else 0.0)

    def _what(self) -> tuple[Model, str, dict[str, Any]]:
        """Return the model, the target's line of the table, and the options.

        The line, for the child knows no entries that this process added; its module must be importable there.
        """
        return self.candidate.model, TARGETS[self.candidate.target], self._options

    def _ask(self, request: str, *arguments: Any, within: float | None = None) -> Any:
        limit = self._time_limit if within is None else within
        try:
            self._connection.send((request, arguments))
            if not self._connection.poll(limit):
                raise self._hung(request, limit)
            answer, value = self._connection.recv()
        except (EOFError, ConnectionError):
            raise self._died() from None
        if answer == "bug":
            raise RuntimeError(f"in the worker of {self.candidate.name}:\n{value}")
        if answer == "error":
            raise value
        return value

    def _hung(self, request: str, limit: float) -> WorkerError:
        self._end(grace=0.0)
        return WorkerError(f"hung: no answer to {request!r} within {limit:g} s")

    def _died(self) -> WorkerError:
        try:
            code = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        last = _last_line(self._output)
        self._end(grace=0.0)
        return WorkerError(_cause(code) + (f": {last}" if last else ""))

    def _end(self, *, grace: float) -> None:
        self._connection.close()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()


def _start(output: IO[bytes]) -> tuple[Connection, subprocess.Popen[bytes]]:
    """Return child at the other end of a private socket, in a session of its own: Ctrl-C reaches this process alone."""
    ours, theirs = socket.socketpair()
    root = str(Path(__file__).parents[2])
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, root, str(theirs.fileno()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            # OpenMP's threads (torch's) sleep when they have nothing to do: other candidates are being timed.
            env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
        )
    return Connection(ours.detach()), process


def _cause(code: int) -> str:
    if code >= 0:
        return f"the worker ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"killed ({name}), likely out of memory" if -code == signal.SIGKILL else f"crashed ({name})"


def _last_line(output: IO[bytes]) -> str:
    """Return the last line that the child wrote on stdout or stderr."""
    output.seek(0, os.SEEK_END)
    output.seek(max(0, output.tell() - 4096))
    lines = [line.strip() for line in output.read().decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")
