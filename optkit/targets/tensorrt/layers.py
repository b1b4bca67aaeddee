"""An engine's layers, read from the end of the builder's detailed log: precision, and which ONNX nodes went into each.

The engine inspector tells the same, but only of an engine that is loaded, which needs a GPU.
"""

from __future__ import annotations

import re

from optkit.targets.target import EngineLayer

_DTYPES = {
    "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "FP8": "float8", "FP4": "float4", "Int8": "int8",
    "Int4": "int4", "Int32": "int32", "Int64": "int64", "Bool": "bool", "UInt8": "uint8", "Double": "float64",
}  # fmt: skip
_LINE = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w*)", re.MULTILINE)


def parse_layers(log: str) -> list[EngineLayer]:
    """Return the layers in the log's text that compute something, in order."""
    layers = []
    for line in log.splitlines():
        found = _LINE.match(line)
        read, made = _dtypes(line, "Inputs"), _dtypes(line, "Outputs")
        if found is None or not (read or made):  # what only waits and signals has neither
            continue
        nodes = dict.fromkeys(re.findall(r"\[ONNX Layer: (.*?)\]", line))
        layers.append(EngineLayer(found["name"], found["kind"], _precision(read, made), tuple(nodes)))
    return layers


def _precision(read: list[str], made: list[str]) -> str:
    given, given_out = (read or made)[0], (made or read)[0]
    whole = given == given_out or given in ("int8", "float8")  # integer products add up in float, which is their nature
    return given if whole else f"{given} to {given_out}"


def _dtypes(line: str, field: str) -> list[str]:
    """Return the types of the tensors in ``Inputs: [...]`` or ``Outputs: [...]``."""
    _, _, rest = line.partition(f"{field}: [")
    depth, end = 1, 0
    while end < len(rest) and depth:
        depth += {"[": 1, "]": -1}.get(rest[end], 0)
        end += 1
    return [_DTYPES.get(kind, kind.lower()) for kind in re.findall(r"Datatype: (\w+)", rest[:end])]
