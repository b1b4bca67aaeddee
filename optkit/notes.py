"""A note: one line for the user about a choice, an assumption or an omission."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from optkit.progress import Progress as Progress
from optkit.progress import no_progress as no_progress


@dataclass(frozen=True)
class Note:
    """One line for the user: what was chosen, assumed or left alone, where (an operator, a file), and why.

    ``kind`` is for programs: a word that stays the same while the text tells the case.
    """

    text: str
    where: str | None = None
    level: Literal["info", "warning"] = "info"
    kind: str | None = None
