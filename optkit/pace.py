"""How fast a module is on a runtime, beside the model that came in: exported and timed, both in one measurement."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from optkit import timing, worker, workload
from optkit.errors import StageError
from optkit.model import Model
from optkit.pruning import Block, Pruner
from optkit.results import Interval
from optkit.stage import Context, stage_class
from optkit.timing import Task

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
                worker.candidate(each, target=self.context.target, threads=self.context.threads)
                for each in (self._exported, after)
            ]
            feeds = workload.of(candidates, self.context.training, 1, self.context.seed).feeds
            timed = timing.measure(
                [Task(each, feeds) for each in candidates], seconds=seconds, seed=self.context.seed
            ).timings[1]
        if timed.speedup is None:
            raise StageError(f"the pruned model does not run on {self.context.target}: {timed.reason}")
        return timed.speedup

    def blocks_for(
        self, wanted: float, pruner: Pruner, module: Any, order: Sequence[Block]
    ) -> tuple[list[int], Interval]:
        """Which blocks of the order to cut so that the target is faster by ``wanted`` and hardly more, all of them
        where that does not do; and the speed-up with them, measured longer than on the way.
        """
        looks = 0

        def look(small: Any) -> float:
            nonlocal looks
            self.context.progress(f"measuring · {wanted:g}x wanted", looks, None)
            looks += 1
            return self.speedup(small, _LOOK_SECONDS).value

        count = pruner.fewest(module, order, lambda small: look(small) >= wanted)
        chosen = list(range(count))
        found = self.speedup(pruner.cut(module, order[:count]), _PROOF_SECONDS)
        if found.value <= wanted * (1 + _BEYOND) or not chosen:
            return chosen, found
        # The last block was more than it takes: the next one of another group may fit better in its place.
        for other in _next_of_each(order, count, besides=order[count - 1].group.name):
            swapped = [*chosen[:-1], other]
            small = pruner.cut(module, [order[number] for number in swapped])
            if wanted <= look(small) < found.value:
                again = self.speedup(small, _PROOF_SECONDS)
                if wanted * (1 - _BEYOND) <= again.value < found.value:
                    chosen, found = swapped, again
            if found.value <= wanted * (1 + _BEYOND):
                break
        return chosen, found

    @cached_property
    def _exported(self) -> Model:
        return _export(self.baseline, self.context, self.context.workdir / "baseline")


def _next_of_each(order: Sequence[Block], start: int, *, besides: str) -> list[int]:
    """The first block of each other group from ``start`` on: units of a group go in their own order."""
    first: dict[str, int] = {}
    for number in range(start, len(order)):
        first.setdefault(order[number].group.name, number)
    return sorted(number for name, number in first.items() if name != besides)


def _export(model: Model, context: Context, folder: Path) -> Model:
    folder.mkdir(parents=True)
    return stage_class("export")().apply(model, replace(context, workdir=folder)).model
