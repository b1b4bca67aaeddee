"""Groups of a module that can be pruned: channels, neurons and heads, each with its dependent layers.

The dependency graph is torch-pruning's: "DepGraph: Towards Any Structural Pruning", Fang et al., 2023.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from optkit import lazy
from optkit.errors import StageError
from optkit.formats.tensors import Array
from optkit.formats.torch.outputs import named_outputs
from optkit.options.verbs.prune import Importance
from optkit.system import native
from optkit.system.native import Engine
from optkit.training.pruning import attention_heads
from optkit.training.pruning.attention_heads import Heads
from optkit.training.samples import Drawn

_ENGINE = Engine("torch-pruning")
_UNCUT = "LSTM", "GRU", "RNN", "MultiheadAttention"
"""Layers whose widths depend on each other inside their own code."""


@dataclass(frozen=True)
class Group:
    """Units that are pruned together with their dependent layers, named after the first layer that produces them.

    A unit is ``width`` channels: one, or a head's. ``parts`` is the number of groups of a grouped convolution; each
    loses the same units.
    """

    name: str
    kind: Literal["channels", "neurons", "heads"]
    units: int
    width: int = 1
    parts: int = 1
    heads: Heads | None = None


class Graph:
    """The dependency graph of one module; pruning changes the module, and needs a new graph.

    ``example`` is a batch that the module runs on. Raises StageError where torch-pruning cannot follow the module.
    """

    def __init__(self, module: Any, example: Drawn) -> None:
        self._library = lazy.require("torch_pruning", extra="training")
        self.module, self.example = module.eval(), example
        with native.silent(), _ENGINE.running():
            self._attentions = attention_heads.found(module, example.inputs)
            self._graph = self._library.DependencyGraph().build_dependency(
                module, example_inputs=example.inputs, forward_fn=_forward, output_transform=_tensors
            )
        self._names = {child: name for name, child in module.named_modules()}

    def groups(self, exclude: Sequence[str] = ()) -> tuple[list[Group], dict[str, str]]:
        """Return the groups that can be pruned, and the reasons why others cannot; ``exclude`` holds layers' names."""
        chosen, refused = [], {}
        for found in self._found():
            name = self._names[found[0].dep.target.module]
            reason = self._reason(found, exclude)
            if reason is None:
                chosen.append(self._group(name, found))
            else:
                refused[name] = reason
        return chosen, refused

    def scores(self, groups: Sequence[Group], importance: Importance, learn: Callable[[Any], None]) -> dict[str, Array]:
        """Compute the importance of each unit, ``float[units]`` by the group's name, positive.

        ``learn(module)`` runs the module on data and leaves gradients; criteria on weights alone need none.
        """
        import torch

        estimator = _estimator(self._library, importance)
        watched = estimator.compute_importance(self.module) if importance == "activation" else nullcontext()
        if importance in ("taylor", "activation"):
            with watched:
                learn(self.module)
            for parameter in self.module.parameters():  # what the loss does not depend on has no gradient
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        return {group.name: self._scores(group, estimator) for group in groups}

    def _scores(self, group: Group, estimator: Any) -> Array:
        with native.silent(), _ENGINE.running():
            values = estimator(self._whole(group))
        if values is None:  # nothing of the kind that the estimator looks at follows this group
            return np.ones(group.units)
        per_channel = np.asarray(values.detach().float().cpu()).reshape(group.parts, -1).mean(0)
        scores: Array = np.abs(per_channel.reshape(group.units, group.width)).mean(1)
        return scores

    def cut(self, group: Group, units: Sequence[int]) -> None:
        """Remove these units and their dependent channels."""
        each = [unit * group.width + offset for unit in units for offset in range(group.width)]
        size = group.units * group.width
        channels = [part * size + channel for part in range(group.parts) for channel in each]
        layer = self.module.get_submodule(group.name)
        with native.silent(), _ENGINE.running():
            self._graph.get_pruning_group(
                layer, self._graph.get_pruner_of_module(layer).prune_out_channels, channels
            ).prune()
        if group.heads is not None:
            attention_heads.recount(self.module, group.heads, group.heads.count - len(units))

    def _found(self) -> Iterator[Any]:
        import torch

        kinds = (torch.nn.modules.conv._ConvNd, torch.nn.Linear)
        with native.silent():
            yield from self._graph.get_all_groups(ignored_layers=[], root_module_types=kinds)

    def _whole(self, group: Group) -> Any:
        layer = self.module.get_submodule(group.name)
        pruner = self._graph.get_pruner_of_module(layer)
        return self._graph.get_pruning_group(
            layer, pruner.prune_out_channels, list(range(pruner.get_out_channels(layer)))
        )

    def _reason(self, found: Any, exclude: Sequence[str]) -> str | None:
        """Return the reason why a group cannot be pruned, ``None`` if it can."""
        names = [self._names.get(dep.target.module, "") for dep, _ in found]
        excluded = [name for name in names if any(name == given or name.startswith(f"{given}.") for given in exclude)]
        if excluded:
            return "excluded"
        tied = {type(dep.target.module).__name__ for dep, _ in found} & set(_UNCUT)
        if tied:
            return f"it is tied to a {', '.join(sorted(tied))}, whose widths cannot be cut apart"
        shared = [each for each in self._attentions if each.query == each.key and each.query in names]
        return "query, key and value share one layer" if shared else None

    def _group(self, name: str, found: Any) -> Group:
        import torch

        layer = self.module.get_submodule(name)
        channels = self._graph.get_out_channels(layer)
        inside = {
            self._names.get(dep.target.module, "")
            for dep, _ in found
            if self._graph.is_out_channel_pruning_fn(dep.handler)
        }
        attention = next((each for each in self._attentions if each.query in inside), None)
        if attention is not None and attention.count * attention.width == channels:
            return Group(name, "heads", attention.count, attention.width, heads=attention)
        parts = max((_parts(dep.target.module) for dep, _ in found), default=1)
        kind: Literal["channels", "neurons"] = "neurons" if isinstance(layer, torch.nn.Linear) else "channels"
        return Group(name, kind, channels // parts, parts=parts)


def shapes(module: Any, example: Drawn) -> dict[str, tuple[int, ...]]:
    """Run the module on a batch, and return its outputs' shapes by name."""
    import torch

    with torch.no_grad():
        return {name: tuple(value.shape) for name, value in named_outputs(module.eval()(*example.inputs)).items()}


def tried(module: Any, group: Group, units: Sequence[int], example: Drawn) -> tuple[Any, str | None]:
    """Prune these units from a copy of the module; return it, and the reason why it is broken, if it is."""
    copied = copy.deepcopy(module)
    before = shapes(copied, example)
    try:
        with native.foreign("without a part of it the module fails"):
            Graph(copied, example).cut(group, units)
            after = shapes(copied, example)
    except StageError as error:
        return copied, error.message
    if after != before:
        return copied, "the outputs' shapes depend on it"
    if group.heads is not None:
        left = group.heads.count - len(units)
        now = [each for each in attention_heads.found(copied, example.inputs) if each.query == group.heads.query]
        if not now or (now[0].count, now[0].width) != (left, group.heads.width):
            return copied, f"the code fixes its {group.heads.count} heads; an attribute num_heads would let them be cut"
    return copied, None


def _forward(module: Any, inputs: tuple[Any, ...]) -> Any:
    return module(*inputs)


def _tensors(outputs: Any) -> list[Any]:
    return [value for value in named_outputs(outputs).values() if value.grad_fn is not None]


def _parts(layer: Any) -> int:
    """Count the groups of a grouped convolution or normalization; 1 for a depthwise one, which may lose any channel."""
    groups = getattr(layer, "groups", None) or getattr(layer, "num_groups", None) or 1
    return 1 if groups == getattr(layer, "out_channels", None) else int(groups)


def _estimator(library: Any, importance: Importance) -> Any:
    kinds = library.pruner.importance
    if importance == "taylor":
        return kinds.GroupTaylorImportance(normalizer=None)
    if importance == "activation":
        return kinds.ActivationImportance(normalizer=None)
    return kinds.GroupMagnitudeImportance(p=int(importance[1]), normalizer=None)
