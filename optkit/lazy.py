"""Optional and heavy libraries: imported on use, and asked for by the pip command that brings them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from optkit.errors import MissingLibraryError, UsageError


def require(module: str, *, extra: str) -> ModuleType:
    """Import ``module``, or raise a MissingLibraryError that names the pip command of ``extra``."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):  # what the library itself lacks
            raise
        raise MissingLibraryError(
            f"this needs the library {error.name!r}, which is not installed",
            hint=f"pip install 'optkit[{extra}]'",
        ) from error


def available(module: str) -> bool:
    """Whether ``module`` could be imported, without importing it."""
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def resolve(table: Mapping[str, str], name: str, *, kind: str) -> Any:
    """The object that ``table`` ("module:Name" by member name) holds for ``name``.

    Raises UsageError for an unknown name, with the nearest known one.
    """
    if name not in table:
        raise UsageError(f"unknown {kind} {name!r}", hint=did_you_mean(name, table))
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def did_you_mean(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """A hint with the nearest known name, if any is near (in whichever case), and all of them."""
    spelled = {each.lower(): each for each in known}
    near = get_close_matches(name.lower(), spelled, n=1)
    listing = ", ".join(known)
    return f"did you mean {spelled[near[0]]!r}? known: {listing}" if near else f"known: {listing}"
