"""Where a search measures its candidates beside the model that came in: looks that rank, and the final comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from optkit.data.dataset import Dataset
from optkit.formats.tensors import Arrays, Signature
from optkit.measurement import comparison, workload
from optkit.measurement.candidate import Candidate
from optkit.measurement.quality import Recording
from optkit.metrics import metric as metrics
from optkit.records.comparison import Comparison
from optkit.runs.recipe import Recipe

_LOOK_SECONDS = 0.5
"""A look ranks candidates; what is claimed of the winner comes from the final comparison."""
_QUALITY_SECONDS = 8.0
"""How long the baseline may take over the samples of a look."""
_FEWEST_SAMPLES, _FEWEST_DISTANCES = 64, 16
"""Samples of a look at least; the fewer where each tells how far outputs moved, and not just whether one is right."""
_FINALISTS = 4
"""How many take turns in the final comparison, more or less."""
_QUALITY_SHARE = 0.2
"""The part of the budget that the final comparison may take over samples, all its candidates together."""
_OPENING = 1.5
"""Seconds of the final comparison for each that a candidate is timed for, the opening of its processes included."""


@dataclass(frozen=True)
class SearchParts:
    """The samples to calibrate with, to decide by, to prove the result on, and to train on where there are some.

    Decision and proof share none with each other, nor with the rest.
    """

    calibration: Dataset | None
    selection: Dataset
    evaluation: Dataset
    training: Dataset | None = None


@dataclass
class Bench:
    """Measures as the recipe asks, in the ``budget`` of seconds; ``tell`` hears what is being done."""

    recipe: Recipe
    baseline: Candidate
    parts: SearchParts
    budget: float
    tell: Callable[[str], None]

    def look(self, candidates: Sequence[Candidate]) -> Comparison:
        """The candidates for a short time, on some of the selection samples."""
        return self._measured(candidates, self._sample, _LOOK_SECONDS, self._recording)

    def final(self, candidates: Sequence[Candidate]) -> Comparison:
        """The candidates for as long as the recipe says, on the evaluation samples; fewer where the model is so slow
        that the budget would not hold them.
        """
        return self._measured(candidates, self._proof, self.recipe.benchmark.seconds)

    def final_seconds(self) -> float:
        """About how long the final comparison will take."""
        quality = len(self._proof) * self._pace
        return _FINALISTS * (_OPENING * self.recipe.benchmark.seconds + quality)

    def feeds(self, candidate: Candidate) -> list[Arrays]:
        """What the candidate is timed on at a look."""
        benchmark = self.recipe.benchmark
        return workload.make_workload([candidate], self.parts.selection, benchmark.batch, self.recipe.seed).feeds

    def shapes(self, signature: Signature | None) -> dict[str, list[int]]:
        """The shapes of the inputs, where all feeds have the same and the model would take others, too."""
        if signature is None or signature.static:
            return {}
        shapes = [{name: list(array.shape) for name, array in feed.items()} for feed in self.feeds(self.baseline)]
        return shapes[0] if all(each == shapes[0] for each in shapes) else {}

    @cached_property
    def _sample(self) -> Dataset:
        """As many of the selection samples as the baseline goes through in the time for it."""
        return self.parts.selection.take(self._affordable(_QUALITY_SECONDS))

    @cached_property
    def _proof(self) -> Dataset:
        """As many of the evaluation samples as the finalists go through in their part of the budget."""
        return self.parts.evaluation.take(self._affordable(_QUALITY_SHARE * self.budget / _FINALISTS))

    def _affordable(self, seconds: float) -> int:
        """How many samples the baseline goes through, but never too few to judge by."""
        return max(self._fewest_samples(), int(seconds / max(self._pace, 1e-6)))

    @cached_property
    def _recording(self) -> Recording:
        """What the baseline gives for the samples of a look."""
        return Recording()

    @cached_property
    def _pace(self) -> float:
        """Seconds that the baseline takes for a sample."""
        latency = self._measured([], self.parts.selection, _LOOK_SECONDS).rows[0].latency
        return latency.median / self.recipe.benchmark.batch if latency else 0.0

    def _fewest_samples(self) -> int:
        signature = self.baseline.model.signature or Signature(())
        metric = metrics.choose(self.recipe.metric, self.parts.selection, signature)
        return _FEWEST_DISTANCES if metric.needs == "reference" and not metric.counts else _FEWEST_SAMPLES

    def _measured(
        self, candidates: Sequence[Candidate], dataset: Dataset, seconds: float, recording: Recording | None = None
    ) -> Comparison:
        benchmark = self.recipe.benchmark
        return comparison.side_by_side(
            [self.baseline, *candidates],
            dataset=dataset,
            metric=self.recipe.metric,
            max_drop=self.recipe.max_drop,
            batch=benchmark.batch,
            seconds=seconds,
            precision=benchmark.precision,
            seed=self.recipe.seed,
            threads=benchmark.threads,
            with_quality=bool(candidates),
            recording=recording,
            progress=lambda what, done, total: self.tell(what),
        )
