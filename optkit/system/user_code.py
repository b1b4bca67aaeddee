"""``FILE.py:CALLABLE``: running a function that the user named; the one door for the user's own code."""

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


def file_of(text: str) -> Path:
    """The file that ``FILE.py:CALLABLE`` names. Raises UsageError when it is spelled wrong or not there."""
    name, colon, attribute = text.rpartition(":")
    if not colon or not name.endswith(".py") or not attribute.isidentifier():
        raise UsageError(f"{text!r} is not FILE.py:CALLABLE", hint="for example net.py:build")
    if not Path(name).is_file():
        raise UsageError(f"{text}: there is no file {name}", hint="give its path from the current folder")
    return Path(name)


@contextmanager
def running(text: str, failure: type[OptkitError]) -> Iterator[Callable[..., Any]]:
    """The callable that ``FILE.py:CALLABLE`` names, with the file's folder importable meanwhile.

    Whatever the user's code raises inside comes out as ``failure``: one line with the exception, its message and the
    place in the user's file.
    """
    file = file_of(text)
    with folder_importable(file.parent):
        try:
            yield _callable(file, text)
        except OptkitError:
            raise
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise failure(f"{text}: {_line(error, file)}", hint="the error is in that file, not in optkit") from error


@contextmanager
def folder_importable(folder: Path) -> Iterator[None]:
    """Have ``import`` find the modules in ``folder`` for a while."""
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
    """The file as a module of a name of its own, known to ``sys.modules`` as dataclasses and pickles need it."""
    name = f"{file.stem}_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _line(error: BaseException, file: Path) -> str:
    """``ValueError: no such width (net.py:12)``: the last place in the user's file."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({Path(error.filename or file).name}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).resolve() == file.resolve()]
    place = f" ({file.name}:{own[-1].lineno})" if own else ""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}{place}" if message else f"{type(error).__name__}{place}"
