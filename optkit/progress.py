"""How work that takes long tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""``progress(what, done, total)``; a total of ``None`` is unknown."""


def no_progress(what: str, done: int, total: int | None) -> None:
    """Progress that nobody watches."""
