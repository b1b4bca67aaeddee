"""The result of a search: calibration data chosen before it, the bundle and the reports written after it."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optkit.data import splits
from optkit.data.description import DataSpec
from optkit.data.splits import Parts
from optkit.decisions import choice
from optkit.decisions.choice import Wish
from optkit.deployment import bundle
from optkit.errors import DataError, MissingLibraryError, OptkitError, UsageError
from optkit.formats.bundle_manifest import Speedup
from optkit.formats.model import TORCH_FORMATS, Model
from optkit.measurement import offline, recording
from optkit.measurement.candidate import Candidate
from optkit.notes import Note
from optkit.options.source import ModelSource
from optkit.options.verbs.optimize import OptimizeCommand
from optkit.progress import Progress
from optkit.records import sentences
from optkit.records.comparison import Row
from optkit.records.run import Branch, Run, StageRecord
from optkit.records.search import SearchRecord
from optkit.reports.report import render_report
from optkit.runs import pipeline, run_folder
from optkit.runs.chain import Chain
from optkit.runs.recipe import Benchmark, ModelSpec, Recipe
from optkit.runs.store import Store
from optkit.search import journal
from optkit.search.measuring import SearchParts
from optkit.search.proposals import quantize_of, with_options
from optkit.search.ranking import Ranking
from optkit.search.search import Search
from optkit.system import fingerprint
from optkit.system.native import surviving
from optkit.targets import libraries
from optkit.targets.target import Target, offered, target
from optkit.version import VERSION

_REPORTS = {"md": "markdown", "html": "html"}
_MOST_SAMPLES, _FEWEST_SAMPLES = 128, 32
"""Calibration samples, where the options do not say."""
_SMALL = 50_000_000
"""Size of a model in bytes above which it calibrates on fewer samples than the most."""
_LOAD_SECONDS = 5.0
"""Measuring time of parallel sessions for the goal throughput, at most."""


class Optimization:
    """A search from its data to its bundle."""

    def __init__(self, options: OptimizeCommand, progress: Progress) -> None:
        self.recipe, self.calibration_samples = _recipe_of(options), options.calibration_samples
        self.wish, self.budget = Wish(options.goal, options.max_size, options.max_p99), options.budget
        self.bundle, self.folder, self.force = options.output, journal.beside(options.output), options.force
        self.progress = progress
        self.started, self.begun = datetime.now(UTC), time.monotonic()

    def run(self) -> Run:
        """Search, compare, choose, deliver."""
        baseline = pipeline.open_baseline(self.recipe)
        samples = self.calibration_samples or _calibration_samples(baseline.model)
        self.recipe = self.recipe.model_copy(update={"calibration_samples": samples})
        parts, notes = _parts(self.recipe, baseline.model)
        cache = Store()
        trials = journal.prepare(self.folder, self._settings(baseline.model, parts), force=self.force)
        if trials.resumed:
            notes.append(Note(f"goes on after {trials.resumed} results of a search that was killed"))
        ranking = Ranking(self.wish, self.recipe.max_drop, baseline.model.size_bytes)
        search = Search(
            self.recipe, baseline, parts, ranking, self.budget, cache, trials, self.progress, started=self.begun
        )
        with cache.using():
            search.explore()
            compared = search.conclude()
            best, told = choice.choose(compared, self.wish, refused=ranking.refused(compared.rows))
            notes += [*told, *self._limits(best)]
            chain, stages, delivered = self._deliver(search, best)
        recipe = self._recipe(chain)
        record = recording.of_run(
            recipe.document(),
            self.folder / run_folder.RECIPE,
            baseline.model,
            Parts(parts.training, parts.calibration, parts.evaluation),
            started=self.started,
            seconds=time.monotonic() - self.begun,
            branches=[Branch(target=best.target, stages=stages, bundle=str(self.bundle) if delivered else None)],
            comparison=compared,
            chosen=best.title,
            notes=[*notes, *search.notes],
        ).model_copy(update={"search": self._searched(search, chain)})
        texts = {f"report.{suffix}": render_report(record, name) for suffix, name in _REPORTS.items()}
        journal.finish(self.folder, recipe, record, texts)
        return record

    def _settings(self, model: Model, parts: SearchParts) -> dict[str, Any]:
        """List all that the measurements depend on; a killed search whose settings differ begins anew."""
        here = fingerprint.settled(libraries.fingerprint())
        samples = [
            part and part.digest for part in (parts.calibration, parts.selection, parts.evaluation, parts.training)
        ]
        wish = [self.wish.goal, self.wish.max_size, self.wish.max_p99]
        return {"version": VERSION, "recipe": self.recipe.document(), "model": model.digest, "data": samples} | {
            "wish": wish,
            "machine": here,
        }

    def _limits(self, best: Row) -> list[Note]:
        if self.wish.allows(best):
            return []
        return [Note("nothing that was tried keeps the limits", best.title, "warning", "limits")]

    def _deliver(self, search: Search, best: Row) -> tuple[Chain | None, list[StageRecord], bool]:
        """Write the chosen row's bundle; its chain and stages, none for the model that came in."""
        if best.baseline:
            return None, [], self._deliver_baseline(search)
        chain = next(trial.chain for trial in search.ranking.trials if trial.chain.title == best.title)
        made = search.make(chain)
        candidate = made.candidate
        if self.wish.goal == "throughput":
            candidate, chain = self._in_parallel(search, candidate, chain)
        speedup = None
        if best.speedup is not None:
            ratio, name = best.speedup, search.baseline.name
            speedup = Speedup(ratio=ratio.value, low=ratio.low, high=ratio.high, baseline=name)
        model = replace(candidate.model, options=candidate.options)
        bundle.write(self.bundle, model, stages=made.stages, quality=best.quality, speedup=speedup, force=self.force)
        return chain, made.stages, True

    def _in_parallel(self, search: Search, candidate: Candidate, chain: Chain) -> tuple[Candidate, Chain]:
        """Give the result the sessions (streams) and threads with the highest throughput; notes say so."""
        benchmark = self.recipe.benchmark
        try:
            with surviving():
                found = offline.side_by_side(
                    [search.baseline, replace(candidate, name=chain.name)],
                    dataset=search.parts.evaluation,
                    batches=[benchmark.batch],
                    threads=benchmark.threads,
                    seconds=min(benchmark.seconds, _LOAD_SECONDS),
                    seed=self.recipe.seed,
                    progress=self.progress,
                )
        except OptkitError as error:  # the result is there, and needs no more than one session
            search.notes.append(Note(f"not measured with sessions at once: {error.message}", level="warning"))
            return candidate, chain
        search.notes += [Note(f"all sessions at work, {sentences.load(row, found)}") for row in found.rows]
        load = found.rows[-1].load
        if load is None:
            return candidate, chain
        options = target(chain.target).parallel_options(threads=load.threads, sessions=load.sessions)
        return replace(candidate, options=candidate.options | options), with_options(chain, options)

    def _deliver_baseline(self, search: Search) -> bool:
        """Write the source model as a bundle; return False for a torch file, which makes none."""
        found = search.baseline
        if found.model.format in TORCH_FORMATS:
            search.notes.append(
                Note(f"the result is the model that came in, {found.model.path}; a torch file makes no bundle")
            )
            return False
        model = replace(found.model, target=found.target, options=found.options)
        bundle.write(self.bundle, model, stages=(), force=self.force)
        return True

    def _recipe(self, chain: Chain | None) -> Recipe:
        """Make the recipe that makes the result again without searching."""
        if chain is None:
            return self.recipe
        return self.recipe.model_copy(update={"targets": [chain.target], "stages": list(chain.stages)})

    def _searched(self, search: Search, chain: Chain | None) -> SearchRecord:
        quantized = None if chain is None else quantize_of(chain)
        return SearchRecord(
            goal=self.wish.goal,
            budget=self.budget,
            max_size=self.wish.max_size,
            max_p99=self.wish.max_p99,
            trials=[trial.record for trial in search.ranking.trials],
            sensitivity=search.sensitivity,
            in_float=list(quantized.exclude) if quantized else [],
            selection=recording.of_dataset(search.parts.selection),
            ended=search.ended,
        )


def _calibration_samples(model: Model) -> int:
    """Choose the number of calibration samples: fewer for large models, which take long over each."""
    affordable = int(_MOST_SAMPLES * _SMALL / max(1, model.size_bytes))
    return min(_MOST_SAMPLES, max(_FEWEST_SAMPLES, affordable))


def _installed() -> list[str]:
    """Return the targets whose bundles could be made and run here."""
    return [found.name for found in offered() if found.deploys and _absence(found) is None]


def _absence(runtime: Target) -> str | None:
    """Return the reason why nothing can be measured on a target here."""
    try:
        runtime.version()
    except MissingLibraryError as error:
        return error.message
    return runtime.absence()


def _parts(recipe: Recipe, model: Model) -> tuple[SearchParts, list[Note]]:
    """Split the samples into those that calibrate, decide and prove. Raises DataError."""
    parts = pipeline.data_parts(recipe, model, calibrates=True, trains=recipe.train is not None)
    calibration, rest, training = parts.calibration, parts.evaluation, parts.training
    if rest is None:
        raise UsageError("a search needs data", hint="give --data DATA")
    if model.signature is not None:
        for part in filter(None, (calibration, rest, training)):
            part.check(model.signature.inputs)
    try:
        selection, evaluation = splits.divide(rest, seed=recipe.seed)
    except DataError:
        note = Note("too few samples: the result is proven on those that it was chosen by", level="warning")
        return SearchParts(calibration, rest, rest, training), [note]
    return SearchParts(calibration, selection, evaluation, training), []


def _recipe_of(options: OptimizeCommand) -> Recipe:
    """Make the recipe that the search begins with."""

    def spec(path: str | Path | None) -> DataSpec | None:
        return None if path is None else DataSpec(path=str(path))

    return Recipe(
        model=ModelSpec(path=str(options.model), **options.part(ModelSource).model_dump()),
        seed=options.seed,
        metric=options.metric,
        max_drop=options.max_drop,
        targets=list(options.targets) or _installed(),
        benchmark=options.part(Benchmark),
        data=spec(options.data),
        train=spec(options.train_data),
        calibration=spec(options.calibration),
    )
