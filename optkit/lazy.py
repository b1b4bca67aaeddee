"""Optional and heavy libraries: imported on use, and asked for by the pip command that installs them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from optkit.errors import MissingLibraryError, UsageError

_TORCH = ("torch>=2.7", "onnxscript>=0.5", "safetensors>=0.4")
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "torch": _TORCH,
    "openvino": ("openvino>=2025.2", "nncf>=2.17"),
    "neural-compressor": ("neural-compressor[pt]>=3.4", "accelerate>=1", *_TORCH),
    "training": ("torch-pruning>=1.5", *_TORCH),
    "text": ("tokenizers>=0.20",),
    "tensorrt-rtx": ("tensorrt-rtx-cu13>=1.4", "cuda-bindings>=13"),
}
"""The libraries of each extra, with their bounds, as in ``pyproject.toml``.

Hints name these libraries and not the extra: optkit is on no package index, so asking one for it would fail, or
install a stranger's package of that name.
"""
CORE: Mapping[str, str] = {"onnxruntime": "onnxruntime>=1.22,<2"}
"""The libraries that come with optkit and may be missing all the same: onnxruntime's builds replace each other."""


def pip_command(extra: str) -> str:
    """Write the command that installs the libraries of ``extra``: ``pip install 'openvino>=2025.2' 'nncf>=2.17'``."""
    return " ".join(["pip install", *(f"'{requirement}'" for requirement in EXTRAS[extra])])


@dataclass(frozen=True)
class Library:
    """A distribution that results depend on."""

    name: str
    """Its name on PyPI."""
    extra: str | None = None
    """The extra of optkit that installs it; ``None`` where it comes with optkit, or from elsewhere."""
    replaces: str | None = None
    """The distribution that it is installed in place of; it is then listed only where it is there."""
    writes: bool = True
    """False if no stage's result depends on its version."""


def require(module: str, *, extra: str | None = None) -> ModuleType:
    """Import ``module``, or raise a MissingLibraryError with the pip command for the libraries of ``extra``.

    Without an extra, the library is one of ``CORE``.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):  # what the library itself lacks
            raise
        raise MissingLibraryError(
            f"this needs the library {error.name!r}, which is not installed",
            hint=f"pip install '{CORE[module]}'" if extra is None else pip_command(extra),
        ) from error


def available(module: str) -> bool:
    """True if ``module`` is installed. Does not import it."""
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def resolve(table: Mapping[str, str], name: str, *, kind: str) -> Any:
    """Import the object of ``name`` from ``table``, which maps names to "module:Name".

    Raises UsageError for an unknown name, with the nearest known one.
    """
    if name not in table:
        raise UsageError(f"unknown {kind} {name!r}", hint=did_you_mean(name, table))
    return load(table[name])


def load(entry: str) -> Any:
    """Return the object that ``module:Name`` names."""
    module, _, attribute = entry.partition(":")
    return getattr(importlib.import_module(module), attribute)


def did_you_mean(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """Write a hint with the nearest known name, if one is near (in upper or lower case), and all known names."""
    spelled = {each.lower(): each for each in known}
    near = get_close_matches(name.lower(), spelled, n=1)
    listing = ", ".join(known)
    return f"did you mean {spelled[near[0]]!r}? known: {listing}" if near else f"known: {listing}"
