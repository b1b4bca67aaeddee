"""torch's two exporters to ONNX: through ``torch.export``, and by tracing for models that it cannot keep dynamic."""

from __future__ import annotations

import inspect
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optkit import lazy
from optkit.errors import OptkitError, StageError, without_temporary
from optkit.formats.onnx import graph, renaming
from optkit.formats.onnx.nodes import walk_graphs
from optkit.formats.tensors import Arrays, Signature, TensorSpec, synthetic_feed
from optkit.formats.torch.outputs import named_outputs
from optkit.system import native

if TYPE_CHECKING:
    import onnx
from optkit.formats.torch.outputs import input_tensors

SIZES = (64, 32, 224, 128, 16, 8)
"""Sizes of dynamic dimensions other than the first that synthetic inputs try in turn; models have limits."""
_BATCH = 2
"""Batch size of synthetic inputs: torch would specialize a size of one."""
_TRACED_BATCH = 3
_TRACED_OPSETS = 20
"""Newest opset of torch's tracing exporter."""
_REFINEMENTS = 5
_FIX = re.compile(r"^  (\w+) = (.+)$", re.MULTILINE)
_PLACEHOLDER = re.compile(r"result_\d+_of_\d+")
_FIXED_HINT = "the model's code depends on this size; give it as a number in --input"


class FixedDimensionError(StageError):
    """A dimension that should be dynamic, and that torch specialized to a number."""


@dataclass(frozen=True)
class Example:
    """Inputs that the model runs on, and the names of its outputs. ``size`` is that of synthetic dimensions."""

    feed: Arrays
    tensors: tuple[Any, ...]
    outputs: tuple[str, ...]
    size: int = SIZES[0]


@dataclass(frozen=True)
class Bounds:
    """Constraints on dynamic dimensions that torch derived: ``seq`` is at most 48, ``width`` is a multiple of 8."""

    notes: dict[str, str] = field(default_factory=dict)


def example(loaded: Any, signature: Signature, real: Arrays | None, *, name: str) -> Example:
    """Find inputs that the model runs on: ``real`` ones, else synthetic ones. Raises StageError."""
    tried = [(SIZES[0], _doubled(real, signature))] if real is not None else _made_up(signature)
    what = "on the data" if real is not None else f"on made-up inputs of {', '.join(map(str, signature.inputs))}"
    failures = []
    for size, feed in tried:
        given = input_tensors(feed, signature.inputs)
        try:
            with native.foreign(
                f"{name}: the model itself fails {what}",
                hint="does --input fit the model? or give inputs that it takes: --data",
            ):
                return Example(feed, given, tuple(named_outputs(_run(loaded, given))), size)
        except StageError as error:
            failures.append(error)
    raise failures[0]


def _made_up(signature: Signature) -> list[tuple[int, Arrays]]:
    free = any(isinstance(dim, str) for spec in signature.inputs for dim in (spec.shape or ())[1:])
    sizes = SIZES if free else SIZES[:1]
    return [(size, synthetic_feed(signature.inputs, batch=_BATCH, size=size, seed=_BATCH)) for size in sizes]


def _doubled(feed: Arrays, signature: Signature) -> Arrays:
    """Repeat a batch of one, if the batch dimension is dynamic: torch would specialize a size of one."""
    import numpy as np

    if signature.batch_dim is None or any(len(array) != 1 for array in feed.values()):
        return feed
    return {name: np.concatenate([array, array]) for name, array in feed.items()}


def _run(loaded: Any, tensors: tuple[Any, ...]) -> Any:
    import torch
    from torch.export import ExportedProgram

    with torch.no_grad():
        return (loaded.module() if isinstance(loaded, ExportedProgram) else loaded)(*tensors)


def captured(loaded: Any, given: Example, signature: Signature) -> tuple[Any, Bounds]:
    """Capture the model as a module of torch's operators alone, for engines that change its graph.

    Raises FixedDimensionError, and any error of torch.
    """
    program, limits = _exported_program(loaded, given, signature)
    return program.module(), limits


def by_program(loaded: Any, given: Example, signature: Signature, opset: int) -> tuple[onnx.ModelProto, Bounds]:
    """Export a module or an ExportedProgram; torch proves that dynamic dimensions are dynamic.

    Raises FixedDimensionError for one that is not, and any error of torch.
    """
    import torch

    program, limits = _exported_program(loaded, given, signature)
    names = [spec.name for spec in signature.inputs]
    exported = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=opset,
        input_names=names,
        output_names=_placeholders(given),
        verbose=False,
    )
    if exported is None:
        raise StageError("torch returned no model")
    return _tidied(exported.model_proto, signature, given.outputs, opset), limits


def _exported_program(loaded: Any, given: Example, signature: Signature) -> tuple[Any, Bounds]:
    from torch.export import ExportedProgram

    if isinstance(loaded, ExportedProgram):
        return loaded, Bounds()
    return _program(loaded, given.tensors, signature.inputs)


def by_trace(loaded: Any, given: Example, signature: Signature, opset: int) -> onnx.ModelProto:
    """Export a ScriptModule, or trace a module: sizes that its Python code computes become constants.

    Raises any error of torch.
    """
    import torch

    from optkit.formats.torch.flat_outputs import flat

    names = [spec.name for spec in signature.inputs]
    axes = {spec.name: dynamic(spec) for spec in signature.inputs}
    with tempfile.TemporaryDirectory(prefix="optkit-") as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            flat(loaded, given.tensors, _run(loaded, given.tensors)),
            given.tensors,
            str(path),
            dynamo=False,
            opset_version=min(opset, _TRACED_OPSETS),
            input_names=names,
            output_names=_placeholders(given),
            dynamic_axes=axes | _dynamic_outputs(loaded, given, signature),
        )
        return _tidied(graph.load(path), signature, given.outputs, min(opset, _TRACED_OPSETS))


def dynamic(spec: TensorSpec) -> dict[int, str]:
    """Return the names of the dynamic dimensions by axis."""
    return {axis: dim for axis, dim in enumerate(spec.shape or ()) if isinstance(dim, str)}


def _program(module: Any, tensors: tuple[Any, ...], inputs: Sequence[TensorSpec]) -> tuple[Any, Bounds]:
    """Export the module with dimensions as free as its code allows."""
    import torch

    names = {name for spec in inputs for name in dynamic(spec).values()}
    dims: dict[str, Any] = {name: torch.export.Dim(name) for name in sorted(names)}
    limits = Bounds()
    for _ in range(_REFINEMENTS):
        shapes = tuple({axis: dims[dim] for axis, dim in dynamic(spec).items()} for spec in inputs)
        try:
            return torch.export.export(module, tensors, dynamic_shapes=_nested(module, shapes)), limits
        except (RuntimeError, ValueError) as error:  # of a private class of torch, told by its text
            fixes = _fixes(str(error))
            if not fixes:
                raise
            _refine(dims, fixes, limits)
    raise StageError(f"torch does not settle on the sizes of {', '.join(dims)}", hint=_FIXED_HINT)


def _nested(module: Any, shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Nest the inputs' shapes one tuple deeper for a forward of ``*args``."""
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    return (shapes,) if kinds[:1] == [inspect.Parameter.VAR_POSITIONAL] else shapes


def _fixes(message: str) -> dict[str, str]:
    """Parse torch's suggested fixes: ``seq = Dim('seq', max=48)``, ``seq = 64``, ``w = 8*_w``, ``h = w``."""
    return dict(_FIX.findall(message.partition("Suggested fixes:")[2]))


def _refine(dims: dict[str, Any], fixes: Mapping[str, str], limits: Bounds) -> None:
    from torch.export import Dim

    for name, fix in fixes.items():
        if name not in dims:
            continue
        multiple = re.fullmatch(r"(\d+)\*(\w+)", fix)
        if fix.isdecimal():
            raise FixedDimensionError(f"torch fixes the dynamic dimension {name!r} at {fix}", hint=_FIXED_HINT)
        if multiple:
            dims[name] = int(multiple[1]) * Dim(multiple[2], **_bounds(fixes.get(multiple[2], "")))
            limits.notes[name] = f"a multiple of {multiple[1]}"
        elif fix.startswith("Dim("):
            bounds = _bounds(fix)
            dims[name] = Dim(name, **bounds)
            words = {"min": "at least", "max": "at most"}
            limits.notes[name] = " and ".join(f"{words[key]} {value}" for key, value in bounds.items())
        else:
            raise FixedDimensionError(
                f"the model takes only {name} = {fix}", hint="give equal dimensions one name in --input"
            )


def _bounds(fix: str) -> dict[str, int]:
    return {key: int(value) for key, value in re.findall(r"(min|max)=(\d+)", fix)}


def _dynamic_outputs(script: Any, given: Example, signature: Signature) -> dict[str, dict[int, str]]:
    """Name the output dimensions that change between runs at two sizes, after the input dimension they equal."""
    feed = synthetic_feed(signature.inputs, batch=_TRACED_BATCH, size=given.size // 2, seed=0)
    others = input_tensors(feed, signature.inputs)
    try:
        with native.foreign("the model fails on other sizes"):
            first, second = (named_outputs(_run(script, each)) for each in (given.tensors, others))
    except StageError:  # then its outputs keep the sizes that torch infers
        return {}
    followed = {
        (given.feed[spec.name].shape[axis], feed[spec.name].shape[axis]): dim
        for spec in signature.inputs
        for axis, dim in dynamic(spec).items()
    }
    return {
        placeholder: {
            axis: followed.get(sizes, f"{name}_{axis}")
            for axis, sizes in enumerate(zip(first[name].shape, second[name].shape, strict=False))
            if sizes[0] != sizes[1]
        }
        for placeholder, name in zip(_placeholders(given), first, strict=True)
    }


def _placeholders(given: Example) -> list[str]:
    """Return output names for torch.onnx.export: unique by construction, because torch does not check."""
    return [f"result_{index}_of_{len(given.outputs)}" for index in range(len(given.outputs))]


def _tidied(proto: onnx.ModelProto, signature: Signature, outputs: Sequence[str], opset: int) -> onnx.ModelProto:
    """Give the graph the user's names, and drop torch's metadata.

    Metadata is most of a small model's size and holds paths of this machine. Raises StageError for another number of
    outputs or another opset, FixedDimensionError for a dimension that was specialized.
    """
    if graph.opset_of(proto) != opset:
        raise StageError(
            f"torch writes this model at opset {graph.opset_of(proto)} only, not {opset}",
            hint=f"--opset {graph.opset_of(proto)}",
        )
    if len(proto.graph.output) != len(outputs):
        raise StageError(f"torch exported {len(proto.graph.output)} of {len(outputs)} outputs")
    taken = {spec.name for spec in signature.inputs}
    renaming.outputs(proto, [f"{name}_out" if name in taken else name for name in outputs])
    renaming.dimensions(proto, _dimension_names(proto, signature) | _result_dimensions(proto))
    for each in walk_graphs(proto):
        del each.metadata_props[:]
        for noted in (*each.node, *each.value_info, *each.input, *each.output, *each.initializer):
            del noted.metadata_props[:]
            noted.doc_string = ""
    return proto


def _dimension_names(proto: onnx.ModelProto, signature: Signature) -> dict[str, str]:
    """Map torch's name of each dynamic dimension to the user's."""
    values = {value.name: value.type.tensor_type.shape.dim for value in proto.graph.input}
    names: dict[str, str] = {}
    for spec in signature.inputs:
        for axis, dim in dynamic(spec).items():
            if spec.name in values and not values[spec.name][axis].dim_param:
                raise FixedDimensionError(
                    f"torch fixes the dynamic dimension {dim!r} of input {spec.name!r} at "
                    f"{values[spec.name][axis].dim_value}",
                    hint=_FIXED_HINT,
                )
            if spec.name in values and values[spec.name][axis].dim_param.isidentifier():
                names.setdefault(values[spec.name][axis].dim_param, dim)
    return names


def _result_dimensions(proto: onnx.ModelProto) -> dict[str, str]:
    """Map dimension names that torch derived from a placeholder to the output's name and axis."""
    return {
        dim.dim_param: f"{value.name}_{axis}"
        for value in proto.graph.output
        for axis, dim in enumerate(value.type.tensor_type.shape.dim)
        if _PLACEHOLDER.search(dim.dim_param)
    }


@contextmanager
def in_one_line(path: Path) -> Iterator[None]:
    """Keep torch's logs and prints from the user, and turn its failures into a StageError of one line on ``path``."""
    lazy.require("onnxscript", extra="torch")
    try:
        with (
            native.silent(stderr=True),
            native.foreign("torch cannot export it", hint=_hint, told=lambda error: native.reason(_root(error))),
        ):
            yield
    except OptkitError as error:
        where = without_temporary(f"{path}: ")
        raise type(error)(f"{where}{error.message.removeprefix(where)}", hint=error.hint) from error


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _hint(error: BaseException) -> str:
    root = _root(error)
    if "DataDependent" in type(root).__name__ or "data-dependent" in str(root):
        return "the model branches on its data, as in `if x.sum() > 0`: use torch.where or torch.cond instead"
    if "No ONNX function" in str(root):
        return "ONNX has no such operator: write this part of the model with other ones"
    return "does --input fit the model? try a number for a dimension's name, as in 'x:float32[1,3,224,224]'"
