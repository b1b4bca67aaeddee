"""A recipe: its keys, read from YAML and checked. Nothing runs here.

Keys have the names and bounds of the command line's options; a stage's keys are that stage's fields. Relative paths
are relative to the recipe.
"""

from __future__ import annotations

import json
import os
import typing
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, SerializeAsAny, ValidationError, WithJsonSchema

from optkit.data.description import Block, DataSpec
from optkit.errors import MetricError, RecipeError, UsageError
from optkit.metrics.metric import METRICS, parse_metric
from optkit.options import validation
from optkit.options.data import CalibrationSize, LossOptions, MetricOption
from optkit.options.measuring import BatchOption, MeasurementOptions, Precision, Threads
from optkit.options.option import options_of
from optkit.options.rules import Rules
from optkit.options.source import ModelArgument, ModelSource, Seed
from optkit.stages.stage import STAGES, Stage, stage_class
from optkit.system import yaml_lines
from optkit.system.yaml_lines import Document, Place
from optkit.targets.table import DEFAULT, TARGETS


def _path_alone(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


class ModelSpec(ModelSource, Block):
    """The model that comes in, with the options that open it."""

    path: ModelArgument[str]

    def beside(self, folder: Path) -> ModelSpec:
        """Take relative paths from ``folder``."""
        code = self.code and os.path.normpath(folder / self.code)
        return self.model_copy(update={"path": os.path.normpath(folder / self.path), "code": code})


class Benchmark(MeasurementOptions, Precision, Threads, BatchOption, Block):
    """The options of the measurement that compares the results."""


_Data = Annotated[DataSpec, BeforeValidator(_path_alone, json_schema_input_type=str | DataSpec)]
_Stages = Annotated[list[SerializeAsAny[Stage]], WithJsonSchema({"type": "array"})]
_Targets = Annotated[list[str], Field(min_length=1)]


class Recipe(MetricOption, LossOptions, CalibrationSize, Seed, Block):
    """All keys of a recipe."""

    model: Annotated[ModelSpec, BeforeValidator(_path_alone, json_schema_input_type=str | ModelSpec)] = Field(
        description="A path, or `path`, `inputs`, `code`, `trust`."
    )
    data: _Data | None = Field(
        None,
        description="A path, or `path` with an `images` or `text` block. Without data, speed and size alone decide.",
    )
    train: _Data | None = Field(
        None, description="Training data, disjoint from `data`; by default split off it where a stage trains."
    )
    calibration: _Data | None = Field(
        None, description="Calibration data, disjoint from `data`; by default split off it where a stage calibrates."
    )
    targets: _Targets = Field(default_factory=lambda: [DEFAULT], description="Runtimes to end on, a branch each.")
    stages: _Stages = Field(
        default_factory=list, description="The stages in order; each a name, or a name with its fields."
    )
    benchmark: Benchmark = Field(Benchmark(), description="`seconds`, `precision`, `threads`, `batch`.")
    gate: Rules | None = Field(
        None, description="Rules that the result must keep; without a rule in it: not be worse than the baseline."
    )

    @property
    def bound(self) -> float | None:
        """The largest loss that a result may have: ``max_drop``, else the gate's."""
        return self.gate.max_drop if self.max_drop is None and self.gate else self.max_drop

    def beside(self, folder: Path) -> Recipe:
        """Take relative paths from ``folder``."""
        return self.model_copy(
            update={
                "model": self.model.beside(folder),
                "stages": [stage.beside(folder) for stage in self.stages],
                "data": self.data and _data_beside(self.data, folder),
                "train": self.train and _data_beside(self.train, folder),
                "calibration": self.calibration and _data_beside(self.calibration, folder),
            }
        )

    def document(self) -> dict[str, Any]:
        """Convert to plain values, as a file would hold them, every default made explicit."""
        content = _in_order(self) | {"model": _in_order(self.model), "benchmark": _in_order(self.benchmark)}
        del content["stages"], content["gate"]
        stages = [{stage.name: stage.model_dump(mode="json")} for stage in self.stages]
        return content | {"stages": stages} | ({} if self.gate is None else {"gate": self.gate.given})


def read_recipe(path: str | Path, settings: Sequence[str] = ()) -> Recipe:
    """Read the recipe at ``path``, with ``settings`` (``a.b=value``) put in, its paths relative to the current folder.

    Raises RecipeError naming file and line; UsageError for a setting that does not fit.
    """
    file = Path(path)
    document = yaml_lines.read(file, RecipeError)
    if not isinstance(document.content, dict):
        raise RecipeError(f"{document.where(())}: a recipe is a mapping of keys to values", hint=_EXAMPLE)
    reading = _Reading(document)
    for setting in settings:
        reading.set(setting)
    return reading.recipe().beside(file.parent)


_EXAMPLE = "for example: {model: model.onnx, data: data.npz, stages: [{quantize: {precision: int8}}]}"


class _Reading:
    """A recipe being read: plain values, and the place in the file or in a ``--set`` that an error points to."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.content: dict[str, Any] = document.content
        self.settings: dict[Place, str] = {}
        self._unfold()

    def recipe(self) -> Recipe:
        """Check the whole."""
        self._unfold()
        entries = self.content.get("stages", [])
        stages = [self._stage(index, entry) for index, entry in enumerate(entries)] if _is_list(entries) else entries
        try:
            recipe = Recipe.model_validate(self.content | {"stages": stages})
        except ValidationError as error:
            raise self._explained(error, Recipe) from None
        self._check(recipe)
        return recipe

    def set(self, setting: str) -> None:
        """Put ``a.b=value`` in; the value is YAML."""
        name, equals, text = setting.partition("=")
        if not equals or not name:
            raise UsageError(f"--set {setting!r} is not KEY=VALUE", hint="for example --set benchmark.seconds=5")
        place: Place = tuple(int(part) if part.isdigit() else part for part in name.split("."))
        self.settings[place] = setting
        holder = self._holder(place)
        holder[place[-1]] = _value(text, setting)

    def _holder(self, place: Place) -> Any:
        """Find the mapping or list that holds the last key of ``place``; missing mappings on the way are made."""
        holder: Any = self.content
        for depth, key in enumerate(place[:-1]):
            self._check_holds(holder, key, place, depth)
            if isinstance(holder, dict) and holder.get(key) is None:
                holder[key] = {}
            holder = holder[key]
        self._check_holds(holder, place[-1], place, len(place) - 1)
        return holder

    def _check_holds(self, holder: Any, key: str | int, place: Place, depth: int) -> None:
        name = validation.dotted(place[:depth])
        if _is_list(holder) and not (isinstance(key, int) and key < len(holder)):
            raise self.failure(place, f"{name} has {len(holder)} items, counted from 0, and no item {key!r}")
        if not isinstance(holder, dict | list):
            raise self.failure(place, f"{name} is {validation.short(holder)} and has no keys")

    def failure(self, place: Place, text: str, *, hint: str | None = None) -> UsageError:
        """Make the error for a mistake at ``place``: in a ``--set``, or in a line of the file."""
        for given, setting in self.settings.items():
            made_by_it = given[: len(place)] == place and place not in self.document.lines
            if place[: len(given)] == given or made_by_it:
                return UsageError(f"--set {setting}: {text}", hint=hint)
        return RecipeError(f"{self.document.where(place)}: {text}", hint=hint)

    def unknown(self, place: Place, what: str, name: str, known: Iterable[str]) -> UsageError:
        """Make the error for an unknown name, with the nearest known one."""
        listing = list(known)
        near = get_close_matches(str(name), listing, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        around = validation.dotted(place[:-1])
        inside = f" in {around}" if around else ""
        return self.failure(place, f"unknown {what} {name!r}{inside}{guess}", hint=f"known: {', '.join(listing)}")

    def _unfold(self) -> None:
        """Expand short forms: a path for a block, a name for a stage without fields."""
        for key in ("model", "data", "train", "calibration"):
            if key in self.content:
                self.content[key] = _path_alone(self.content[key])
        if self.content.get("gate", {}) is None:
            self.content["gate"] = {}  # a gate without rules is still a gate
        entries = self.content.get("stages")
        if isinstance(entries, list):
            self.content["stages"] = [_unfolded(entry) for entry in entries]

    def _stage(self, index: int, entry: Any) -> Stage:
        place: Place = ("stages", index)
        for name in entry if isinstance(entry, dict) else ():
            if name not in STAGES:
                raise self.unknown((*place, name), "stage", name, STAGES)
        if not isinstance(entry, dict) or len(entry) != 1:
            text = f"stages[{index}] should be one stage's name with its fields, not {validation.short(entry)}"
            raise self.failure(place, text, hint=f"for example {{quantize: {{precision: int8}}}}; known: {_STAGES}")
        name, fields = next(iter(entry.items()))
        kind = stage_class(name)
        try:
            # As JSON, so that a list may stand for a tuple and nothing else is converted.
            return kind.model_validate_json(json.dumps(fields, default=str), strict=True)
        except ValidationError as error:
            raise self._explained(error, kind, (*place, name)) from None

    def _explained(self, error: ValidationError, root: type[BaseModel], prefix: Place = ()) -> UsageError:
        """Turn pydantic's first complaint into an error with the place in the recipe."""
        found = validation.complaint(error)
        place = prefix + found.place
        if found.kind == "extra_forbidden":
            return self.unknown(place, "key", str(place[-1]), _fields(root, found.place[:-1]))
        if found.kind == "missing":
            around = validation.dotted(place[:-1]) or "the recipe"
            return self.failure(place[:-1], f"{around} needs the key {place[-1]!r}", hint=_EXAMPLE)
        name = validation.dotted(self._existing(place)) or "the recipe"
        return self.failure(place, found.line(name))

    def _existing(self, place: Place) -> Place:
        """Cut the names of alternatives off ``place`` that pydantic adds to it."""
        found: Any = self.content
        for depth, key in enumerate(place):
            try:
                found = found[key]
            except (KeyError, IndexError, TypeError):
                return place[:depth]
        return place

    def _check(self, recipe: Recipe) -> None:
        for index, name in enumerate(recipe.targets):
            if name not in TARGETS:
                raise self.unknown(("targets", index), "target", name, TARGETS)
            if name in recipe.targets[:index]:
                raise self.failure(("targets", index), f"the target {name!r} is given twice")
        if recipe.metric is not None:
            self._check_metric(recipe.metric)
        if recipe.data is None:
            self._check_without_data(recipe)
        for index, stage in enumerate(recipe.stages[:-1]):
            if stage.name == "compile":
                raise self.failure(
                    ("stages", index), f"compile must be the last stage, and stages[{index + 1}] follows"
                )

    def _check_without_data(self, recipe: Recipe) -> None:
        given: dict[Place, object] = {("metric",): recipe.metric, ("max_drop",): recipe.max_drop}
        given[("gate", "max_drop")] = recipe.gate and recipe.gate.max_drop
        for place, value in given.items():
            if value is not None:
                raise self.failure(
                    place, f"{validation.dotted(place)} does nothing without data", hint="add data: PATH"
                )

    def _check_metric(self, metric: str) -> None:
        name = metric.partition(":")[0]
        if name not in METRICS:
            raise self.unknown(("metric",), "metric", name, METRICS)
        try:
            parse_metric(metric)
        except MetricError as error:
            raise self.failure(("metric",), error.message, hint=error.hint) from None


_STAGES = ", ".join(STAGES)


def _in_order(part: BaseModel) -> dict[str, Any]:
    """Convert to plain values, own keys before those of groups."""
    dumped = part.model_dump(mode="json")
    return {option.name: dumped[option.name] for option in options_of(type(part))}


def _data_beside(spec: DataSpec, folder: Path) -> DataSpec:
    moved = spec.beside(folder)
    return moved.model_copy(update={"path": os.path.normpath(moved.path)})


def _unfolded(entry: Any) -> Any:
    if isinstance(entry, str):
        return {entry: {}}
    if isinstance(entry, dict) and len(entry) == 1:
        return {name: {} if fields is None else fields for name, fields in entry.items()}
    return entry


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _value(text: str, setting: str) -> Any:
    import yaml

    try:
        return yaml.load(text, yaml_lines.Loader)  # noqa: S506  a SafeLoader
    except (yaml.YAMLError, ValueError):
        raise UsageError(f"--set {setting}: the value is not valid YAML") from None


def _fields(root: type[BaseModel], place: Place) -> Mapping[str, Any]:
    """Find the keys known at ``place`` below ``root``."""
    for key in place:
        found = root.model_fields.get(str(key))
        root = next(iter(_models(found.annotation)), root) if found else root
    return root.model_fields


def _models(annotation: Any) -> list[type[BaseModel]]:
    """List the models among the alternatives of an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for each in typing.get_args(annotation) for model in _models(each)]
