"""The calibration ranges of the last model quantized: a search quantizes one model with the same samples many times."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any


class RangeCache:
    """Holds the ranges of one key: whole tensors' histograms may be large."""

    def __init__(self) -> None:
        self._key: tuple[str, ...] | None = None
        self._ranges: Any = None

    def get(self, key: tuple[str, ...], calibrate: Callable[[], Any]) -> Any:
        """Return the ranges of ``key``, from ``calibrate`` where they are not held; a copy, for engines change them."""
        if key != self._key:
            self._ranges = calibrate()
            self._key = key
        return deepcopy(self._ranges)
