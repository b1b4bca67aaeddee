"""Native libraries: silenced, timed, and their errors in one line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from optkit.errors import OptkitError, StageError


@dataclass
class Engine:
    """A library at work, by its name, and the seconds spent inside it."""

    name: str = "the engine"
    seconds: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, only the library's code runs: what it raises (engines raise anything) becomes a StageError."""
        started = time.perf_counter()
        try:
            yield
        except (OptkitError, OSError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  as said
            reason = " ".join(str(error).split())[:200]
            raise StageError(f"{self.name} cannot do it: {type(error).__name__}: {reason}") from None
        finally:
            self.seconds += time.perf_counter() - started
