"""ONNX Runtime with a known amount of extra work: a target of the benchmarks, for slowdowns whose truth is known.

Options: those of ``slowed_options.py``.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optkit.formats.model import Model
from optkit.formats.tensors import Arrays
from optkit.targets.onnxruntime.target import OnnxRuntime, OnnxRuntimeSession
from optkit.targets.table import TARGETS

ENTRY = "slowed:Slowed"


class Slowed(OnnxRuntime):
    name = "slowed"
    options_model = "slowed_options:SlowedOptions"

    def default_options(self, *, threads: int | None = None) -> dict[str, Any]:
        return super().default_options(threads=threads) | {"extra": 0.0, "stall": None}

    def open(self, model: Model, options: dict[str, Any]) -> "SlowedSession":
        own = {name: value for name, value in options.items() if name not in ("extra", "stall")}
        opened = super().open(model, own)
        return SlowedSession(opened, options["extra"], options["stall"])


class SlowedSession(OnnxRuntimeSession):
    def __init__(self, opened: OnnxRuntimeSession, extra: float, stall: list[float] | None) -> None:
        self.__dict__ |= opened.__dict__
        self._extra = extra
        self._stall = stall
        self._number = 0

    def prepared(self, feed: Arrays) -> Callable[[], object]:
        call, clock = super().prepared(feed), time.perf_counter

        def slowed() -> object:
            start = clock()
            result = call()
            self._number += 1
            if self._stall and self._number == self._stall[0]:
                time.sleep(self._stall[1])
            end = start + (clock() - start) * (1 + self._extra)
            while clock() < end:
                pass
            return result

        return slowed


def install() -> None:
    """Make the target known here and in the worker processes that this one starts."""
    TARGETS["slowed"] = ENTRY
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *([before] if before else [])])
