"""How the candidates of a search stand: which may be the result, which are worth mending, and why others are not."""

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
"""A candidate must look so much better than the best to be worth more work: looks are off by a few per cent."""
_DOUBT = 0.95
"""A look this little below what came in may be wrong; the final comparison is not."""
_FINALISTS, _SURER, _UNDECIDED = 3, 3, 2
_NEAR = 0.9
"""Looks this close to the best may win the final comparison."""


@dataclass
class Trial:
    """A candidate that was looked at."""

    chain: Chain
    record: TrialRecord

    @property
    def row(self) -> Row:
        return self.record.row

    @property
    def speed(self) -> float:
        """The speed-up that the look showed."""
        return choice.speed(self.row) if self.record.speed is None else self.record.speed

    def decide(self, text: str, *, final: bool = False) -> None:
        """Write down what became of it; the last word counts."""
        self.record = self.record.model_copy(update={"decision": text, "final": final})


@dataclass
class Ranking:
    """All candidates looked at so far, against the wish, the bound on the loss, and the size of what came in."""

    wish: Wish
    max_drop: float | None
    baseline_bytes: int
    trials: list[Trial] = field(default_factory=list)

    def front(self) -> list[Trial]:
        """Who may win the final comparison, the best look first: what is near the best inside the bound."""
        able = sorted(filter(self.able, self.trials), key=self._merit, reverse=True)
        plain = [trial for trial in able if trial.record.phase != "options"]
        least = GAIN * self._merit(plain[0]) if plain else 0.0
        worth = [trial for trial in able if trial in plain or self._merit(trial) > least]
        return [trial for trial in worth if self._merit(trial) >= _NEAR * self._merit(worth[0])][:_FINALISTS]

    def doubtful(self, trial: Trial) -> bool:
        """Whether its loss, inside the bound on the samples of the look, may well be beyond it on others.

        As sure as a model of the same numbers is sure enough: few samples tell no better.
        """
        if quantize_of(trial.chain) is None or self.max_drop is None:
            return False
        kept = (_highest_loss(each) for each in self.trials if each.chain.name in (FLOAT, FUSED))
        return _highest_loss(trial) > max(self.max_drop, *kept, 0.0)

    def sure(self, trial: Trial) -> bool:
        """Whether it is able, and will be so on other samples as far as a look can tell."""
        return self.able(trial) and not self.doubtful(trial)

    def clearly_faster(self, name: str, on: str) -> bool:
        """Whether this form of the float model is clearly faster than the plain one on the same target."""
        ours = [trial for trial in self.trials if trial.chain.target == on and trial.row.status == "ok"]
        speeds = {trial.chain.name: trial.speed for trial in ours}
        return speeds.get(name, 0.0) > GAIN * speeds.get(FLOAT, 1.0)

    def halved(self) -> frozenset[str]:
        """The targets whose bf16 is clearly faster than their float and keeps the bound, as far as few samples tell."""
        halves = [trial for trial in self.trials if trial.chain.name == HALF]
        kept = [each.chain.target for each in halves if self.able(each) or self._may_be_inside(each)]
        return frozenset(name for name in kept if self.clearly_faster(HALF, name))

    def as_little_as_half(self, trial: Trial) -> bool:
        """Whether it loses no more than bf16 alone does, in which it computes what is not in integers."""
        halves = [each for each in self.trials if each.chain.name == HALF and each.chain.target == trial.chain.target]
        return trial.chain.target in self.halved() and any(loss(trial) <= loss(each) for each in halves)

    def finalists(self) -> list[Trial]:
        """Who is in the final comparison: the front; what is slower but surer, where the front is doubtful; and the
        best that keeps the model's numbers.
        """
        chosen = [*self.undecided(), *self.front()]
        surer = self._surer() if any(map(self.doubtful, chosen)) else []
        found = [*chosen, *surer, *self.safest()]
        return [trial for number, trial in enumerate(found) if trial not in found[:number]]

    def undecided(self) -> list[Trial]:
        """What lost too much on the samples of the look, but so little that it may be chance, as where samples are few.

        Down from the best look, each that lost less than all before it.
        """
        found: list[Trial] = []
        possible = [trial for trial in self.trials if self._may_be_inside(trial) and self.could_win(trial)]
        for trial in sorted(possible, key=self._merit, reverse=True):
            if not found or loss(trial) < loss(found[-1]):
                found.append(trial)
        return found[-_UNDECIDED:]

    def refused(self, rows: Sequence[Row]) -> list[Row]:
        """Of the final comparison's rows those that lose too much on the samples of both looks together, though not on
        the last alone.
        """
        looks = {(trial.chain.name, trial.chain.target): trial.row.quality for trial in self.undecided()}
        return [row for row in rows if self._too_much(looks.get((row.name, row.target)), row.quality)]

    def _too_much(self, before: QualityRecord | None, after: QualityRecord | None) -> bool:
        if before is None or after is None or before.loss is None or after.loss is None or self.max_drop is None:
            return False
        lost = before.loss.value * before.count + after.loss.value * after.count
        return lost / (before.count + after.count) > self.max_drop

    def _may_be_inside(self, trial: Trial) -> bool:
        """Whether only the loss that was seen, not the least that it may be, is beyond the bound."""
        quality = trial.row.quality
        if self.max_drop is None or quality is None or quality.loss is None or self.able(trial):
            return False
        deploys = target(trial.chain.target).deploys and self.wish.allows(trial.row)
        return trial.row.status == "ok" and deploys and quality.loss.low <= 0.0

    def _surer(self) -> list[Trial]:
        """Down from the best look, each that may lose less than all before it."""
        found: list[Trial] = []
        for trial in sorted(filter(self.able, self.trials), key=self._merit, reverse=True):
            if not found or _highest_loss(trial) < _highest_loss(found[-1]):
                found.append(trial)
        return [trial for trial in found if quantize_of(trial.chain) is not None][-_SURER:]

    def safest(self) -> list[Trial]:
        """The best of those that keep the model's numbers, if there is one."""
        kept = [trial for trial in self.trials if trial.chain.name in (FLOAT, FUSED) and self.able(trial)]
        return sorted(kept, key=self._merit)[-1:]

    def in_integers(self) -> list[Trial]:
        """The plain candidates whose activations have fixed ranges: of those, layers can be left out one by one."""
        able = [trial for trial in self.trials if trial.record.phase == "broad" and trial.row.status == "ok"]
        stages = [(trial, quantize_of(trial.chain)) for trial in able]
        return [trial for trial, stage in stages if stage is not None and stage.method == "static"]

    def worth_mending(self, *phases: Phase) -> list[Trial]:
        """The quantized candidates that lose too much and, but for that, would be the best; the best first."""
        return [trial for trial in self.worth_assuring(*phases) if not self.able(trial)]

    def worth_assuring(self, *phases: Phase) -> list[Trial]:
        """The same, and those of which it is in doubt whether they lose too much."""
        plain = [trial for trial in self.trials if trial.record.phase in phases and quantize_of(trial.chain)]
        found = [trial for trial in plain if not self.sure(trial) and self.could_win(trial)]
        return sorted(found, key=self._merit, reverse=True)

    def could_win(self, trial: Trial) -> bool:
        """Whether the candidate, loss aside, is better than the best that is surely inside the bound."""
        best = max((self._merit(each) for each in self.trials if self.sure(each) and each is not trial), default=0.0)
        return trial.row.status == "ok" and self._merit(trial) > GAIN * max(best, self._standard())

    def able(self, trial: Trial) -> bool:
        """Whether it runs, keeps the bound and may be better than what came in, as far as a look tells."""
        row = trial.row
        if not target(trial.chain.target).deploys:
            return False
        better = row.status == "ok" and self._merit(trial) > _DOUBT * self._standard()
        return better and choice.inside(row.quality, self.max_drop)

    def _merit(self, trial: Trial) -> float:
        """How good the goal is met; more is better."""
        row = trial.row
        if row.status == "failed":
            return 0.0
        if self.wish.goal == "size":
            return 1.0 / row.model.size_bytes if row.model else 0.0
        if self.wish.goal == "memory":
            return 1.0 / row.memory_bytes if row.memory_bytes else 0.0
        return trial.speed

    def _standard(self) -> float:
        """The merit of what came in."""
        if self.wish.goal == "size":
            return 1.0 / self.baseline_bytes
        return 0.0 if self.wish.goal == "memory" else 1.0

    def decision(self, trial: Trial) -> str:
        """Why it is in the final comparison or not."""
        row = trial.row
        if row.status == "failed":
            return "failed"
        if not target(trial.chain.target).deploys:
            return "a further baseline"
        if trial in self.undecided():
            return "loses more than the bound allows, perhaps by chance: in the final comparison"
        if not choice.inside(row.quality, self.max_drop):
            return "loses more than the bound allows"
        if not self.able(trial):
            return "no better than what came in"
        return "in the final comparison" if trial in self.finalists() else "others are better"


def best_of_each(trials: Sequence[Trial], kind: Callable[[Chain], Hashable]) -> list[Trial]:
    """The one of each kind that loses least, for there the fewest layers need to be given back; and of these, for the
    same reason, the one that loses least first.
    """
    best: dict[Hashable, Trial] = {}
    for trial in sorted(trials, key=loss):
        best.setdefault(kind(trial.chain), trial)
    return list(best.values())


def loss(trial: Trial) -> float:
    """What it loses on the samples of the look."""
    quality = trial.row.quality
    return quality.loss.value if quality and quality.loss else 0.0


def _highest_loss(trial: Trial) -> float:
    """The loss that other samples may show."""
    quality = trial.row.quality
    return quality.loss.high if quality and quality.loss else 0.0


def fastest(baseline: Row, row: Row) -> float | None:
    """The ratio of the fastest inferences, sample for sample."""
    before, after = baseline.latency, row.latency
    if before is None or after is None or before.fastest is None or not after.fastest:
        return None
    return before.fastest / after.fastest
