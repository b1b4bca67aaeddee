"""Notes: the lines for the user that stages, targets and measurements leave in records."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config=ConfigDict(extra="forbid", use_attribute_docstrings=True))
class Note:
    """One line for the user: a choice, an assumption, a part left alone or a warning."""

    text: str
    """The sentence that the user reads, with its reason."""
    where: str | None = None
    """The place: an operator, a file, a row, a library; null for the whole."""
    level: Literal["info", "warning"] = "info"
    """``warning`` where the result may be worse than expected or a figure is not to be relied on."""
    kind: str | None = None
    """A fixed word for programs, as ``noisy-neighbour``, while the text varies; null for most notes. The kinds of
    warnings are listed in docs/measuring.md.
    """
