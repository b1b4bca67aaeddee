"""Plan and run a recipe: one branch per target, each stage through the store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from optkit.data import splits
from optkit.data.dataset import Dataset
from optkit.data.splits import Parts
from optkit.decisions import choice
from optkit.decisions.gate import judge_candidate
from optkit.deployment import bundle
from optkit.errors import OptkitError
from optkit.formats import bundle_manifest, opening
from optkit.formats.bundle_manifest import Speedup
from optkit.formats.model import TORCH_FORMATS, Model
from optkit.measurement import comparison, recording
from optkit.measurement.candidate import Candidate, check_present, resolve_candidate
from optkit.notes import Note
from optkit.progress import Progress, no_progress
from optkit.quantization.range_cache import RangeCache
from optkit.records.comparison import Comparison, Row
from optkit.records.run import Branch, Plan, PlannedBranch, PlannedStage, Run, StageRecord
from optkit.reports.report import render_report
from optkit.runs import execution, run_folder, store
from optkit.runs.chain import FLOAT, Chain, chain_notes, plan_chains
from optkit.runs.recipe import Recipe
from optkit.runs.store import Entry, Store
from optkit.stages.stage import Context, Stage
from optkit.system import atomic
from optkit.targets.target import target

_NOWHERE = Path("nowhere")
"""Working folder of a stage that is only planned."""
_BASELINE = "baseline"
"""Name of the baseline's bundle."""


@dataclass(frozen=True)
class PreparedRecipe:
    """A recipe with its model and data, opened and checked."""

    recipe: Recipe
    baseline: Candidate
    """The recipe's model as the baseline of all measurements."""
    parts: Parts
    ranges: RangeCache = field(default_factory=RangeCache)

    @property
    def evaluation(self) -> Dataset | None:
        """The evaluation data, if there is any."""
        return self.parts.evaluation

    @property
    def model(self) -> Model:
        """The recipe's model."""
        return self.baseline.model

    @property
    def chains(self) -> list[Chain]:
        """The chains of stages, those of the recipe first."""
        return plan_chains(self.recipe, self.model, self.baseline.target)

    @property
    def notes(self) -> tuple[Note, ...]:
        """Notes on stages added to the recipe's."""
        return chain_notes(self.recipe, self.model)

    def context(self, target_name: str, progress: Progress = no_progress) -> Context:
        """Make the context of the stages for one target."""
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
            ranges=self.ranges,
        )


@dataclass
class Result:
    """The outcome of a chain: a bundle or an error."""

    chain: Chain
    stages: list[StageRecord]
    """The stages carried out."""
    candidate: Candidate | None = None
    """The bundle, if all stages succeeded."""
    error: OptkitError | None = None
    """The error that ended the chain."""


def prepare(recipe: Recipe) -> PreparedRecipe:
    """Open the model and the data, and check that every target is available. Raises OptkitError."""
    baseline = open_baseline(recipe)
    calibrates = any(stage.needs_calibration for stage in recipe.stages)
    trains = any(stage.trains for stage in recipe.stages)
    parts = data_parts(recipe, baseline.model, calibrates=calibrates, trains=trains)
    return PreparedRecipe(recipe, baseline, parts)


def open_baseline(recipe: Recipe) -> Candidate:
    """Open the recipe's model as the baseline, and check that every target is available. Raises OptkitError."""
    for name in recipe.targets:
        target(name).version()
        check_present(target(name))
    spec = recipe.model
    model = opening.open(spec.path, inputs=tuple(spec.inputs), code=spec.code, trust=spec.trust)
    return resolve_candidate(model, threads=recipe.benchmark.threads)


def plan(recipe: Recipe, recipe_path: str | Path, *, cache: Store | None = None) -> Plan:
    """Plan what ``run`` would do: which results are in the store, and what a stage would refuse. Raises OptkitError."""
    prepared, cache = prepare(recipe), cache or Store()
    with cache.using():
        branches = [_plan_branch(chain, prepared, cache) for chain in prepared.chains]
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
    """Carry out ``recipe`` and write all results into ``folder``; a killed run goes on when it is started again.

    A branch that fails is recorded with its reason, and the others go on. Raises OptkitError, the first branch's if all
    fail.
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
        record = record.model_copy(update={"gate": judge_candidate(recipe.gate, compared, best)})
    reports = {"report.md": render_report(record, "markdown"), "report.html": render_report(record, "html")}
    run_folder.finish(folder, record, reports)
    return record


def carry_out(prepared: PreparedRecipe, folder: Path, cache: Store, progress: Progress) -> list[Result]:
    """Carry out every chain through the store, and write the bundles. Raises the first error if all fail."""
    with cache.using():
        results = [_carry_out(chain, prepared, folder, cache, progress) for chain in prepared.chains]
    errors = [result.error for result in results if result.error is not None]
    if len(errors) == len(results):
        raise errors[0]
    return results


def step(stage: Stage, source: Model, context: Context, cache: Store) -> Entry:
    """Return a stage's result from the store, or carry out the stage and store the result. Raises OptkitError."""
    key = store.key(stage, source, context)
    found = cache.get(key, source)
    if found is not None:
        return replace(found, record=found.record.model_copy(update={"cached": True}))
    with cache.workdir() as workdir:
        context = replace(context, workdir=workdir, checkpoints=cache.checkpoints(key))
        outcome, record = execution.carry_out(stage, source, context, key=key)
        return cache.put(record, outcome, workdir, source)


def data_parts(recipe: Recipe, model: Model, *, calibrates: bool, trains: bool = False) -> Parts:
    """Split the recipe's data into the parts for training, calibration and evaluation. Raises DataError."""
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


def _plan_branch(chain: Chain, prepared: PreparedRecipe, cache: Store) -> PlannedBranch:
    context = prepared.context(chain.target)
    source: Model | None = prepared.model
    planned = []
    for stage in chain.stages:
        planned_stage, source = _plan_stage(stage, source, context, cache)
        planned.append(planned_stage)
    return PlannedBranch(name=chain.name, target=chain.target, stages=planned)


def _plan_stage(
    stage: Stage, source: Model | None, context: Context, cache: Store
) -> tuple[PlannedStage, Model | None]:
    """Plan a stage; also returns its result if that is in the store."""
    planned = PlannedStage(stage=stage.name, fields=stage.model_dump(mode="json"))
    if source is None:
        return planned, None
    key = store.key(stage, source, context)
    entry = cache.get(key, source)
    refused = None if entry else _refusal(stage, source, context)
    known = {"key": key, "cached": entry is not None, "refused": refused}
    return planned.model_copy(update=known), entry.model if entry else None


def _refusal(stage: Stage, source: Model, context: Context) -> str | None:
    """Return the reason for which the stage refuses the model, if it does."""
    try:
        stage.check(source, context)
    except OptkitError as error:
        return error.message
    return None


def _carry_out(chain: Chain, prepared: PreparedRecipe, folder: Path, cache: Store, progress: Progress) -> Result:
    result = Result(chain, [])
    context = prepared.context(chain.target, progress)
    model = prepared.model
    try:
        for number, stage in enumerate(chain.stages):
            progress(f"{chain.title}: {stage.name}", number, len(chain.stages))
            entry = step(stage, model, context, cache)
            result.stages.append(entry.record)
            model = entry.model
        destination = folder / run_folder.BUNDLES / chain.bundle
        bundled = bundle.write(destination, model, stages=result.stages, force=True)
        result.candidate = replace(resolve_candidate(bundled), name=chain.title)
    except OptkitError as error:
        result.error = error
    return result


def _compare(prepared: PreparedRecipe, results: Sequence[Result], progress: Progress) -> Comparison:
    """Measure the original model and every bundle; a chain without a bundle becomes a row with its reason."""
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
    """Write the measured quality and speed-up into each bundle's manifest."""
    by_title = {row.title: row for row in rows}
    for chain in (result.chain for result in results if result.candidate):
        row, bundle_folder = by_title[chain.title], folder / run_folder.BUNDLES / chain.bundle
        ratio = row.speedup
        if ratio is None:
            continue
        speedup = Speedup(ratio=ratio.value, low=ratio.low, high=ratio.high, baseline=rows[0].title)
        proven = bundle_manifest.read(bundle_folder).model_copy(update={"quality": row.quality, "speedup": speedup})
        atomic.write_text(bundle_folder / bundle_manifest.FILE_NAME, proven.to_json() + "\n", force=True)


def _deliver(prepared: PreparedRecipe, best: Row, results: Sequence[Result], folder: Path) -> list[Note]:
    """Point the run's ``bundle`` to that of the chosen row.

    If the baseline was chosen, write a bundle of it, except of a torch file.
    """
    if not best.baseline:
        run_folder.link_bundle(folder, next(each.chain.bundle for each in results if each.chain.title == best.title))
        return []
    found = prepared.baseline
    if found.model.format in TORCH_FORMATS:
        run_folder.link_bundle(folder, None)
        return [Note(f"the result is the original model, {found.model.path}; a torch file makes no bundle")]
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
