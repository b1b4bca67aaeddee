"""Causes of a loss of quality, derived from layer errors and ranges, in sentences for the user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from optkit import units
from optkit.records.layers import LayerErrorRecord, LossFindingRecord, RangeRecord

_MOST = 0.8
"""Share of the error that the named layers introduce together."""
_FEW = 5
"""Largest number of layers to which an error is attributed."""
_FELT = 1e-3
"""Smallest error whose origin is of interest: a thousandth of the signal's power (30 dB)."""
_DEAD = 0.1
"""Part of a range in use by the middle 99 % of the values below which more than three of the eight bits are lost."""
_OUTLIER = 10.0
"""Ratio to the median channel's magnitude from which on a channel is an outlier."""
_OUTSIDE = 0.01
"""Share of saturating values that is reported."""
_FAR = 0.1
"""Distance beyond a range, as a part of it, that values must reach: values close to the limit lose little."""
GRAVE = 0.1
"""Share of a tensor's values whose loss, by underflow or saturation, certainly matters."""
_SHOWN = 3
"""Largest number of findings per kind; the records of the ranges hold all."""


def find_loss_causes(
    layers: Sequence[LayerErrorRecord], ranges: Sequence[RangeRecord], wide_weights: int = 0, disturbed: float = 0.0
) -> list[LossFindingRecord]:
    """Return all causes, starting with the layers that introduce the error.

    ``wide_weights`` is the number of weights that use all 8 bits on a CPU whose sums then saturate. ``disturbed`` is
    the relative error of the outputs that exposing intermediate tensors caused.
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
    """Name the fewest layers that introduce most of the error, or report that the error is spread over many."""
    if max((layer.error for layer in layers), default=0.0) < _FELT:
        return
    worst: list[LayerErrorRecord] = []
    for layer in sorted(layers, key=lambda layer: -layer.share):
        if sum(each.share for each in worst) >= _MOST:
            break
        worst.append(layer)
    share, names = units.percent(sum(each.share for each in worst)), [each.exclude for each in worst]
    if len(worst) > min(_FEW, len(layers) / 2):
        text = f"the error is spread over many layers: the worst {len(worst)} of {len(layers)} introduce {share} of it"
        yield LossFindingRecord(kind="everywhere", text=text)
        return
    text = f"{_layers(len(worst))} {share} of the error: {units.listed(names)}"
    yield LossFindingRecord(kind="jump", text=text, where=names[0], exclude=names)


def _layers(number: int) -> str:
    return "one layer introduces" if number == 1 else f"{number} layers introduce"


def _logarithms(ranges: Sequence[RangeRecord]) -> Iterator[LossFindingRecord]:
    """Report values that underflow before a logarithm, for which small values count as much as large ones."""
    found = sorted(filter(underflows, ranges), key=lambda each: -each.vanished)
    if found:
        worst, more = found[0], len(found) - 1
        others = f"; so for {more} more tensor{'s' if more > 1 else ''}" if more else ""
        text = (
            f"{units.percent(worst.vanished)} of the values of {worst.tensor} underflow to 0 before the logarithm "
            f"{worst.logarithm}: the uniform steps of its INT8 range have to cover {_limits(worst)}{others}"
        )
        exclude = list(dict.fromkeys(name for each in found for name in each.exclude))
        yield LossFindingRecord(kind="logarithm", text=text, where=worst.tensor, exclude=exclude)


def underflows(each: RangeRecord) -> bool:
    """Return True if many values before a logarithm become 0."""
    return each.logarithm is not None and each.vanished > GRAVE


def _out_of_range(ranges: Sequence[RangeRecord]) -> Iterator[LossFindingRecord]:
    found = (each for each in ranges if each.outside > _OUTSIDE and _excess(each) > _FAR)
    for each in sorted(found, key=lambda each: -each.outside)[:_SHOWN]:
        text = (
            f"{units.percent(each.outside)} of the values of {each.tensor} saturate: they lie outside the calibration "
            f"range of {_limits(each)}"
        )
        calibrated = each.outside_calibration
        if _as_calibrated(each):
            text += f", as do {units.percent(calibrated)} on the calibration data: the method clipped the extremes"
            yield LossFindingRecord(kind="cut-off", text=text, where=each.tensor, exclude=each.exclude)
            continue
        unless = ", unless the calibration method clipped the extremes" if calibrated is None else ""
        text += f" and reach from {each.seen_low:.3g} to {each.seen_high:.3g}; "
        text += f"the calibration data does not represent these samples{unless}"
        options = ["--calibration"]
        yield LossFindingRecord(
            kind="out-of-range", text=text, where=each.tensor, exclude=each.exclude, options=options
        )


def clipped(each: RangeRecord) -> bool:
    """Return True if many values behind a logarithm saturate though the calibration data had values like them.

    That happens to ranges that are averages of extremes where, for example, loud samples are far from quiet ones.
    """
    return each.of_logarithm and each.outside > GRAVE and _excess(each) > _FAR and _as_calibrated(each)


def _as_calibrated(each: RangeRecord) -> bool:
    """Return True if as many values saturate on the calibration data as on the samples."""
    calibrated = each.outside_calibration
    return calibrated is not None and (calibrated > each.outside / 2 or (calibrated > _OUTSIDE and not each.unlike))


def _excess(each: RangeRecord) -> float:
    """Return the distance of the farthest value beyond the range, as a part of the range."""
    beyond = max(each.seen_high - each.high, each.low - each.seen_low)
    return beyond / (each.high - each.low) if each.high > each.low else 0.0


def _dead_ranges(ranges: Sequence[RangeRecord]) -> Iterator[LossFindingRecord]:
    found = (each for each in ranges if each.used < _DEAD and each.high > each.low and not underflows(each))
    for each in sorted(found, key=lambda each: each.used)[:_SHOWN]:
        text = (
            f"99 % of the values of {each.tensor} lie in {units.percent(each.used)} of its calibration range of "
            f"{_limits(each)}, which a few outliers widened"
        )
        options = ["--calibrate percentile"]
        yield LossFindingRecord(kind="dead-range", text=text, where=each.tensor, exclude=each.exclude, options=options)


def _outlier_channels(ranges: Sequence[RangeRecord]) -> Iterator[LossFindingRecord]:
    found = [(each.channel_ratio, each) for each in ranges if each.channel_ratio and each.channel_ratio > _OUTLIER]
    for ratio, each in sorted(found, key=lambda pair: -pair[0])[:_SHOWN]:
        text = (
            f"channel {each.channel} of {each.tensor} is an outlier channel, {ratio:.0f} times larger than the median "
            "channel, and all channels share one scale: try SmoothQuant, or keep the layer in float"
        )
        yield LossFindingRecord(kind="outlier-channel", text=text, where=each.tensor, exclude=each.exclude)


def _saturating(wide_weights: int) -> Iterator[LossFindingRecord]:
    if wide_weights:
        text = (
            f"{wide_weights} weights use all 8 bits, but this CPU has no VNNI: 16-bit sums of their products may "
            "saturate; on a CPU with VNNI the same file is more accurate"
        )
        yield LossFindingRecord(kind="saturating-sums", text=text)


def _doubtful(layers: Sequence[LayerErrorRecord], disturbed: float) -> Iterator[LossFindingRecord]:
    if layers and disturbed > max(_FELT, layers[-1].error / 2):
        text = (
            f"reading intermediate tensors changed the candidate's outputs by {units.percent(disturbed)}: the runtime "
            "cannot fuse operators across them, so the errors per layer are a hint and no proof"
        )
        yield LossFindingRecord(kind="disturbed", text=text)


def _limits(each: RangeRecord) -> str:
    return f"{each.low:.3g} to {each.high:.3g}"
