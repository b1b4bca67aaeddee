"""The sizes that dynamic dimensions may take: ``batch=1/8/32`` is from 1 to 32, and fastest at 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optkit.errors import UsageError
from optkit.formats.tensors import Dim, Signature
from optkit.lazy import did_you_mean

_EXAMPLE = "for example --shapes batch=1/8/32"
_ENDLESS = 2**31


@dataclass(frozen=True)
class Range:
    """The smallest, the most usual and the largest size."""

    least: int
    usual: int
    most: int

    def __str__(self) -> str:
        return f"{self.least}/{self.usual}/{self.most}"


_BATCH, _OTHER = Range(1, 1, 32), Range(1, 128, 512)
"""The sizes assumed for a first dimension, and for others."""


def parsed(texts: Sequence[str]) -> dict[str, Range]:
    """``NAME=MIN/OPT/MAX`` or ``NAME=SIZE``, by the dimension's name. Raises UsageError."""
    found: dict[str, Range] = {}
    for text in texts:
        name, equals, sizes = text.rpartition("=")
        if not equals or not name:
            raise UsageError(f"--shapes {text!r} is not NAME=MIN/OPT/MAX", hint=_EXAMPLE)
        if name in found:
            raise UsageError(f"--shapes {name} is there twice", hint=_EXAMPLE)
        found[name] = one(name, sizes)
    return found


def one(name: str, sizes: str) -> Range:
    """``MIN/OPT/MAX`` or ``SIZE`` of the dimension called so. Raises UsageError."""
    parts = sizes.split("/")
    if len(parts) not in (1, 3) or not all(part.isdecimal() for part in parts):
        raise UsageError(f"--shapes {name}={sizes} is not NAME=MIN/OPT/MAX", hint=_EXAMPLE)
    least, usual, most = map(int, parts * 3 if len(parts) == 1 else parts)
    if not 0 < least <= usual <= most < _ENDLESS:
        raise UsageError(
            f"--shapes {name}={sizes}: sizes must grow from MIN over OPT to MAX, from 1 to below 2^31", hint=_EXAMPLE
        )
    return Range(least, usual, most)


def of(signature: Signature, given: Mapping[str, Range]) -> tuple[dict[str, Range], list[str]]:
    """Return a range for each dynamic dimension of the inputs, and the names of those whose range is assumed.

    Raises UsageError for a name that no dynamic dimension of the inputs bears.
    """
    dynamic: dict[str, int] = {}
    for spec in signature.inputs:
        for axis, dim in enumerate(spec.shape or ()):
            if isinstance(dim, str):
                dynamic.setdefault(dim, axis)
    for name in given:
        if name not in dynamic:
            hint = did_you_mean(name, list(dynamic)) if dynamic else "the model's inputs have fixed shapes"
            raise UsageError(f"--shapes {name}: no dynamic dimension of this name", hint=hint)
    supposed = {name: _BATCH if axis == 0 else _OTHER for name, axis in dynamic.items()}
    return supposed | dict(given), [name for name in dynamic if name not in given]


def profile(signature: Signature, ranges: Mapping[str, Range]) -> dict[str, dict[str, list[int]]]:
    """Return shapes of each input that has dynamic dimensions, as TensorRT wants them: ``min``, ``opt`` and ``max``."""
    return {
        spec.name: {
            key: [_size(dim, ranges, field) for dim in spec.shape]
            for key, field in (("min", "least"), ("opt", "usual"), ("max", "most"))
        }
        for spec in signature.inputs
        if spec.shape is not None and any(isinstance(dim, str) for dim in spec.shape)
    }


def _size(dim: Dim, ranges: Mapping[str, Range], field: str) -> int:
    return dim if isinstance(dim, int) else int(getattr(ranges[dim], field))
