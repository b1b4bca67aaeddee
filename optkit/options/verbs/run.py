"""Options of ``run``."""

from __future__ import annotations

from optkit.options.source import ResultOption
from optkit.options.verbs.plan import PlanCommand


class RunCommand(PlanCommand, ResultOption):
    """All options of the verb."""
