"""Tables of an explanation on the terminal: kinds of work, layers, findings, and the conclusion last."""

from __future__ import annotations

from collections.abc import Sequence

from optkit import units
from optkit.cli.console import Block, Table, Text
from optkit.cli.tables.quality_explanation import loss_blocks
from optkit.records import sentences
from optkit.records.explanation import Explanation, FamilyRecord, FindingRecord, LayerTimeRecord, SpeedExplanation
from optkit.reports.sheet import Cell

_LAYERS = 15
"""Layers shown at most, those that changed most; the record holds all."""
_NAME = 34
"""Characters shown of a layer's name: its end, which tells it from others."""


def explanation_blocks(explanation: Explanation) -> list[Block]:
    """Show speed, quality, or both."""
    blocks = [] if explanation.speed is None else _speed_blocks(explanation.speed)
    return blocks if explanation.quality is None else [*blocks, *loss_blocks(explanation.quality)]


def _speed_blocks(speed: SpeedExplanation) -> list[Block]:
    blocks: list[Block] = []
    if speed.baseline is not None and speed.candidate is not None:
        blocks += [_families(speed), _layers(speed.layers)]
    blocks += [_finding(each) for each in speed.findings]
    return [*blocks, *(Text(sentence, style="bold") for sentence in speed.conclusion)]


def _families(speed: SpeedExplanation) -> Table:
    rows = [_family_cells(each) for each in speed.families]
    before, after = (side.seconds if side else 0.0 for side in (speed.baseline, speed.candidate))
    rows.append(["an inference", units.seconds(before), units.seconds(after), _change(before, after)])
    return Table(["work", "baseline", "candidate", "change"], rows)


def _family_cells(family: FamilyRecord) -> list[str | Cell]:
    before, after = family.baseline_seconds, family.candidate_seconds
    return [family.family, units.seconds(before), units.seconds(after), _change(before, after)]


def _layers(layers: Sequence[LayerTimeRecord]) -> Table:
    ordered = sorted(layers, key=lambda each: -abs((each.candidate_seconds or 0.0) - (each.baseline_seconds or 0.0)))
    columns = ["layer", "baseline", "", "candidate", "", "change"]
    left = len(ordered) - _LAYERS
    title = f"The {_LAYERS} layers that changed most; {left} more: --json" if left > 0 else None
    return Table(columns, [_layer_cells(each) for each in ordered[:_LAYERS]], title=title)


def _layer_cells(layer: LayerTimeRecord) -> list[str | Cell]:
    before, after = layer.baseline_seconds, layer.candidate_seconds
    name = layer.layer if layer.matched else f"all {layer.layer}"
    return [
        name if len(name) <= _NAME else f"…{name[1 - _NAME :]}",
        units.seconds(before),
        layer.baseline_precision or "",
        units.seconds(after),
        layer.candidate_precision or "",
        _change(before or 0.0, after or 0.0),
    ]


def _change(before: float, after: float) -> Cell:
    """Write ``+1.20 ms``, without a tone where it is next to nothing."""
    change = after - before
    text = f"{'+' if change >= 0 else '-'}{units.seconds(abs(change))}"
    if abs(change) < 0.02 * max(before, after):
        return Cell(text)
    return Cell(text, "bad" if change > 0 else "good")


def _finding(finding: FindingRecord) -> Text:
    text = sentences.cause(finding.text, finding.foremost)
    if finding.seconds is None:
        return Text(f"- {text}")
    cost = f"{'+' if finding.seconds >= 0 else '-'}{units.seconds(abs(finding.seconds))}"
    return Text(f"- {cost}: {text}")
