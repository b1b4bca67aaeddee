"""Search for the best candidate inside the bound on the loss: make, measure and judge; the original is the first.

Every broad method gets a short screening. For candidates that are fast but lose too much, other schemes follow, layers
kept in float by their damage per multiplication, and other calibration ranges; then runtime options. Screenings use
the selection samples; the result wins the final comparison, on evaluation samples that no decision has used.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from optkit.errors import OptkitError
from optkit.explanation.quality import layer_order
from optkit.explanation.speed import remedies as speed_remedies
from optkit.formats.onnx import graph
from optkit.formats.onnx.nodes import count_operators
from optkit.formats.onnx.quantized import quantization_scheme
from optkit.measurement.candidate import Candidate
from optkit.notes import Note
from optkit.progress import Progress
from optkit.records.comparison import Comparison
from optkit.records.layers import LayerRecord, Sensitivity
from optkit.records.search import Phase
from optkit.runs.chain import FLOAT, Chain
from optkit.runs.recipe import Recipe
from optkit.runs.store import Store
from optkit.search import ranking
from optkit.search.journal import Journal
from optkit.search.measuring import SearchParts
from optkit.search.proposals import FUSED, Proposals, quantizes
from optkit.search.ranking import Ranking, Trial
from optkit.search.trials import Made, Measurer
from optkit.system.native import surviving

_REFINEMENTS = 2
"""Number of bisections between too few layers in float and enough."""
_LITTLE = 0.02
"""Share of the damage so small that, if half of the loss remains, the layers are not its reason."""
_TIME_IS_UP = "the time budget was used up"
_NOTHING_LEFT = "no candidate was left that could win"


@dataclass
class Search:
    """A search in progress: an explorer that proposes candidates, and a measurer that makes and measures them."""

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
    notes: list[Note] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._measurer = Measurer(
            recipe=self.recipe,
            baseline=self.baseline,
            parts=self.parts,
            ranking=self.ranking,
            budget=self.budget,
            cache=self.cache,
            journal=self.journal,
            progress=self.progress,
            started=self.started,
        )
        self._explorer = Explorer(self._measurer, self.ranking, self.notes)

    @property
    def sensitivity(self) -> Sensitivity | None:
        """Sensitivity of the layers, if it was measured."""
        return self._explorer.sensitivity

    @property
    def ended(self) -> str:
        """The reason for which the exploration ended."""
        return _TIME_IS_UP if self._measurer.out_of_time else _NOTHING_LEFT

    def explore(self) -> None:
        """Try candidates until the time is up or nothing is left that could win. Raises OptkitError."""
        self._explorer.explore()

    def conclude(self) -> Comparison:
        """Compare the baseline with the finalists, and write down the decision on every trial. Raises OptkitError."""
        finalists = self.ranking.finalists()
        compared = self._measurer.final(finalists)
        used, given = compared.data.count if compared.data else 0, len(self.parts.evaluation)
        if used < given:
            text = f"quality of the finalists was measured on {used:,} of {given:,} samples: --budget allows no more"
            self.notes.append(Note(text))
        for trial in self.ranking.trials:
            trial.decide(self.ranking.decision(trial), final=trial in finalists)
        names = [trial.chain.name for trial in finalists]
        rows = [row.model_copy(update={"name": name}) for row, name in zip(compared.rows[1:], names, strict=True)]
        return compared.model_copy(update={"rows": [compared.rows[0], *rows]})

    def make(self, chain: Chain) -> Made:
        """Carry out the chain's stages through the store. Raises OptkitError."""
        return self._measurer.make(chain)


@dataclass
class Explorer:
    """Decides, from the trials so far, which candidates to try next."""

    measurer: Measurer
    ranking: Ranking
    notes: list[Note]
    sensitivity: Sensitivity | None = None
    """Sensitivity of the layers, once it was needed and measured."""

    def explore(self) -> None:
        """Try candidates until the time is up or nothing is left that could win. Raises OptkitError."""
        proposals, screen = self._proposals(), self.measurer.screen
        screen("float", proposals.floats())
        proposals = replace(proposals, halved=self.ranking.halved())
        for chain in self._broad(proposals):
            screen("broad", [chain])
        for trial in self.ranking.in_integers():
            self._trim(trial, proposals)
        for trial in self._lossy(proposals, "broad", "trimmed"):
            self._try_repairs(proposals.repairs(trial.chain))
        doubtful = self.ranking.worth_assuring("broad", "trimmed", "repair")
        for trial in ranking.best_of_each(doubtful, proposals.kind):
            if self.ranking.could_win(trial):
                self._keep_layers_in_float(trial, proposals)
        for trial in self._lossy(proposals, "broad", "trimmed", "repair"):
            self._try_repairs(proposals.refinements(trial.chain))
        if self.measurer.parts.training is not None:
            self._train(proposals)
        for trial in self.ranking.front()[:1]:
            screen("options", proposals.options(trial.chain))
        screen("float", proposals.baselines())

    def _lossy(self, proposals: Proposals, *phases: Phase) -> list[Trial]:
        """Return, of each kind, the quantized trial of these phases that loses too much and would win otherwise."""
        return ranking.best_of_each(self.ranking.worth_mending(*phases), proposals.kind)

    @cached_property
    def _contents(self) -> tuple[frozenset[str], str | None]:
        """The operators of the ONNX graph and its quantization; empty if the model is no ONNX graph."""
        exported = self.measurer.exported
        if exported.format != "onnx":
            return frozenset(), None
        proto = graph.parse(exported.path)
        return frozenset(count_operators(proto)), quantization_scheme(proto)

    def _proposals(self) -> Proposals:
        operators, _ = self._contents
        measurer = self.measurer
        return Proposals(
            recipe=measurer.recipe,
            model=measurer.baseline.model,
            native=measurer.baseline.target,
            wish=self.ranking.wish,
            operators=operators,
            calibrated=measurer.parts.calibration is not None,
            shapes=measurer.comparer.shapes(measurer.exported.signature),
        )

    def _broad(self, proposals: Proposals) -> list[Chain]:
        """Return the methods in their plain form; none for a model that is quantized already."""
        _, kind = self._contents
        if kind is None or kind == "float16":
            targets = self.measurer.recipe.targets
            return proposals.broad(fused=[name for name in targets if self.ranking.clearly_faster(FUSED, name)])
        self.notes.append(Note(f"INT8 was not tried: the model is already quantized ({kind})"))
        return []

    def _train(self, proposals: Proposals) -> None:
        """Screen trained forms of the fastest trial inside the bound, and of fast trials that lose too much."""
        lossy = self._lossy(proposals, "broad", "trimmed", "repair", "mixed")
        chains = [proposals.recovered(trial.chain) for trial in lossy]
        chains += [each for trial in self.ranking.front()[:1] for each in proposals.pruned(trial.chain)]
        for chain in filter(None, chains):
            self.measurer.screen("trained", [chain])

    def _try_repairs(self, repairs: Sequence[Chain]) -> None:
        """Screen the chains one by one until one is surely inside the bound."""
        for chain in repairs:
            if any(map(self.ranking.sure, self.measurer.screen("repair", [chain]))):
                return

    def _trim(self, trial: Trial, proposals: Proposals) -> None:
        """Screen the trial with layers in float that are slower in integers than those of the float model."""
        if self.measurer.time_is_up():
            return
        target = trial.chain.target
        floats = (each.chain for each in self.ranking.trials if each.chain.name == FLOAT)
        before = next((chain for chain in floats if chain.target == target), None)
        try:
            with surviving():
                case = self.measurer.profile(before, trial.chain)
        except OptkitError as error:
            self.notes.append(Note(f"slow layers were not looked for: {error.message}", trial.chain.title))
            return
        slow = speed_remedies.losing_layers(case)
        if slow and not speed_remedies.hopeless(case):
            self.measurer.screen("trimmed", [proposals.trimmed(trial.chain, slow)])

    def _keep_layers_in_float(self, trial: Trial, proposals: Proposals) -> None:
        """Search the smallest number of layers in float with which a fast candidate is surely inside the bound.

        Layers are taken in the order of their damage per multiplication.
        """
        order = self._layer_order(trial.chain)
        enough, few = None, 0
        for count, mixed in self._mixed(trial, proposals, order):
            if self.ranking.sure(mixed):
                enough = count
                break
            if layer_order.remaining(order, count) < _LITTLE and ranking.loss(mixed) > ranking.loss(trial) / 2:
                return  # the loss is not caused by the layers: something between them is quantized
            if self.ranking.as_little_as_half(mixed):
                return  # the rest of the loss is that of bf16
            few = count
        for _ in range(_REFINEMENTS):
            if enough is None or enough - few < 2:
                return
            count = (few + enough) // 2
            found = self._screen_mixed(trial, proposals, order[:count])
            enough, few = (count, few) if found and self.ranking.sure(found) else (enough, count)

    def _mixed(self, trial: Trial, proposals: Proposals, order: list[LayerRecord]) -> Iterator[tuple[int, Trial]]:
        """Yield trials with ever more layers in float, and their number, as long as they could win."""
        for count in layer_order.counts(order):
            found = self._screen_mixed(trial, proposals, order[:count])
            if found is None or not self.ranking.could_win(found):
                return
            yield count, found

    def _screen_mixed(self, trial: Trial, proposals: Proposals, layers: Sequence[LayerRecord]) -> Trial | None:
        """Screen the trial's chain with these layers in float; ``None`` if the time is up."""
        chain = proposals.mixed(trial.chain, [layer.name for layer in layers])
        return next(iter(self.measurer.screen("mixed", [chain])), None)

    def _layer_order(self, chain: Chain) -> list[LayerRecord]:
        """Return the chain's integer layers in the order in which they are kept in float."""
        if self.sensitivity is None:
            self.sensitivity = self._measure_sensitivity()
        order = [] if self.sensitivity is None else layer_order.order_layers(self.sensitivity)
        return [layer for layer in order if quantizes(chain, layer)]

    def _measure_sensitivity(self) -> Sensitivity | None:
        calibration = self.measurer.parts.calibration
        if self.measurer.exported.format != "onnx" or calibration is None:
            text = (
                "no layers were kept in float: their sensitivity is measured on ONNX models with calibration data only"
            )
            self.notes.append(Note(text))
            return None
        try:
            with surviving():
                return self.measurer.layer_sensitivity(calibration)
        except OptkitError as error:
            self.notes.append(Note(f"no layers were kept in float: {error.message}", level="warning"))
            return None
