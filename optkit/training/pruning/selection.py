"""Which units to cut: those whose loss costs least for what it saves, fragile layers spared.

Each group is first cut alone by half. What that does to the held-out loss is the group's sensitivity; it is shared out
among its units by their importance, so that units of all layers have a price in loss for each operation saved.
"""

from __future__ import annotations

import bisect
import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from optkit.formats.tensors import Array
from optkit.progress import Progress, no_progress
from optkit.training.pruning import dependencies as pruning_dependencies
from optkit.training.pruning.dependencies import Graph, Group, Importance
from optkit.training.samples import Drawn

Scope = Literal["global", "layer"]
Of = Literal["macs", "parameters"]
_MOST = 0.9
"""The share of a group's units that may go: what is left must carry on what the layer does."""
_FENCE = 1.5
"""Tukey's: a layer is fragile whose damage lies so many interquartile ranges beyond the upper quartile."""
_FEWEST_FOR_FENCE = 4
_LEAST_DAMAGE = 1e-6


@dataclass(frozen=True)
class Sensitivity:
    """What cutting half of a group alone, these ``units``, does: to the held-out loss, and to the cost, as a share of
    the whole.
    """

    group: Group
    units: tuple[int, ...]
    damage: float
    saved: float
    fragile: bool = False


@dataclass
class Survey:
    """All groups with their sensitivity, the most fragile first, and what cannot be cut with the reason."""

    found: list[Sensitivity] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Block:
    """Units of a group that go together, and how dear that is: less is cut sooner."""

    group: Group
    units: tuple[int, ...]
    price: float


@dataclass
class Pruner:
    """Cuts modules. ``loss(module)`` is the held-out loss, ``learn(module)`` leaves gradients or activations.

    ``example`` is a batch that modules run on; ``of`` is what is to be saved.
    """

    example: Drawn
    loss: Callable[[Any], float]
    learn: Callable[[Any], None]
    importance: Importance = "taylor"
    scope: Scope = "global"
    of: Of = "macs"
    round_to: int = 8
    exclude: Sequence[str] = ()
    progress: Progress = no_progress

    def survey(self, module: Any) -> Survey:
        """Cut half of each group alone, on copies."""
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
            survey.found.append(Sensitivity(group, tuple(half), damage, 1.0 - self.cost(copied) / cost))
        survey.found = _fenced(sorted(survey.found, key=lambda each: -each.damage))
        return survey

    def order(self, module: Any, survey: Survey) -> list[Block]:
        """All blocks of units that may go, in the order to cut them. By layer, all groups lose the same share."""
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
                found.append(Block(group, units, price))
        return sorted(found, key=lambda block: block.price)

    def cut(self, module: Any, blocks: Sequence[Block]) -> Any:
        """A copy of the module without these blocks."""
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

    def cut_to(self, module: Any, order: Sequence[Block], share: float, whole: float) -> Any:
        """The module without the first blocks of the order that bring the cost down to ``share`` of ``whole``."""
        return self.cut(module, order[: self.fewest(module, order, lambda small: self.cost(small) <= share * whole)])

    def fewest(self, module: Any, order: Sequence[Block], enough: Callable[[Any], bool]) -> int:
        """How many first blocks of the order must go until the module is small ``enough``; all where that is not."""
        numbers = range(len(order))
        return bisect.bisect_left(numbers, True, key=lambda number: enough(self.cut(module, order[:number])))

    def cost(self, module: Any) -> float:
        """Multiply-accumulates for one sample, or parameters."""
        return float(parameters(module)) if self.of == "parameters" else macs(module, self.example)

    def _scores(self, module: Any, groups: Sequence[Group]) -> dict[str, Array]:
        return Graph(copy.deepcopy(module), self.example).scores(groups, self.importance, self.learn)

    def _blocks(self, group: Group, scores: Array) -> list[tuple[int, ...]]:
        """Units to go together, the least important first: so many that a multiple of ``round_to`` is left."""
        step = self._step(group)
        order = np.argsort(scores, kind="stable").tolist()
        most = int(_MOST * group.units)
        first = group.units % step or step
        edges = list(range(first, most + 1, step))
        return [tuple(order[start:end]) for start, end in zip([0, *edges], edges, strict=False)]

    def _step(self, group: Group) -> int:
        """How many units go together: ``round_to``, or where a group is narrow, the part of it that leaves a choice."""
        step = 1 if group.kind == "heads" else self.round_to
        while step > 1 and group.units < 2 * step:
            step //= 2
        return step


def macs(module: Any, example: Drawn) -> float:
    """Multiply-accumulates of matrix products, convolutions and attention for one sample, as torch counts them."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # what is fused is not counted
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            module.eval()(*example.inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return float(counter.get_total_flops()) / 2 / len(example.rows)


def parameters(module: Any) -> int:
    """How many there are."""
    return sum(parameter.numel() for parameter in module.parameters())


def _fenced(found: list[Sensitivity]) -> list[Sensitivity]:
    """The same, fragile ones marked: outliers of the logarithm of the damage."""
    if len(found) < _FEWEST_FOR_FENCE:
        return found
    logs = [math.log(each.damage) for each in found]
    lower, upper = np.quantile(logs, [0.25, 0.75])
    limit = upper + _FENCE * (upper - lower)
    return [replace(each, fragile=log > limit) for each, log in zip(found, logs, strict=True)]
