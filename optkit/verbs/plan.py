"""``plan``: what a recipe would do, and which of it is in the store already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optkit import pipeline
from optkit import recipe as recipes
from optkit.records.run import Plan


def plan(recipe: str | Path, *, settings: Sequence[str] = ()) -> Plan:
    """Plan ``recipe`` with ``settings`` (``a.b=value``) put in. Nothing is computed. Raises OptkitError."""
    return pipeline.plan(recipes.read(recipe, settings), recipe)
