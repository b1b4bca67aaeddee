"""The table of verbs: the help of each and examples, so that the overview needs no verb's module."""

from __future__ import annotations

from typing import NamedTuple


class VerbEntry(NamedTuple):
    """A verb's help, whose first line the overview shows, and three examples, a command each."""

    help: str
    examples: tuple[str, str, str]


VERBS = {
    "doctor": VerbEntry(
        help="Show this machine's targets, instruction sets, limits and sources of noise.",
        examples=(
            "optkit doctor",
            "optkit doctor --json",
            "optkit doctor -v",
        ),
    ),
    "inspect": VerbEntry(
        help="Show a model's format, signature, operators and weights, and the operators that a target refuses.",
        examples=(
            "optkit inspect model.onnx",
            "optkit inspect model.pt --json",
            "optkit inspect weights.pth --code net.py:build",
        ),
    ),
    "export": VerbEntry(
        help="Export a torch model to ONNX, keep its dynamic dimensions, and check parity.",
        examples=(
            "optkit export model.pt -o model.onnx",
            "optkit export weights.pth --code net.py:build --input 'x:float32[batch,3,224,224]' -o model.onnx",
            "optkit export model.pt2 --data data.npz -o model.onnx",
        ),
    ),
    "quantize": VerbEntry(
        help="Quantize a model by the method that fits it, and compare the result with the original.",
        examples=(
            "optkit quantize model.pt --int8",
            "optkit quantize model.onnx --int8 --data data.npz --target openvino -o model-int8.onnx",
            "optkit quantize weights.pth --code net.py:build --int8 --method qat --data data.npz",
        ),
    ),
    "prune": VerbEntry(
        help="Prune a model, train it to recover, and compare the result with the original.",
        examples=(
            "optkit prune model.pt --sparsity 0.5 --data data.npz",
            "optkit prune weights.pth --code net.py:build --target-speedup 1.5 --target openvino --data data.npz",
            "optkit prune model.pt --drop-layers 3 --data text.yaml --train-data corpus.yaml -o small.onnx",
        ),
    ),
    "distill": VerbEntry(
        help="Train a smaller student on a model's outputs, and compare both.",
        examples=(
            "optkit distill weights.pth --code net.py:build --student-code net.py:small --data data.npz",
            "optkit distill model.pt --layers 3 --data text.yaml --train-data corpus.yaml -o student.pt",
            "optkit distill weights.pth --code net.py:build --student pruned.safetensors --data data.npz -o out.onnx",
        ),
    ),
    "compile": VerbEntry(
        help="Make a bundle for one target: model, runtime options, signature, digests.",
        examples=(
            "optkit compile model.onnx --target openvino -o bundle",
            "optkit compile model.onnx --target onnxruntime --threads 2 -o bundle",
            "optkit compile model-int8.onnx --target openvino --option INFERENCE_PRECISION_HINT=f32 -o bundle",
        ),
    ),
    "evaluate": VerbEntry(
        help="Measure the quality of a model on data; with a reference also the loss against it.",
        examples=(
            "optkit evaluate model.onnx --data data.npz",
            "optkit evaluate small.onnx --reference model.onnx --data data.npz --metric cosine",
            "optkit evaluate model.onnx --data images.yaml --metric top5",
        ),
    ),
    "benchmark": VerbEntry(
        help=(
            "Time models: latency percentiles, throughput, peak memory.\n\n"
            "A model that fails, except the first, is a row with its reason; the others are timed, and the "
            "command ends with exit code 1."
        ),
        examples=(
            "optkit benchmark model.onnx",
            "optkit benchmark model.onnx@onnxruntime model.onnx@openvino --threads 1",
            "optkit benchmark model.onnx --scenario server --max-p99 20ms --threads 1",
        ),
    ),
    "compare": VerbEntry(
        help=(
            "Compare models side by side: quality, speed and size, with intervals.\n\n"
            "A model that fails, except the first, is a row with its reason; the others are compared, and the "
            "command ends with exit code 1."
        ),
        examples=(
            "optkit compare model.onnx small.onnx --data data.npz",
            "optkit compare model.onnx small.onnx@openvino bundle --data data.npz --metric accuracy --max-drop 0.01",
            "optkit compare model.onnx small.onnx --data data.npz --json",
        ),
    ),
    "explain": VerbEntry(
        help=(
            "Explain a difference in speed and quality between two models: causes, and commands to try.\n\n"
            "Time is split by operator, quality by layer; the latter needs data. A candidate that fails ends the "
            "command with exit code 1."
        ),
        examples=(
            "optkit explain model.onnx model-int8.onnx",
            "optkit explain model.onnx model-int8.onnx --data data.npz --calibration calibration.npz --threads 1",
            "optkit explain model.onnx@onnxruntime model.onnx@openvino --json",
        ),
    ),
    "optimize": VerbEntry(
        help=(
            "Search for the best form of a model whose loss stays inside the bound: a bundle, its recipe, the "
            "proof.\n\n"
            "The original is the first candidate, and the result where nothing beats it. A search that was killed"
            " goes on when it is started again."
        ),
        examples=(
            "optkit optimize model.onnx --data data.npz --max-drop 0.01 -o bundle",
            "optkit optimize model.onnx --data data.npz --goal size --target openvino --budget 5m -o bundle",
            "optkit optimize weights.pth --code net.py:build --input 'x:float32[batch,8]' --data data.npz -o bundle",
        ),
    ),
    "gate": VerbEntry(
        help=(
            "Judge a release: exit code 0 where every rule passes, 3 where one fails, 5 where the data cannot tell.\n\n"
            "Without a rule, the candidate must not be worse than the baseline."
        ),
        examples=(
            "optkit gate model-int8.onnx --baseline model.onnx --data data.npz --max-drop 0.01 --min-speedup 1.5",
            "optkit gate bundle --baseline model.onnx --data data.npz --max-p99 20ms --junit gate.xml",
            "optkit gate --record runs/today --max-drop 0.01",
        ),
    ),
    "plan": VerbEntry(
        help="Show the stages that a recipe would carry out, and those in the store already.",
        examples=(
            "optkit plan recipe.yaml",
            "optkit plan recipe.yaml --set stages.0.quantize.method=dynamic",
            "optkit plan recipe.yaml --json",
        ),
    ),
    "run": VerbEntry(
        help=(
            "Carry out a recipe: transform, measure, choose, judge, report.\n\n"
            "With a gate in the recipe: exit 0 where every rule passes, 3 where one fails, 5 where the data "
            "cannot tell."
        ),
        examples=(
            "optkit run recipe.yaml",
            "optkit run recipe.yaml -o runs/today",
            "optkit run recipe.yaml --set benchmark.seconds=5",
        ),
    ),
    "report": VerbEntry(
        help="Show the report of a run, or write it to a file.",
        examples=(
            "optkit report runs/today",
            "optkit report runs/today --format html -o report.html",
            "optkit report runs/today --format junit -o run.xml",
        ),
    ),
    "cache": VerbEntry(
        help="List the store of finished stages, or prune it.",
        examples=(
            "optkit cache list",
            "optkit cache prune --older-than 30",
            "optkit cache prune --all",
        ),
    ),
}
"""By name, in the order of the help; the command is the function ``optkit.cli.NAME:NAME``."""
