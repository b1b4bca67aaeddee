"""Explanation of a loss of quality: compare intermediate tensors, measure layer sensitivity, sum up the causes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from optkit import units
from optkit.errors import OptkitError
from optkit.explanation.quality import layer_errors, sensitivity
from optkit.explanation.quality import remedies as quality_remedies
from optkit.explanation.quality.remedies import Given, Loss
from optkit.formats.layers import read_layers
from optkit.measurement.candidate import Candidate
from optkit.notes import Note
from optkit.progress import Progress, no_progress
from optkit.records import sentences as wording
from optkit.records.comparison import Comparison, QualityRecord
from optkit.records.explanation import QualityExplanation, SpeedExplanation
from optkit.records.layers import LayerErrors, LossFindingRecord, Sensitivity

SECONDS = 10.0
"""Time limit for measuring the layers one by one."""
_SIGNIFICANT = 0.05
"""Significance level of McNemar's test."""
_SHOWS = 5e-5
"""Smallest loss that is displayed as more than 0."""
_CAUSES = 2
"""Largest number of causes in the conclusion."""
_WIDE = ("outlier-channel", "dead-range")
"""Kinds of causes that NNCF's scheme for transformers addresses."""
_LOCATIONS = ("jump", "everywhere")
"""Kinds of findings that locate the loss and do not explain it."""


def explain_quality(
    baseline: Candidate,
    candidate: Candidate,
    compared: Comparison,
    given: Given,
    *,
    beside: SpeedExplanation | None = None,
    threads: int | None = None,
    progress: Progress = no_progress,
) -> tuple[QualityExplanation | None, list[Note]]:
    """Explain the loss of quality found by ``compared``; also returns notes on analyses that failed.

    ``beside`` is the explanation of the speed: where the candidate is not faster, the command excludes its slow layers
    too. The explanation is ``None`` for a candidate that failed. Raises ModelError.
    """
    row = compared.rows[1]
    if row.status == "failed" or row.quality is None or row.quality.loss is None:
        return None, []
    slow = tuple(beside.leave_out) if beside and row.speed_verdict != "faster" else ()
    loss = Loss(baseline, candidate, read_layers(candidate.model).quantized, row, given, slow)
    notes: list[Note] = []
    worse = lost(row.quality)
    if loss.quantized or worse is not None:
        loss, notes = _analyze(loss, threads, progress)
    command = quality_remedies.command(loss) if worse else None
    found = QualityExplanation(
        layers=loss.layers,
        sensitivity=loss.sensitivity,
        keep_in_float=quality_remedies.keep_in_float(loss) if command else [],
        command=command,
        conclusion=_conclusion(loss, worse, command, compared.max_drop, beside),
    )
    return found, notes


def lost(quality: QualityRecord) -> bool | None:
    """Return True for a significant loss, False for a significant gain, ``None`` if the samples show neither."""
    loss = quality.loss
    if loss is None or abs(loss.value) < _SHOWS or loss.low <= 0 <= loss.high:
        return None
    if quality.p_value is not None and quality.p_value > _SIGNIFICANT:
        return None
    return loss.value > 0


def _analyze(loss: Loss, threads: int | None, progress: Progress) -> tuple[Loss, list[Note]]:
    """Add layer errors and sensitivity to the loss; an analysis that fails becomes a note."""
    found, notes = _compare_layers(loss, progress)
    loss = replace(loss, layers=found)
    measured, more = _measure_layers(loss, threads, progress)
    return replace(loss, sensitivity=measured), [*notes, *more]


def _compare_layers(loss: Loss, progress: Progress) -> tuple[LayerErrors | None, list[Note]]:
    given = loss.given
    try:
        return layer_errors.layer_errors(
            loss.baseline, loss.candidate, given.evaluation, calibration=given.calibrating, progress=progress
        ), []
    except OptkitError as error:
        return None, [_failed("layers are not compared", error)]


def _measure_layers(loss: Loss, threads: int | None, progress: Progress) -> tuple[Sensitivity | None, list[Note]]:
    """Measure each layer's damage, if the baseline is a float ONNX model and the candidate has integer activations."""
    floating = loss.baseline.model.format == "onnx" and read_layers(loss.baseline.model).quantized is None
    if not floating or loss.method not in ("static", "dynamic"):
        return None, []
    given, notes = loss.given, []
    if given.calibrating is None and loss.method == "static":
        text = "layers are measured with ranges from --data, because no --calibration was given"
        notes.append(Note(text, level="info"))
    try:
        return sensitivity.sensitivity(
            loss.baseline.model,
            given.calibrating or given.evaluation,
            activations=loss.candidate.model.format == "openvino",
            seconds=SECONDS,
            threads=threads,
            progress=progress,
        ), notes
    except OptkitError as error:
        return None, [_failed("layers are not measured one by one", error)]


def _failed(what: str, error: OptkitError) -> Note:
    return Note(f"{what}: {error.message}" + (f" ({error.hint})" if error.hint else ""), level="warning")


def _conclusion(
    loss: Loss,
    worse: bool | None,
    command: str | None,
    max_drop: float | None,
    beside: SpeedExplanation | None = None,
) -> list[str]:
    """Return a sentence each on the amount, the location, the causes and the remedy; one sentence without a loss."""
    how_much = f"{loss.row.title}: {wording.lost(loss.row, max_drop)}"
    if not worse:
        return [f"{how_much}: {'quality was won' if worse is False else 'no loss shows on these samples'}."]
    sentences = [f"{how_much}.", _where(loss), _why(loss), f"{_advice(loss, beside)}: {command}" if command else ""]
    return [sentence for sentence in sentences if sentence]


def _advice(loss: Loss, beside: SpeedExplanation | None) -> str:
    """Return the words that introduce the command, given the explanation of the speed."""
    if quality_remedies.slow_too(loss):
        return "For speed and quality, try"
    return "Try" if beside is None or beside.integers_pay else "To keep INT8 and the quality, try"


def _where(loss: Loss) -> str:
    if loss.sensitivity is None:
        found = [each for each in loss.layers.findings if each.kind in _LOCATIONS] if loss.layers else []
        return f"Where: {found[0].text}." if found else ""
    if loss.misses_scheme:
        return (
            "Where: between the layers as well: NNCF quantized a transformer without its scheme for transformers, "
            "which keeps sums and normalizations in float."
        )
    if not loss.alike:
        error = loss.layers.layers[-1].error if loss.layers else 0.0
        return (
            f"Where: not in single layers: quantizing them with ranges from the data causes an error of "
            f"{units.small_percent(loss.sensitivity.all_quantized)} of the signal, the candidate's error is "
            f"{units.small_percent(error)}."
        )
    worst, rest = loss.worst
    of = f"{len(worst)} of {len(loss.quantized_layers)} layers"
    if not loss.concentrated:
        return f"Where: everywhere: the worst {of} cause only {units.percent(1 - rest)} of the damage."
    verb = "causes" if len(worst) == 1 else "cause"
    names = units.listed([each.name for each in worst])
    return f"Where: {of} {verb} {units.percent(1 - rest)} of the damage: {names}."


def _why(loss: Loss) -> str:
    """Return a sentence with the causes, the likely ones first."""
    findings = loss.layers.findings if loss.layers else []
    found = [each for each in findings if each.kind not in (*_LOCATIONS, "disturbed")]
    found.sort(key=lambda each: not _is_likely(loss, each))
    chosen = _first_of_each_kind(found)[:_CAUSES]
    return f"Why: {'; '.join(each.text for each in chosen)}." if chosen else ""


def _is_likely(loss: Loss, finding: LossFindingRecord) -> bool:
    """Return True if the finding concerns the layers to keep in float, or a scheme that should have been used."""
    if loss.misses_scheme:
        return finding.kind in _WIDE
    return bool(set(quality_remedies.keep_in_float(loss)) & set(finding.exclude))


def _first_of_each_kind(found: Sequence[LossFindingRecord]) -> list[LossFindingRecord]:
    first: dict[str, LossFindingRecord] = {}
    for each in found:
        first.setdefault(each.kind, each)
    return list(first.values())
