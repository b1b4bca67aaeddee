"""Engines of TensorRT-RTX, built without a GPU: six models, six precisions, four compute capabilities.

Of each: seconds of the build, the engine's size, how many of its layers compute in which precision, and how many of
the layers with weights that are to be INT8 are. What conversion costs in quality is computed on the CPU. Nothing here
tells how fast an engine is.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import zoo
from fingerprint import fingerprint

import optkit
from optkit import units
from optkit.errors import OptkitError
from optkit.records.model import EngineLayerRecord
from optkit.targets.tensorrt import bindings

PRECISIONS = ("float32", "fp16", "bf16", "int8", "int8-fp16", "fp8-fp16")
"""With a hyphen: and what that leaves in float."""
CAPABILITIES = ("8.0", "8.6", "8.9", "12.0")
PRODUCTS = ("correlation", "gemm", "runtime_fusion")
"""Kernels of layers with weights, by what TensorRT-RTX calls them."""


def converted(case: zoo.Case, folder: Path, precisions: Sequence[str]) -> Iterator[tuple[str, Path, str]]:
    """The model in each precision, and what of its quality that keeps."""
    for types in precisions:
        if types == "float32":
            yield types, case.model, "as it came"
            continue
        path = _path(case, folder, types)
        precision, _, floats = types.partition("-")
        done = optkit.quantize(
            case.model, path, precision=precision, floats=floats or "float32", target="tensorrt", data=case.data,
            calibration=case.calibration, calibration_samples=64, metric=case.metric, force=True,
        )  # fmt: skip
        quality = done.comparison.rows[-1].quality
        kept = f"{quality.metric} {quality.value.value:.4f}, loss {quality.loss.value:.4f}, {quality.count} samples"
        yield types, path, kept


def _path(case: zoo.Case, folder: Path, types: str) -> Path:
    return folder / f"{case.name.replace(' ', '-')}-{types}.onnx"


def engines(case: zoo.Case, folder: Path, precisions: Sequence[str]) -> Iterator[str]:
    for precision, path, kept in converted(case, folder, precisions):
        cells = [case.name, precision, kept, *(built(path, each, folder) for each in CAPABILITIES)]
        yield f"| {' | '.join(cells)} |"


def built(path: Path, capability: str, folder: Path) -> str:
    """Seconds, size, and layers by precision; or why not."""
    bundle = folder / "bundle"
    try:
        done = optkit.compile(path, bundle, target="tensorrt", compute_capability=(capability,), force=True)
    except OptkitError as error:
        return error.message
    counts = done.stage.facts["layers_by_precision"]
    layers = ", ".join(f"{count} {precision}" for precision, count in counts.items())
    return f"{units.seconds(done.stage.engine_seconds)}, {units.size(done.stage.result.size_bytes)}: {layers}"


def products(case: zoo.Case, path: Path, types: str) -> str:
    """Of the kernels that multiply by weights, how many do so in INT8, and which do not."""
    layers = optkit.inspect(path, targets=["tensorrt"]).targets[0].layers
    found = [each for each in layers if each.kind in PRODUCTS]
    left = [each for each in found if each.precision != "int8"]
    others = "; ".join(map(told, left[:4])) or "none"
    return f"| {case.name}, {types} | {len(found) - len(left)} of {len(found)} | {others} |"


def told(layer: EngineLayerRecord) -> str:
    return f"{layer.kind} in {layer.precision} ({', '.join(layer.nodes[:2])})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="One model, by the beginning of its name.")
    parser.add_argument("--precision", choices=PRECISIONS)
    arguments = parser.parse_args()
    precisions = [arguments.precision] if arguments.precision else PRECISIONS
    print(f"{bindings.name()}, no GPU; {fingerprint()}\n", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = [each for each in zoo.cases(folder) if each.name.startswith(arguments.only or "")]
        print(f"| model | precision | quality, on the CPU | {' | '.join(CAPABILITIES)} |")
        print("|---" * (3 + len(CAPABILITIES)) + "|")
        for case in cases:
            for line in engines(case, folder, precisions):
                print(line, flush=True)
        print("\n| INT8 model | products in INT8 | the others |\n|---|---|---|")
        for case in cases:
            for types in [each for each in precisions if each.startswith("int8")]:
                print(products(case, _path(case, folder, types), types), flush=True)
    print(f"\n{units.seconds(time.monotonic() - started)}")


if __name__ == "__main__":
    main()
