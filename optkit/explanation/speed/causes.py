"""Causes of a speed difference, derived from two aligned profiles, the models' files and the machine.

Each finding states the observation and its cost per inference; none depends on a model's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from optkit import units
from optkit.explanation.speed import alignment
from optkit.explanation.speed.alignment import Pair, total
from optkit.explanation.speed.case import Case, Side
from optkit.formats.operators import Operator, plain
from optkit.quantization.selection import QUANTIZABLE
from optkit.records.explanation import FindingRecord
from optkit.targets.target import target

_SLOWER = 1.1
"""Ratio from which on a layer counts as slower: times of operators vary by several percent."""
_ENTRY, _CALL = 1e-3, 50e-6
"""Largest overhead in seconds: of a call into the runtime, and between two operators."""
_OVERHEAD = 0.3
"""Share of the inference time outside operators from which on it is a cause of its own."""
_HALVES = ("bfloat16", "float16")
_REFERENCE = "ref"


def find_speed_causes(case: Case) -> list[FindingRecord]:
    """Return all causes: the most expensive first, then those that save time, and facts without a cost last."""
    found = [finding for cause in _CAUSES for finding in cause(case)]
    return sorted(found, key=lambda each: (each.seconds is None, -(each.seconds or 0.0)))


def _conversions(case: Case) -> Iterator[FindingRecord]:
    now, before = (
        [each for each in side.profile.operators if each.family == "conversion"]
        for side in (case.candidate, case.baseline)
    )
    cost = total(now) - total(before)
    if cost < case.worth:
        return
    saved = sum(pair.before - pair.after for pair in case.pairs if pair.integer)
    had = f"{len(before)} took {units.seconds(total(before))} in the baseline" if before else "the baseline has none"
    text = f"{len(now)} conversions ({_kinds(now)}) take {units.seconds(total(now))}, {had}"
    if case.integers and saved >= case.worth:
        text += f"; integer layers save {'only ' if saved < cost else ''}{units.seconds(saved)}"
    elif case.integers:
        text += "; integer layers save nothing"
    yield FindingRecord(kind="conversions", text=text, seconds=cost)


def _unfused_pairs(case: Case) -> Iterator[FindingRecord]:
    """Find float operators between DequantizeLinear and QuantizeLinear: no integer kernel fuses the three."""
    operators = {each.name: each for each in case.candidate.profile.operators}
    takers: dict[str, list[Operator]] = {}
    for each in operators.values():
        for source in each.sources:
            takers.setdefault(source, []).append(each)
    alone, around = [], dict[str, Operator]()
    for each in operators.values():
        given = [operators[name] for name in each.sources if name in operators]
        taken = takers.get(each.name, [])
        before = [source for source in given if source.kind == "DequantizeLinear"]
        after = [taker for taker in taken if taker.kind == "QuantizeLinear"]
        if each.family != "conversion" and not each.integer and before and after:
            alone.append(each)
            around |= {pair.name: pair for pair in (*before, *after)}
    if alone and total(around.values()) >= case.worth / 2:
        yield FindingRecord(
            kind="unfused-pairs",
            text=f"{len(alone)} float operators between DequantizeLinear and QuantizeLinear that no integer kernel "
            f"took in, the pairs around them take {units.seconds(total(around.values()))}",
            foremost=_named(alone),
            seconds=total(around.values()),
            layers=[_layer(each) for each in alone],
        )


def _weights_dequantized(case: Case) -> Iterator[FindingRecord]:
    found = [each for each in case.candidate.profile.operators if each.kind == "DequantizeLinear" and not each.sources]
    if total(found) >= case.worth:
        yield FindingRecord(
            kind="weights-dequantized",
            text=f"{len(found)} weights are turned back into floats in every inference",
            seconds=total(found),
        )


def _left_in_float(case: Case) -> Iterator[FindingRecord]:
    if not case.integers:
        return
    reasons: dict[str, list[Operator]] = {}
    for each in case.candidate.profile.operators:
        if each.weighted and not each.integer:
            reasons.setdefault(_why_float(case.candidate, each), []).append(each)
    for reason, operators in reasons.items():
        if total(operators) >= case.worth:
            what = f"{len(operators)} of the layers with most arithmetic stay in {operators[0].precision}"
            yield FindingRecord(
                kind="left-in-float",
                text=f"{what} and take {units.seconds(total(operators))}: {reason}",
                foremost=_named(operators),
                layers=[_layer(each) for each in operators],
            )


def _why_float(side: Side, operator: Operator) -> str:
    layer = next((found for name in operator.layers if (found := side.layer(name)) is not None), None)
    if layer is None:
        return f"left alone by the quantizer, or without an integer kernel on {side.candidate.target}"
    if layer.quantized:
        return f"quantized in the file, but {side.candidate.target} has no integer kernel for it here"
    if layer.kind not in QUANTIZABLE:
        return f"{layer.kind} is not quantized by this method"
    if not layer.constant_weight:
        return "both inputs are computed, there is no constant weight"
    return "not quantized in the file: excluded, or left alone by the method"


def _slower_integers(case: Case) -> Iterator[FindingRecord]:
    slower = [pair for pair in case.pairs if pair.integer and pair.matched and pair.after > _SLOWER * pair.before]
    cost = sum(pair.after - pair.before for pair in slower)
    if cost < case.worth:
        return
    slower.sort(key=lambda pair: pair.before - pair.after)
    worst = [
        f"{pair.layer} ({_trait(case.candidate, pair)}{units.seconds(pair.before)} -> {units.seconds(pair.after)})"
        for pair in slower
    ]
    count = sum(pair.integer and pair.matched for pair in case.pairs)
    yield FindingRecord(
        kind="slower-integer-layers",
        text=f"{len(slower)} of {count} integer layers are slower than in float, by {units.seconds(cost)} together",
        foremost=worst,
        seconds=cost,
        layers=[pair.layer for pair in slower],
    )


def _slower_kernels(case: Case) -> Iterator[FindingRecord]:
    """Find slower layers of unchanged precision that another operator or kernel executes."""
    slower = [
        pair
        for pair in case.pairs
        if pair.matched and pair.baseline and not pair.integer and pair.after > _SLOWER * pair.before
    ]
    slower = [pair for pair in slower if _ways(pair.baseline) != _ways(pair.candidate)]
    cost = sum(pair.after - pair.before for pair in slower)
    if cost >= case.worth:
        slower.sort(key=lambda pair: pair.before - pair.after)
        worst = [
            f"{pair.layer} ({_kinds(pair.baseline)} {units.seconds(pair.before)} -> {_kinds(pair.candidate)} "
            f"{units.seconds(pair.after)})"
            for pair in slower
        ]
        yield FindingRecord(
            kind="slower-kernels",
            text=f"{len(slower)} layers are carried out in another way, {units.seconds(cost)} slower",
            foremost=worst,
            seconds=cost,
            layers=[pair.layer for pair in slower],
        )


def _ways(operators: Sequence[Operator]) -> set[tuple[str, str]]:
    return {(each.kind, each.kernel) for each in operators}


def _trait(side: Side, pair: Pair) -> str:
    """Return the property that makes the layer slow in integers, if known, as a prefix: ``depthwise, ``."""
    names = [name for each in pair.candidate for name in each.layers]
    layers = [layer for name in names if (layer := side.layer(name)) is not None]
    if any(layer.depthwise for layer in layers):
        return "depthwise, "
    dynamic = next((each.kind for each in pair.candidate if "Integer" in each.kind and each.weighted), None)
    return f"{dynamic}, " if dynamic else ""


def _integer_savings(case: Case) -> Iterator[FindingRecord]:
    faster = [pair for pair in case.pairs if pair.integer and pair.after < pair.before]
    saved = sum(pair.before - pair.after for pair in faster)
    if saved >= case.worth:
        yield FindingRecord(
            kind="faster-integer-layers",
            text=f"{len(faster)} layers are faster in integers and save {units.seconds(saved)}",
            seconds=-saved,
            layers=[pair.layer for pair in faster],
        )


def _lost_fusions(case: Case) -> Iterator[FindingRecord]:
    lost, cost = [], 0.0
    for pair in case.pairs:
        extra = sorted(pair.candidate, key=lambda each: each.weighted)[:-1]
        if pair.matched and len(pair.baseline) == 1 and extra:
            lost.append(pair)
            cost += total(extra)
    if cost >= case.worth:
        shown = [f"{pair.layer} ({'+'.join(each.kind for each in pair.candidate)})" for pair in lost]
        yield FindingRecord(
            kind="lost-fusions",
            text=f"{len(lost)} operators of the baseline are several in the candidate, the added ones take "
            f"{units.seconds(cost)}",
            foremost=shown,
            seconds=cost,
            layers=[pair.layer for pair in lost],
        )


def _gained_fusions(case: Case) -> Iterator[FindingRecord]:
    fused = [pair for pair in case.pairs if pair.matched and 0 < len(pair.candidate) < len(pair.baseline)]
    fused = [pair for pair in fused if pair.before > pair.after and not pair.integer]
    saved = sum(pair.before - pair.after for pair in fused)
    if saved >= case.worth:
        fused.sort(key=lambda pair: pair.after - pair.before)
        shown = [f"{pair.layer} ({'+'.join(each.kind for each in pair.baseline)})" for pair in fused]
        yield FindingRecord(
            kind="gained-fusions",
            text=f"in {len(fused)} places several operators of the baseline are fewer in the candidate, which saves "
            f"{units.seconds(saved)}",
            foremost=shown,
            seconds=-saved,
            layers=[pair.layer for pair in fused],
        )


def _overhead(case: Case) -> Iterator[FindingRecord]:
    before, now = len(case.baseline.profile.operators), len(case.candidate.profile.operators)
    side, outside = case.candidate, case.candidate.outside
    grown = f"; {now} operators are executed, {before} in the baseline" if now != before else ""
    if side.seconds and outside / side.seconds >= _OVERHEAD:
        small = outside < _ENTRY + _CALL * now
        reason = (
            f"the model is so small that calling the runtime counts{grown}; a larger --batch shares it among samples"
            if small
            else f"{side.candidate.target} does not tell what takes it{grown}"
        )
        yield FindingRecord(
            kind="overhead",
            text=f"{units.percent(outside / side.seconds)} of an inference lies outside operators: {reason}",
            seconds=outside - case.baseline.outside,
        )
    elif now > 1.2 * before + 3:
        yield FindingRecord(kind="more-operators", text=f"{now} operators are executed, {before} in the baseline")


def _slow_sums(case: Case) -> Iterator[FindingRecord]:
    if case.integers and case.slow_sums:
        yield FindingRecord(
            kind="no-vnni",
            text="this CPU has no VNNI: products of 8 bits are summed in 16 bits in several steps, so that integers "
            "gain less over float here than on a CPU with VNNI or AMX",
        )


def _halves(case: Case) -> Iterator[FindingRecord]:
    """Report half precision that only one side uses, requested or not."""
    for dtype in _HALVES:
        counts = [
            sum(each.precision == dtype for each in side.profile.operators) for side in (case.baseline, case.candidate)
        ]
        if max(counts) and not min(counts):
            who, count = ("baseline", counts[0]) if counts[0] else ("candidate", counts[1])
            yield FindingRecord(
                kind=dtype, text=f"{count} operators of the {who} compute in {dtype}, none of the other model's"
            )


def _no_half_kernels(case: Case) -> Iterator[FindingRecord]:
    """Report a file in half precision that the runtime computes in float32."""
    side = case.candidate
    computing = [each for each in side.profile.operators if each.weighted and each.precision == "float32"]
    if side.layers.quantized == "float16" and computing:
        casts = [each for each in side.profile.operators if each.family == "conversion" and "float16" in each.precision]
        cost = total(casts)
        yield FindingRecord(
            kind="no-half-kernels",
            text=f"a file in half precision, but {side.candidate.target} computes in float32 here"
            + (f", between conversions of {units.seconds(cost)}" if cost >= case.worth else ""),
            foremost=_named(computing),
            seconds=cost if cost >= case.worth else None,
        )


def _reference_kernels(case: Case) -> Iterator[FindingRecord]:
    slow = [each for each in case.candidate.profile.operators if each.kernel.startswith(_REFERENCE)]
    had = [each for each in case.baseline.profile.operators if each.kernel.startswith(_REFERENCE)]
    cost = total(slow) - total(had)
    if cost >= case.worth:
        yield FindingRecord(
            kind="reference-kernels",
            text=f"{len(slow)} operators run on plain reference kernels and take {units.seconds(total(slow))}",
            foremost=_named(slow),
            seconds=cost,
            layers=[_layer(each) for each in slow],
        )


def _other_providers(case: Case) -> Iterator[FindingRecord]:
    ran = case.candidate.candidate
    first = target(ran.target).expected_kernel(ran.options)
    if first is None:
        return
    away = [each for each in case.candidate.profile.operators if each.kernel not in ("", first)]
    if away:
        yield FindingRecord(
            kind="other-provider",
            text=f"{len(away)} operators do not run on {first} and take {units.seconds(total(away))}",
            foremost=_named(away),
            layers=[_layer(each) for each in away],
        )


def _named(operators: Sequence[Operator]) -> list[str]:
    """Name the operators by layer and kind, the slowest first."""
    return [f"{_layer(each)} ({each.kind})" for each in sorted(operators, key=lambda each: -each.seconds)]


def _layer(operator: Operator) -> str:
    return plain(operator.layers[0]) if operator.layers else operator.name


def _kinds(operators: Sequence[Operator]) -> str:
    return ", ".join(alignment.kinds(operators))


_CAUSES: tuple[Callable[[Case], Iterator[FindingRecord]], ...] = (
    _conversions, _unfused_pairs, _weights_dequantized, _left_in_float, _slower_integers, _slower_kernels,
    _integer_savings, _lost_fusions, _gained_fusions, _overhead, _slow_sums, _halves, _no_half_kernels,
    _reference_kernels, _other_providers,
)  # fmt: skip
