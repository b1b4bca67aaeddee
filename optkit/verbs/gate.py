"""``gate``: whether a candidate may be released."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from optkit import machine, records, saved
from optkit import rules as gates
from optkit.errors import UsageError
from optkit.results import Comparison, NoteRecord
from optkit.rules import Rules
from optkit.stage import Note, Progress, no_progress
from optkit.verbs.compare import compare
from optkit.verdicts import Gate

_LONGER = 3.0
"""How many times as long is measured when an inconclusive gate tries again."""


def rules_of(**limits: object) -> Rules:
    """The rules with these limits. Raises UsageError that names the option."""
    try:
        return Rules.model_validate(limits)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = f"--{first['loc'][0]}".replace("_", "-")
        said = str(first["msg"]).removeprefix("Value error, ")
        raise UsageError(f"{option} {limits[str(first['loc'][0])]}: {said}", hint="optkit gate --help") from None


def gate(
    candidate: str | Path | None = None,
    *,
    baseline: str | Path | None = None,
    record: str | Path | None = None,
    rules: Rules = Rules(),  # noqa: B008  frozen
    retry: bool = False,
    data: str | Path | None = None,
    metric: str | None = None,
    target: str | None = None,
    threads: int | None = None,
    batch: int = 1,
    seconds: float = 10.0,
    inputs: tuple[str, ...] = (),
    code: str | None = None,
    trust: bool = False,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Gate:
    """Compare ``candidate`` with ``baseline`` now, or take the saved ``record`` of a run or comparison, and judge.

    ``retry`` measures three times as long where the first try was inconclusive. In a record, ``candidate`` names the
    row; by default the only one, or the one that the run chose. The rules of the run's recipe hold too, but for those
    given here. Raises UsageError for a record of another machine where
    a rule is absolute (p99, throughput, memory).
    """
    if record is not None:
        return _of_record(Path(record), None if candidate is None else str(candidate), rules)
    if candidate is None or baseline is None:
        raise UsageError(
            "a gate compares a candidate with a baseline",
            hint="optkit gate CANDIDATE --baseline BASELINE --data DATA, or --record RUN/record.json",
        )
    for factor in (1.0, _LONGER) if retry else (1.0,):
        compared = compare(
            baseline,
            [candidate],
            data=data,
            metric=metric,
            max_drop=rules.max_drop if data is not None else None,
            target=target,
            threads=threads,
            batch=batch,
            seconds=factor * seconds,
            seed=seed,
            inputs=inputs,
            code=code,
            trust=trust,
            progress=progress,
        )
        found = _judged(compared, None, rules, compared.notes)
        if found.verdict != "inconclusive":
            break
    return found


def _of_record(path: Path, name: str | None, rules: Rules) -> Gate:
    found = saved.read(path)
    compared, rules = found.comparison, rules.over(found.rules)
    differences = machine.differences(compared.machine, machine.fingerprint())
    absolute = gates.ABSOLUTE & set(rules.given)
    if differences and absolute:
        raise UsageError(
            f"{path}: measured on another machine ({'; '.join(differences)}), where {', '.join(sorted(absolute))} "
            "mean nothing",
            hint="judge ratios only, or measure again: optkit gate CANDIDATE --baseline BASELINE",
        )
    notes = [Note(f"measured on another machine: {each}", level="warning") for each in differences]
    return _judged(compared, name or found.chosen, rules, [*compared.notes, *records.of_notes(notes)])


def _judged(compared: Comparison, name: str | None, rules: Rules, notes: list[NoteRecord]) -> Gate:
    judged = gates.judgement(rules, compared, gates.chosen(compared, name))
    return Gate(
        candidate=judged.candidate,
        baseline=judged.baseline,
        verdict=judged.verdict,
        rules=judged.rules,
        comparison=compared,
        notes=notes,
    )
