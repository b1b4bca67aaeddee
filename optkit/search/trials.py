"""Trials of a search: candidates made from chains of stages, screened beside the original model, and journaled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import median

from optkit import units
from optkit.data.dataset import Dataset
from optkit.errors import OptkitError
from optkit.explanation.quality import sensitivity
from optkit.explanation.speed.case import Case
from optkit.explanation.speed.explain import profile_both
from optkit.formats.model import TORCH_FORMATS, Model
from optkit.measurement.candidate import Candidate, resolve_candidate
from optkit.progress import Progress
from optkit.quantization.range_cache import RangeCache
from optkit.records.comparison import Comparison, Row
from optkit.records.layers import Sensitivity
from optkit.records.run import StageRecord
from optkit.records.search import Phase, TrialRecord
from optkit.runs import pipeline
from optkit.runs.chain import Chain
from optkit.runs.recipe import Recipe
from optkit.runs.store import Store
from optkit.search import ranking
from optkit.search.journal import SENSITIVITY, Journal, digest
from optkit.search.measuring import Comparer, SearchParts
from optkit.search.ranking import Ranking, Trial
from optkit.stages.stage import Context, stage_class
from optkit.system.native import surviving
from optkit.targets.table import REFERENCE
from optkit.targets.target import target

_FINAL_SHARE = 0.4
"""Largest share of the budget that is reserved for the final comparison."""
_SENSITIVITY_SECONDS = 5.0
"""Shortest time for measuring the sensitivity of all layers."""
_SENSITIVITY_SHARE = 0.05
"""Share of the budget for measuring the sensitivity of all layers."""
_NO_WORKDIR = Path("nowhere")
"""Placeholder in the context; each stage gets a working folder from the store."""


@dataclass
class Made:
    """A candidate and the records of the stages that made it."""

    candidate: Candidate
    stages: list[StageRecord]


@dataclass
class Measurer:
    """Makes candidates from chains of stages, measures them, and journals them as trials of the ranking."""

    recipe: Recipe
    baseline: Candidate
    parts: SearchParts
    ranking: Ranking
    budget: float
    """Seconds for the whole search."""
    cache: Store
    journal: Journal
    progress: Progress
    started: float = field(default_factory=time.monotonic)
    """Start of the search, in seconds of the monotonic clock."""
    ranges: RangeCache = field(default_factory=RangeCache)
    """Calibration ranges that every context of the search shares."""
    out_of_time: bool = False
    """True once a measurement was not begun because the time was up."""

    def __post_init__(self) -> None:
        self.comparer = Comparer(self.recipe, self.baseline, self.parts, self.budget, self.report)

    def make(self, chain: Chain) -> Made:
        """Carry out the chain's stages through the store. Raises OptkitError."""
        context = Context(
            workdir=_NO_WORKDIR,
            calibration=self.parts.calibration,
            evaluation=None,
            target=chain.target,
            seed=self.recipe.seed,
            progress=lambda what, done, total: self.report(f"{chain.title}: {what}"),
            training=self.parts.training,
            original=self.baseline.model,
            metric=self.recipe.metric,
            threads=self.recipe.benchmark.threads,
            deadline=self._deadline,
            ranges=self.ranges,
        )
        model, stages = self.baseline.model, []
        for stage in chain.stages:
            entry = pipeline.step(stage, model, context, self.cache)
            stages.append(entry.record)
            model = entry.model
        name = chain.target if model.target is None else None
        candidate = resolve_candidate(model, target=name, threads=self.recipe.benchmark.threads)
        options = candidate.options | chain.options
        return Made(replace(candidate, name=chain.title, options=options), stages)

    @cached_property
    def exported(self) -> Model:
        """The original model; a torch model exported to ONNX. Raises OptkitError."""
        if self.baseline.model.format not in TORCH_FORMATS:
            return self.baseline.model
        return self.make(Chain("export", REFERENCE, (stage_class("export")(),))).candidate.model

    def screen(self, phase: Phase, chains: Sequence[Chain]) -> list[Trial]:
        """Make the chains, compare them for a short time, and add them to the ranking; fewer if the time is up.

        A chain that was screened before, under whatever name or by a killed search, is not screened again.
        """
        before = {_key(trial.chain): trial for trial in self.ranking.trials}
        known = [before.get(_key(chain)) or self._journaled(chain) for chain in chains]
        new = [chain for chain, found in zip(chains, known, strict=True) if found is None]
        screened = [trial for trial in known if trial is not None] + self._screen_new(phase, new)
        self.ranking.trials += [trial for trial in screened if trial not in before.values()]
        return screened

    def final(self, finalists: Sequence[Trial]) -> Comparison:
        """Make the finalists and compare them on the evaluation samples. Raises OptkitError."""
        return self.comparer.final([self.make(trial.chain).candidate for trial in finalists])

    def profile(self, before: Chain | None, after: Chain) -> Case:
        """Profile two chains without their compile stages, operator by operator; the baseline in place of ``None``.

        Raises OptkitError.
        """
        first = self.baseline if before is None else self.make(_uncompiled(before)).candidate
        second = self.make(_uncompiled(after)).candidate
        feeds = self.comparer.feeds(first)
        case, _ = profile_both(first, second, feeds, progress=lambda what, *_: self.report(what))
        return case

    def layer_sensitivity(self, calibration: Dataset) -> Sensitivity:
        """Measure the sensitivity of all layers of the exported model, unless it is journaled. Raises OptkitError."""
        found = self.journal.sensitivity()
        if found is None:
            found = sensitivity.sensitivity(
                self.exported,
                calibration,
                activations=any(target(name).precisions.rounds_between for name in self.recipe.targets),
                seconds=max(_SENSITIVITY_SECONDS, _SENSITIVITY_SHARE * self.budget),
                progress=lambda what, done, total: self.report(f"sensitivity of the layers to INT8: {what}"),
            )
            self.journal.add(SENSITIVITY, sensitivity=found)
        return found

    def time_is_up(self) -> bool:
        """Return True if another screening of median duration would leave too little time for the final comparison."""
        durations = [trial.record.seconds for trial in self.ranking.trials if trial.record.phase != "float"]
        if time.monotonic() + (median(durations) if durations else 0.0) < self._deadline:
            return False
        self.out_of_time = True
        return True

    def report(self, what: str) -> None:
        """Report the best candidate so far and the current step, with the time spent of the budget as progress."""
        front = self.ranking.front()
        best = f"best so far {units.ratio(front[0].speed)} ({front[0].chain.title}); " if front else ""
        spent = min(time.monotonic() - self.started, self.budget)
        self.progress(f"{best}{what}", int(spent), max(1, int(self.budget)))

    @cached_property
    def _deadline(self) -> float:
        """The time by which screenings must end, so that the final comparison about fits into the budget."""
        return self.started + self.budget - min(_FINAL_SHARE * self.budget, self.comparer.final_seconds())

    def _journaled(self, chain: Chain) -> Trial | None:
        """Return the chain's trial in the journal of a killed search."""
        record = self.journal.trial(_key(chain))
        return None if record is None else Trial(chain, record)

    def _screen_new(self, phase: Phase, chains: Sequence[Chain]) -> list[Trial]:
        started = time.monotonic()
        made, failed = self._make_each(chains)
        rows, speeds = self._rows(chains, made, failed)
        ended = time.monotonic()
        each, after = (ended - started) / max(1, len(rows)), ended - self.started
        trials = []
        for chain in (chain for chain in chains if chain.title in rows):
            stages = [{stage.name: stage.model_dump(mode="json", exclude_defaults=True)} for stage in chain.stages]
            row, speed = rows[chain.title], speeds.get(chain.title)
            record = TrialRecord(phase=phase, stages=stages, row=row, speed=speed, seconds=each, after=after)
            self.journal.add(_key(chain), trial=record)
            trials.append(Trial(chain, record))
        return trials

    def _make_each(self, chains: Sequence[Chain]) -> tuple[dict[str, Candidate], dict[str, OptkitError]]:
        """Make the chains' candidates until the time is up; returns them and the errors, by title."""
        made, failed = dict[str, Candidate](), dict[str, OptkitError]()
        for chain in chains:
            if self.time_is_up():
                break
            try:
                with surviving():
                    made[chain.title] = self.make(chain).candidate
            except OptkitError as error:
                failed[chain.title] = error
        return made, failed

    def _rows(
        self, chains: Sequence[Chain], made: dict[str, Candidate], failed: dict[str, OptkitError]
    ) -> tuple[dict[str, Row], dict[str, float | None]]:
        """Compare the candidates made; returns a row for each chain that was made or failed, and the speed-ups."""
        rows, speeds = dict[str, Row](), dict[str, float | None]()
        compared = self.comparer.screen(list(made.values())) if made else None
        measured = dict(zip(made, compared.rows[1:], strict=True)) if compared else {}
        for chain in chains:
            if compared is not None and chain.title in measured:
                rows[chain.title] = measured[chain.title].model_copy(update={"name": chain.name})
                speeds[chain.title] = ranking.fastest(compared.rows[0], rows[chain.title])
            elif chain.title in failed:
                reason = failed[chain.title].message
                rows[chain.title] = Row(name=chain.name, target=chain.target, status="failed", reason=reason)
        return rows, speeds


def _uncompiled(chain: Chain) -> Chain:
    """Return the chain without its compile stage, in which a runtime may fuse nodes and lose their names."""
    return replace(chain, stages=tuple(stage for stage in chain.stages if stage.name != "compile"))


def _key(chain: Chain) -> str:
    """Return a digest of the chain's stages, target and options; its name does not matter."""
    return digest(
        {
            "target": chain.target,
            "options": chain.options,
            "stages": [[each.name, each.model_dump(mode="json")] for each in chain.stages],
        }
    )
