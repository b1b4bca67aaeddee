"""The record itself."""

from __future__ import annotations

from optkit.records.run import Run


def render(run: Run) -> str:
    """The record as it lies in the run's folder."""
    return run.to_json() + "\n"
