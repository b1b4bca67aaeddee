"""ONNX Runtime's trace of a session as operators: the time, types and source nodes of each."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from optkit.formats.onnx.fusion_map import Covered
from optkit.formats.operators import Operator, Profile, precision
from optkit.formats.tensors import Arrays

_SUFFIX = "_kernel_time"
_DTYPES = {"float": "float32", "double": "float64"}
_CONTROL = ("If", "Loop", "Scan")
"""Operators whose time holds that of the operators inside them."""
_MICRO = 1e-6
_PROBES = 8
"""Operators of each width in the probe."""
_WIDE = 9

Event = dict[str, Any]


@dataclass
class _Timed:
    """One operator's events: the last one's arguments, their number, and the microseconds of all together."""

    arguments: Event = field(default_factory=dict)
    total: float = 0.0
    count: int = 0


@dataclass(frozen=True)
class Trace:
    """A session's events, and the number of inferences that warmed it up."""

    events: list[Event]
    warm_up: int

    @staticmethod
    def read(path: Path, warm_up: int) -> Trace:
        """Return the trace that a session wrote to ``path``."""
        return Trace(json.loads(path.read_text(encoding="utf-8")), warm_up)

    def runs(self) -> list[Event]:
        """Return the inferences after warming up, in order."""
        return sorted((event for event in self.events if event["name"] == "model_run"), key=_start)[self.warm_up :]


@dataclass(frozen=True)
class Watching:
    """Seconds that ONNX Runtime takes to record an operator, which its trace adds to the operator's own."""

    operator: float
    each_input: float

    def of(self, inputs: int) -> float:
        """Seconds by which the time of an operator with ``inputs`` inputs is too long."""
        return self.operator + self.each_input * inputs


def probe(path: Path) -> tuple[Path, Arrays]:
    """Return a model that computes next to nothing, with operators of one and of many inputs, and a feed for it."""
    from onnx import TensorProto, helper

    names = [f"t{number}" for number in range(2 * _PROBES + 1)]
    nodes = [
        helper.make_node("Max", [before] * (1 + number % 2 * (_WIDE - 1)), [after], f"{number % 2}_{number}")
        for number, (before, after) in enumerate(pairwise(names))
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in (names[0], names[-1])]
    graph = helper.make_graph(nodes, "probe", ends[:1], ends[1:])
    opset = helper.make_opsetid("", 17)
    path.write_bytes(helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())
    return path, {names[0]: np.ones(1, np.float32)}


def watching(probed: Trace) -> Watching:
    """Return the least cost of recording operators on this machine, from the trace of the ``probe``."""
    narrow: list[float] = []
    wide: list[float] = []
    runs = probed.runs()
    kept = _by_duration(runs)[: -(-len(runs) // 4)]
    for name, timed in _timed(probed.events, runs, {id(run) for run in kept}).items():
        (wide if name.startswith("1") else narrow).append(_MICRO * timed.total / len(kept))
    each_input = max(0.0, (mean(wide) - mean(narrow)) / (_WIDE - 1))
    return Watching(max(0.0, mean(narrow) - each_input), each_input)


def profile(trace: Trace, covered: Sequence[Covered], watching: Watching) -> Profile:
    """Return the operators in a trace, their times less the cost of recording them.

    Those inferences count whose time lies between the quartiles: what interrupts one is not the operator's.
    """
    runs = trace.runs()
    kept = _usual(runs)
    timed = _timed(trace.events, runs, {id(run) for run in kept})
    watching = _fitting(watching, timed.values())
    unnamed = _unnamed(covered)
    named = {each.name: each for each in covered if each.name}
    operators = [
        _operator(name, each, named.get(name) or _next(unnamed, each), len(kept), watching)
        for name, each in timed.items()
    ]
    return Profile(tuple(operators), len(kept), _MICRO * sum(run["dur"] for run in kept) / len(kept))


def _by_duration(runs: Sequence[Event]) -> list[Event]:
    return sorted(runs, key=lambda run: float(run["dur"]))


def _usual(runs: Sequence[Event]) -> list[Event]:
    ordered = _by_duration(runs)
    return ordered[len(ordered) // 4 : -(-3 * len(ordered) // 4)] or ordered


def _timed(events: Iterable[Event], runs: Sequence[Event], kept: set[int]) -> dict[str, _Timed]:
    """Return the events of each operator, in the order of execution."""
    starts = [_start(run) for run in runs]
    nodes = [event for event in events if event["cat"] == "Node" and event["name"].endswith(_SUFFIX)]
    found: defaultdict[str, _Timed] = defaultdict(_Timed)
    around: list[tuple[float, _Timed]] = []
    for event in sorted(nodes, key=lambda event: (_start(event), -event["dur"])):
        place = bisect_right(starts, _start(event)) - 1
        if place < 0 or id(runs[place]) not in kept:
            continue
        timed = found[event["name"].removesuffix(_SUFFIX)]
        timed.arguments = event["args"]
        timed.total += event["dur"]
        timed.count += 1
        while around and _start(event) >= around[-1][0]:
            around.pop()
        if around:
            around[-1][1].total -= event["dur"]
        if event["args"]["op_name"] in _CONTROL:
            around.append((_start(event) + event["dur"], timed))
    return found


def _fitting(watching: Watching, timed: Iterable[_Timed]) -> Watching:
    """Bound the cost so that every operator keeps some time: the probe may have been disturbed."""
    shares = [
        _MICRO * each.total / (each.count * watching.of(len(_dtypes(each.arguments, "input"))))
        for each in timed
        if each.total > 0 and watching.operator > 0
    ]
    share = min([1.0, *shares])
    return Watching(share * watching.operator, share * watching.each_input)


def _operator(name: str, timed: _Timed, covered: Covered | None, inferences: int, watching: Watching) -> Operator:
    arguments = timed.arguments
    kind = str(arguments["op_name"])
    inputs = _dtypes(arguments, "input")
    return Operator(
        name=name,
        kind=kind,
        seconds=max(0.0, _MICRO * timed.total - timed.count * watching.of(len(inputs))) / inferences,
        precision=precision(kind, inputs, _dtypes(arguments, "output")),
        kernel=str(arguments.get("provider", "")),
        layers=covered.layers if covered else (name,),
        tensors=covered.tensors if covered else (),
        sources=covered.sources if covered else (),
    )


def _dtypes(arguments: Event, side: str) -> list[str]:
    shown = [next(iter(each), "") for each in arguments.get(f"{side}_type_shape", [])]
    return [_DTYPES.get(dtype, dtype) for dtype in shown]


def _unnamed(covered: Sequence[Covered]) -> dict[str, list[Covered]]:
    """Operators without a name by kind, in order; the trace calls them by kind and a number of its own."""
    found: defaultdict[str, list[Covered]] = defaultdict(list)
    for each in covered:
        if not each.name:
            found[each.kind].append(each)
    return found


def _next(unnamed: dict[str, list[Covered]], timed: _Timed) -> Covered | None:
    waiting = unnamed.get(timed.arguments["op_name"])
    return waiting.pop(0) if waiting else None


def _start(event: Event) -> float:
    return float(event["ts"])
