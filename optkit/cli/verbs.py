"""The table of verbs. Each is one small file with one function; importing it must stay cheap."""

from __future__ import annotations

import importlib

import typer

from optkit.cli.app import Verb, examples

VERBS: dict[str, tuple[str, str, str]] = {
    "doctor": ("optkit doctor", "optkit doctor --json", "optkit doctor -v"),
    "inspect": (
        "optkit inspect model.onnx",
        "optkit inspect model.pt --json",
        "optkit inspect weights.pth --code net.py:build",
    ),
    "export": (
        "optkit export model.pt -o model.onnx",
        "optkit export weights.pth --code net.py:build --input 'x:float32[batch,3,224,224]' -o model.onnx",
        "optkit export model.pt2 --data data.npz -o model.onnx",
    ),
    "quantize": (
        "optkit quantize model.pt --int8",
        "optkit quantize model.onnx --int8 --data data.npz --target openvino -o model-int8.onnx",
        "optkit quantize weights.pth --code net.py:build --int8 --method qat --data data.npz",
    ),
    "prune": (
        "optkit prune model.pt --sparsity 0.5 --data data.npz",
        "optkit prune weights.pth --code net.py:build --target-speedup 1.5 --target openvino --data data.npz",
        "optkit prune model.pt --drop-layers 3 --data text.yaml --train-data corpus.yaml -o small.onnx",
    ),
    "distill": (
        "optkit distill weights.pth --code net.py:build --student-code net.py:small --data data.npz",
        "optkit distill model.pt --layers 3 --data text.yaml --train-data corpus.yaml -o student.pt",
        "optkit distill weights.pth --code net.py:build --student pruned.safetensors --data data.npz -o student.onnx",
    ),
    "compile": (
        "optkit compile model.onnx --target openvino -o bundle",
        "optkit compile model.onnx --target onnxruntime --threads 2 -o bundle",
        "optkit compile model-int8.onnx --target openvino --option INFERENCE_PRECISION_HINT=f32 -o bundle",
    ),
    "evaluate": (
        "optkit evaluate model.onnx --data data.npz",
        "optkit evaluate small.onnx --reference model.onnx --data data.npz --metric cosine",
        "optkit evaluate model.onnx --data images.yaml --metric top5",
    ),
    "benchmark": (
        "optkit benchmark model.onnx",
        "optkit benchmark model.onnx@onnxruntime model.onnx@openvino --threads 1",
        "optkit benchmark model.onnx --scenario server --max-p99 20ms --threads 1",
    ),
    "compare": (
        "optkit compare model.onnx small.onnx --data data.npz",
        "optkit compare model.onnx small.onnx@openvino bundle --data data.npz --metric accuracy --max-drop 0.01",
        "optkit compare model.onnx small.onnx --data data.npz --json",
    ),
    "explain": (
        "optkit explain model.onnx model-int8.onnx",
        "optkit explain model.onnx model-int8.onnx --data data.npz --calibration calibration.npz --threads 1",
        "optkit explain model.onnx@onnxruntime model.onnx@openvino --json",
    ),
    "optimize": (
        "optkit optimize model.onnx --data data.npz --max-drop 0.01 -o bundle",
        "optkit optimize model.onnx --data data.npz --goal size --target openvino --budget 5m -o bundle",
        "optkit optimize weights.pth --code net.py:build --input 'x:float32[batch,8]' --data data.npz -o bundle",
    ),
    "gate": (
        "optkit gate model-int8.onnx --baseline model.onnx --data data.npz --max-drop 0.01 --min-speedup 1.5",
        "optkit gate bundle --baseline model.onnx --data data.npz --max-p99 20ms --junit gate.xml",
        "optkit gate --record runs/today --max-drop 0.01",
    ),
    "plan": (
        "optkit plan recipe.yaml",
        "optkit plan recipe.yaml --set stages.0.quantize.method=dynamic",
        "optkit plan recipe.yaml --json",
    ),
    "run": (
        "optkit run recipe.yaml",
        "optkit run recipe.yaml -o runs/today",
        "optkit run recipe.yaml --set benchmark.seconds=5",
    ),
    "report": (
        "optkit report runs/today",
        "optkit report runs/today --format html -o report.html",
        "optkit report runs/today --format junit -o run.xml",
    ),
    "cache": ("optkit cache list", "optkit cache prune --older-than 30", "optkit cache prune --all"),
}
"""Three examples by verb, in the order of the help; the verb's function is ``optkit.cli.VERB:VERB``."""


def add_to(app: typer.Typer) -> None:
    """Register every verb, in the table's order."""
    for verb, lines in VERBS.items():
        module = importlib.import_module(f"optkit.cli.{verb}")
        app.command(verb, cls=Verb, epilog=examples(*lines))(module.__dict__[verb])
