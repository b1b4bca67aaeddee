"""Load generators for sessions in this process, one thread per session: single stream, closed loop and open loop.

Sessions release the interpreter's lock while they compute, so that several sessions keep several cores busy.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from optkit.formats.tensors import Arrays
from optkit.targets.target import Session

Call = Callable[[], object]
_Result = TypeVar("_Result")


def one_by_one(session: Session, feeds: Sequence[Arrays], count: int) -> list[float]:
    """Run ``count`` inferences one after the other, cycling through ``feeds``, and return the seconds of each."""
    with session.explaining():
        calls = [session.timed(feed) for feed in feeds]
        return [call() for call in itertools.islice(itertools.cycle(calls), count)]


def closed_loop(sessions: Sequence[Session], feeds: Sequence[Arrays], count: int) -> float:
    """Run ``count`` inferences in all, each session starting the next when it has finished one; return the seconds."""
    numbers = itertools.count()

    def work(session: Session, calls: Sequence[Call]) -> float:
        start = session.clock()
        while (number := next(numbers)) < count:
            calls[number % len(calls)]()
        return session.clock() - start

    return max(_at_once(work, sessions, feeds))


def open_loop(sessions: Sequence[Session], feeds: Sequence[Arrays], arrivals: Sequence[float]) -> list[float]:
    """Serve queries as they arrive and return the seconds from each one's arrival to its end, in order of arrival.

    ``arrivals`` are in seconds from the start. A free session takes the oldest query. A query that finds all sessions
    busy waits, and its waiting counts: a stall delays all queries that arrive during it, which a closed loop hides
    ("coordinated omission", Tene 2013).
    """
    numbers = itertools.count()
    latencies = [0.0] * len(arrivals)

    def work(session: Session, calls: Sequence[Call]) -> None:
        start = session.clock()
        while (number := next(numbers)) < len(arrivals):
            due = start + arrivals[number]
            session.wait(due)
            calls[number % len(calls)]()
            latencies[number] = session.clock() - due

    _at_once(work, sessions, feeds)
    return latencies


def _prepared(session: Session, feeds: Sequence[Arrays]) -> list[Call]:
    with session.explaining():
        return [session.prepared(feed) for feed in feeds]


def _at_once(
    work: Callable[[Session, Sequence[Call]], _Result], sessions: Sequence[Session], feeds: Sequence[Arrays]
) -> list[_Result]:
    """Start ``work`` for all sessions at once, each in a thread of its own; a single session runs in this thread."""
    calls = [_prepared(session, feeds) for session in sessions]
    ready = threading.Barrier(len(sessions))

    def begin(session: Session, own: Sequence[Call]) -> _Result:
        ready.wait()
        with session.explaining():
            return work(session, own)

    if len(sessions) == 1:
        return [begin(sessions[0], calls[0])]
    with ThreadPoolExecutor(len(sessions)) as pool:
        return list(pool.map(begin, sessions, calls))
