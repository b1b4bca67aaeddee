"""Options of ``run``."""

from __future__ import annotations

from optkit.options.source import Result
from optkit.options.verbs.plan import PlanCommand


class RunCommand(PlanCommand, Result):
    """All options of the verb."""
