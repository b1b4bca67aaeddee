"""Chains of stages: for each target the recipe's stages, completed, and a float counterpart of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from optkit.formats.model import TORCH_FORMATS, Model
from optkit.notes import Note
from optkit.runs.recipe import Recipe
from optkit.stages.stage import Stage, stage_class
from optkit.targets.target import target

FLOAT = "float"
"""Name of the chain that exports and compiles the original model without changing its numbers."""
_FORM = ("export", "fuse", "compile")
"""Stages that change a model's form and not its numbers."""


@dataclass(frozen=True)
class Chain:
    """The stages for one target."""

    name: str
    """Name of the result in tables."""
    target: str
    stages: tuple[Stage, ...]
    options: dict[str, Any] = field(default_factory=dict)
    """Runtime options, for a chain without a compile stage."""

    @property
    def title(self) -> str:
        """The name with the target: ``int8 on openvino``."""
        return f"{self.name} on {self.target}"

    @property
    def bundle(self) -> str:
        """Name of the bundle's folder among the run's bundles."""
        return f"{self.target}-{FLOAT}" if self.name == FLOAT else self.target


def plan_chains(recipe: Recipe, model: Model, native: str) -> list[Chain]:
    """Return the recipe's chain for each target and, if the recipe changes numbers, a float chain for each.

    ``native`` is the target of the original model, which is measured anyway and needs no float chain.
    """
    changes = [stage for stage in recipe.stages if stage.name not in _FORM]
    form = [stage for stage in recipe.stages if stage.name in _FORM]
    name = "-".join(_label(stage) for stage in changes) or "compiled"
    found = [Chain(name, each, complete_stages(recipe.stages, recipe, model, each)) for each in recipe.targets]
    if changes:
        others = [each for each in recipe.targets if each != native]
        found += [Chain(FLOAT, each, complete_stages(form, recipe, model, each)) for each in others]
    return found


def chain_notes(recipe: Recipe, model: Model) -> tuple[Note, ...]:
    """Return notes on the stages added to those of the recipe."""
    found = []
    if any(_needs_export(recipe.stages, model, name) for name in recipe.targets):
        found.append(Note(f"export was added to the stages: the targets do not read {model.format} models"))
    if not _has(recipe.stages, "compile"):
        found.append(Note("compile was added to the stages, so that there is a bundle"))
    return tuple(found)


def complete_stages(given: Sequence[Stage], recipe: Recipe, model: Model, target_name: str) -> tuple[Stage, ...]:
    """Add the missing export and compile stages; a result measured with fixed threads is compiled for as many."""
    complete = list(given)
    if _needs_export(given, model, target_name):
        last = max((number for number, stage in enumerate(given) if stage.makes_torch), default=-1)
        complete.insert(last + 1, stage_class("export")())
    if not _has(given, "compile"):
        complete.append(stage_class("compile")())
    return tuple(_with_threads(stage, recipe.benchmark.threads) for stage in complete)


def _with_threads(stage: Stage, threads: int | None) -> Stage:
    return stage.model_copy(update={"threads": threads}) if getattr(stage, "threads", 0) is None else stage


def _needs_export(stages: Sequence[Stage], model: Model, target_name: str) -> bool:
    if model.format not in TORCH_FORMATS or any(format in TORCH_FORMATS for format in target(target_name).formats):
        return False
    return not any(stage.takes_torch and not stage.makes_torch for stage in stages)


def _has(stages: Sequence[Stage], name: str) -> bool:
    return any(stage.name == name for stage in stages)


def _label(stage: Stage) -> str:
    precision = getattr(stage, "precision", None)
    return precision if isinstance(precision, str) else stage.name
