"""``inspect``: the format and contents of a model file, and the targets that take it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from optkit import lazy
from optkit.errors import MissingLibraryError, OptkitError, UsageError
from optkit.formats import contents, opening
from optkit.formats.model import TORCH_FORMATS, Model
from optkit.measurement import recording
from optkit.measurement.candidate import resolve_candidate
from optkit.measurement.worker import examined
from optkit.options.calling import takes
from optkit.options.verbs.inspect import InspectCommand
from optkit.progress import Progress
from optkit.records.model import EngineLayerRecord, Inspection, Refusal, RefusedNodeRecord
from optkit.targets.table import TARGETS
from optkit.targets.target import engine_builders, offered, target


@takes(InspectCommand)
def inspect(options: InspectCommand, progress: Progress) -> Inspection:
    """Describe the model at ``model``, and the nodes that each of ``targets`` (all that are installed) refuses in it.

    Each target opens the model in a process of its own; one that is asked for shows its layers, too, where it tells
    them. ``shapes`` are sizes of dynamic dimensions, for targets that build engines. Raises ModelError, UntrustedError,
    UsageError.
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


def _sizes(model: Model, targets: Sequence[str], shapes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the options with these sizes, by target. Raises UsageError where none of the targets takes sizes."""
    if shapes and not any(target(name).builds_engines for name in targets):
        raise UsageError(f"shapes is for {engine_builders()}", hint=f"--target {engine_builders()}")
    return {name: target(name).build_options(model.signature, shapes=shapes) for name in targets if shapes}


def _refusals(
    model: Model, asked: Sequence[str], sizes: dict[str, dict[str, Any]], progress: Progress
) -> list[Refusal]:
    names = list(asked) or list(_installed(model))
    refusals = []
    for index, name in enumerate(names):
        progress("opening on each target", index, len(names))
        refusals.append(_refusal(model, name, sizes.get(name, {}), layers=bool(asked)))
    return refusals


def _installed(model: Model) -> Iterator[str]:
    """List the installed targets for the model, exported or not; none for a state dict without its code."""
    if model.format == "state-dict" and model.code is None:
        return
    for found in offered():
        if model.format not in (*found.formats, *TORCH_FORMATS):
            continue
        try:
            found.version()
        except MissingLibraryError:
            continue
        yield found.name


def _refusal(model: Model, name: str, options: dict[str, Any], *, layers: bool) -> Refusal:
    try:
        wanted = resolve_candidate(model, target=name, runs=False)
        found = examined(replace(wanted, options=wanted.options | options), layers=layers)
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
