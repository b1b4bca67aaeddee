"""``plan``: what a recipe would do, and which of it is in the store already."""

from __future__ import annotations

from optkit.options.calling import takes
from optkit.options.verbs.plan import PlanCommand
from optkit.progress import Progress
from optkit.records.run import Plan
from optkit.runs import pipeline
from optkit.runs.recipe import read_recipe


@takes(PlanCommand)
def plan(options: PlanCommand, progress: Progress) -> Plan:
    """Plan ``recipe`` with ``settings`` (``a.b=value``) put in. Nothing is computed. Raises OptkitError."""
    return pipeline.plan(read_recipe(options.recipe, options.settings), options.recipe)
