"""Foreign libraries at work: their errors as one line of ours, their logs, warnings and prints kept from the user."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from optkit import units
from optkit.errors import OptkitError, OutputError, StageError, without_temporary

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the operating system's errors for a full disk."""
_LONGEST = 240
"""Characters of a foreign message that are shown; some hold a whole part of the graph."""
_MOST = 5000
"""Characters of a paragraph that are read."""
_TELLING = (AssertionError, AttributeError, LookupError, NotImplementedError, SyntaxError, SystemExit, TypeError)
"""Exceptions whose type says more than their text: ``KeyError: 'weight'``."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_TRACEBACK = re.compile(r"^Traceback ", re.MULTILINE)
_NOISE = re.compile(
    r"Exception from |Exception raised from |FrontEnd API failed|Model wasn't fully converted|Summary:|Caused by: \("
    r"|frame #\d+|#\d+ \S*::|C\+\+ CapturedTraceback|CUDA kernel errors might|For debugging consider"
    r"|Compile with `TORCH_USE|Search for `cudaError|File \"|~+ <--- HERE"
)
"""Beginnings of lines on places in a library's source, or on debugging it."""
_SIGNATURE = r"(?:[^()]*?::)?[\w~:<>=+*-]+\((?:[^()]|\([^()]*\))*\)(?: const)?(?: \[with [^\]]*\])?"
_SUBSTITUTES = tuple(
    (re.compile(pattern), substitute)
    for pattern, substitute in (
        # OpenVINO
        (r"Check '.*?' failed at \S+?:\d+:? ?", ""),
        (r"While validating ONNX node '<Node\((\w+)\): ?(.*?)>': ?", r"node '\2' (\1): "),
        (r"While validating node '.*?' with friendly_name '(.*?)':", r"node '\1':"),
        (r"\S+ with a message: (?=node )", ""),
        (r"(node '[^']*' \(\w+\): )node '[^']*': ", r"\1"),
        (r" ?Run workload with environment variable ONEDNN_VERBOSE\S+ to get additional diagnostic information\.?", ""),
        (r" ?Please check that model format: .*", ""),
        # ONNX Runtime and ONNX
        (r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", ""),
        (r"Load model (?:from )?.+? failed[:.] ?(?:Fatal error: )?", ""),
        (r"Non-zero status code returned while running (\w+) node\. Name:'(.*?)' Status Message:", r"node '\2' (\1):"),
        (r"node '' \((\w+)\):", r"\1:"),
        (rf"/\S+\.(?:cc|cpp|cu|cuh|h|hpp):\d+:? (?:{_SIGNATURE} )?(?:[^.]|\.\w)*? was (?:false|true)\. ?(?=\S)", ""),
        (rf"/\S+\.(?:cc|cpp|cu|cuh|h|hpp):\d+:? (?:{_SIGNATURE} ?)?", ""),
        (r"\b[\w-]+\.(?:cc|cpp|cu|cuh|h|hpp):\d+:? (?:[A-Z]\w* )?", ""),
        (r"In Node, \(\"\", (\w+), \"[^\"]*\", -?\d+\) : .*? , Error:? ?", r"\1: "),
        (r"In Node, \(\"([^\"]+)\", (\w+), \"[^\"]*\", -?\d+\) : .*? , Error:? ?", r"node '\1' (\2): "),
        (r"\[ShapeInferenceError\] ", ""),
        # torch
        (r"\.? This is an internal miniz error\..*", ""),
        (r"^(?:RuntimeError|Exception): ", ""),
        # any
        (r" at (?:/|\.\./|src/)\S+:\d+\b", ""),
    )
)


@contextmanager
def foreign(
    what: str,
    failure: type[OptkitError] = StageError,
    *,
    hint: str | Callable[[BaseException], str] | None = None,
    told: Callable[[BaseException], str] | None = None,
) -> Iterator[None]:
    """Turn whatever foreign code raises inside into ``failure`` with the line ``what: the reason``.

    Libraries and the user's code raise anything. Errors of ours pass as they are; a full disk is an OutputError.
    ``told`` writes the reason, ``reason`` by default; the error is the cause of the failure.
    """
    try:
        yield
    except OptkitError:
        raise
    except (Exception, SystemExit) as error:
        text = f"{what}: {(told or reason)(error)}"
        if isinstance(error, OSError) and error.errno in FULL:
            raise OutputError(text, hint="free some space") from error
        raise failure(text, hint=hint(error) if callable(hint) else hint) from error


@contextmanager
def surviving() -> Iterator[None]:
    """Turn any unexpected exception into StageError, so that it fails this step and not the run."""
    with foreign("failed unexpectedly", told=named):
        yield


@contextmanager
def silent(*, of: str = "", stdout: bool = True, stderr: bool = False) -> Iterator[None]:
    """Keep libraries' logs, warnings and prints from the user, who cannot act on them: what matters becomes a note.

    ``of`` is a pattern of the modules whose warnings are dropped, by default all. On stderr a progress bar may stand.
    """
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.ExitStack() as stack:
            warnings.filterwarnings("ignore", module=of)
            if stdout:
                stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            if stderr:
                stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            yield
    finally:
        logging.disable(level)


def reason(error: BaseException) -> str:
    """Write an exception's reason as one clear line, with its type where that says more than the text."""
    if isinstance(error, OptkitError):
        return error.message
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError) and error.strerror:
        place = f"{without_temporary(str(error.filename))}: " if error.filename else ""
        return f"{place}{error.strerror}"
    return named(error) if isinstance(error, _TELLING) else readable(str(error)) or type(error).__name__


def named(error: BaseException) -> str:
    """Write an exception as ``TypeError: its reason`` in one line."""
    text = readable(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def readable(message: str) -> str:
    """Write the first paragraph of a foreign message as one line of at most 240 characters.

    Places in a library's source, status codes, temporary paths, repetitions and advice on debugging are left out.
    """
    text = _COLOUR.sub("", message)
    if _TRACEBACK.search(text):  # of TorchScript, or of another process: its last line tells
        text = text.strip().rpartition("\n")[2]
    for paragraph in re.split(r"\n\s*\n", text):
        line = _substituted(_joined(paragraph[:_MOST]))
        if line:
            return units.shortened(without_temporary(line), _LONGEST)
    return ""


def _joined(paragraph: str) -> str:
    """Join the lines that are no noise, each once."""
    lines = [" ".join(line.split()).removeprefix("-- ") for line in paragraph.splitlines()]
    joined = ""
    for line in dict.fromkeys(line for line in lines if line and not _NOISE.match(line)):
        goes_on = line[0].islower() or joined.endswith((".", ":", ";", ",", "!", "?"))
        joined += f" {line}" if goes_on or not joined else f"; {line}"
    return joined.strip()


def _substituted(text: str) -> str:
    for pattern, substitute in _SUBSTITUTES:
        text = pattern.sub(substitute, text)
    return " ".join(text.split()).replace(" ,", ",").rstrip(" ;:,").removesuffix(".")


@dataclass
class Engine:
    """A foreign library at work: its name, and the seconds spent inside it."""

    name: str = "the engine"
    seconds: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the seconds inside, and turn any error of the library into StageError."""
        started = time.perf_counter()
        try:
            with foreign(f"{self.name} cannot do it"):
                yield
        finally:
            self.seconds += time.perf_counter() - started
