"""What layers' errors and ranges mean, in lines for the user: reasons for a loss, and what to try."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from optkit import units
from optkit.records import sentences
from optkit.records.layers import LayerErrorRecord, LossFindingRecord, RangeRecord

_MOST = 0.8
"""The share of the error that the layers named together introduce."""
_FEW = 5
"""More layers than these are not a few any more."""
_FELT = 1e-3
"""An error (a thousandth of the signal's power, 30 dB) from which on it is worth asking where it comes from."""
_DEAD = 0.1
"""A range of which the middle 99 % of the values use less loses more than three of its eight bits."""
_OUTLIER = 10.0
_OUTSIDE = 0.01
_FAR = 0.1
"""How far beyond a range, as a part of it, values must reach: those at its very end lose next to nothing."""
GRAVE = 0.1
"""The share of a tensor's values from which on it is sure to be missed: it became 0, or was cut off."""
_SHOWN = 3
"""How many findings of a kind are told; the records hold all."""


def of(
    layers: Sequence[LayerErrorRecord], ranges: Sequence[RangeRecord], wide_weights: int = 0, disturbed: float = 0.0
) -> list[LossFindingRecord]:
    """Findings, what introduces the error first. ``wide_weights`` use all 8 bits on a CPU whose sums then saturate;
    ``disturbed`` is the relative error that looking at the tensors made by itself.
    """
    return [
        *_jumps(layers),
        *_logarithms(ranges),
        *_out_of_range(ranges),
        *_dead_ranges(ranges),
        *_outlier_channels(ranges),
        *_saturating(wide_weights),
        *_doubtful(layers, disturbed),
    ]


def _jumps(layers: Sequence[LayerErrorRecord]) -> Iterator[LossFindingRecord]:
    """The fewest layers that introduce most of the error, or that no few do."""
    if max((layer.error for layer in layers), default=0.0) < _FELT:
        return
    worst: list[LayerErrorRecord] = []
    for layer in sorted(layers, key=lambda layer: -layer.share):
        if sum(each.share for each in worst) >= _MOST:
            break
        worst.append(layer)
    share, names = units.percent(sum(each.share for each in worst)), [each.exclude for each in worst]
    if len(worst) > min(_FEW, len(layers) / 2):
        text = f"no few layers introduce the error: it takes {len(worst)} of {len(layers)} to make {share} of it"
        yield LossFindingRecord(kind="everywhere", text=text)
        return
    text = f"{_layers(len(worst))} {share} of the error: {sentences.names(names)}"
    yield LossFindingRecord(kind="jump", text=text, where=names[0], exclude=names)


def _layers(number: int) -> str:
    return "one layer introduces" if number == 1 else f"{number} layers introduce"


def _logarithms(ranges: Sequence[RangeRecord]) -> Iterator[LossFindingRecord]:
    """Equal steps lose the small values, which a logarithm makes as much of as of the large ones."""
    found = sorted(filter(vanishes, ranges), key=lambda each: -each.vanished)
    if found:
        worst, others = found[0], f"; {len(found) - 1} more tensors likewise" if len(found) > 1 else ""
        text = (
            f"{worst.logarithm} takes a logarithm, but {units.percent(worst.vanished)} of the values of {worst.tensor} "
            f"on the way to it become 0, as equal steps have to reach from {_span(worst)}{others}"
        )
        exclude = list(dict.fromkeys(name for each in found for name in each.exclude))
        yield LossFindingRecord(kind="logarithm", text=text, where=worst.tensor, exclude=exclude)


def vanishes(each: RangeRecord) -> bool:
    """Whether a logarithm misses too many of the values."""
    return each.logarithm is not None and each.vanished > GRAVE


def _out_of_range(ranges: Sequence[RangeRecord]) -> Iterator[LossFindingRecord]:
    found = (each for each in ranges if each.outside > _OUTSIDE and _excess(each) > _FAR)
    for each in sorted(found, key=lambda each: -each.outside)[:_SHOWN]:
        text = (
            f"{units.percent(each.outside)} of the values of {each.tensor} lie beyond the calibrated range of "
            f"{_span(each)}"
        )
        calibrated = each.outside_calibration
        if _as_calibrated(each):
            text += f", as do {units.percent(calibrated)} of the calibration data's: the engine cut its extremes off"
            yield LossFindingRecord(kind="cut-off", text=text, where=each.tensor, exclude=each.exclude)
            continue
        unless = ", unless the engine cut its extremes off" if calibrated is None else ""
        text += f"; they reach from {each.seen_low:.3g} to {each.seen_high:.3g}: "
        text += f"the calibration data does not look like these{unless}"
        options = ["--calibration"]
        yield LossFindingRecord(
            kind="out-of-range", text=text, where=each.tensor, exclude=each.exclude, options=options
        )


def cut_off(each: RangeRecord) -> bool:
    """Whether the engine gave many values of a logarithm no place in the range, though it had seen the like: averages
    of extremes do so, where loud samples are far from quiet ones.
    """
    return each.of_logarithm and each.outside > GRAVE and _excess(each) > _FAR and _as_calibrated(each)


def _as_calibrated(each: RangeRecord) -> bool:
    """Whether the values that lie outside do not tell the samples from the calibration data."""
    calibrated = each.outside_calibration
    return calibrated is not None and (calibrated > each.outside / 2 or (calibrated > _OUTSIDE and not each.unlike))


def _excess(each: RangeRecord) -> float:
    """How far the values reach beyond the range, as a part of it."""
    beyond = max(each.seen_high - each.high, each.low - each.seen_low)
    return beyond / (each.high - each.low) if each.high > each.low else 0.0


def _dead_ranges(ranges: Sequence[RangeRecord]) -> Iterator[LossFindingRecord]:
    found = (each for each in ranges if each.used < _DEAD and each.high > each.low and not vanishes(each))
    for each in sorted(found, key=lambda each: each.used)[:_SHOWN]:
        text = (
            f"{each.tensor} is rounded in a range of {_span(each)}, of which 99 % of the values use "
            f"{units.percent(each.used)}: a few outliers made it wide"
        )
        options = ["--calibrate percentile"]
        yield LossFindingRecord(kind="dead-range", text=text, where=each.tensor, exclude=each.exclude, options=options)


def _outlier_channels(ranges: Sequence[RangeRecord]) -> Iterator[LossFindingRecord]:
    found = [(each.channel_ratio, each) for each in ranges if each.channel_ratio and each.channel_ratio > _OUTLIER]
    for ratio, each in sorted(found, key=lambda pair: -pair[0])[:_SHOWN]:
        text = (
            f"channel {each.channel} of {each.tensor} is {ratio:.0f} times larger than the median channel, and all "
            "share one scale: SmoothQuant, or this layer in float"
        )
        yield LossFindingRecord(kind="outlier-channel", text=text, where=each.tensor, exclude=each.exclude)


def _saturating(wide_weights: int) -> Iterator[LossFindingRecord]:
    if wide_weights:
        text = (
            f"{wide_weights} weights use all 8 bits, and this CPU has no VNNI: sums of their products may saturate in "
            "16 bits; on a CPU with VNNI the same file is more accurate"
        )
        yield LossFindingRecord(kind="saturating-sums", text=text)


def _doubtful(layers: Sequence[LayerErrorRecord], disturbed: float) -> Iterator[LossFindingRecord]:
    if layers and disturbed > max(_FELT, layers[-1].error / 2):
        text = (
            f"looking at its layers changed what the candidate yields by {units.percent(disturbed)}: the runtime "
            "computes otherwise where it must keep them, so that the layers' errors are a lead and no proof"
        )
        yield LossFindingRecord(kind="disturbed", text=text)


def _span(each: RangeRecord) -> str:
    return f"{each.low:.3g} to {each.high:.3g}"
