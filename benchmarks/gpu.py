"""On an NVIDIA GPU: six models, TensorRT in its precisions against torch eager, torch.compile and onnxruntime on CUDA.

All of a model's forms are measured side by side, copies from and to the host included, with CUDA graphs and without,
at batch 1 and at a larger one; quality is each form's own, on the GPU. Without a GPU it says why and ends with 4.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import zoo
from fingerprint import fingerprint

import optkit
from optkit import units
from optkit.data.dataset import open_dataset
from optkit.errors import MISSING, OptkitError
from optkit.formats import opening
from optkit.measurement import comparison
from optkit.measurement.candidate import Candidate, resolve_candidate
from optkit.records.comparison import Row
from optkit.system import fingerprint as fingerprints
from optkit.targets import cuda
from optkit.targets.tensorrt import bindings

PRECISIONS = ("fp16", "bf16", "int8", "int8-fp16")


def forms(case: zoo.Case, folder: Path) -> Iterator[Candidate]:
    """The model on each runtime and in each precision; what cannot be made is told and left out."""
    module = zoo.module(case, folder)
    made = {
        "onnxruntime CUDA": lambda: resolve_candidate(case.model, target="onnxruntime", device="cuda"),
        "tensorrt float32": lambda: resolve_candidate(case.model, target="tensorrt"),
    }
    if module is not None:
        made = {"torch eager": lambda: on_torch(module), "torch.compile": lambda: on_torch(module, compile=True)} | made
    made |= {f"tensorrt {each}": lambda each=each: narrow(case, folder, each) for each in PRECISIONS}
    for name, make in made.items():
        try:
            found = make()
        except OptkitError as error:
            print(f"  {case.name}: {name}: {error.message}", file=sys.stderr, flush=True)
            continue
        yield replace(found, name=name)
        if found.target in ("tensorrt", "torch") and not found.options.get("compile"):
            yield replace(found, name=f"{name}, graph", options=found.options | {"cuda_graph": True})


def on_torch(module: zoo.Module, **options: bool) -> Candidate:
    found = resolve_candidate(module.path, target="torch", device="cuda", code=module.code, inputs=module.inputs)
    return replace(found, options=found.options | options)


def narrow(case: zoo.Case, folder: Path, types: str) -> Candidate:
    path = folder / f"{case.name.replace(' ', '-')}-{types}.onnx"
    precision, _, floats = types.partition("-")
    optkit.quantize(
        case.model, path, precision=precision, floats=floats or "float32", target="tensorrt", data=case.data,
        calibration=case.calibration, calibration_samples=64, measure=False, force=True,
    )  # fmt: skip
    return resolve_candidate(path, target="tensorrt")


def table(case: zoo.Case, folder: Path, batch: int, seconds: float) -> Iterator[str]:
    dataset = open_dataset(case.data, opening.open(case.model).signature.inputs)
    found = comparison.side_by_side(
        list(forms(case, folder)), dataset=dataset, metric=case.metric, batch=batch, seconds=seconds
    )
    yield from (f"| {case.name} | {batch} | {' | '.join(cells(row))} |" for row in found.rows)
    yield from (
        f"| {case.name} | {batch} | {note.where}: {note.text} | | | | |"
        for note in found.notes
        if note.level == "warning"
    )


def cells(row: Row) -> list[str]:
    if row.status == "failed":
        return [row.name, str(row.reason), "", "", ""]
    speedup, quality = row.speedup, row.quality
    return [
        row.name,
        units.seconds(row.latency.median if row.latency else None),
        units.rate(row.throughput),
        units.ratio_interval(speedup.value, speedup.low, speedup.high) if speedup else "baseline",
        f"{quality.metric} {quality.value.value:.4f}" if quality else "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="One model, by the beginning of its name.")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    if reason := cuda.available():
        print(f"no table: {reason}", file=sys.stderr)
        sys.exit(MISSING)
    drivers = {each.driver for each in fingerprints.fingerprint().gpus}  # none where there is no nvidia-smi
    driver = ", ".join(filter(None, drivers)) or "unknown"
    print(f"{cuda.device_name()}, compute capability {cuda.compute_capability()}, driver {driver}")
    print(f"{bindings.name()}; {fingerprint()}\n")
    print("\n| model | batch | form | median | throughput | speed-up over the first | quality |\n" + "|---" * 7 + "|")
    with tempfile.TemporaryDirectory() as name:
        for case in zoo.cases(Path(name)):
            for batch in (1, arguments.batch) if case.name.startswith(arguments.only or "") else ():
                for line in table(case, Path(name), batch, arguments.seconds):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
