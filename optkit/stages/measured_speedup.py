"""How fast a module is on a runtime, beside the model that came in: exported and timed, both in one measurement."""

from __future__ import annotations

import bisect
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from optkit.errors import StageError
from optkit.formats.model import Model
from optkit.measurement import candidate as candidate_module
from optkit.measurement import timing, workload
from optkit.measurement.timing import Task
from optkit.records.record import Interval
from optkit.stages.stage import Context, stage_class
from optkit.training.pruning.selection import Block, Pruner, Sensitivity

_LOOK_SECONDS, _PROOF_SECONDS = 1.5, 6.0
_BEYOND = 0.03
"""So much more or less than the speed-up asked for is as good as that."""


@dataclass
class Pace:
    """Times modules on the context's target against ``baseline``; ``write(module, folder)`` makes a model of one."""

    context: Context
    baseline: Model
    write: Callable[[Any, Path], Model]

    def speedup(self, module: Any, seconds: float) -> Interval:
        """The speed-up of a module over the baseline. Raises StageError where it cannot be timed."""
        with tempfile.TemporaryDirectory(dir=self.context.workdir) as name:
            model = self.write(module, Path(name))
            after = _export(model, self.context, Path(name) / "onnx")
            candidates = [
                candidate_module.candidate(each, target=self.context.target, threads=self.context.threads)
                for each in (self._exported, after)
            ]
            feeds = workload.make_workload(candidates, self.context.training, 1, self.context.seed).feeds
            timed = timing.measure(
                [Task(each, feeds) for each in candidates], seconds=seconds, seed=self.context.seed
            ).timings[1]
        if timed.speedup is None:
            raise StageError(f"the pruned model does not run on {self.context.target}: {timed.reason}")
        return timed.speedup

    def blocks_for(
        self, wanted: float, most: float, pruner: Pruner, module: Any, order: Sequence[Block]
    ) -> tuple[list[int], Interval]:
        """Which blocks of the order to cut so that the target is faster by ``wanted``, and by ``most`` at most where
        that can be had; all of them where they do not do. And the speed-up with them, measured longer than on the way.
        """
        looks = 0

        def measured(chosen: Sequence[int], seconds: float) -> Interval:
            nonlocal looks
            self.context.progress(f"measuring · {wanted:g}x wanted", looks, None)
            looks += 1
            return self.speedup(pruner.cut(module, [order[number] for number in chosen]), seconds)

        taken: list[int] = []
        left = list(range(len(order)))
        found: list[tuple[list[int], Interval]] = []
        while not found or left:
            counts = range(1 if found else 0, len(left))
            fewest = bisect.bisect_left(
                counts, wanted, key=lambda count: measured([*taken, *left[:count]], _LOOK_SECONDS).value
            )
            count = counts.start + fewest
            chosen = [*taken, *left[:count]]
            reached = measured(chosen, _PROOF_SECONDS)
            found.append((chosen, reached))
            if reached.value < wanted * (1 - _BEYOND):
                taken, left = chosen, left[count:]
            elif chosen and reached.value > most * (1 + _BEYOND):
                # A kernel may be much faster with some widths: the last block was more than it takes, and its group's
                # others would be. What is still missing is looked for in other groups.
                taken, over = chosen[:-1], order[chosen[-1]].group.name
                left = [number for number in left[count:] if order[number].group.name != over]
            else:
                break
        enough = [each for each in found if each[1].value >= wanted * (1 - _BEYOND)]
        return min(enough, key=lambda each: each[1].value) if enough else found[-1]

    def furthest(self, pruner: Pruner, module: Any, order: Sequence[Block]) -> Interval:
        """The speed-up with all blocks cut."""
        self.context.progress("measuring · all cut", 0, None)
        return self.speedup(pruner.cut(module, order), _LOOK_SECONDS)

    def savings(self, pruner: Pruner, module: Any, survey: Sequence[Sensitivity]) -> dict[str, float]:
        """The share of the baseline's time that each group's cut saves on the target, by the group's name."""
        found = {}
        before = 1.0 / self.speedup(module, _LOOK_SECONDS).value  # layers may have been dropped already
        for number, each in enumerate(survey):
            self.context.progress(f"measuring · {each.group.name}", number, len(survey))
            small = pruner.cut(module, [Block(each.group, each.units, 0.0)])
            found[each.group.name] = before - 1.0 / self.speedup(small, _LOOK_SECONDS).value
        return found

    @cached_property
    def _exported(self) -> Model:
        return _export(self.baseline, self.context, self.context.workdir / "baseline")


def _export(model: Model, context: Context, folder: Path) -> Model:
    folder.mkdir(parents=True)
    return stage_class("export")().apply(model, replace(context, workdir=folder)).model
