"""``optimize``: search the best model inside the bound, and hand out its bundle, its recipe and the proof."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optkit.data.description import DataSpec
from optkit.decisions.choice import Wish
from optkit.formats import bundle_manifest
from optkit.progress import Progress, no_progress
from optkit.records.run import Run
from optkit.records.search import Goal
from optkit.runs.recipe import Benchmark, ModelSpec, Recipe
from optkit.search.delivery import _BUDGET, _installed, _Optimizing
from optkit.system import atomic


def optimize(
    model: str | Path,
    output: str | Path,
    *,
    data: str | Path,
    train_data: str | Path | None = None,
    calibration: str | Path | None = None,
    calibration_samples: int | None = None,
    metric: str | None = None,
    max_drop: float | None = None,
    goal: Goal = "latency",
    max_size: int | None = None,
    max_p99: float | None = None,
    targets: Sequence[str] = (),
    budget: float = _BUDGET,
    threads: int | None = None,
    batch: int = 1,
    seconds: float = 10.0,
    inputs: tuple[str, ...] = (),
    code: str | None = None,
    trust: bool = False,
    seed: int = 0,
    force: bool = False,
    progress: Progress = no_progress,
) -> Run:
    """Search for the best form of ``model`` whose loss is at most ``max_drop``, for ``budget`` seconds at most.

    The bundle goes to ``output``; recipe, record and report to the folder ``OUTPUT-search``. The original is the result
    where nothing beats it. With ``train_data``, pruned and trained forms of a torch module are tried, too. Killed, and
    started again in the same way, it goes on. Without ``calibration_samples``, large models calibrate on fewer. Raises
    OptkitError.
    """
    recipe = Recipe(
        model=ModelSpec(path=str(model), inputs=list(inputs), code=code, trust=trust),
        data=DataSpec(path=str(data)),
        train=None if train_data is None else DataSpec(path=str(train_data)),
        calibration=None if calibration is None else DataSpec(path=str(calibration)),
        seed=seed,
        metric=metric,
        max_drop=max_drop,
        targets=list(targets) or _installed(),
        benchmark=Benchmark(seconds=seconds, threads=threads, batch=batch),
    )
    wish = Wish(goal, max_size, max_p99)
    destination = Path(output)
    atomic.claim(destination, force=force, marker=bundle_manifest.FILE_NAME)
    return _Optimizing(recipe, calibration_samples, wish, budget, destination, force, progress).run()
