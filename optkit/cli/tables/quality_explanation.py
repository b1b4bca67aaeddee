"""Tables of an explained loss of quality on the terminal: layers, ranges, findings, and the conclusion last."""

from __future__ import annotations

from collections.abc import Sequence

from optkit import units
from optkit.cli.console import Block, Table, Text
from optkit.records.explanation import QualityExplanation
from optkit.records.layers import LayerErrorRecord, RangeRecord, Sensitivity

_LAYERS = 10
"""Layers shown at most, those with the largest errors or effects; the record holds all."""
_NAME = 34
"""Characters shown of a name: its end, which tells it from others."""
_RANGES = ("out-of-range", "cut-off", "dead-range", "outlier-channel")


def loss_blocks(quality: QualityExplanation) -> list[Block]:
    """Show layers and ranges as far as they are known, the findings, and the conclusion."""
    blocks: list[Block] = []
    if quality.layers is not None:
        found = quality.layers
        blocks.append(_layers(found.layers))
        told = {each.where for each in found.findings if each.kind in _RANGES}
        ranges = [each for each in found.ranges if each.tensor in told]
        blocks += [_ranges(ranges)] if ranges else []
    if quality.sensitivity is not None:
        blocks.append(_damages(quality.sensitivity))
    if quality.layers is not None:
        blocks += [Text(f"- {each.text}") for each in quality.layers.findings]
    return [*blocks, *(Text(sentence, style="bold") for sentence in quality.conclusion)]


def _layers(layers: Sequence[LayerErrorRecord]) -> Table:
    worst = sorted(layers, key=lambda each: -each.introduced)[:_LAYERS]
    rows = [
        [
            _short(each.exclude),
            each.operator,
            units.small_percent(each.error),
            units.small_percent(each.introduced),
            units.percent(each.share),
        ]
        for each in worst
    ]
    columns = ["layer", "operator", "error there", "introduced", "share"]
    return Table(columns, rows, title=f"Layer by layer: where the candidate goes astray{_more(layers)}")


def _ranges(ranges: Sequence[RangeRecord]) -> Table:
    rows = [
        [
            _short(each.tensor),
            f"{each.low:.3g} to {each.high:.3g}",
            f"{each.seen_low:.3g} to {each.seen_high:.3g}",
            units.percent(each.outside),
            units.percent(each.used),
            units.ratio(each.channel_ratio),
        ]
        for each in ranges
    ]
    return Table(["rounded tensor", "range", "values", "outside", "used", "largest channel"], rows)


def _damages(sensitivity: Sensitivity) -> Table:
    total = sum(each.damage for each in sensitivity.layers) or 1.0
    rows = [
        [_short(each.name), each.operator, units.small_percent(each.damage), units.percent(each.damage / total)]
        for each in sensitivity.layers[:_LAYERS]
    ]
    title = f"One layer at a time in INT8: what it does to the outputs{_more(sensitivity.layers)}"
    return Table(["layer", "operator", "damage", "share"], rows, title=title)


def _more(layers: Sequence[object]) -> str:
    left = len(layers) - _LAYERS
    return f"; {left} more: --json" if left > 0 else ""


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"…{name[1 - _NAME :]}"
