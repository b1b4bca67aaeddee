"""``FILE.py:CALLABLE``: the user's own function, loaded and run; the only door for the user's code."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optkit.errors import OptkitError, UsageError
from optkit.lazy import did_you_mean
from optkit.system import native


def file_of(text: str) -> Path:
    """Return the file that ``FILE.py:CALLABLE`` names. Raises UsageError for a wrong spelling or a missing file."""
    name, colon, attribute = text.rpartition(":")
    if not colon or not name.endswith(".py") or not attribute.isidentifier():
        raise UsageError(f"{text!r} is not FILE.py:CALLABLE", hint="for example net.py:build")
    if not Path(name).is_file():
        raise UsageError(f"{text}: there is no file {name}", hint="give its path from the current folder")
    return Path(name)


@contextmanager
def running(text: str, failure: type[OptkitError]) -> Iterator[Callable[..., Any]]:
    """Load the callable that ``FILE.py:CALLABLE`` names, with the file's folder importable meanwhile.

    Turns any exception of the user's code inside into ``failure``: one line with the exception, its message and the
    place in the user's file.
    """
    file = file_of(text)
    hint = "the error is in that file, not in optkit"
    with (
        folder_importable(file.parent),
        native.foreign(text, failure, hint=hint, told=lambda error: _line(error, file)),
    ):
        yield _callable(file, text)


@contextmanager
def folder_importable(folder: Path) -> Iterator[None]:
    """Put ``folder`` first on Python's import path for a while."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)


def _callable(file: Path, text: str) -> Callable[..., Any]:
    module = _module(file)
    name = text.rpartition(":")[2]
    found = getattr(module, name, None)
    if not callable(found):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(f"{text}: {file.name} has no callable {name!r}", hint=did_you_mean(name, known))
    return found  # type: ignore[no-any-return]


def _module(file: Path) -> Any:
    """Import the file under a unique name, kept in ``sys.modules`` because dataclasses and pickles look there."""
    name = f"{file.stem}_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _line(error: BaseException, file: Path) -> str:
    """Write ``ValueError: no such width (net.py:12)``, with the last place in the user's file."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({Path(error.filename or file).name}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).resolve() == file.resolve()]
    place = f" ({file.name}:{own[-1].lineno})" if own else ""
    return f"{native.named(error)}{place}"
