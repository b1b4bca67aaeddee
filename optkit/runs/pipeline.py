"""Planning and running the stages of a recipe through the store, a branch for each target."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from optkit.data import splits
from optkit.data.dataset import Dataset
from optkit.data.splits import Parts
from optkit.decisions import choice
from optkit.decisions import gate as gate_rules
from optkit.deployment import bundle
from optkit.errors import OptkitError
from optkit.formats import bundle_manifest, opening
from optkit.formats.bundle_manifest import Speedup
from optkit.formats.model import TORCH_FORMATS, Model
from optkit.measurement import candidate as candidates
from optkit.measurement import comparison, recording
from optkit.measurement.candidate import Candidate
from optkit.notes import Note
from optkit.progress import Progress, no_progress
from optkit.records.comparison import Comparison, Row
from optkit.records.run import Branch, Plan, PlannedBranch, PlannedStage, Run, StageRecord
from optkit.reports import report as reporting
from optkit.runs import chain as all_chains
from optkit.runs import execution, run_folder, store
from optkit.runs.chain import FLOAT, Chain
from optkit.runs.recipe import Recipe
from optkit.runs.store import Entry, Store
from optkit.stages.stage import Context, Stage
from optkit.system import atomic
from optkit.targets.target import target

_NOWHERE = Path("nowhere")
"""The workdir of a stage that is only planned."""
_BASELINE = "baseline"


@dataclass(frozen=True)
class Prepared:
    """What a recipe works with, opened and checked: its model, also as the baseline of all measurements, and data."""

    recipe: Recipe
    baseline: Candidate
    parts: Parts

    @property
    def evaluation(self) -> Dataset | None:
        return self.parts.evaluation

    @property
    def model(self) -> Model:
        return self.baseline.model

    @property
    def chains(self) -> list[Chain]:
        return all_chains.chains(self.recipe, self.model, self.baseline.target)

    @property
    def notes(self) -> tuple[Note, ...]:
        return all_chains.notes(self.recipe, self.model)

    def context(self, target_name: str, progress: Progress = no_progress) -> Context:
        """What the stages for one target get."""
        return Context(
            _NOWHERE,
            self.parts.calibration,
            self.parts.evaluation,
            target_name,
            self.recipe.seed,
            progress,
            training=self.parts.training,
            original=self.model,
            metric=self.recipe.metric,
            threads=self.recipe.benchmark.threads,
        )


@dataclass
class Result:
    """How a chain ended: its stages as far as they went, and its bundle as a candidate or the error."""

    chain: Chain
    stages: list[StageRecord]
    candidate: Candidate | None = None
    error: OptkitError | None = None


def prepare(recipe: Recipe) -> Prepared:
    """Open the model and the data, and make sure that every target is there. Raises OptkitError."""
    baseline = opened(recipe)
    calibrates = any(stage.needs_calibration for stage in recipe.stages)
    trains = any(stage.trains for stage in recipe.stages)
    return Prepared(recipe, baseline, data_parts(recipe, baseline.model, calibrates=calibrates, trains=trains))


def opened(recipe: Recipe) -> Candidate:
    """The recipe's model as the baseline of all measurements; every target is there. Raises OptkitError."""
    for name in recipe.targets:
        target(name).version()
        candidates.check_present(target(name))
    spec = recipe.model
    model = opening.open(spec.path, inputs=tuple(spec.inputs), code=spec.code, trust=spec.trust)
    return candidates.candidate(model, threads=recipe.benchmark.threads)


def plan(recipe: Recipe, recipe_path: str | Path, *, cache: Store | None = None) -> Plan:
    """What ``run`` would do, which of it is in the store, and what a stage refuses already."""
    prepared, cache = prepare(recipe), cache or Store()
    with cache.using():
        branches = [_planned(chain, prepared, cache) for chain in prepared.chains]
    return Plan(
        recipe=recipe.document(),
        recipe_path=str(recipe_path),
        model=recording.of_model(prepared.model),
        **recording.of_parts(prepared.parts),
        branches=branches,
        notes=list(prepared.notes),
    )


def run(
    recipe: Recipe,
    recipe_path: str | Path,
    folder: Path,
    *,
    force: bool = False,
    cache: Store | None = None,
    progress: Progress = no_progress,
) -> Run:
    """Carry out ``recipe`` and write everything into ``folder``; run again to go on with what was killed.

    A branch that fails carries its reason and others go on; where all fail, the first error is raised.
    """
    started, begun = datetime.now(UTC), time.monotonic()
    prepared = prepare(recipe)
    run_folder.prepare(folder, recipe, force=force)
    results = carry_out(prepared, folder, cache or Store(), progress)
    compared = _compare(prepared, results, progress)
    best, notes = choice.choose(compared)
    _prove(compared.rows, results, folder)
    notes += _deliver(prepared, best, results, folder)
    record = recording.of_run(
        recipe.document(),
        recipe_path,
        prepared.model,
        prepared.parts,
        started=started,
        seconds=time.monotonic() - begun,
        branches=[_branch(result) for result in results if result.chain.name != FLOAT],
        comparison=compared,
        chosen=best.title,
        notes=[*prepared.notes, *notes],
    )
    if recipe.gate is not None:
        record = record.model_copy(update={"gate": gate_rules.judgement(recipe.gate, compared, best)})
    reports = {"report.md": reporting.render(record, "markdown"), "report.html": reporting.render(record, "html")}
    run_folder.finish(folder, record, reports)
    return record


def carry_out(prepared: Prepared, folder: Path, cache: Store, progress: Progress) -> list[Result]:
    """Every chain through the store, and the bundles they end in. Raises the first error where all fail."""
    with cache.using():
        results = [_carry_out(chain, prepared, folder, cache, progress) for chain in prepared.chains]
    errors = [result.error for result in results if result.error is not None]
    if len(errors) == len(results):
        raise errors[0]
    return results


def step(stage: Stage, source: Model, context: Context, cache: Store) -> Entry:
    """One stage's result: out of the store, or made and put there."""
    key = store.key(stage, source, context)
    found = cache.get(key, source)
    if found is not None:
        return replace(found, record=found.record.model_copy(update={"cached": True}))
    with cache.workdir() as workdir:
        context = replace(context, workdir=workdir, checkpoints=cache.checkpoints(key))
        outcome, record = execution.carry_out(stage, source, context, key=key)
        return cache.put(record, outcome, workdir, source)


def data_parts(recipe: Recipe, model: Model, *, calibrates: bool, trains: bool = False) -> Parts:
    """The recipe's data by what it is used for. Raises DataError."""
    return splits.parts(
        recipe.data,
        recipe.calibration,
        None if model.signature is None else model.signature.inputs,
        training=recipe.train,
        calibration_samples=recipe.calibration_samples,
        seed=recipe.seed,
        calibrates=calibrates,
        trains=trains,
    )


def _planned(chain: Chain, prepared: Prepared, cache: Store) -> PlannedBranch:
    context = prepared.context(chain.target)
    source: Model | None = prepared.model
    planned = []
    for stage in chain.stages:
        planned_stage, source = _planned_stage(stage, source, context, cache)
        planned.append(planned_stage)
    return PlannedBranch(name=chain.name, target=chain.target, stages=planned)


def _planned_stage(
    stage: Stage, source: Model | None, context: Context, cache: Store
) -> tuple[PlannedStage, Model | None]:
    """The stage as planned and, where it is in the store, the model that it leads to."""
    planned = PlannedStage(stage=stage.name, fields=stage.model_dump(mode="json"))
    if source is None:
        return planned, None
    key = store.key(stage, source, context)
    entry = cache.get(key, source)
    refused = None if entry else _refusal(stage, source, context)
    known = {"key": key, "cached": entry is not None, "refused": refused}
    return planned.model_copy(update=known), entry.model if entry else None


def _refusal(stage: Stage, source: Model, context: Context) -> str | None:
    try:
        stage.check(source, context)
    except OptkitError as error:
        return error.message
    return None


def _carry_out(chain: Chain, prepared: Prepared, folder: Path, cache: Store, progress: Progress) -> Result:
    result = Result(chain, [])
    context = prepared.context(chain.target, progress)
    model = prepared.model
    try:
        for number, stage in enumerate(chain.stages):
            progress(f"{chain.title}: {stage.name}", number, len(chain.stages))
            entry = step(stage, model, context, cache)
            result.stages.append(entry.record)
            model = entry.model
        place = folder / run_folder.BUNDLES / chain.bundle
        bundled = bundle.write(place, model, stages=result.stages, force=True)
        result.candidate = replace(candidates.candidate(bundled), name=chain.title)
    except OptkitError as error:
        result.error = error
    return result


def _compare(prepared: Prepared, results: Sequence[Result], progress: Progress) -> Comparison:
    """The model that came in and every bundle, measured now; what came to no bundle is a row with its reason."""
    recipe = prepared.recipe
    done = [(result.chain, result.candidate) for result in results if result.candidate is not None]
    found = comparison.side_by_side(
        [prepared.baseline, *(candidate for _, candidate in done)],
        dataset=prepared.evaluation,
        metric=recipe.metric,
        max_drop=recipe.bound,
        batch=recipe.benchmark.batch,
        seconds=recipe.benchmark.seconds,
        precision=recipe.benchmark.precision,
        seed=recipe.seed,
        threads=recipe.benchmark.threads,
        progress=progress,
    )
    rows = [row.model_copy(update={"name": chain.name}) for row, (chain, _) in zip(found.rows[1:], done, strict=True)]
    failed = [_failed(result.chain, result.error, found) for result in results if result.error]
    return found.model_copy(update={"rows": [found.rows[0], *rows, *failed]})


def _failed(chain: Chain, error: OptkitError, compared: Comparison) -> Row:
    return Row(name=chain.name, target=chain.target, batch=compared.batch, status="failed", reason=error.message)


def _prove(rows: Sequence[Row], results: Sequence[Result], folder: Path) -> None:
    """Write into each bundle's manifest what was measured of it."""
    by_title = {row.title: row for row in rows}
    for chain in (result.chain for result in results if result.candidate):
        row, place = by_title[chain.title], folder / run_folder.BUNDLES / chain.bundle
        ratio = row.speedup
        if ratio is None:
            continue
        speedup = Speedup(ratio=ratio.value, low=ratio.low, high=ratio.high, baseline=rows[0].title)
        proven = bundle_manifest.read(place).model_copy(update={"quality": row.quality, "speedup": speedup})
        atomic.write_text(place / bundle_manifest.FILE_NAME, proven.to_json() + "\n", force=True)


def _deliver(prepared: Prepared, best: Row, results: Sequence[Result], folder: Path) -> list[Note]:
    """Let the run's ``bundle`` be the chosen row's; the baseline gets one of its own where its target loads it."""
    if not best.baseline:
        run_folder.link_bundle(folder, next(each.chain.bundle for each in results if each.chain.title == best.title))
        return []
    found = prepared.baseline
    if found.model.format in TORCH_FORMATS:
        run_folder.link_bundle(folder, None)
        return [Note(f"the result is the model that came in, {found.model.path}; a torch file makes no bundle")]
    model = replace(found.model, target=found.target, options=found.options)
    bundle.write(folder / run_folder.BUNDLES / _BASELINE, model, stages=(), force=True)
    run_folder.link_bundle(folder, _BASELINE)
    return []


def _branch(result: Result) -> Branch:
    return Branch(
        target=result.chain.target,
        stages=result.stages,
        bundle=f"{run_folder.BUNDLES}/{result.chain.bundle}" if result.candidate else None,
        status="failed" if result.error else "ok",
        reason=result.error.message if result.error else None,
    )
