"""Selection of the units to prune: those that cost the least held-out loss for what they save; fragile layers stay.

Each group of units is first pruned alone by half. The damage to the held-out loss is the group's sensitivity. It is
divided among the units by their importance, so that units of all layers have a price: loss for each operation saved.
"""

from __future__ import annotations

import bisect
import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from optkit.formats.tensors import Array
from optkit.options.verbs.prune import Importance, Of, Scope
from optkit.progress import Progress, no_progress
from optkit.training.pruning import dependencies as pruning_dependencies
from optkit.training.pruning.dependencies import Graph, Group
from optkit.training.samples import Drawn

_MOST = 0.9
"""Highest share of a group's units that may be cut: the rest must still do the layer's work."""
_FENCE = 1.5
"""Tukey's fence: a layer is fragile if its damage lies this many interquartile ranges above the upper quartile."""
_FEWEST_FOR_FENCE = 4
_LEAST_DAMAGE = 1e-6


@dataclass(frozen=True)
class GroupSensitivity:
    """The sensitivity of a group: the effect of cutting half of it alone."""

    group: Group
    units: tuple[int, ...]
    """The units that were cut."""
    damage: float
    """Increase of the held-out loss."""
    saved: float
    """Decrease of the cost, as a share of the whole module's."""
    fragile: bool = False
    """True if the damage is an outlier among the groups."""


@dataclass
class Survey:
    """The sensitivities of all groups."""

    found: list[GroupSensitivity] = field(default_factory=list)
    """Groups that can be cut, the most sensitive first."""
    refused: dict[str, str] = field(default_factory=dict)
    """Layers that cannot be cut, by name, with the reason."""


@dataclass(frozen=True)
class UnitBlock:
    """Units of a group that are cut together."""

    group: Group
    units: tuple[int, ...]
    price: float
    """Loss for each operation saved; blocks of lower price are cut first."""


@dataclass
class Pruner:
    """Measures the sensitivity of a module's groups and cuts their units."""

    example: Drawn
    """A batch that modules run on."""
    loss: Callable[[Any], float]
    """Computes the held-out loss of a module."""
    learn: Callable[[Any], None]
    """Runs a module on training samples, so that it holds gradients or activations."""
    importance: Importance = "taylor"
    scope: Scope = "global"
    """``global`` ranks the units of all groups by price; ``layer`` cuts the same share of every group."""
    of: Of = "macs"
    """The cost to reduce."""
    round_to: int = 8
    """Widths are cut to multiples of it."""
    exclude: Sequence[str] = ()
    progress: Progress = no_progress

    def survey(self, module: Any) -> Survey:
        """Measure the sensitivity of each group by cutting half of it alone, on copies."""
        groups, refused = Graph(copy.deepcopy(module), self.example).groups(self.exclude)
        whole, cost = self.loss(module), self.cost(module)
        scores = self._scores(module, groups)
        survey = Survey(refused=refused)
        for number, group in enumerate(groups):
            self.progress(f"sensitivity · {group.name}", number, len(groups))
            blocks = self._blocks(group, scores[group.name])
            half = [unit for block in blocks[: max(1, len(blocks) // 2)] for unit in block]
            if not half:
                survey.refused[group.name] = "too narrow"
                continue
            copied, reason = pruning_dependencies.tried(module, group, half, self.example)
            if reason is not None:
                survey.refused[group.name] = reason
                continue
            damage = max(self.loss(copied) - whole, _LEAST_DAMAGE * max(abs(whole), 1.0))
            survey.found.append(GroupSensitivity(group, tuple(half), damage, 1.0 - self.cost(copied) / cost))
        survey.found = _mark_fragile(sorted(survey.found, key=lambda each: -each.damage))
        return survey

    def order(self, module: Any, survey: Survey) -> list[UnitBlock]:
        """List all blocks that may be cut, in the order of their price; fragile groups are left out."""
        spared = {each.group.name for each in survey.found if each.fragile}
        sensitivity = {each.group.name: each for each in survey.found if each.group.name not in spared}
        now = {group.name: group for group in Graph(module, self.example).groups(self.exclude)[0]}
        groups = [now[name] for name in sensitivity if name in now]
        scores = self._scores(module, groups)
        found = []
        for group in groups:
            blocks = self._blocks(group, scores[group.name])
            known = sensitivity[group.name]
            half = sum(scores[group.name][list(units)].sum() for units in blocks[: max(1, len(blocks) // 2)])
            for number, units in enumerate(blocks):
                share = scores[group.name][list(units)].sum() / max(half, 1e-30)
                dear = known.damage * share / max(known.saved, 1e-9)
                price = dear if self.scope == "global" else (number + 1) / (len(blocks) + 1)
                found.append(UnitBlock(group, units, price))
        return sorted(found, key=lambda block: block.price)

    def cut(self, module: Any, blocks: Sequence[UnitBlock]) -> Any:
        """Return a copy of the module without these blocks."""
        copied = copy.deepcopy(module)
        units: dict[str, tuple[Group, list[int]]] = {}
        for block in blocks:
            units.setdefault(block.group.name, (block.group, []))[1].extend(block.units)
        graph = Graph(copied, self.example)
        for group, chosen in units.values():
            graph.cut(group, chosen)
        for parameter in copied.parameters():
            parameter.grad = None
        return copied

    def cut_to(self, module: Any, order: Sequence[UnitBlock], share: float, whole: float) -> Any:
        """Cut the fewest first blocks of ``order`` that reduce the cost to ``share`` of ``whole``; returns a copy."""
        return self.cut(module, order[: self.fewest(module, order, lambda small: self.cost(small) <= share * whole)])

    def fewest(self, module: Any, order: Sequence[UnitBlock], enough: Callable[[Any], bool]) -> int:
        """Find the least number of first blocks of ``order`` to cut until the module is small ``enough``; all if it
        never is.
        """
        numbers = range(len(order))
        return bisect.bisect_left(numbers, True, key=lambda number: enough(self.cut(module, order[:number])))

    def cost(self, module: Any) -> float:
        """Compute the cost of a module: multiply-accumulates for one sample, or parameters."""
        return float(parameters(module)) if self.of == "parameters" else macs(module, self.example)

    def _scores(self, module: Any, groups: Sequence[Group]) -> dict[str, Array]:
        return Graph(copy.deepcopy(module), self.example).scores(groups, self.importance, self.learn)

    def _blocks(self, group: Group, scores: Array) -> list[tuple[int, ...]]:
        """Divide the units of a group into blocks, the least important first, that leave multiples of ``round_to``."""
        step = self._step(group)
        order = np.argsort(scores, kind="stable").tolist()
        most = int(_MOST * group.units)
        first = group.units % step or step
        edges = list(range(first, most + 1, step))
        return [tuple(order[start:end]) for start, end in zip([0, *edges], edges, strict=False)]

    def _step(self, group: Group) -> int:
        """Return the units in a block: ``round_to``, or for narrow groups a power-of-two part of it."""
        step = 1 if group.kind == "heads" else self.round_to
        while step > 1 and group.units < 2 * step:
            step //= 2
        return step


def macs(module: Any, example: Drawn) -> float:
    """Count the multiply-accumulates of matrix products, convolutions and attention for one sample, with torch."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # fused attention is not counted
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            module.eval()(*example.inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return float(counter.get_total_flops()) / 2 / len(example.rows)


def parameters(module: Any) -> int:
    """Count the parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def _mark_fragile(found: list[GroupSensitivity]) -> list[GroupSensitivity]:
    """Mark the fragile groups: outliers of the logarithm of the damage."""
    if len(found) < _FEWEST_FOR_FENCE:
        return found
    logs = [math.log(each.damage) for each in found]
    lower, upper = np.quantile(logs, [0.25, 0.75])
    limit = upper + _FENCE * (upper - lower)
    return [replace(each, fragile=log > limit) for each, log in zip(found, logs, strict=True)]
