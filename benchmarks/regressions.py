"""Regressions of real models: what ``explain`` concludes, and whether following it mends them.

Each model is quantized, explained, and quantized again by the command that the conclusion gives, as it stands; quality
is on samples that did not calibrate. Where the conclusion has a command for speed and another for quality, the latter
is followed. Run ``sample_models/fetch.py`` first.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import zoo
from fingerprint import fingerprint

import optkit
from optkit import units
from optkit.records.comparison import Comparison, Row
from optkit.records.explanation import Explanation
from optkit.records.run import Transformation

THREADS = 1


@dataclass(frozen=True)
class Regression:
    """A model and how it is quantized, for which runtime."""

    case: zoo.Case
    said: str
    target: str = "onnxruntime"
    model_type: str = "auto"


def regressions(folder: Path) -> list[Regression]:
    """An old net that integers make slower, a transformer quantized as if it were none, and nets with an STFT."""
    stft, convolution = zoo.listeners(folder)
    return [
        Regression(zoo.angle_classifier(), "INT8 on onnxruntime"),
        Regression(zoo.minilm(folder), "NNCF's default", "openvino", "none"),
        Regression(stft, "INT8 on onnxruntime"),
        Regression(convolution, "INT8 on onnxruntime"),
        Regression(convolution, "INT8 by NNCF", "openvino"),
    ]


def quantized(regression: Regression, folder: Path, seconds: float) -> tuple[Path, Row]:
    """What was made worse, and how much."""
    case, path = regression.case, folder / ("small.xml" if regression.target == "openvino" else "small.onnx")
    done = optkit.quantize(
        case.model, path, method="static", target=regression.target, model_type=regression.model_type, data=case.data,
        calibration=case.calibration, metric=case.metric, max_drop=case.max_drop, threads=THREADS, seconds=seconds,
    )  # fmt: skip
    return path, done.comparison.rows[-1]


def explained(regression: Regression, path: Path, seconds: float) -> Explanation:
    case = regression.case
    return optkit.explain(
        case.model, path, data=case.data, calibration=case.calibration, metric=case.metric, max_drop=case.max_drop,
        target=regression.target, threads=THREADS, seconds=seconds,
    )  # fmt: skip


def conclusion(found: Explanation) -> list[str]:
    return [*found.speed.conclusion, *(found.quality.conclusion if found.quality else ())]


def followed(command: str, case: zoo.Case, folder: Path, seconds: float) -> Row:
    """What the command makes, measured by itself; of ``compare``, which takes the model in float, the faster."""
    measured = ["--metric", case.metric, "--max-drop", str(case.max_drop), "--threads", str(THREADS)]
    words = [sys.executable, "-m", *shlex.split(command), *measured, "--seconds", str(seconds), "--json"]
    done = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True)
    if words[3] == "compare":
        rows = Comparison.model_validate_json(done.stdout).rows
        return max(rows, key=lambda row: row.speedup.value if row.speedup else 1.0)
    return Transformation.model_validate_json(done.stdout).comparison.rows[-1]


def told(row: Row) -> str:
    """A row's speed-up and loss, as cells."""
    if row.baseline:
        return "1.00x, in float | none"
    ratio, loss = row.speedup, row.quality.loss
    speed = units.ratio_interval(ratio.value, ratio.low, ratio.high)
    return f"{speed} | {units.quality_interval(loss.value, loss.low, loss.high)}"


def plain(text: str, folder: Path) -> str:
    return text.replace(f"{folder}/", "").replace(f"{zoo.ROOT}/", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--models", type=Path, default=Path("runs/zoo"), help="where exported models are kept")
    parser.add_argument("--only", default="", help="part of the name of the models to run")
    arguments = parser.parse_args()
    models = arguments.models.resolve()
    models.mkdir(parents=True, exist_ok=True)
    print(fingerprint(), "\n")
    print("| model | quantized | speed-up (95 %) | loss | followed: speed-up | loss |\n" + "|---" * 6 + "|", flush=True)
    texts = []
    for each in regressions(models):
        title = f"{each.case.name}, {each.said}"
        if arguments.only.lower() not in title.lower():
            continue
        with tempfile.TemporaryDirectory() as name:
            path, before = quantized(each, Path(name), arguments.seconds)
            found = explained(each, path, arguments.seconds)
            command = (found.quality.command if found.quality else None) or found.speed.command
            after = followed(command, each.case, Path(name), arguments.seconds) if command else before
            print(f"| {each.case.name} | {each.said} | {told(before)} | {told(after)} |", flush=True)
            texts.append(f"\n{title}:\n\n" + "\n".join(f"> {plain(said, Path(name))}\n>" for said in conclusion(found)))
    print("\n".join(text.removesuffix("\n>") for text in texts))


if __name__ == "__main__":
    main()
