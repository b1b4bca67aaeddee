"""Explanation of a speed difference: profile baseline and candidate, align their operators, and sum up the causes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from optkit import units
from optkit.errors import OptkitError
from optkit.explanation.speed import alignment
from optkit.explanation.speed import remedies as speed_remedies
from optkit.explanation.speed.alignment import Pair, total
from optkit.explanation.speed.case import Case, Side
from optkit.explanation.speed.causes import find_speed_causes
from optkit.explanation.speed.integer_regions import integer_regions
from optkit.formats.layers import read_layers
from optkit.formats.onnx import fusion_map, graph
from optkit.formats.operators import Operator, Profile
from optkit.formats.tensors import Arrays
from optkit.measurement import profiling
from optkit.measurement.candidate import Candidate
from optkit.measurement.worker import Worker
from optkit.progress import Progress, no_progress
from optkit.records import sentences as wording
from optkit.records.comparison import Comparison, Row
from optkit.records.explanation import (
    FamilyRecord,
    FindingRecord,
    LayerTimeRecord,
    OperatorRecord,
    ProfileRecord,
    SpeedExplanation,
)
from optkit.system import fingerprint
from optkit.targets.target import profilable, target

OUTSIDE = "outside operators"
"""Name of the time that no operator accounts for, among the operator families."""
_NAMED = 3
"""Largest number of families named in a sentence."""
_SMALL = 0.05
"""Share of the difference below which a family is not named."""
_EVEN = 0.03
"""Share of the baseline's time up to which a difference counts as none, as in a comparison's verdict."""


def explain_speed(
    baseline: Candidate,
    candidate: Candidate,
    compared: Comparison,
    feeds: Sequence[Arrays],
    *,
    data: str | None = None,
    calibration: str | None = None,
    seconds: float = profiling.SECONDS,
    progress: Progress = no_progress,
) -> SpeedExplanation:
    """Profile both models for ``seconds`` each, and explain the speed difference found by ``compared``.

    ``data`` and ``calibration`` are the values of these options in suggested commands. If a row of ``compared`` failed,
    nothing is profiled. Raises OptkitError.
    """
    rows = compared.rows
    failed = next((row for row in rows if row.status == "failed"), None)
    if failed is not None:
        return SpeedExplanation(comparison=compared, conclusion=[f"{failed.title} failed: {failed.reason}."])
    case, scales = profile_both(baseline, candidate, feeds, rows=rows, seconds=seconds, progress=progress)
    if hopeless := speed_remedies.hopeless(case):
        case = replace(case, elsewhere=_opens_elsewhere(case.baseline.candidate))
    before, after = case.baseline, case.candidate
    causes = speed_remedies.with_commands(case, find_speed_causes(case), data, calibration)
    tried = next((finding for finding in causes if finding.command), None)
    families = _families(case)
    return SpeedExplanation(
        comparison=compared,
        baseline=_profile(before, scales[0]),
        candidate=_profile(after, scales[1]),
        families=families,
        layers=[_layer(pair) for pair in case.pairs],
        findings=causes,
        command=tried.command if tried else None,
        leave_out=speed_remedies.left_out(case, tried.kind) if tried else [],
        integers_pay=not hopeless,
        conclusion=_conclusion(rows[1], case, families, causes, tried),
    )


def profile_both(
    baseline: Candidate,
    candidate: Candidate,
    feeds: Sequence[Arrays],
    *,
    rows: Sequence[Row] | None = None,
    seconds: float = profiling.SECONDS,
    progress: Progress = no_progress,
) -> tuple[Case, tuple[float, float]]:
    """Profile both models operator by operator for ``seconds`` each, and align them.

    Also returns the factor by which each side's operator times were scaled to fit into the inference time measured in
    ``rows``. Raises OptkitError.
    """
    sides = []
    file = graph.parse(baseline.model.path) if baseline.model.format == "onnx" else None
    for number, each in enumerate((baseline, candidate)):
        progress("profiling operators", number, 2)
        found = profiling.measure(each, feeds, seconds=seconds)
        operators = found.operators if file is None else tuple(fusion_map.add_fused_nodes(file, found.operators))
        sides.append(_side(each, rows[number] if rows else None, replace(found, operators=operators)))
    (before, one), (after, other) = sides
    pairs = alignment.pairs(before.profile, after.profile)
    return Case(before, after, pairs, integer_regions(after.profile, pairs), fingerprint.isa()), (one, other)


def _opens_elsewhere(baseline: Candidate) -> bool:
    """True if another runtime that takes the format opens the model."""
    name = next((name for name in profilable(baseline.model.format) if name != baseline.target), None)
    if name is None:
        return False
    try:
        with Worker(Candidate(name, baseline.model, name, target(name).default_options())):
            return True
    except OptkitError:
        return False


def _side(candidate: Candidate, row: Row | None, profile: Profile) -> tuple[Side, float]:
    """Make a side whose operator times are scaled down to fit into the inference time measured without the profiler."""
    measured = row.latency.median if row and row.latency else profile.seconds
    profiled = total(profile.operators)
    scale = min(1.0, measured / profiled) if profiled else 1.0
    operators = tuple(replace(each, seconds=scale * each.seconds) for each in profile.operators)
    return Side(candidate, read_layers(candidate.model), replace(profile, operators=operators), measured), scale


def _families(case: Case) -> list[FamilyRecord]:
    """Return the time per operator family on both sides, the largest change first."""
    before, after = (alignment.by_family(side.profile) for side in (case.baseline, case.candidate))
    before[OUTSIDE], after[OUTSIDE] = case.baseline.outside, case.candidate.outside
    found = [
        FamilyRecord(family=name, baseline_seconds=before.get(name, 0.0), candidate_seconds=after.get(name, 0.0))
        for name in before | after
    ]
    return sorted(found, key=lambda each: -abs(_change(each)))


def _change(family: FamilyRecord) -> float:
    return family.candidate_seconds - family.baseline_seconds


def _conclusion(
    row: Row,
    case: Case,
    families: Sequence[FamilyRecord],
    findings: Sequence[FindingRecord],
    tried: FindingRecord | None,
) -> list[str]:
    """Return a sentence each on the measurement, the families of the difference, the causes, and the remedy."""
    before, after = case.baseline.seconds, case.candidate.seconds
    measured = f"{units.seconds(after)} an inference, {units.seconds(before)} in the baseline"
    even = abs(after - before) < _EVEN * before
    where = _moved(families, before) if even else _where(families, after - before)
    sentences = [f"{row.title}: {wording.speed(row)}: {measured}.", where]
    causes = _causes(findings, None if even else after > before)
    if causes:
        # Layers are listed for the largest cause only, to keep the sentence readable.
        texts = [wording.cause(causes[0].text, causes[0].foremost), *(cause.text for cause in causes[1:])]
        sentences.append(f"Why: {'; '.join(texts)}.")
    hopeless = speed_remedies.hopeless(case)
    advice = "Integers do not pay off for this model on this machine; keep it in float." if hopeless else ""
    if tried is not None:
        try_it = "Try" if advice or even or after > before else "To gain more, try"
        advice = f"{advice} {try_it}: {tried.command}".strip()
    sentences.append(advice)
    return [sentence for sentence in sentences if sentence]


def _where(families: Sequence[FamilyRecord], change: float) -> str:
    """Name the families that make up the difference: those with its sign first, with their shares of it."""
    if not change:
        return ""
    along = [each for each in families if _change(each) * change > 0 and abs(_change(each)) >= _SMALL * abs(change)]
    against = [each for each in families if _change(each) * change < 0 and abs(_change(each)) >= _SMALL * abs(change)]
    if not along:
        return ""
    named = ", ".join(
        f"{each.family} {_signed(_change(each))} ({units.percent(_change(each) / change)})" for each in along[:_NAMED]
    )
    text = f"Of the difference of {_signed(change)}: {named}"
    if against:
        offset = ", ".join(f"{each.family} {_signed(_change(each))}" for each in against[:_NAMED])
        text += f"; partly offset by {offset}"
    return f"{text}."


def _moved(families: Sequence[FamilyRecord], before: float) -> str:
    """Name the families whose times changed most, where the inference as a whole takes as long as before."""
    moved = [each for each in families if abs(_change(each)) >= _SMALL * before]
    if not moved:
        return ""
    return f"Time only moved: {', '.join(f'{each.family} {_signed(_change(each))}' for each in moved[:_NAMED])}."


def _signed(seconds: float) -> str:
    return ("+" if seconds > 0 else "-") + units.seconds(abs(seconds))


def _causes(findings: Sequence[FindingRecord], slower: bool | None) -> list[FindingRecord]:
    """Choose the two causes that explain most of the difference in its direction.

    Unfused pairs are conversions too, so they are left out where conversions are a cause.
    """
    found = [each for each in findings if each.seconds and slower in (None, each.seconds > 0)]
    found.sort(key=lambda each: -abs(each.seconds or 0.0))
    kinds = {each.kind for each in found}
    if "conversions" in kinds:
        found = [each for each in found if each.kind != "unfused-pairs"]
    return found[:2]


def _profile(side: Side, scale: float) -> ProfileRecord:
    return ProfileRecord(
        seconds=side.seconds,
        outside_seconds=side.outside,
        inferences=side.profile.inferences,
        scale=scale,
        operators=[_operator(each) for each in side.profile.operators],
    )


def _operator(operator: Operator) -> OperatorRecord:
    return OperatorRecord(
        name=operator.name,
        kind=operator.kind,
        family=operator.family,
        seconds=operator.seconds,
        precision=operator.precision,
        kernel=operator.kernel,
        layers=list(operator.layers),
    )


def _layer(pair: Pair) -> LayerTimeRecord:
    return LayerTimeRecord(
        layer=pair.layer,
        matched=pair.matched,
        family=pair.family,
        baseline_seconds=pair.before if pair.baseline else None,
        candidate_seconds=pair.after if pair.candidate else None,
        baseline_precision=alignment.precision(pair.baseline),
        candidate_precision=alignment.precision(pair.candidate),
        baseline_kinds=alignment.kinds(pair.baseline),
        candidate_kinds=alignment.kinds(pair.candidate),
    )
