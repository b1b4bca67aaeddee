"""``inspect``: the format and contents of a model file, and the targets that take it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from optkit import lazy
from optkit.errors import MissingLibraryError, OptkitError, UsageError
from optkit.formats import contents, opening
from optkit.formats import model as models
from optkit.formats.model import Model
from optkit.formats.tensors import Signature
from optkit.measurement import recording
from optkit.measurement.candidate import candidate
from optkit.measurement.worker import examined
from optkit.options.calling import takes
from optkit.options.verbs.inspect import InspectCommand
from optkit.progress import Progress
from optkit.records.model import EngineLayerRecord, Inspection, Refusal, RefusedNodeRecord
from optkit.targets.target import TARGETS, target
from optkit.targets.tensorrt import shape_profiles


@takes(InspectCommand)
def inspect(options: InspectCommand, progress: Progress) -> Inspection:
    """Say what the model at ``model`` is, and what each of ``targets`` (all that are installed) would refuse in it.

    Each target opens the model in a process of its own; one that is asked for shows its layers, too, where it tells
    them. ``shapes`` are sizes of dynamic dimensions, for tensorrt's. Raises ModelError, UntrustedError, UsageError.
    """
    for name in options.targets:
        if name not in TARGETS:
            lazy.resolve(TARGETS, name, kind="target")
    opened = _opened(options)
    sizes = _sizes(opened, options.targets, options.shapes)
    found = contents.of(opened)
    return Inspection(
        model=recording.of_model(opened),
        opsets=found.opsets,
        producer=found.producer,
        parameters=None if opened.format == "tensorrt" else sum(found.precisions.values()),
        operators=found.operators,
        precisions=found.precisions,
        sparsity=found.sparsity,
        quantized=found.quantized,
        targets=_refusals(opened, options.targets, sizes, progress),
        notes=list(found.notes),
    )


def _opened(options: InspectCommand) -> Model:
    given = options.model
    if isinstance(given, str | Path):
        return opening.open(given, inputs=options.inputs, code=options.code, trust=options.trust)
    return cast(Model, given)


def _sizes(model: Model, targets: Sequence[str], shapes: Sequence[str]) -> dict[str, str]:
    """Return the sizes in the notation of tensorrt's options."""
    if shapes and "tensorrt" not in targets:
        raise UsageError("shapes is for tensorrt", hint="--target tensorrt")
    given = shape_profiles.parsed(shapes)
    shape_profiles.of(model.signature or Signature(()), given)
    return {name: str(sizes) for name, sizes in given.items()}


def _refusals(model: Model, asked: Sequence[str], sizes: dict[str, str], progress: Progress) -> list[Refusal]:
    names = list(asked) or list(_installed(model))
    refusals = []
    for index, name in enumerate(names):
        progress("opening on each target", index, len(names))
        refusals.append(_refusal(model, name, sizes, layers=bool(asked)))
    return refusals


def _installed(model: Model) -> Iterator[str]:
    """List the installed targets that could run the model; none for a state dict without its code."""
    for name in TARGETS:
        if name == "fake" or (model.format == "state-dict" and model.code is None):
            continue
        found = target(name)
        if model.format not in (*found.formats, *models.TORCH_FORMATS):
            continue
        try:
            found.version()
        except MissingLibraryError:
            continue
        yield name


def _refusal(model: Model, name: str, sizes: dict[str, str], *, layers: bool) -> Refusal:
    try:
        wanted = candidate(model, target=name, runs=False)
        if sizes and name == "tensorrt":
            wanted = replace(wanted, options=wanted.options | {"shapes": sizes})
        found = examined(wanted, layers=layers)
    except OptkitError as error:
        hint = f" ({error.hint})" if error.hint else ""
        return Refusal(target=name, accepted=False, reason=error.message.removeprefix(f"{model.path}: ") + hint)
    nodes = [RefusedNodeRecord(operator=each.operator, node=each.node, reason=each.reason) for each in found.refused]
    made = [
        EngineLayerRecord(name=each.name, kind=each.kind, precision=each.precision, nodes=list(each.nodes))
        for each in found.layers
    ]
    reason = ", ".join(dict.fromkeys(node.operator for node in nodes)) if nodes else None
    return Refusal(target=name, accepted=not nodes, reason=reason, nodes=nodes, layers=made)
