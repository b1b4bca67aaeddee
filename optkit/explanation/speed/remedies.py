"""What to try against a slow candidate: commands to paste, out of what was found."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from optkit.explanation import commands
from optkit.explanation.speed.case import Case, Side
from optkit.formats.openvino import ir
from optkit.formats.operators import Operator, plain
from optkit.quantization.selection import QUANTIZABLE
from optkit.records.explanation import FindingRecord

_MOST = 12
"""So many layers are excluded at most, those of the islands that lose most."""
_LITTLE = 0.25
_BY_EXCLUDING = ("conversions", "slower-integer-layers", "unfused-pairs")


@dataclass(frozen=True)
class _Given:
    """What the data is called on the command line."""

    data: str | None
    calibration: str | None


def with_commands(
    case: Case, findings: Sequence[FindingRecord], data: str | None, calibration: str | None = None
) -> list[FindingRecord]:
    """The findings, those that something can be tried against with its command."""
    given = _Given(data, calibration)
    excluding = _excluding(case, given)
    found = []
    for finding in findings:
        command = excluding if finding.kind in _BY_EXCLUDING else None
        if finding.kind == "weights-dequantized":
            command = _quantize(case, given, method="static")
        found.append(finding.model_copy(update={"command": command}) if command else finding)
    return found


def losing_layers(case: Case) -> list[str]:
    """Layers in integers that cost time together with the conversions around them, as ``--exclude`` takes them.

    None where that would be all of them: what has no integers left is the baseline.
    """
    names: dict[str, None] = {}
    for island in case.islands:
        losing = island.operators if island.saved < -_LITTLE * case.worth else island.slow_shore
        names |= dict.fromkeys(_weighted(case.candidate, losing))
    every = {name for island in case.islands for name in _weighted(case.candidate, island.operators)}
    return [] if names.keys() >= every else list(names)[:_MOST]


def hopeless(case: Case) -> bool:
    """Whether what integers save in some places is next to nothing against what they cost in others."""
    won = sum(island.saved for island in case.islands if island.saved > 0)
    lost = -sum(island.saved for island in case.islands if island.saved < 0)
    return lost > case.worth and won < max(case.worth, _LITTLE * lost)


def left_out(case: Case, kind: str) -> list[str]:
    """The layers that the command against findings of this kind excludes; none where it does something else."""
    return losing_layers(case) if kind in _BY_EXCLUDING and not hopeless(case) else []


def _excluding(case: Case, given: _Given) -> str | None:
    """Quantize again without what loses. Where everything loses, the model in float, as either runtime takes it."""
    if case.candidate.layers.quantized is None or not case.islands:
        return None
    if hopeless(case):
        return _compare(case, given) if case.elsewhere else None
    names = losing_layers(case)
    return _quantize(case, given, exclude=[*_excluded_before(case), *names]) if names else None


def _excluded_before(case: Case) -> list[str]:
    """The baseline's layers that static INT8 left in float: given integers now, they would cost what they did not."""
    model, found = case.candidate.candidate.model, case.candidate.layers
    if commands.method_of(found.quantized or "") != "static":
        return []
    if model.format == "openvino":
        left = ir.left_alone(ir.read(model.path))
    else:
        weighted = [each for each in found.by_name.values() if each.kind in QUANTIZABLE and each.constant_weight]
        left = {each.name for each in weighted if not each.quantized}
    return sorted(left & case.baseline.layers.by_name.keys())


def _quantize(
    case: Case,
    given: _Given,
    *,
    exclude: Sequence[str] = (),
    method: str | None = None,
) -> str | None:
    if case.baseline.layers.quantized not in (None, "float16"):
        return None
    source, candidate = case.baseline.candidate.model, case.candidate.candidate
    return commands.quantize(
        source,
        candidate,
        case.candidate.layers.quantized,
        data=given.data,
        calibration=given.calibration,
        exclude=exclude,
        method=method,
    )


def _compare(case: Case, given: _Given) -> str | None:
    """The baseline on both runtimes."""
    source = case.baseline.candidate.model
    if source.format != "onnx":
        return None
    words = ["optkit", "compare", *(f"{source.path}@{name}" for name in ("onnxruntime", "openvino"))]
    return shlex.join([*words, *(("--data", given.data) if given.data else ())])


def _weighted(side: Side, operators: Sequence[Operator]) -> Iterator[str]:
    """The names of those among ``operators`` that have a weight."""
    for each in operators:
        if each.weighted:
            yield from _excluded(side, each.layers)


def _excluded(side: Side, layers: Sequence[str]) -> Iterator[str]:
    """The names among ``layers`` of what quantizers put into integers."""
    if side.candidate.target == "openvino":
        yield from [name for name in layers if "/fq_" not in name][:1]
        return
    for name in layers:
        layer = side.layer(name)
        if layer is not None and layer.kind.removesuffix("Integer") in QUANTIZABLE:
            yield plain(name)
