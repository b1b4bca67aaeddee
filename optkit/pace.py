"""How fast a module is on a runtime, beside the model that came in: exported and timed, both in one measurement."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from optkit import timing, worker, workload
from optkit.errors import StageError
from optkit.model import Model
from optkit.results import Interval
from optkit.stage import Context, stage_class
from optkit.timing import Task


@dataclass
class Pace:
    """Times modules on the context's target against ``baseline``; ``write(module, folder)`` makes a model of one."""

    context: Context
    baseline: Model
    write: Callable[[Any, Path], Model]
    _kept: dict[str, Model] = field(default_factory=dict)

    def speedup(self, module: Any, folder: Path, seconds: float) -> Interval:
        """The speed-up of a module over the baseline. Raises StageError where it cannot be timed."""
        exported = self._exported_baseline(folder)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            model = self.write(module, Path(name))
            after = _export(model, self.context, Path(name) / "onnx")
            candidates = [
                worker.candidate(each, target=self.context.target, threads=self.context.threads)
                for each in (exported, after)
            ]
            feeds = workload.of(candidates, self.context.training, 1, self.context.seed).feeds
            timed = timing.measure(
                [Task(each, feeds) for each in candidates], seconds=seconds, seed=self.context.seed
            ).timings[1]
        if timed.speedup is None:
            raise StageError(f"the pruned model does not run on {self.context.target}: {timed.reason}")
        return timed.speedup

    def _exported_baseline(self, folder: Path) -> Model:
        if "baseline" not in self._kept:
            self._kept["baseline"] = _export(self.baseline, self.context, folder / "baseline")
        return self._kept["baseline"]


def _export(model: Model, context: Context, folder: Path) -> Model:
    folder.mkdir(parents=True)
    return stage_class("export")().apply(model, replace(context, workdir=folder)).model
