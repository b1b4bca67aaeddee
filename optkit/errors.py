"""The error tree. Each error carries a line on the failure, a hint on the remedy, and an exit code.

An ``OptkitError`` is a user's mistake, a missing piece or a failed check, and is shown without a traceback. Anything
else that reaches the command line is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import re
from pathlib import PurePath

DONE = 0
FAILED = 1
USAGE = 2
GATE_FAILS = 3
MISSING = 4
GATE_INCONCLUSIVE = 5
INTERRUPTED = 130
_TEMPORARY = re.compile(r"\.?optkit-(?:[a-z]+-)?[a-z0-9_]{8}|[0-9a-f]{64}")
"""Names of our temporary folders, and of entries in the store; those of others may be the user's."""
_PATH = re.compile(r"[^\s'\"(),;:<>]*/[^\s'\"(),;:<>]+")


def lasting(path: str) -> str:
    """Return the part of ``path`` before its first temporary folder: the place that a user knows."""
    parts = PurePath(path).parts
    end = next((index for index, part in enumerate(parts) if _TEMPORARY.fullmatch(part)), None)
    return path if end is None else str(PurePath(*parts[:end]))


def without_temporary(text: str) -> str:
    """Replace each path into a temporary folder by the file's name, and the path of one by the folder around it."""
    return _PATH.sub(lambda found: _named(found[0]), text)


def _named(path: str) -> str:
    name = PurePath(path).name
    if _TEMPORARY.fullmatch(name):
        return lasting(path)
    return path if lasting(path) == path else name


class OptkitError(Exception):
    """Root of all errors that a user is meant to read.

    ``message`` names the place, the value and the allowed values, in one line; ``hint`` is the next step, most often a
    command to paste. Neither shows paths into temporary folders.
    """

    exit_code = FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = without_temporary(" ".join(message.split()))
        super().__init__(self.message)
        self.hint = hint and without_temporary(hint)


class StageError(OptkitError):
    """A stage failed on this model."""


class ParityError(StageError):
    """The outputs of a stage's result differ from its source's beyond the tolerance."""


class TargetError(OptkitError):
    """A target refused the model or failed to run it."""


class WorkerError(OptkitError):
    """A child process crashed, was killed, or outlived its time limit."""


class UsageError(OptkitError):
    """An invalid option or argument, or an invalid combination of them."""

    exit_code = USAGE


class ModelError(UsageError):
    """A model file that is damaged or not of the format that it seems to have."""


class UntrustedError(ModelError):
    """A file that would run code on opening."""


class SignatureError(UsageError):
    """An input's name, dtype, rank or size does not fit the model."""


class DataError(UsageError):
    """A dataset that cannot be read, or does not fit the model."""


class MetricError(UsageError):
    """An unknown metric, or one that does not apply to this data or model."""


class RecipeError(UsageError):
    """A wrong key or value in a recipe; the message names the file and line."""


class OutputError(UsageError):
    """An output that exists already or cannot be written."""


class MissingLibraryError(OptkitError):
    """An optional library is not installed."""

    exit_code = MISSING


class MissingDeviceError(OptkitError):
    """This machine lacks a device."""

    exit_code = MISSING
