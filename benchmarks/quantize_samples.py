"""``optkit quantize`` on every sample model, for both targets: size, speed and quality against the float model there.

Needs sample_models/fetch.py for the three models from packages.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from optkit import units
from optkit.records.run import Transformation

COMMAND = str(Path(sys.executable).parent / "optkit")
SAMPLES = Path(__file__).parent.parent / "sample_models"
CNN, FETCHED = SAMPLES / "fashion_cnn", SAMPLES / "fetched"

PIXELS = ("--data", CNN / "evaluation.npz", "--calibration", CNN / "calibration.npz")
IMAGE = ("--input", "x:float32[batch,1,28,28]")
WORDS = (
    *("--input", "input_ids:int64[batch,sequence]", "--input", "attention_mask:int64[batch,sequence]"),
    *("--input", "token_type_ids:int64[batch,sequence]"),
)
MODELS = {
    "CNN, TorchScript": (CNN / "traced.pt", *PIXELS),
    "CNN, pickled module": (CNN / "module.pt", "--trust", *IMAGE, *PIXELS),
    "CNN, state dict": (CNN / "weights.pth", "--code", f"{CNN}/net.py:build", *IMAGE, *PIXELS),
    "CNN, .pt2": (CNN / "program.pt2", *PIXELS),
    "MiniLM": (
        *(FETCHED / "minilm" / "model.safetensors", "--code", f"{SAMPLES}/minilm/net.py:build", *WORDS),
        *("--data", SAMPLES / "minilm" / "texts.yaml"),
    ),
    "EfficientNet-Lite0": (
        *(FETCHED / "efficientnet_lite0" / "weights.pth", "--code", f"{SAMPLES}/efficientnet_lite0/net.py:build"),
        *("--input", "x:float32[batch,3,224,224]", "--data", SAMPLES / "efficientnet_lite0" / "evaluation.yaml"),
        *("--calibration", SAMPLES / "efficientnet_lite0" / "calibration.yaml"),
    ),
    "angle classifier": (
        *(FETCHED / "angle_classifier" / "model.onnx", "--data", SAMPLES / "angle_classifier" / "lines.yaml"),
    ),
}
SUFFIX = {"onnxruntime": ".onnx", "openvino": ".xml"}


def quantized(arguments: tuple[object, ...], precision: str, target: str) -> Transformation | str:
    """The answer of the command, or the line in which it failed."""
    with tempfile.TemporaryDirectory() as folder:
        options = (f"--{precision}", "--target", target, "-o", f"{folder}/out{SUFFIX[target]}", "--threads", "1")
        command = [COMMAND, "quantize", *map(str, arguments), *options, "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    return Transformation.model_validate(json.loads(done.stdout))


def row(name: str, precision: str, target: str, result: Transformation | str) -> str:
    if isinstance(result, str):
        return f"| {name} | {target} | {precision} | {result} | | | |"
    before, after = result.comparison.rows
    sizes = f"{units.size(before.model.size_bytes)} → {units.size(after.model.size_bytes)}"
    loss = after.quality.loss
    quality = f"{after.quality.metric} {before.quality.value.value:.4f} → {after.quality.value.value:.4f}"
    bounds = f"{loss.value:.4f} ({loss.low:.4f} to {loss.high:.4f})"
    how = f"{result.stage.method} by {result.stage.engine}"
    speed = f"{after.speedup.value:.2f}x ({after.speedup.low:.2f} to {after.speedup.high:.2f})"
    return f"| {name} | {target} | {how} | {sizes} | {speed} | {quality} | {bounds} |"


def main() -> None:
    print("One thread, batch 1, against the float model on the same target; 95 % intervals.\n")
    print("| model | target | how | size | speed-up | quality | loss |\n|---|---|---|---|---|---|---|")
    for precision in ("int8", "fp16"):
        for name, arguments in MODELS.items():
            for target in SUFFIX:
                print(row(name, precision, target, quantized(arguments, precision, target)), flush=True)


if __name__ == "__main__":
    main()
