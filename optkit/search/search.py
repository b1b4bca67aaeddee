"""Optimize: the best candidate inside the bound, found by making, measuring and judging; the original is the first.

Every broad method at a short look; then, for what is fast but loses too much, other schemes, and layers given back to
float in the order of what they damage for the time they save, and other ranges; then runtime options. Looks use the
selection samples; the result is what wins the final comparison, on evaluation samples that no decision has used.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import median

from optkit import units
from optkit.errors import OptkitError, surviving
from optkit.explanation.quality import layer_order, sensitivity
from optkit.explanation.speed import explain as speed_explanation
from optkit.explanation.speed import remedies as speed_remedies
from optkit.formats.model import TORCH_FORMATS, Model
from optkit.formats.onnx import graph, nodes
from optkit.formats.onnx.quantized import quantized
from optkit.measurement import candidate as candidates
from optkit.measurement.candidate import Candidate
from optkit.notes import Note
from optkit.progress import Progress
from optkit.records.comparison import Comparison, Row
from optkit.records.layers import LayerRecord, Sensitivity
from optkit.records.run import StageRecord
from optkit.records.search import Phase, TrialRecord
from optkit.runs import pipeline
from optkit.runs.chain import FLOAT, Chain
from optkit.runs.recipe import Recipe
from optkit.runs.store import Store
from optkit.search import ranking
from optkit.search.journal import SENSITIVITY, Journal, digest
from optkit.search.measuring import Bench, SearchParts
from optkit.search.proposals import FUSED, Proposals, quantizes
from optkit.search.ranking import Ranking, Trial
from optkit.stages.stage import Context, stage_class

_REFINEMENTS = 2
"""How often the step between too few layers in float and enough is halved."""
_LITTLE = 0.02
"""Where so little of the layers' damage remains, and still half of the loss, layers are not the reason."""
_SENSITIVITY_SECONDS = 5.0
_SENSITIVITY_SHARE = 0.05
"""The part of the budget that ranking the layers may take."""
_FINAL_SHARE = 0.4
"""The part of the budget that is kept for the final comparison at most."""
_NOWHERE = Path("nowhere")
_TIME_IS_UP = "the time was up"
_NOTHING_LEFT = "nothing was left that could win"


@dataclass
class Made:
    """What a chain's stages led to."""

    candidate: Candidate
    stages: list[StageRecord]


@dataclass
class Search:
    """A search under way."""

    recipe: Recipe
    baseline: Candidate
    parts: SearchParts
    ranking: Ranking
    budget: float
    """Seconds for all of it."""
    cache: Store
    journal: Journal
    progress: Progress
    sensitivity: Sensitivity | None = None
    notes: list[Note] = field(default_factory=list)
    ended: str = _NOTHING_LEFT
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.bench = Bench(self.recipe, self.baseline, self.parts, self.budget, self._tell)

    def explore(self) -> None:
        """Try what there is to try, until the time is up or nothing left can win."""
        proposals = self._proposals()
        self._look("float", proposals.floats())
        proposals = replace(proposals, halved=self.ranking.halved())
        for chain in self._broad(proposals):
            self._look("broad", [chain])
        for trial in self.ranking.in_integers():
            self._trim(trial, proposals)
        for trial in ranking.best_of_each(self.ranking.worth_mending("broad", "trimmed"), proposals.kind):
            self._first_sure(proposals.repairs(trial.chain))
        lossy = self.ranking.worth_assuring("broad", "trimmed", "repair")
        for trial in ranking.best_of_each(lossy, proposals.kind):
            if self.ranking.could_win(trial):
                self._give_back(trial, proposals)
        for trial in ranking.best_of_each(self.ranking.worth_mending("broad", "trimmed", "repair"), proposals.kind):
            self._first_sure(proposals.refinements(trial.chain))
        if self.parts.training is not None:
            self._train(proposals)
        for trial in self.ranking.front()[:1]:
            self._look("options", proposals.options(trial.chain))
        self._look("float", proposals.baselines())

    def conclude(self) -> Comparison:
        """The final comparison: the baseline, the front, and the best that keeps the model's numbers."""
        finalists = self.ranking.finalists()
        made = [self.make(trial.chain).candidate for trial in finalists]
        compared = self.bench.final(made)
        used, given = compared.data.count if compared.data else 0, len(self.parts.evaluation)
        if used < given:
            self.notes.append(
                Note(f"quality of the finalists on {used:,} of {given:,} samples: as many as --budget holds")
            )
        for trial in self.ranking.trials:
            trial.decide(self.ranking.decision(trial), final=trial in finalists)
        names = [trial.chain.name for trial in finalists]
        rows = [row.model_copy(update={"name": name}) for row, name in zip(compared.rows[1:], names, strict=True)]
        return compared.model_copy(update={"rows": [compared.rows[0], *rows]})

    def make(self, chain: Chain) -> Made:
        """Carry out the chain's stages through the store. Raises OptkitError."""
        context = Context(
            *(_NOWHERE, self.parts.calibration, None, chain.target, self.recipe.seed, self._telling(chain)),
            training=self.parts.training,
            original=self.baseline.model,
            metric=self.recipe.metric,
            threads=self.recipe.benchmark.threads,
            deadline=self._deadline,
        )
        model, stages = self.baseline.model, []
        for stage in chain.stages:
            entry = pipeline.step(stage, model, context, self.cache)
            stages.append(entry.record)
            model = entry.model
        target = chain.target if model.target is None else None
        candidate = candidates.candidate(model, target=target, threads=self.recipe.benchmark.threads)
        options = candidate.options | chain.options
        return Made(replace(candidate, name=chain.title, options=options), stages)

    @cached_property
    def exported(self) -> Model:
        """The model that came in; a torch model as ONNX. Raises OptkitError."""
        if self.baseline.model.format not in TORCH_FORMATS:
            return self.baseline.model
        return self.make(Chain("export", "onnxruntime", (stage_class("export")(),))).candidate.model

    @cached_property
    def _contents(self) -> tuple[frozenset[str], str | None]:
        """The operators of the ONNX graph, and how it is quantized already; nothing where there is no such graph."""
        if self.exported.format != "onnx":
            return frozenset(), None
        proto = graph.parse(self.exported.path)
        return frozenset(nodes.operators(proto)), quantized(proto)

    def _broad(self, proposals: Proposals) -> list[Chain]:
        """The methods in their plain form, for a model that is not in integers already."""
        _, kind = self._contents
        if kind is None or kind == "float16":
            return proposals.broad(fused=self.ranking.clearly_faster(FUSED, "onnxruntime"))
        self.notes.append(Note(f"no integers were tried: the model is quantized already, {kind}"))
        return []

    def _proposals(self) -> Proposals:
        operators, _ = self._contents
        calibrated = self.parts.calibration is not None
        model, native, shapes = self.baseline.model, self.baseline.target, self.bench.shapes(self.exported.signature)
        return Proposals(self.recipe, model, native, self.ranking.wish, operators, calibrated, shapes)

    def _look(self, phase: Phase, chains: Sequence[Chain]) -> list[Trial]:
        """Make the chains, measure them together for a short time, and keep what was found; fewer when time is up.

        What was looked at before, under whatever name, is not looked at again.
        """
        before = {_key(trial.chain): trial for trial in self.ranking.trials}
        known = [before.get(_key(chain)) or self._recalled(chain) for chain in chains]
        new = [chain for chain, found in zip(chains, known, strict=True) if found is None]
        looked = [trial for trial in known if trial is not None] + self._looked(phase, new)
        self.ranking.trials += [trial for trial in looked if trial not in before.values()]
        return looked

    def _recalled(self, chain: Chain) -> Trial | None:
        """What the journal of a killed search tells of the chain."""
        record = self.journal.trial(_key(chain))
        return None if record is None else Trial(chain, record)

    def _looked(self, phase: Phase, chains: Sequence[Chain]) -> list[Trial]:
        started, made, failed = time.monotonic(), dict[str, Candidate](), dict[str, OptkitError]()
        for chain in chains:
            if self._time_is_up():
                break
            try:
                with surviving():
                    made[chain.title] = self.make(chain).candidate
            except OptkitError as error:
                failed[chain.title] = error
        rows: dict[str, Row] = {}
        if made:
            compared = self.bench.look(list(made.values()))
            rows = dict(zip(made, compared.rows[1:], strict=True))
        ended = time.monotonic()
        each, after = (ended - started) / max(1, len(made) + len(failed)), ended - self.started
        trials = []
        for chain in chains:
            if chain.title in rows:
                row = rows[chain.title].model_copy(update={"name": chain.name})
                speed = ranking.fastest(compared.rows[0], row)
            elif chain.title in failed:
                reason, speed = failed[chain.title].message, None
                row = Row(name=chain.name, target=chain.target, status="failed", reason=reason)
            else:
                continue
            stages = [{stage.name: stage.model_dump(mode="json", exclude_defaults=True)} for stage in chain.stages]
            record = TrialRecord(phase=phase, stages=stages, row=row, speed=speed, seconds=each, after=after)
            self.journal.add(_key(chain), trial=record)
            trials.append(Trial(chain, record))
        return trials

    def _train(self, proposals: Proposals) -> None:
        """Look at what training makes of the fastest that keeps the bound, and of a fast one that does not."""
        lossy = ranking.best_of_each(self.ranking.worth_mending("broad", "trimmed", "repair", "mixed"), proposals.kind)
        chains = [proposals.recovered(trial.chain) for trial in lossy]
        chains += [each for trial in self.ranking.front()[:1] for each in proposals.pruned(trial.chain)]
        for chain in filter(None, chains):
            self._look("trained", [chain])

    def _first_sure(self, repairs: Sequence[Chain]) -> None:
        """Look at one after the other until one surely keeps the bound."""
        for chain in repairs:
            if any(map(self.ranking.sure, self._look("repair", [chain]))):
                return

    def _trim(self, trial: Trial, proposals: Proposals) -> None:
        """Look at integers only where they pay: operator by operator, against the float model on the same target."""
        if self._time_is_up():
            return
        target = trial.chain.target
        floats = [
            each.chain for each in self.ranking.trials if each.chain.name == FLOAT and each.chain.target == target
        ]
        try:
            with surviving():
                before = self.make(_uncompiled(floats[0])).candidate if floats else self.baseline
                after = self.make(_uncompiled(trial.chain)).candidate
                feeds = self.bench.feeds(before)
                case, _ = speed_explanation.profile_both(
                    before, after, feeds, progress=lambda what, *_: self._tell(what)
                )
        except OptkitError as error:
            self.notes.append(Note(f"not looked into: {error.message}", trial.chain.title))
            return
        slow = speed_remedies.losing_layers(case)
        if slow and not speed_remedies.hopeless(case):
            self._look("trimmed", [proposals.trimmed(trial.chain, slow)])

    def _give_back(self, trial: Trial, proposals: Proposals) -> None:
        """How few layers in float keep a fast candidate surely inside the bound; the worst for their work first."""
        order = self._ordered(trial.chain)
        enough, few = None, 0
        for count in layer_order.counts(order):
            looked = self._look("mixed", [proposals.mixed(trial.chain, [layer.name for layer in order[:count]])])
            if not looked or not self.ranking.could_win(looked[0]):
                return
            if self.ranking.sure(looked[0]):
                enough = count
                break
            if layer_order.remaining(order, count) < _LITTLE and ranking.loss(looked[0]) > ranking.loss(trial) / 2:
                return  # not what layers do: something between them is rounded
            if self.ranking.as_little_as_half(looked[0]):
                return  # the rest is what bf16 loses
            few = count
        for _ in range(_REFINEMENTS):
            if enough is None or enough - few < 2:
                return
            count = (few + enough) // 2
            looked = self._look("mixed", [proposals.mixed(trial.chain, [layer.name for layer in order[:count]])])
            enough, few = (count, few) if looked and self.ranking.sure(looked[0]) else (enough, count)

    def _ordered(self, chain: Chain) -> list[LayerRecord]:
        """The chain's layers in the order in which they are given back to float; measured once for all candidates."""
        if self.sensitivity is None:
            self.sensitivity = self.journal.sensitivity() or self._sensitivity()
        order = [] if self.sensitivity is None else layer_order.order_layers(self.sensitivity)
        return [layer for layer in order if quantizes(chain, layer)]

    def _sensitivity(self) -> Sensitivity | None:
        model, calibration = self.exported, self.parts.calibration
        if model.format != "onnx" or calibration is None:
            self.notes.append(Note("no layers were given back to float: which ones is only found for ONNX models"))
            return None
        try:
            with surviving():
                found = sensitivity.sensitivity(
                    model,
                    calibration,
                    activations="openvino" in self.recipe.targets,
                    seconds=max(_SENSITIVITY_SECONDS, _SENSITIVITY_SHARE * self.budget),
                    progress=lambda what, done, total: self._tell(f"which layers INT8 damages: {what}"),
                )
        except OptkitError as error:
            self.notes.append(Note(f"no layers were given back to float: {error.message}", level="warning"))
            return None
        self.journal.add(SENSITIVITY, sensitivity=found)
        return found

    @cached_property
    def _deadline(self) -> float:
        """When looking must end, so that the final comparison, too, ends in the budget, about."""
        return self.started + self.budget - min(_FINAL_SHARE * self.budget, self.bench.final_seconds())

    def _time_is_up(self) -> bool:
        """Whether another look, if it takes as long as they did so far, would end too late."""
        looks = [trial.record.seconds for trial in self.ranking.trials if trial.record.phase != "float"]
        if time.monotonic() + (median(looks) if looks else 0.0) < self._deadline:
            return False
        self.ended = _TIME_IS_UP
        return True

    def _telling(self, chain: Chain) -> Progress:
        return lambda what, done, total: self._tell(f"{chain.title}: {what}")

    def _tell(self, what: str) -> None:
        """The best so far and what is done now, against the budget."""
        front = self.ranking.front()
        best = f"best so far {units.ratio(front[0].speed)} ({front[0].chain.title}); " if front else ""
        spent = min(time.monotonic() - self.started, self.budget)
        self.progress(f"{best}{what}", int(spent), max(1, int(self.budget)))


def _uncompiled(chain: Chain) -> Chain:
    """The chain without its last step, in which a runtime may fuse nodes and lose their names."""
    return replace(chain, stages=tuple(stage for stage in chain.stages if stage.name != "compile"))


def _key(chain: Chain) -> str:
    """A chain by what it does, not by its name."""
    return digest(
        {
            "target": chain.target,
            "options": chain.options,
            "stages": [[each.name, each.model_dump(mode="json")] for each in chain.stages],
        }
    )
