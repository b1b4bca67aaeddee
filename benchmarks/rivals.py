"""Six models, one thread, batch 1: what optkit chooses against what each tool does by default, in one measurement.

Quality is on samples that neither optkit's decisions nor any calibration has used; where few samples are to be had, a
tool may keep the bound there by luck, so it must also keep it on these and the samples that optkit decided by together.
Olive lives in a virtual environment of its own; without one it is left out: ``--olive`` names its ``olive`` command.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import geometric_mean

import zoo
from fingerprint import fingerprint

from optkit import units
from optkit.data import splits
from optkit.data.dataset import Dataset
from optkit.decisions import choice
from optkit.formats import opening
from optkit.formats.tensors import Arrays
from optkit.measurement import comparison
from optkit.measurement.candidate import Candidate, resolve_candidate
from optkit.records.comparison import QualityRecord, Row
from optkit.records.run import Run
from optkit.targets.target import target

THREADS = 1
CALIBRATION = 128
LOOK = 1.0
"""Seconds of timing where quality alone is wanted."""
BASELINE = "onnxruntime FP32"
OPTKIT = "optkit optimize"


@dataclass
class Shown:
    """A row of the comparison, and the loss on all samples that no calibration has used."""

    row: Row
    loss: float | None

    def inside(self, bound: float) -> bool:
        if self.row.baseline or self.row.status != "ok":
            return bool(self.row.baseline)
        alone = self.row.quality.loss if self.row.quality else None
        return alone is not None and self.loss is not None and max(alone.value, self.loss) <= bound

    def worth(self, bound: float) -> float:
        """The speed-up that a user has of it: what is beyond the bound is not used."""
        return self.row.speedup.value if self.row.speedup and self.inside(bound) else 1.0


@dataclass
class Tried:
    """What a tool made, or why it made nothing, and the seconds that it took."""

    name: str
    seconds: float
    candidate: Candidate | None = None
    reason: str = ""
    found: float | None = None
    """Seconds after which a search first looked at something within 5 % of what it chose."""


def measured(
    case: zoo.Case, folder: Path, budget: str, olive: Path | None, seconds: float
) -> tuple[list[Tried], dict[str, Shown]]:
    """Every tool's result for one model, side by side with the model as it came."""
    calibration, selection, evaluation = parts(case)
    feeds = [batch.feed for batch in calibration.batches(1)]
    tools: dict[str, Callable[[Path], Candidate]] = {
        "onnxruntime quantize_dynamic": lambda to: dynamic(case.model, to),
        "onnxruntime quantize_static": lambda to: static(case.model, to, feeds),
        "NNCF on OpenVINO": lambda to: nncf_default(case.model, to, feeds),
        "OpenVINO": lambda _: openvino_default(case.model),
    }
    if olive is not None:
        tools["Olive auto-opt"] = lambda to: olive_auto_opt(olive, case.model, to)
    tools[OPTKIT] = lambda to: optimized(case, to, budget)
    tried = []
    for name, tool in tools.items():
        to = folder / name.replace(" ", "-")
        to.mkdir(parents=True)
        tried.append(replace(attempt(name, tool, to), found=found_after(to / "bundle-search/record.json")))
        print(
            f"  {case.name}: {name}: {units.seconds(tried[-1].seconds)} {tried[-1].reason}", file=sys.stderr, flush=True
        )
    able = [each.candidate for each in tried if each.candidate is not None]
    baseline = replace(resolve_candidate(case.model, threads=THREADS), name=BASELINE)
    bound = {"metric": case.metric, "max_drop": case.max_drop, "threads": THREADS}
    compared = comparison.side_by_side([baseline, *able], dataset=evaluation, seconds=seconds, **bound)
    looked = comparison.side_by_side([baseline, *able], dataset=selection, seconds=LOOK, **bound)
    pairs = zip(compared.rows, looked.rows, strict=True)
    return tried, {row.name: Shown(row, together(row.quality, before.quality)) for row, before in pairs}


def together(one: QualityRecord | None, other: QualityRecord | None) -> float | None:
    """The loss on the samples of both."""
    if one is None or other is None or one.loss is None or other.loss is None:
        return None
    return (one.loss.value * one.count + other.loss.value * other.count) / (one.count + other.count)


def duel(case: zoo.Case, tried: list[Tried], rows: dict[str, Shown], seconds: float) -> str:
    """optkit's choice against the fastest rival inside the bound, the two alone, for an interval of their ratio."""
    rivals = [each for each in tried if each.candidate and each.name in rows and each.name != OPTKIT]
    fastest = max(rivals, key=lambda each: rows[each.name].worth(case.max_drop))
    ours = next(each.candidate for each in tried if each.name == OPTKIT)
    if ours is None or fastest.candidate is None or rows[fastest.name].worth(case.max_drop) < 1.0:
        return f"| {case.name} | {BASELINE} | |"
    evaluation = parts(case)[2]
    compared = comparison.side_by_side(
        [fastest.candidate, ours], dataset=evaluation, with_quality=False, seconds=seconds, threads=THREADS
    )
    ratio = compared.rows[1].speedup
    shown = units.ratio_interval(ratio.value, ratio.low, ratio.high) if ratio else compared.rows[1].reason
    return f"| {case.name} | {fastest.name} | {shown} |"


def parts(case: zoo.Case) -> tuple[Dataset, Dataset, Dataset]:
    """The samples that all tools calibrate with, those that optkit decides by, those that it proves its result on."""
    inputs = opening.open(case.model).signature.inputs
    parts = splits.parts(case.data, case.calibration, inputs, calibration_samples=CALIBRATION)
    return (parts.calibration, *splits.divide(parts.evaluation))


def attempt(name: str, tool: Callable[[Path], Candidate], to: Path) -> Tried:
    """Let a tool do its work; whatever it raises is its result."""
    started = time.monotonic()
    try:
        candidate = replace(tool(to), name=name)
    except Exception as error:  # noqa: BLE001  whatever a tool raises is its result
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        return Tried(name, time.monotonic() - started, reason=reason)
    return Tried(name, time.monotonic() - started, candidate)


def dynamic(model: Path, to: Path) -> Candidate:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(model, to / "model.onnx")
    return resolve_candidate(to / "model.onnx", threads=THREADS)


def static(model: Path, to: Path, feeds: list[Arrays]) -> Candidate:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds: Iterator[Arrays] = iter(feeds)

        def get_next(self) -> Arrays | None:
            return next(self.feeds, None)

    quantize_static(model, to / "model.onnx", Reader())
    return resolve_candidate(to / "model.onnx", threads=THREADS)


def nncf_default(model: Path, to: Path, feeds: list[Arrays]) -> Candidate:
    import nncf
    import openvino

    quantized = nncf.quantize(openvino.Core().read_model(model), nncf.Dataset(feeds))
    openvino.save_model(quantized, to / "model.xml")
    return openvino_default(to / "model.xml")


def openvino_default(model: Path) -> Candidate:
    """Threads and latency as for all; the precision as OpenVINO chooses it."""
    options = target("openvino").default_options(threads=THREADS)
    del options["INFERENCE_PRECISION_HINT"]
    return Candidate("", opening.open(model), "openvino", options)


def olive_auto_opt(olive: Path, model: Path, to: Path) -> Candidate:
    arguments = [
        "auto-opt",
        "-m",
        str(model.resolve()),
        "-o",
        str(to / "out"),
        "--device",
        "cpu",
        "--precision",
        "int8",
    ]
    done = subprocess.run([olive.absolute(), *arguments], capture_output=True, text=True, cwd=to, check=False)
    found = sorted(to.glob("out/**/*.onnx"))
    if not found:
        lines = (done.stderr + done.stdout).strip().splitlines() or ["it wrote nothing"]
        raise RuntimeError(lines[-1])
    return resolve_candidate(found[0], threads=THREADS)


def optimized(case: zoo.Case, to: Path, budget: str) -> Candidate:
    calibration = ["--calibration", str(case.calibration)] if case.calibration else []
    bound = ["--metric", case.metric, "--max-drop", str(case.max_drop)]
    arguments = ["optimize", str(case.model), "--data", str(case.data), *calibration, *bound, "--budget", budget]
    options = ["--threads", str(THREADS), "--calibration-samples", str(CALIBRATION), "-o", str(to / "bundle")]
    subprocess.run([sys.executable, "-m", "optkit", *arguments, *options], check=True, stdout=subprocess.DEVNULL)
    return resolve_candidate(to / "bundle", threads=THREADS)


def found_after(path: Path) -> float | None:
    """Of a search's record: the seconds until 95 % of the chosen speed-up was seen first, inside the bound, or until
    what was chosen was seen.
    """
    if not path.exists():
        return None
    run = Run.model_validate_json(path.read_text())
    looks = run.search.trials if run.search else []
    speeds = {f"{look.row.name} on {look.row.target}": choice.speed(look.row) for look in looks}
    wanted = 0.95 * speeds.get(run.chosen or "", 1.0)
    near = [look for look in looks if choice.speed(look.row) >= wanted]
    return next((each.after for each in near if is_it(each.row, run)), None)


def is_it(row: Row, run: Run) -> bool:
    return f"{row.name} on {row.target}" == run.chosen or choice.inside(row.quality, run.comparison.max_drop)


def line(case: zoo.Case, tried: Tried | None, shown: Shown | None) -> str:
    name = tried.name if tried else BASELINE
    took = units.seconds(tried.seconds) if tried else ""
    if tried and tried.found is not None:
        took += f", 95 % after {units.seconds(tried.found)}"
    if shown is None or shown.row.quality is None:
        return f"| {case.name} | {name} | failed: {tried.reason if tried else ''} | | | {took} |"
    row, ratio = shown.row, shown.row.speedup
    speed = units.ratio_interval(ratio.value, ratio.low, ratio.high) if ratio else "1.00x"
    kept = "" if shown.inside(case.max_drop) else ", beyond the bound"
    loss = ""
    if row.quality.loss and shown.loss is not None and not row.baseline:
        loss = f", loss {units.quality(row.quality.loss.value)} ({units.quality(shown.loss)}){kept}"
    quality = f"{case.metric} {units.quality(row.quality.value.value)}{loss}"
    return f"| {case.name} | {name} | {speed} | {quality} | {units.size(row.model.size_bytes)} | {took} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--olive", type=Path, help="the command of an Olive installed elsewhere")
    parser.add_argument("--budget", default="8m")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--models", type=Path, default=Path("runs/zoo"), help="where exported models are kept")
    parser.add_argument("--only", help="part of the name of the models to run")
    arguments = parser.parse_args()
    arguments.models.mkdir(parents=True, exist_ok=True)
    print(fingerprint(), "\n")
    quality = "quality, loss (with the samples that optkit decided by)"
    print(f"| model | tool | speed-up (95 %) | {quality} | size | took |\n" + "|---" * 6 + "|")
    totals: dict[str, list[float]] = {}
    duels = []
    for case in zoo.cases(arguments.models):
        if arguments.only and arguments.only.lower() not in case.name.lower():
            continue
        with tempfile.TemporaryDirectory() as folder:
            tried, rows = measured(case, Path(folder), arguments.budget, arguments.olive, arguments.seconds)
            duels.append(duel(case, tried, rows, 2 * arguments.seconds))
        print(line(case, None, rows[BASELINE]))
        for each in tried:
            print(line(case, each, rows.get(each.name)), flush=True)
            shown = rows.get(each.name)
            totals.setdefault(each.name, []).append(shown.worth(case.max_drop) if shown else 1.0)
    print("\n| tool | geometric mean of what is inside the bound |\n|---|---|")
    for name, values in totals.items():
        print(f"| {name} | {geometric_mean(values):.2f}x |")
    print("\n| model | fastest rival inside the bound | optkit's choice against it |\n|---|---|---|")
    print("\n".join(duels))


if __name__ == "__main__":
    main()
