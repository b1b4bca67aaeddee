"""One error tree. Each error carries one line that says what happened, a hint that says what to do, an exit code.

An ``OptkitError`` is a user's mistake, a missing piece or a failed check, and is shown without a traceback. Anything
else that reaches the command line is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

DONE = 0
FAILED = 1
USAGE = 2
GATE_FAILS = 3
MISSING = 4
GATE_INCONCLUSIVE = 5
INTERRUPTED = 130


class OptkitError(Exception):
    """Root of all errors that a user is meant to read.

    ``message`` names the place, the value and what was allowed, in one line; ``hint`` is what to do next, most often a
    command to paste.
    """

    exit_code = FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = " ".join(message.split())
        self.hint = hint


class StageError(OptkitError):
    """A stage could not do its work on this model."""


class ParityError(StageError):
    """A stage's result does not compute what its source computes."""


class TargetError(OptkitError):
    """A target refused the model, or running it there failed."""


class WorkerError(OptkitError):
    """A child process crashed, was killed, or outlived its time limit."""


class UsageError(OptkitError):
    """An option, argument or combination of them that cannot work."""

    exit_code = USAGE


class ModelError(UsageError):
    """A model file that cannot be opened as what it claims to be."""


class UntrustedError(ModelError):
    """A file that would run code on opening."""


class SignatureError(UsageError):
    """An input's name, dtype, rank or size does not fit the model."""


class DataError(UsageError):
    """A dataset that cannot be read, or does not fit."""


class MetricError(UsageError):
    """An unknown metric, or one that this data or model cannot feed."""


class RecipeError(UsageError):
    """A recipe with a wrong key or value; the message names the file and line."""


class OutputError(UsageError):
    """An output that exists already, or a place that cannot be written."""


class MissingLibraryError(OptkitError):
    """An optional library is not installed."""

    exit_code = MISSING


class MissingDeviceError(OptkitError):
    """A device that this machine does not have."""

    exit_code = MISSING
