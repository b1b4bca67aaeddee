"""The gate carried out: candidates measured beside the baseline, or a saved record judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optkit.data.dataset import Dataset, open_dataset
from optkit.decisions.gate import ABSOLUTE, chosen_row, judge_candidate
from optkit.errors import ModelError, OptkitError, UsageError
from optkit.measurement import comparison
from optkit.measurement.candidate import Candidate, resolve_candidate
from optkit.notes import Note
from optkit.options.rules import Rules
from optkit.options.verbs.gate import GateCommand
from optkit.progress import Progress
from optkit.records.comparison import Comparison, Row
from optkit.records.gate import Gate
from optkit.runs import saved
from optkit.runs.saved import Saved
from optkit.system import fingerprint
from optkit.targets import libraries

_LONGER = 3.0
"""Factor on the measuring time when an inconclusive gate tries again."""
_SIDE_BY_SIDE = ("single-stream", "multi-stream")
EXAMPLE = "optkit gate CANDIDATE --baseline BASELINE --data DATA, or --record RUN/record.json"
_NAME_IT = "name the model itself: --baseline MODEL"


def rules_of(options: GateCommand) -> Rules:
    """Return the rules among the options."""
    return options.part(Rules)


@dataclass(frozen=True)
class GateMeasurement:
    """Measuring as the options say."""

    options: GateCommand
    progress: Progress

    @property
    def opening(self) -> dict[str, Any]:
        """Arguments that open a model to be measured: those on the file, threads and the time limit."""
        names = ("inputs", "code", "trust", "time_limit", "threads")
        return {name: getattr(self.options, name) for name in names}

    def changed(self, **options: Any) -> GateMeasurement:
        """Copy with other options."""
        return replace(self, options=self.options.model_copy(update=options))

    def opened(self, source: str | Path, place: dict[str, Any]) -> Candidate:
        """Open a model to be measured, on the target and device of ``place``."""
        return resolve_candidate(source, **place, **self.opening)

    def judged(self, pair: Sequence[Candidate], dataset: Dataset | None, rules: Rules, notes: Sequence[Note]) -> Gate:
        """Measure the baseline, and beside it the candidate where that is another, and judge the last of them."""
        options = self.options
        for factor in (1.0, _LONGER) if options.retry else (1.0,):
            compared = comparison.side_by_side(
                pair,
                dataset=dataset,
                metric=options.metric,
                max_drop=rules.max_drop if dataset else None,
                batch=options.batch,
                seconds=factor * options.seconds,
                precision=options.precision / factor,
                seed=options.seed,
                threads=options.threads,
                progress=self.progress,
            )
            found = _judged(compared, compared.rows[-1], rules, [*notes, *compared.notes])
            if not _may_change(found):
                break
        return found


def measure_fresh(
    candidate: str | Path, baseline: str | Path, place: dict[str, Any], rules: Rules, measuring: GateMeasurement
) -> Gate:
    notes: list[Note] = []
    if saved.is_record(Path(baseline)):
        found = saved.read(Path(baseline))
        measuring = measuring.changed(threads=measuring.options.threads or found.comparison.threads)
        first, note = _stood_for(found, Path(baseline), measuring)
        notes.append(note)
    else:
        first = measuring.opened(baseline, place)
    signature = first.model.signature
    inputs = None if signature is None else signature.inputs
    dataset = None if measuring.options.data is None else open_dataset(measuring.options.data, inputs)
    return measuring.judged([first, measuring.opened(candidate, place)], dataset, rules, notes)


def _stood_for(found: Saved, path: Path, measuring: GateMeasurement) -> tuple[Candidate, Note]:
    """Open the model that a record stands for as a baseline; a saved figure never is one."""
    row = _only(found, path)
    try:
        baseline = saved.candidate(found, row, **measuring.opening)
    except OptkitError as error:
        raise ModelError(
            f"{path}: a saved figure is no baseline, and the model behind it, {row.title}, is not at hand: "
            f"{error.message}",
            hint=_NAME_IT,
        ) from None
    return baseline, Note(f"{path} stands for {row.title}, measured now: a saved figure is no baseline")


def _only(found: Saved, path: Path) -> Row:
    """Find the row that a record stands for: the one that the run chose, the only candidate, or the only model."""
    rows = found.comparison.rows
    if found.chosen is None and len(rows) > 2:
        raise UsageError(f"{path}: compares {len(rows) - 1} candidates and chose none of them", hint=_NAME_IT)
    return rows[0] if len(rows) == 1 else chosen_row(found.comparison, found.chosen)


def judge_record(path: Path, name: str | None, rules: Rules, measuring: GateMeasurement) -> Gate:
    found = saved.read(path)
    compared, rules = found.comparison, rules.over(found.rules)
    row = chosen_row(compared, name or found.chosen)
    differences = fingerprint.differences(compared.machine, libraries.fingerprint())
    if not differences:
        return _judged(compared, row, rules, compared.notes)
    elsewhere = f"measured on another machine ({'; '.join(differences)})"
    try:
        pair, dataset = _at_hand(found, row, rules, measuring)
    except OptkitError as error:
        return _from_elsewhere(path, row, rules, compared, elsewhere, error.message)
    note = Note(f"{path}: {elsewhere}; both models are at hand and were measured anew, here", level="warning")
    return _as_recorded(measuring, compared, dataset).judged(pair, dataset, rules, [note])


def _from_elsewhere(path: Path, row: Row, rules: Rules, compared: Comparison, elsewhere: str, missing: str) -> Gate:
    """Judge the ratios of another machine's record. Raises UsageError where a rule is about more than ratios."""
    absolute = ABSOLUTE & set(rules.given)
    if absolute:
        raise UsageError(
            f"{path}: {elsewhere}, where {', '.join(sorted(absolute))} mean nothing, and it cannot be "
            f"measured anew here: {missing}",
            hint="judge ratios only, or measure again: optkit gate CANDIDATE --baseline BASELINE",
        )
    notes = [Note(f"{path}: {elsewhere}; not measured anew: {missing}", level="warning")]
    return _judged(compared, row, rules, [*compared.notes, *notes])


def _at_hand(
    found: Saved, row: Row, rules: Rules, measuring: GateMeasurement
) -> tuple[list[Candidate], Dataset | None]:
    """Open the baseline, the row where it is another, and the data, which only rules about quality insist on.

    Raises OptkitError, which names what is missing or changed.
    """
    if found.comparison.scenario not in _SIDE_BY_SIDE:
        raise UsageError(f"its scenario, {found.comparison.scenario}, is none that a gate measures")
    rows = [found.comparison.rows[0], *([] if row.baseline else [row])]
    pair = [saved.candidate(found, each, **measuring.opening) for each in rows]
    signature = pair[0].model.signature
    try:
        return pair, saved.dataset(found, measuring.options.data, None if signature is None else signature.inputs)
    except OptkitError:
        if not rules.given or rules.max_drop is not None:
            raise
        return pair, None


def _as_recorded(measuring: GateMeasurement, compared: Comparison, dataset: Dataset | None) -> GateMeasurement:
    """Take metric, batch and threads from the record."""
    metric = next((row.quality.metric for row in compared.rows if row.quality), None)
    threads = measuring.options.threads or compared.threads
    return measuring.changed(metric=metric if dataset else None, batch=compared.batch, threads=threads)


def _may_change(found: Gate) -> bool:
    """True if a longer measurement may end otherwise: not for the loss, which the same data shows again."""
    open_rules = [rule.rule for rule in found.rules if rule.verdict == "inconclusive"]
    return found.verdict == "inconclusive" and any(rule != "max-drop" for rule in open_rules)


def _judged(compared: Comparison, row: Row, rules: Rules, notes: list[Note]) -> Gate:
    judged = judge_candidate(rules, compared, row)
    return Gate(
        candidate=judged.candidate,
        baseline=judged.baseline,
        verdict=judged.verdict,
        rules=judged.rules,
        comparison=compared,
        notes=notes,
    )
