"""A run as its record."""

from __future__ import annotations

from optkit.records.run import Run


def render(run: Run) -> str:
    """Return the record as JSON, as in the run's folder."""
    return run.to_json() + "\n"
