"""Ranking of a search's candidates: those that may be the result, and those worth more work."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from optkit.decisions import choice
from optkit.decisions.choice import Wish
from optkit.records.comparison import QualityRecord, Row
from optkit.records.search import Phase, TrialRecord
from optkit.runs.chain import FLOAT, Chain
from optkit.search.proposals import FUSED, HALF, quantize_of
from optkit.targets.target import target

GAIN = 1.03
"""Factor by which a candidate must exceed the best to be worth more work: screenings are off by a few percent."""
_DOUBT = 0.95
"""Merit relative to the original model from which on a candidate may turn out better in the final comparison."""
_FINALISTS, _SURER, _UNDECIDED = 3, 3, 2
"""Largest numbers of finalists for merit, for certainty, and for a loss that may be chance."""
_NEAR = 0.9
"""Merit, relative to the best candidate, from which on a candidate may win the final comparison."""


@dataclass
class Trial:
    """A candidate that was screened."""

    chain: Chain
    record: TrialRecord

    @property
    def row(self) -> Row:
        """The candidate's row of the screening."""
        return self.record.row

    @property
    def speed(self) -> float:
        """The speed-up measured in the screening."""
        return choice.speed(self.row) if self.record.speed is None else self.record.speed

    def decide(self, text: str, *, final: bool = False) -> None:
        """Record the decision on the candidate; the last one counts."""
        self.record = self.record.model_copy(update={"decision": text, "final": final})


@dataclass
class Ranking:
    """All candidates screened so far, judged by the goal and the bound on the loss."""

    wish: Wish
    """The goal and hard limits."""
    max_drop: float | None
    """Bound on the loss of quality."""
    baseline_bytes: int
    """Size of the original model."""
    trials: list[Trial] = field(default_factory=list)

    def front(self) -> list[Trial]:
        """Return the candidates inside the bound that may win the final comparison: the best and those close to it."""
        able = sorted(filter(self.able, self.trials), key=self._merit, reverse=True)
        plain = [trial for trial in able if trial.record.phase != "options"]
        least = GAIN * self._merit(plain[0]) if plain else 0.0
        worth = [trial for trial in able if trial in plain or self._merit(trial) > least]
        return [trial for trial in worth if self._merit(trial) >= _NEAR * self._merit(worth[0])][:_FINALISTS]

    def doubtful(self, trial: Trial) -> bool:
        """Return True if the upper bound of its loss exceeds the allowed loss.

        A float model's upper bound on the same samples is accepted, since few samples cannot give a tighter one.
        """
        if quantize_of(trial.chain) is None or self.max_drop is None:
            return False
        kept = (_highest_loss(each) for each in self.trials if each.chain.name in (FLOAT, FUSED))
        return _highest_loss(trial) > max(self.max_drop, *kept, 0.0)

    def sure(self, trial: Trial) -> bool:
        """Return True if it is acceptable and, as far as a screening can show, will be so on other samples."""
        return self.able(trial) and not self.doubtful(trial)

    def clearly_faster(self, name: str, on: str) -> bool:
        """Return True if the named form of the float model is clearly faster than the plain one on the same target."""
        ours = [trial for trial in self.trials if trial.chain.target == on and trial.row.status == "ok"]
        speeds = {trial.chain.name: trial.speed for trial in ours}
        return speeds.get(name, 0.0) > GAIN * speeds.get(FLOAT, 1.0)

    def halved(self) -> frozenset[str]:
        """Return the targets on which bf16 is clearly faster than float and may be inside the bound."""
        halves = [trial for trial in self.trials if trial.chain.name == HALF]
        kept = [each.chain.target for each in halves if self.able(each) or self._may_be_inside(each)]
        return frozenset(name for name in kept if self.clearly_faster(HALF, name))

    def as_little_as_half(self, trial: Trial) -> bool:
        """Return True if it loses no more than bf16 alone, the precision of its layers that are not in integers."""
        halves = [each for each in self.trials if each.chain.name == HALF and each.chain.target == trial.chain.target]
        return trial.chain.target in self.halved() and any(loss(trial) <= loss(each) for each in halves)

    def finalists(self) -> list[Trial]:
        """Return the candidates for the final comparison.

        These are the front, slower but safer candidates if the front is doubtful, candidates whose loss may be chance,
        and the best float model.
        """
        chosen = [*self.undecided(), *self.front()]
        surer = self._surer() if any(map(self.doubtful, chosen)) else []
        found = [*chosen, *surer, *self.safest()]
        return [trial for number, trial in enumerate(found) if trial not in found[:number]]

    def undecided(self) -> list[Trial]:
        """Return candidates that lost too much in the screening, but so little that it may be chance.

        From the best merit down, each lost less than all before it.
        """
        found: list[Trial] = []
        possible = [trial for trial in self.trials if self._may_be_inside(trial) and self.could_win(trial)]
        for trial in sorted(possible, key=self._merit, reverse=True):
            if not found or loss(trial) < loss(found[-1]):
                found.append(trial)
        return found[-_UNDECIDED:]

    def refused(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows of undecided candidates that lose too much on screening and evaluation samples together."""
        screened = {(trial.chain.name, trial.chain.target): trial.row.quality for trial in self.undecided()}
        return [row for row in rows if self._loses_too_much(screened.get((row.name, row.target)), row.quality)]

    def _loses_too_much(self, before: QualityRecord | None, after: QualityRecord | None) -> bool:
        """Return True if the mean loss over the samples of both measurements exceeds the bound."""
        if before is None or after is None or before.loss is None or after.loss is None or self.max_drop is None:
            return False
        lost = before.loss.value * before.count + after.loss.value * after.count
        return lost / (before.count + after.count) > self.max_drop

    def _may_be_inside(self, trial: Trial) -> bool:
        """Return True if its measured loss exceeds the bound, but its lower bound is no loss at all."""
        quality = trial.row.quality
        if self.max_drop is None or quality is None or quality.loss is None or self.able(trial):
            return False
        deploys = target(trial.chain.target).deploys and self.wish.allows(trial.row)
        return trial.row.status == "ok" and deploys and quality.loss.low <= 0.0

    def _surer(self) -> list[Trial]:
        """Return acceptable quantized candidates: from the best merit down, each with a smaller upper loss bound."""
        found: list[Trial] = []
        for trial in sorted(filter(self.able, self.trials), key=self._merit, reverse=True):
            if not found or _highest_loss(trial) < _highest_loss(found[-1]):
                found.append(trial)
        return [trial for trial in found if quantize_of(trial.chain) is not None][-_SURER:]

    def safest(self) -> list[Trial]:
        """Return the best acceptable float model, if there is one."""
        kept = [trial for trial in self.trials if trial.chain.name in (FLOAT, FUSED) and self.able(trial)]
        return sorted(kept, key=self._merit)[-1:]

    def in_integers(self) -> list[Trial]:
        """Return the plain static INT8 candidates, of which single layers can be kept in float."""
        able = [trial for trial in self.trials if trial.record.phase == "broad" and trial.row.status == "ok"]
        stages = [(trial, quantize_of(trial.chain)) for trial in able]
        return [trial for trial, stage in stages if stage is not None and stage.method == "static"]

    def worth_mending(self, *phases: Phase) -> list[Trial]:
        """Return the quantized candidates of these phases that lose too much and would win otherwise, best first."""
        return [trial for trial in self.worth_assuring(*phases) if not self.able(trial)]

    def worth_assuring(self, *phases: Phase) -> list[Trial]:
        """Return the same candidates, and those that may lose too much on other samples."""
        plain = [trial for trial in self.trials if trial.record.phase in phases and quantize_of(trial.chain)]
        found = [trial for trial in plain if not self.sure(trial) and self.could_win(trial)]
        return sorted(found, key=self._merit, reverse=True)

    def could_win(self, trial: Trial) -> bool:
        """Return True if the candidate, its loss aside, is better than the best that is surely inside the bound."""
        best = max((self._merit(each) for each in self.trials if self.sure(each) and each is not trial), default=0.0)
        return trial.row.status == "ok" and self._merit(trial) > GAIN * max(best, self._standard())

    def able(self, trial: Trial) -> bool:
        """Return True if it runs, is inside the bound, and may be better than the original model."""
        row = trial.row
        if not target(trial.chain.target).deploys:
            return False
        better = row.status == "ok" and self._merit(trial) > _DOUBT * self._standard()
        return better and choice.inside(row.quality, self.max_drop)

    def _merit(self, trial: Trial) -> float:
        """Return the candidate's merit for the goal: the speed-up, or one over bytes; more is better."""
        row = trial.row
        if row.status == "failed":
            return 0.0
        if self.wish.goal == "size":
            return 1.0 / row.model.size_bytes if row.model else 0.0
        if self.wish.goal == "memory":
            return 1.0 / row.memory_bytes if row.memory_bytes else 0.0
        return trial.speed

    def _standard(self) -> float:
        """Return the merit of the original model."""
        if self.wish.goal == "size":
            return 1.0 / self.baseline_bytes
        return 0.0 if self.wish.goal == "memory" else 1.0

    def decision(self, trial: Trial) -> str:
        """Return the reason for which the candidate is in the final comparison or not."""
        row = trial.row
        if row.status == "failed":
            return "failed"
        if not target(trial.chain.target).deploys:
            return "another baseline"
        if trial in self.undecided():
            return "loses more than the bound allows, perhaps by chance: in the final comparison"
        if not choice.inside(row.quality, self.max_drop):
            return "loses more than the bound allows"
        if not self.able(trial):
            return "not better than the original model"
        return "in the final comparison" if trial in self.finalists() else "other candidates are better"


def best_of_each(trials: Sequence[Trial], kind: Callable[[Chain], Hashable]) -> list[Trial]:
    """Return the trial of each kind with the smallest loss, in the order of their losses.

    The smaller the loss, the fewer layers have to be kept in float.
    """
    best: dict[Hashable, Trial] = {}
    for trial in sorted(trials, key=loss):
        best.setdefault(kind(trial.chain), trial)
    return list(best.values())


def loss(trial: Trial) -> float:
    """Return the loss measured in the screening; 0 without a measurement."""
    quality = trial.row.quality
    return quality.loss.value if quality and quality.loss else 0.0


def _highest_loss(trial: Trial) -> float:
    """Return the upper bound of the loss."""
    quality = trial.row.quality
    return quality.loss.high if quality and quality.loss else 0.0


def fastest(baseline: Row, row: Row) -> float | None:
    """Return the speed-up of the fastest inference over the baseline's fastest; ``None`` if unknown."""
    before, after = baseline.latency, row.latency
    if before is None or after is None or before.fastest is None or not after.fastest:
        return None
    return before.fastest / after.fastest
