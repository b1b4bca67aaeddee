"""A search as text: every candidate with its figures or its error, and the layers by their damage."""

from __future__ import annotations

from optkit import units
from optkit.records.comparison import QualityRecord
from optkit.records.layers import LayerRecord
from optkit.records.search import SearchRecord, TrialRecord
from optkit.reports.sheet import Cell, Sheet

_MOST_LAYERS = 20


def trials_sheet(search: SearchRecord) -> Sheet:
    """Return every candidate, in the order in which it was tried; speed and loss are those of a short screening."""
    quality = next((trial.row.quality for trial in search.trials if trial.row.quality), None)
    columns = ["candidate", "target", "size", "speed-up", f"loss of {quality.metric}" if quality else "loss"]
    return Sheet([*columns, "time", "decision"], [_cells(trial) for trial in search.trials])


def layers_sheet(search: SearchRecord) -> Sheet | None:
    """Return the layers that INT8 damages most; ``None`` where none were measured."""
    if search.sensitivity is None:
        return None
    columns = ["layer", "operator", "damage alone", "multiplications", "in the result"]
    return Sheet(columns, [_layer(each, search) for each in search.sensitivity.layers[:_MOST_LAYERS]])


def ended(search: SearchRecord) -> str:
    """Summarize a search: ``12 candidates made and looked at in 3 min 10 s; nothing was left that could win``."""
    count = len(search.trials)
    seconds = units.seconds(sum(trial.seconds for trial in search.trials))
    return f"{count} candidate{'s' if count != 1 else ''} made and looked at in {seconds}; {search.ended}"


def _cells(trial: TrialRecord) -> list[Cell]:
    row = trial.row
    decision = row.reason if row.status == "failed" and row.reason else trial.decision
    return [
        Cell(row.name),
        Cell(row.target),
        Cell(units.size(row.model.size_bytes if row.model else None)),
        _speed(trial),
        Cell(_loss(row.quality)),
        Cell(units.seconds(trial.seconds)),
        Cell(decision, "bad" if row.status == "failed" else "good" if trial.final else ""),
    ]


def _speed(trial: TrialRecord) -> Cell:
    return Cell(units.ratio(trial.speed))


def _loss(quality: QualityRecord | None) -> str:
    return units.quality(quality.loss.value if quality and quality.loss else None)


def _layer(layer: LayerRecord, search: SearchRecord) -> list[Cell]:
    kept = "float" if layer.name in search.in_float else units.UNKNOWN
    cells = [layer.name, layer.operator, f"{layer.damage:.2g}", units.count(layer.operations), kept]
    return [Cell(text) for text in cells]
