"""Progress reports of long work."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""A function ``progress(what, done, total)``; a total of ``None`` is unknown."""


def no_progress(what: str, done: int, total: int | None) -> None:
    """Ignore the progress."""
