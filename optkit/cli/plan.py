"""``optkit plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from optkit.cli.app import console_of
from optkit.cli.derive import derived
from optkit.cli.running import carried_out
from optkit.options.verbs.plan import PlanCommand
from optkit.reports.sheet import Cell

if TYPE_CHECKING:
    from optkit.cli.console import Block
    from optkit.records.run import Plan, PlannedStage


@derived(PlanCommand)
def plan(ctx: typer.Context, options: PlanCommand) -> None:
    """Plan, and show the stages of every branch."""
    from optkit.verbs.plan import plan as verb

    console = console_of(ctx)
    record = carried_out(ctx, verb, options)
    console.notes(record.notes)
    console.answer(record, lambda: _blocks(record))


def _blocks(plan: Plan) -> list[Block]:
    from optkit.cli.console import Table, Text
    from optkit.reports import summary

    rows: list[list[str | Cell]] = [
        [branch.name, branch.target, summary.stage_title(step), _fields(step), _state(step)]
        for branch in plan.branches
        for step in branch.stages
    ]
    return [Table(["result", "target", "stage", "fields", "state"], rows), *(Text(line) for line in _data(plan))]


def _fields(step: PlannedStage) -> str:
    """List the fields that are not at their defaults."""
    from optkit.stages.stage import stage_class

    usual = stage_class(step.stage)().model_dump(mode="json")
    return ", ".join(f"{name}: {value}" for name, value in step.fields.items() if value != usual[name])


def _state(step: PlannedStage) -> Cell:
    if step.refused:
        return Cell(f"refused: {step.refused}", "bad")
    return Cell("in the store", "good") if step.cached else Cell("to do")


def _data(plan: Plan) -> list[str]:
    used = [record for record in (plan.calibration, plan.evaluation) if record is not None]
    return [f"{record.part}: {record.count} samples of {record.path}" for record in used]
