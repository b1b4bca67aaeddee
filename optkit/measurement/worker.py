"""One session in a child process: isolation, a time limit, peak memory.

Native libraries crash, run out of memory and hang. Here that is an error with a reason in this process, and nothing
more. The child (``optkit.measurement.child``) ends with its worker, and with this process however that ends.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from optkit.errors import MissingDeviceError, TargetError, UsageError, WorkerError
from optkit.formats import opening
from optkit.formats.model import TORCH_FORMATS, Model
from optkit.formats.operators import Profile
from optkit.formats.tensors import Arrays, Signature, check_feed
from optkit.lazy import did_you_mean
from optkit.targets.target import TARGETS, Examination, Target, target

TIME_LIMIT = 600.0
"""Seconds that one request may take before its child counts as hung."""
_GRACE = 5.0
"""Seconds that a child has to free its session before it is killed."""
_BOOT = "import sys; sys.path.append(sys.argv.pop(1)); from optkit.measurement.child import main; main()"
_DEFAULT_TARGETS = {"onnx": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}


@dataclass(frozen=True)
class Candidate:
    """A model on a target with its options, under the name that tables show.

    ``sessions`` is how many run at once in its process. It counts as hung after ``time_limit`` seconds without an
    answer.
    """

    name: str
    model: Model
    target: str
    options: dict[str, Any] = field(default_factory=dict)
    sessions: int = 1
    time_limit: float = TIME_LIMIT

    def in_parallel(self, *, sessions: int, threads: int) -> Candidate:
        """The same with so many sessions at once, of so many threads each."""
        options = self.options | target(self.target).parallel_options(threads=threads, sessions=sessions)
        return replace(self, options=options, sessions=sessions)


def candidate(
    source: str | Path | Model,
    *,
    target: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    inputs: tuple[str, ...] = (),
    code: str | None = None,
    trust: bool = False,
    time_limit: float = TIME_LIMIT,
    runs: bool = True,
) -> Candidate:
    """A model, or ``PATH@TARGET``, with the options it will run with.

    The target is the one after ``@``, else ``target``, else the bundle's own, else what fits the format. A bundle's
    options hold on its own target, but for what ``device`` ("cpu" or "cuda") and ``threads`` say. Raises ModelError,
    UsageError, TargetError, MissingLibraryError, and MissingDeviceError unless it is not to run.
    """
    if isinstance(source, Model):
        model, asked = source, target
    else:
        path, suffix = _split(str(source))
        model, asked = opening.open(path, inputs=inputs, code=code, trust=trust), suffix or target
    name = asked or model.target or _DEFAULT_TARGETS.get(model.format, "torch")
    runtime = _fitting(model, name)
    if runs:
        check_present(runtime)
    options = _options(runtime, model, threads) | ({} if device is None else runtime.device_options(device))
    return Candidate(_name(source), model, name, options, time_limit=time_limit)


def check_present(found: Target) -> None:
    """Raise MissingDeviceError for a target whose device is not there."""
    absence = found.absence()
    if absence is not None:
        raise MissingDeviceError(f"{found.name} cannot run here: {absence}", hint="optkit doctor shows what is there")


def _split(text: str) -> tuple[str, str | None]:
    """``PATH@TARGET`` -> path and target; a path that exists may hold an ``@`` of its own."""
    path, at, name = text.rpartition("@")
    if not at or Path(text).exists():
        return text, None
    if name not in TARGETS:
        raise UsageError(f"{text}: unknown target {name!r}", hint=did_you_mean(name, TARGETS))
    return path, name


def _name(source: str | Path | Model) -> str:
    path = source.path if isinstance(source, Model) else Path(_split(str(source))[0])
    return path.name or str(path)


def _fitting(model: Model, name: str) -> Target:
    found = target(name)
    if model.format not in found.formats:
        allowed = ", ".join(found.formats)
        exportable = model.format in TORCH_FORMATS and "onnx" in found.formats
        hint = f"optkit export {model.path} -o {model.path.stem}.onnx" if exportable else None
        raise TargetError(f"{model.path}: {name} takes {allowed}, not {model.format}", hint=hint)
    found.version()
    return found


def _options(found: Target, model: Model, threads: int | None) -> dict[str, Any]:
    defaults = found.default_options(threads=threads)
    if model.target != found.name:
        return defaults
    return defaults | model.options | (found.parallel_options(threads=threads) if threads else {})


def examined(candidate: Candidate, *, layers: bool = False) -> Examination:
    """What the candidate's target takes of its model and, with ``layers``, makes of it, found out in a process of its
    own. Raises as Worker does.
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
        self._time_limit = candidate.time_limit
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by _end
        self._connection, self._process = _start(self._output)
        if not opened:
            return
        try:
            self.signature, self.facts = self._ask(
                "open", candidate.model, candidate.target, candidate.options, candidate.sessions
            )
        except BaseException:
            self._end(grace=0.0)
            raise

    def examine(self, *, layers: bool) -> Examination:
        """What the target takes of the model, and makes of it."""
        wanted = self.candidate
        found: Examination = self._ask("examine", wanted.model, wanted.target, wanted.options, layers)
        return found

    def run(self, feed: Arrays) -> Arrays:
        """The outputs for one feed."""
        outputs: Arrays = self._ask("run", feed)
        return outputs

    def load(self, feeds: Sequence[Arrays]) -> None:
        """Hand over the feeds that are gone through in turn. Raises SignatureError for one that does not fit."""
        for feed in feeds:
            check_feed(feed, self.signature.inputs, where="the feed to time with")
        self._ask("load", list(feeds))

    def time(self, count: int, *, core: int | None = None) -> list[float]:
        """Seconds that each of ``count`` inferences took, starting with the first feed.

        ``core`` is where the child's thread is put before the first; the system may move it from there. A thread tends
        to stay where it is: beside a busy core, two processes of one model would differ for as long as they live.
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
        """What each operator takes on the feeds handed over, watched for about so many seconds.

        The session is closed for it, so that memory holds the model once; after this the worker can only be closed.
        """
        wanted = self.candidate
        found: Profile = self._ask("profile", wanted.model, wanted.target, wanted.options, seconds)
        return found

    def peak_memory_bytes(self) -> int | None:
        """The most memory that the child ever held resident from opening the model on: interpreter, runtime, model.

        Where the target itself keeps account (a device's memory), that. ``None`` where nobody does.
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
    """A child at the other end of a private socket, in a session of its own: Ctrl-C reaches this process alone."""
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
    """The last line that the child wrote on stdout or stderr."""
    output.seek(0, os.SEEK_END)
    output.seek(max(0, output.tell() - 4096))
    lines = [line.strip() for line in output.read().decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")
