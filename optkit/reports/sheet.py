"""Tables of text whose cells have a tone, shared by reports and the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["", "good", "bad", "warn"]


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text and its tone."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Sheet:
    """A table; ``marked`` is the index of the row that stands out."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    marked: int | None = None
