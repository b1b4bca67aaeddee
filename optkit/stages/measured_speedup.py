"""Measured speed-up of a module on a runtime: exported, and timed against the original model in one measurement."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from optkit.errors import StageError
from optkit.formats.model import Model
from optkit.measurement import timing, workload
from optkit.measurement.candidate import resolve_candidate
from optkit.measurement.timing import Task
from optkit.records.record import Interval
from optkit.stages.stage import Context, stage_class
from optkit.training.pruning.selection import GroupSensitivity, Pruner, UnitBlock

_PROBE_SECONDS, _PROOF_SECONDS = 1.5, 6.0
_TOLERANCE = 0.03
"""Relative difference from the speed-up asked for that counts as none."""


class Cut(NamedTuple):
    """Blocks to cut, and the speed-up without them."""

    blocks: list[int]
    """Positions in the order of blocks."""
    speedup: Interval


@dataclass
class SpeedupTimer:
    """Times modules on the context's target against ``baseline``."""

    context: Context
    baseline: Model
    write: Callable[[Any, Path], Model]
    """Writes a module as a model into a folder."""

    def speedup(self, module: Any, seconds: float) -> Interval:
        """Measure the speed-up of a module over the baseline. Raises StageError if it cannot be timed."""
        with tempfile.TemporaryDirectory(dir=self.context.workdir, prefix="optkit-") as name:
            model = self.write(module, Path(name))
            after = _export(model, self.context, Path(name) / "onnx")
            candidates = [
                resolve_candidate(each, target=self.context.target, threads=self.context.threads)
                for each in (self._exported, after)
            ]
            feeds = workload.make_workload(candidates, self.context.training, 1, self.context.seed).feeds
            timed = timing.measure(
                [Task(each, feeds) for each in candidates], seconds=seconds, seed=self.context.seed
            ).timings[1]
        if timed.speedup is None:
            raise StageError(f"the pruned model does not run on {self.context.target}: {timed.reason}")
        return timed.speedup

    def blocks_for(self, wanted: float, most: float, pruner: Pruner, module: Any, order: Sequence[UnitBlock]) -> Cut:
        """Find the smallest prefix of ``order`` that reaches the speed-up ``wanted``, and ``most`` at most if possible.

        If the last block of the prefix brings more than ``most``, it and the rest of its group are left out, and blocks
        of other groups are cut instead. Returns all blocks if no cut reaches ``wanted``. The returned speed-up is
        measured longer than the probes on the way.
        """
        probes = itertools.count()

        def measured(blocks: Sequence[int], seconds: float) -> Interval:
            self.context.progress(f"measuring · {wanted:g}x wanted", next(probes), None)
            return self.speedup(pruner.cut(module, [order[number] for number in blocks]), seconds)

        taken: list[int] = []
        left = list(range(len(order)))
        tried: list[Cut] = []
        while not tried or left:
            count = _fewest(measured, taken, left, wanted, least=1 if tried else 0)
            blocks = [*taken, *left[:count]]
            cut = Cut(blocks, measured(blocks, _PROOF_SECONDS))
            tried.append(cut)
            if cut.speedup.value < wanted * (1 - _TOLERANCE):
                taken, left = blocks, left[count:]  # a probe showed too much: more blocks must go
            elif blocks and cut.speedup.value > most * (1 + _TOLERANCE):
                # A kernel may be much faster with some widths, so the last block brought too much, and so may the rest
                # of its group. The missing speed-up is sought in other groups.
                taken, group = blocks[:-1], order[blocks[-1]].group.name
                left = [number for number in left[count:] if order[number].group.name != group]
            else:
                break
        enough = [each for each in tried if each.speedup.value >= wanted * (1 - _TOLERANCE)]
        return min(enough, key=lambda each: each.speedup.value) if enough else tried[-1]

    def furthest(self, pruner: Pruner, module: Any, order: Sequence[UnitBlock]) -> Interval:
        """Measure the speed-up with all blocks cut."""
        self.context.progress("measuring · all cut", 0, None)
        return self.speedup(pruner.cut(module, order), _PROBE_SECONDS)

    def savings(self, pruner: Pruner, module: Any, survey: Sequence[GroupSensitivity]) -> dict[str, float]:
        """Measure the share of the baseline's time that the cut of each group saves on the target, by group name."""
        found = {}
        before = 1.0 / self.speedup(module, _PROBE_SECONDS).value  # layers may have been dropped already
        for number, each in enumerate(survey):
            self.context.progress(f"measuring · {each.group.name}", number, len(survey))
            small = pruner.cut(module, [UnitBlock(each.group, each.units, 0.0)])
            found[each.group.name] = before - 1.0 / self.speedup(small, _PROBE_SECONDS).value
        return found

    @cached_property
    def _exported(self) -> Model:
        return _export(self.baseline, self.context, self.context.workdir / "baseline")


def _fewest(
    measured: Callable[[Sequence[int], float], Interval],
    taken: Sequence[int],
    left: Sequence[int],
    wanted: float,
    *,
    least: int,
) -> int:
    """Bisect for the least number of blocks of ``left`` that reaches ``wanted`` together with ``taken``; all if none
    does. Each probe is measured for a short time.
    """
    low, high = least, len(left)
    while low < high:
        middle = (low + high) // 2
        if measured([*taken, *left[:middle]], _PROBE_SECONDS).value < wanted:
            low = middle + 1
        else:
            high = middle
    return low


def _export(model: Model, context: Context, folder: Path) -> Model:
    folder.mkdir(parents=True)
    return stage_class("export")().apply(model, replace(context, workdir=folder)).model
