"""Measurements of a search within its time budget: screenings that rank candidates, and the final comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from optkit.data.dataset import Dataset
from optkit.formats.tensors import Arrays, Signature
from optkit.measurement import comparison, workload
from optkit.measurement.candidate import Candidate
from optkit.measurement.quality import Recording
from optkit.metrics.metric import choose_metric
from optkit.records.comparison import Comparison
from optkit.runs.recipe import Recipe

_SCREENING_SECONDS = 0.5
"""Timing of a candidate in a screening. It only ranks; claims about the result come from the final comparison."""
_QUALITY_SECONDS = 8.0
"""Time for the baseline to process the samples of a screening."""
_FEWEST_SAMPLES, _FEWEST_DISTANCES = 64, 16
"""Fewest samples of a screening; fewer suffice if each yields a distance between outputs instead of right or wrong."""
_FINALISTS = 4
"""Expected number of models in the final comparison."""
_QUALITY_SHARE = 0.2
"""Share of the budget for the quality of all models in the final comparison."""
_OPENING = 1.5
"""Seconds of the final comparison per second of timing, because the processes also have to start."""


@dataclass(frozen=True)
class SearchParts:
    """Disjoint samples of a search: calibration, selection of candidates, evaluation of the result, and training."""

    calibration: Dataset | None
    selection: Dataset
    """Samples by which candidates are ranked."""
    evaluation: Dataset
    """Samples of the final comparison, used by no decision before."""
    training: Dataset | None = None


@dataclass
class Comparer:
    """Compares candidates with the baseline as the recipe asks, within the time budget."""

    recipe: Recipe
    baseline: Candidate
    parts: SearchParts
    budget: float
    """Seconds for the whole search."""
    report: Callable[[str], None]
    """Receives the names of the steps in progress."""

    def screen(self, candidates: Sequence[Candidate]) -> Comparison:
        """Compare the candidates for a short time, on some of the selection samples."""
        return self._compare(candidates, self._screening_samples, _SCREENING_SECONDS, self._recording)

    def final(self, candidates: Sequence[Candidate]) -> Comparison:
        """Compare the candidates for as long as the recipe says, on as many evaluation samples as the budget allows."""
        return self._compare(candidates, self._final_samples, self.recipe.benchmark.seconds)

    def final_seconds(self) -> float:
        """Estimate the seconds of the final comparison."""
        quality = len(self._final_samples) * self._seconds_per_sample
        return _FINALISTS * (_OPENING * self.recipe.benchmark.seconds + quality)

    def feeds(self, candidate: Candidate) -> list[Arrays]:
        """Return the feeds with which a screening times the candidate."""
        benchmark = self.recipe.benchmark
        return workload.make_workload([candidate], self.parts.selection, benchmark.batch, self.recipe.seed).feeds

    def shapes(self, signature: Signature | None) -> dict[str, list[int]]:
        """Return the inputs' shapes, if all feeds have the same; empty if they differ or the model's are static."""
        if signature is None or signature.static:
            return {}
        shapes = [{name: list(array.shape) for name, array in feed.items()} for feed in self.feeds(self.baseline)]
        return shapes[0] if all(each == shapes[0] for each in shapes) else {}

    @cached_property
    def _screening_samples(self) -> Dataset:
        return self.parts.selection.take(self._affordable(_QUALITY_SECONDS))

    @cached_property
    def _final_samples(self) -> Dataset:
        return self.parts.evaluation.take(self._affordable(_QUALITY_SHARE * self.budget / _FINALISTS))

    def _affordable(self, seconds: float) -> int:
        """Return the number of samples that the baseline processes in that time, but never too few to judge by."""
        return max(self._fewest_samples(), int(seconds / max(self._seconds_per_sample, 1e-6)))

    @cached_property
    def _recording(self) -> Recording:
        """The baseline's outputs for the screening samples, computed once."""
        return Recording()

    @cached_property
    def _seconds_per_sample(self) -> float:
        latency = self._compare([], self.parts.selection, _SCREENING_SECONDS).rows[0].latency
        return latency.median / self.recipe.benchmark.batch if latency else 0.0

    def _fewest_samples(self) -> int:
        signature = self.baseline.model.signature or Signature(())
        metric = choose_metric(self.recipe.metric, self.parts.selection, signature)
        return _FEWEST_DISTANCES if metric.needs == "reference" and not metric.counts else _FEWEST_SAMPLES

    def _compare(
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
            progress=lambda what, done, total: self.report(what),
        )
