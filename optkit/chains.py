"""The stages that a recipe means for each target, and the same without what changes the model's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optkit.model import TORCH_FORMATS, Model
from optkit.recipe import Recipe
from optkit.stage import Note, Stage, stage_class
from optkit.target import target

FLOAT = "float"
"""The name of the model that came in, exported and compiled without what the recipe does to its numbers."""
_FORM = ("export", "compile")
"""Stages that change a model's form, not what it computes."""


@dataclass(frozen=True)
class Chain:
    """The stages for one target, under the name that their result has in tables."""

    name: str
    target: str
    stages: tuple[Stage, ...]

    @property
    def title(self) -> str:
        """``int8 on openvino``."""
        return f"{self.name} on {self.target}"

    @property
    def bundle(self) -> str:
        """The folder of its bundle, among the run's bundles."""
        return f"{self.target}-{FLOAT}" if self.name == FLOAT else self.target


def chains(recipe: Recipe, model: Model, native: str) -> list[Chain]:
    """The recipe's chain for each target; then, where it changes numbers, the same without.

    The model that came in runs on ``native`` anyhow, so that target needs no second form of it.
    """
    name = "-".join(_label(stage) for stage in recipe.stages if stage.name not in _FORM) or "compiled"
    own = [Chain(name, each, _completed(recipe, model, each)) for each in recipe.targets]
    float_ones = [_without_changes(chain) for chain in own if chain.target != native]
    return own + [plain for plain in float_ones if plain.stages != _stages_of(own, plain.target)]


def notes(recipe: Recipe, model: Model) -> tuple[Note, ...]:
    """What was added to the recipe's stages."""
    found = []
    if any(_needs_export(recipe, model, name) for name in recipe.targets):
        found.append(Note(f"export was added to the stages: the targets take no {model.format} model"))
    if not _has(recipe, "compile"):
        found.append(Note("compile was added to the stages, so that there is a bundle"))
    return tuple(found)


def _without_changes(chain: Chain) -> Chain:
    return Chain(FLOAT, chain.target, tuple(stage for stage in chain.stages if stage.name in _FORM))


def _stages_of(found: Sequence[Chain], target_name: str) -> tuple[Stage, ...]:
    return next(chain.stages for chain in found if chain.target == target_name)


def _completed(recipe: Recipe, model: Model, target_name: str) -> tuple[Stage, ...]:
    """The recipe's stages, the missing ones added; what is measured with so many threads is shipped with them."""
    complete = list(recipe.stages)
    if _needs_export(recipe, model, target_name):
        complete.insert(0, stage_class("export")())
    if not _has(recipe, "compile"):
        complete.append(stage_class("compile")())
    return tuple(_with_threads(stage, recipe.benchmark.threads) for stage in complete)


def _with_threads(stage: Stage, threads: int | None) -> Stage:
    return stage.model_copy(update={"threads": threads}) if getattr(stage, "threads", 0) is None else stage


def _needs_export(recipe: Recipe, model: Model, target_name: str) -> bool:
    takes_torch = any(format in TORCH_FORMATS for format in target(target_name).formats)
    return model.format in TORCH_FORMATS and not takes_torch and not _has(recipe, "export")


def _has(recipe: Recipe, name: str) -> bool:
    return any(stage.name == name for stage in recipe.stages)


def _label(stage: Stage) -> str:
    precision = getattr(stage, "precision", None)
    return precision if isinstance(precision, str) else stage.name
