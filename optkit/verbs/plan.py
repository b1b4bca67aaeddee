"""``plan``: what a recipe would do, and which of it is in the store already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optkit.records.run import Plan
from optkit.runs import pipeline
from optkit.runs import recipe as recipes


def plan(recipe: str | Path, *, settings: Sequence[str] = ()) -> Plan:
    """Plan ``recipe`` with ``settings`` (``a.b=value``) put in. Nothing is computed. Raises OptkitError."""
    return pipeline.plan(recipes.read(recipe, settings), recipe)
