"""A run as JUnit XML, for the test page of a CI system."""

from __future__ import annotations

from optkit.records import sentences
from optkit.records.comparison import Comparison, Row
from optkit.records.run import Branch, Run
from optkit.reports import junit_xml
from optkit.reports.junit_xml import JUnitCase


def render(run: Run) -> str:
    """Return a case for each rule of the run's gate; without a gate, for each row of the comparison or each branch."""
    return junit_xml.render(f"optkit run {run.recipe_path}", _cases(run), run.seconds)


def _cases(run: Run) -> list[JUnitCase]:
    if run.gate is not None:
        return junit_xml.of_rules(run.gate.candidate, run.gate.rules)
    if run.comparison is not None:
        return [_of_row(row, run.comparison) for row in run.comparison.rows]
    return [_of_branch(branch) for branch in run.branches]


def _of_row(row: Row, comparison: Comparison) -> JUnitCase:
    text = sentences.verdict(row, comparison)
    return JUnitCase(row.target, row.title, "error" if row.status == "failed" else "passed", text)


def _of_branch(branch: Branch) -> JUnitCase:
    failed = branch.status == "failed"
    return JUnitCase(
        branch.target, branch.target, "error" if failed else "passed", branch.reason or branch.bundle or ""
    )
