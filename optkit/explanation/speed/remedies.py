"""Remedies for a slow candidate: commands to paste, derived from the causes found."""

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
from optkit.targets.target import profilable, target

_MOST = 12
"""Largest number of layers to exclude: those of the integer regions that lose most."""
_LITTLE = 0.25
"""Shares of a threshold or of a loss below this are neglected."""
_BY_EXCLUDING = ("conversions", "slower-integer-layers", "unfused-pairs")
"""Kinds of causes for which leaving layers in float helps."""


@dataclass(frozen=True)
class _Given:
    """The data as named on the command line."""

    data: str | None
    calibration: str | None


def with_commands(
    case: Case, findings: Sequence[FindingRecord], data: str | None, calibration: str | None = None
) -> list[FindingRecord]:
    """Return the findings, with a command where there is a remedy."""
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
    """List the integer layers that cost time together with the conversions around them, as ``--exclude`` takes them.

    The list is empty if it would hold all integer layers: a model without them is the baseline.
    """
    names: dict[str, None] = {}
    for region in case.regions:
        losing = region.operators if region.saved < -_LITTLE * case.worth else region.slow_entry
        names |= dict.fromkeys(_weighted(case.candidate, losing))
    every = {name for region in case.regions for name in _weighted(case.candidate, region.operators)}
    return [] if names.keys() >= every else list(names)[:_MOST]


def hopeless(case: Case) -> bool:
    """Return True if integer regions lose time and the time that some of them save is negligible in comparison."""
    won = sum(region.saved for region in case.regions if region.saved > 0)
    lost = -sum(region.saved for region in case.regions if region.saved < 0)
    return lost > case.worth and won < max(case.worth, _LITTLE * lost)


def left_out(case: Case, kind: str) -> list[str]:
    """List the layers that the command for this kind of cause excludes; empty if the command does something else."""
    return losing_layers(case) if kind in _BY_EXCLUDING and not hopeless(case) else []


def _excluding(case: Case, given: _Given) -> str | None:
    """Return a command that quantizes again without the layers that lose time.

    Where all integer regions lose, it compares the float model on both runtimes instead.
    """
    if case.candidate.layers.quantized is None or not case.regions:
        return None
    if hopeless(case):
        return _compare(case, given) if case.elsewhere else None
    names = losing_layers(case)
    return _quantize(case, given, exclude=[*_excluded_before(case), *names]) if names else None


def _excluded_before(case: Case) -> list[str]:
    """List the baseline's layers that static INT8 left in float already; they have to be excluded again."""
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
    """Return a command that compares the baseline on two runtimes for its format; ``None`` if there are not two."""
    source = case.baseline.candidate.model
    names = profilable(source.format)[:2]
    if len(names) < 2:
        return None
    words = ["optkit", "compare", *(f"{source.path}@{name}" for name in names)]
    return shlex.join([*words, *(("--data", given.data) if given.data else ())])


def _weighted(side: Side, operators: Sequence[Operator]) -> Iterator[str]:
    """Yield the names, as ``--exclude`` takes them, of the operators with a weight."""
    for each in operators:
        if each.weighted:
            yield from _excluded(side, each.layers)


def _excluded(side: Side, layers: Sequence[str]) -> Iterator[str]:
    """Yield those names among ``layers`` that quantizers convert to integers: of layers, or of any operators."""
    if target(side.candidate.target).precisions.rounds_between:
        yield from [name for name in layers if "/fq_" not in name][:1]
        return
    for name in layers:
        layer = side.layer(name)
        if layer is not None and layer.kind.removesuffix("Integer") in QUANTIZABLE:
            yield plain(name)
