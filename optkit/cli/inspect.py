"""``optkit inspect``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from optkit.cli.app import console_of
from optkit.cli.console import Block, Table, Text
from optkit.cli.derive import derived
from optkit.cli.running import carried_out
from optkit.options.verbs.inspect import InspectCommand

if TYPE_CHECKING:
    from optkit.records.model import Inspection, Refusal, TensorRecord

_ROWS = 25


@derived(InspectCommand)
def inspect(ctx: typer.Context, options: InspectCommand) -> None:
    """Inspect, and show what was found; ``-v`` shows all of it."""
    from optkit.verbs.inspect import inspect as verb

    console = console_of(ctx)
    found = carried_out(ctx, verb, options)
    console.notes(found.notes)
    console.answer(found, lambda: _blocks(found, whole=bool(console.verbose)))


def _blocks(found: Inspection, *, whole: bool) -> list[Block]:
    blocks: list[Block] = [Text(found.model.path, "bold"), Text(_lines(_facts(found)))]
    blocks += [Table(("tensor", "dtype", "shape"), _tensors(found))] if found.model.signature else []
    blocks += [_operators(found.operators, whole=whole)] if found.operators else []
    blocks += [Text("Targets that open it", "bold"), Text(_lines(map(_target, found.targets)))] if found.targets else []
    for refusal in found.targets:
        blocks += _nodes(refusal)
        blocks += _layers(refusal, whole=whole)
    if found.model.signature is None and found.model.format != "tensorrt":
        blocks.append(Text("The file does not tell its inputs: give them with --input 'x:float32[batch,3,224,224]'."))
    return blocks


def _lines(pairs: Iterable[tuple[str, str]]) -> str:
    """Align names and values in two columns, both left."""
    return "\n".join(f"{name:<13} {value}" for name, value in pairs)


def _facts(found: Inspection) -> list[tuple[str, str]]:
    from optkit import units

    precisions = ", ".join(f"{units.count(count)} {dtype}" for dtype, count in found.precisions.items())
    facts = {
        "format": found.model.format,
        "made by": found.producer,
        "opset": ", ".join(f"{domain} {version}" for domain, version in found.opsets.items()),
        "size": units.size(found.model.size_bytes),
        "parameters": units.count(found.parameters) if found.parameters else "",
        "precision": precisions,
        "sparsity": "" if found.sparsity is None else units.percent(found.sparsity),
        "quantized": found.quantized or ("no" if found.operators else ""),
        "digest": found.model.digest[:16],
    }
    return [(name, value) for name, value in facts.items() if value]


def _tensors(found: Inspection) -> list[tuple[str, str, str]]:
    signature = found.model.signature
    if signature is None:
        return []
    rows = [("input", each) for each in signature.inputs] + [("output", each) for each in signature.outputs]
    return [(f"{kind} {tensor.name}", tensor.dtype, _shape(tensor)) for kind, tensor in rows]


def _shape(tensor: TensorRecord) -> str:
    return "unknown" if tensor.shape is None else f"[{', '.join(str(dim) for dim in tensor.shape)}]"


def _operators(operators: dict[str, int], *, whole: bool) -> Table:
    rows = [(name, f"{count:,}") for name, count in operators.items()]
    shown = rows if whole else rows[:_ROWS]
    if len(shown) < len(rows):
        shown.append((f"{len(rows) - len(shown)} more (-v shows them)", ""))
    return Table(("operator", "count"), shown)


def _nodes(refusal: Refusal) -> list[Block]:
    if not refusal.nodes:
        return []
    rows = [(each.operator, each.node, each.reason) for each in refusal.nodes]
    return [Table(("operator", "node", "why not"), rows, title=f"Refused by {refusal.target}")]


def _layers(refusal: Refusal, *, whole: bool) -> list[Block]:
    if not refusal.layers:
        return []
    rows = [(each.kind, each.precision, ", ".join(each.nodes) or each.name) for each in refusal.layers]
    shown = rows if whole else rows[:_ROWS]
    if len(shown) < len(rows):
        shown.append((f"{len(rows) - len(shown)} more", "", "-v shows them"))
    return [Table(("kernel", "precision", "ONNX nodes"), shown, title=f"Layers of the {refusal.target} engine")]


def _target(refusal: Refusal) -> tuple[str, str]:
    return refusal.target, "yes" if refusal.accepted else f"no: {refusal.reason}"
