"""A noisy neighbour: a process that keeps one core busy."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager


def _busy(core: int) -> None:
    os.sched_setaffinity(0, {core})
    while True:
        pass


@contextmanager
def neighbour(*, noisy: bool) -> Iterator[None]:
    """Inside, the last core has a neighbour, if ``noisy``."""
    if not noisy:
        yield
        return
    process = multiprocessing.Process(target=_busy, args=(max(os.sched_getaffinity(0)),), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()
