"""optkit: make a trained model small and fast, and prove that it kept its quality."""

# Written by python -m optkit.options.stub: do not edit.
# ruff: noqa

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from optkit.deployment.loading import load as load
from optkit.formats.opening import open as open
from optkit.options.source import Opened
from optkit.progress import Progress
from optkit.records.comparison import Comparison
from optkit.records.comparison import Evaluation
from optkit.records.explanation import Explanation
from optkit.records.gate import Gate
from optkit.records.machine import Doctor
from optkit.records.model import Inspection
from optkit.records.run import Cache
from optkit.records.run import Plan
from optkit.records.run import Run
from optkit.records.run import Transformation

__version__: str
__all__ = [
    "__version__",
    "benchmark",
    "cache",
    "compare",
    "compile",
    "distill",
    "doctor",
    "evaluate",
    "explain",
    "export",
    "gate",
    "inspect",
    "load",
    "open",
    "optimize",
    "plan",
    "prune",
    "quantize",
    "report",
    "run",
]

def benchmark(
    models: str | Path | Sequence[str | Path],
    *,
    scenario: Literal["single-stream", "multi-stream", "offline", "server"] = "single-stream",
    batch: int | Sequence[int] | str | None = (),
    sessions: int | None = None,
    rate: float | None = None,
    max_p99: float | str | None = None,
    data: str | Path | None = None,
    device: Literal["cpu", "cuda"] | None = None,
    threads: int | None = None,
    target: str | None = None,
    seconds: float = 10.0,
    precision: float = 0.01,
    time_limit: float = 600.0,
    inputs: Sequence[str] = (),
    code: str | None = None,
    trust: bool = False,
    seed: int = 0,
    progress: Progress = ...,
) -> Comparison:
    """Time one or several models (a path, a bundle or ``PATH@TARGET``), the others compared with the first.

    ``single-stream``: the latency of one inference after the other. ``multi-stream``: the same for ``batch`` samples
    together (8). ``offline``: the highest throughput, over batches and parallel sessions. ``server``: queries arriving
    at random, at a ``rate`` per second or at the highest that keeps ``max_p99`` seconds. Raises OptkitError.

    models: Models, bundles or MODEL@TARGET.
    scenario: single-stream: one inference after the other. multi-stream: 8 samples together. offline: the
        highest throughput over batches and sessions. server: queries arriving at random, at --rate or at the
        highest rate that keeps --max-p99.
    batch: Samples per inference; one size or several. By default 1, 8, or tried.
    sessions: Sessions that run at once (offline, server); else tried.
    rate: Queries per second that arrive (server).
    max_p99: Find the highest rate that keeps it, as 20ms (server).
    data: .npz, folder of .npz, .yaml (images, text) or FILE.py:CALLABLE.
    device: Device to run on; by default a bundle's own, else the CPU.
    threads: Threads per session; by default all cores allowed.
    target: onnxruntime, openvino, tensorrt or torch; by default chosen by the model's format.
    seconds: Measuring time per candidate, at most.
    precision: Stop once every ratio's 95 % interval is within this share of it.
    time_limit: Seconds without an answer after which a model counts as hung.
    inputs: An input that the file does not describe; a word is a dynamic dimension.
    code: Function that builds the nn.Module of a state dict. This runs that file's code.
    trust: Let a pickled file that you made yourself run its code.
    seed: Seed of all random choices.
    """

def cache(
    action: Literal["list", "prune"] = "list",
    *,
    older_than: float | None = None,
    max_bytes: int | None = None,
    all: bool = False,
    progress: Progress = ...,
) -> Cache:
    """List the store's entries, or remove those unused for ``older_than`` days, beyond ``max_bytes``, or ``all``.

    Raises UsageError, and OutputError while a run uses the store.

    action: Show the entries, or remove some.
    older_than: Remove entries that were not used for this many days.
    max_bytes: Remove entries, the longest unused first, until the rest fits.
    all: Remove everything.
    """

def compare(
    baseline: str | Path,
    candidates: Sequence[str | Path],
    *,
    data: str | Path | None = None,
    metric: str | None = None,
    max_drop: float | None = None,
    target: str | None = None,
    device: Literal["cpu", "cuda"] | None = None,
    threads: int | None = None,
    batch: int = 1,
    seconds: float = 10.0,
    precision: float = 0.01,
    time_limit: float = 600.0,
    inputs: Sequence[str] = (),
    code: str | None = None,
    trust: bool = False,
    seed: int = 0,
    progress: Progress = ...,
) -> Comparison:
    """Compare ``candidates`` with ``baseline``; each is a path, a bundle or ``PATH@TARGET``.

    ``inputs``, ``code`` and ``trust`` apply to every model that needs them. Raises OptkitError.

    baseline: Model that the others are compared with.
    candidates: Models, bundles or MODEL@TARGET.
    data: .npz, folder of .npz, .yaml (images, text) or FILE.py:CALLABLE.
    metric: accuracy, top5, f1, mae, rmse, pearson, spearman (need labels); cosine, agreement, mae (fidelity to
        the baseline). By default chosen from the data.
    max_drop: Largest loss allowed, in the metric's own units.
    target: onnxruntime, openvino, tensorrt or torch; by default chosen by the model's format.
    device: Device to run on; by default a bundle's own, else the CPU.
    threads: Threads per session; by default all cores allowed.
    batch: Samples per inference.
    seconds: Measuring time per candidate, at most.
    precision: Stop once every ratio's 95 % interval is within this share of it.
    time_limit: Seconds without an answer after which a model counts as hung.
    inputs: An input that the file does not describe; a word is a dynamic dimension.
    code: Function that builds the nn.Module of a state dict. This runs that file's code.
    trust: Let a pickled file that you made yourself run its code.
    seed: Seed of all random choices.
    """

def compile(
    model: str | Path,
    output: str | Path,
    *,
    target: str,
    force: bool = False,
    options: Mapping[str, Any] = {},
    compute_capability: Sequence[str] = (),
    device: Literal["cpu", "cuda"] | None = None,
    threads: int | None = None,
    shapes: Sequence[str] = (),
    inputs: Sequence[str] = (),
    code: str | None = None,
    trust: bool = False,
    seed: int = 0,
    progress: Progress = ...,
) -> Transformation:
    """Write a bundle of ``model`` for ``target`` to the folder ``output``. Raises TargetError where it is refused.

    target: onnxruntime, openvino or tensorrt.
    model: A torch, ONNX or OpenVINO model, or a bundle.
    output: Path of the result.
    force: Replace an output that exists.
    options: A runtime option, as the runtime spells it.
    compute_capability: A GPU that a tensorrt engine is for: 8.9, 12.0.
    device: Device to run on; by default a bundle's own, else the CPU.
    threads: Threads per session; by default all cores allowed.
    shapes: Sizes of a dynamic dimension, for tensorrt.
    inputs: An input that the file does not describe; a word is a dynamic dimension.
    code: Function that builds the nn.Module of a state dict. This runs that file's code.
    trust: Let a pickled file that you made yourself run its code.
    seed: Seed of all random choices.
    """

def distill(
    teacher: str | Path,
    output: str | Path | None = None,
    *,
    force: bool = False,
    student: str | None = None,
    student_code: str | None = None,
    layers: int | None = None,
    match: Literal["auto"] | Literal["kl", "mse"] = "auto",
    temperature: float = 2.0,
    logits: float = 1.0,
    hidden: float | None = None,
    attention: float | None = None,
    task: float | None = None,
    target: str = "onnxruntime",
    data: str | Path | None = None,
    train_data: str | Path | None = None,
    metric: str | None = None,
    max_drop: float | None = None,
    measure: bool = True,
    seconds: float = 5.0,
    threads: int | None = None,
    epochs: int = 5,
    batch_size: int = 64,
    learning_rate: float | None = None,
    weight_decay: float = 0.01,
    patience: int = 3,
    inputs: Sequence[str] = (),
    code: str | None = None,
    trust: bool = False,
    seed: int = 0,
    progress: Progress = ...,
) -> Transformation:
    """Train a student to do what ``teacher`` does and, unless ``measure`` is false, compare both on ``target``.

    The student is a file, the module that ``student_code`` builds, or the teacher with so many of its ``layers`` left.
    Killed, and started again in the same way, it goes on from its last checkpoint. Raises OptkitError.

    teacher: A torch model to learn from.
    output: Path of the result.
    force: Replace an output that exists.
    student: Weights file of a student to begin with.
    student_code: Function that builds the student's module. This runs that file's code.
    layers: Layers that an automatic student keeps; by default half.
    match: Loss on outputs: kl of softened classes, or mse of values; auto chooses by the metric.
    temperature: Temperature that softens the classes of both models.
    logits: Weight of the loss on the teacher's outputs.
    hidden: Weight of the loss on outputs of matched layers; by default 1 where layers match.
    attention: Weight of the loss on attention in matched layers; by default 0.
    task: Weight of the loss on labels; by default 0.5 where the metric is of labels.
    target: onnxruntime, openvino or tensorrt.
    data: .npz, folder of .npz, .yaml (images, text) or FILE.py:CALLABLE.
    train_data: Training data, when it is not to be split off --data.
    metric: accuracy, top5, f1, mae, rmse, pearson, spearman (need labels); cosine, agreement, mae (fidelity to
        the baseline). By default chosen from the data.
    max_drop: Largest loss allowed, in the metric's own units.
    measure: Compare the result with the model that came in.
    seconds: Measuring time per candidate, at most.
    threads: Threads per session; by default all cores allowed.
    epochs: Passes over the training data, at most.
    batch_size: Samples per training step.
    learning_rate: Peak learning rate; by default the best of five tried.
    weight_decay: Weight decay of AdamW.
    patience: Epochs without a lower held-out loss after which training stops.
    inputs: An input that the file does not describe; a word is a dynamic dimension.
    code: Function that builds the nn.Module of a state dict. This runs that file's code.
    trust: Let a pickled file that you made yourself run its code.
    seed: Seed of all random choices.
    """

def doctor(
    *,
    progress: Progress = ...,
) -> Doctor:
    """Describe the machine, and each target as it really imports: a broken install is a line with the reason."""

def evaluate(
    model: str | Path,
    *,
    data: str | Path,
    reference: str | Path | None = None,
    metric: str | None = None,
    target: str | None = None,
    device: Literal["cpu", "cuda"] | None = None,
    threads: int | None = None,
    batch: int = 1,
    inputs: Sequence[str] = (),
    code: str | None = None,
    trust: bool = False,
    seed: int = 0,
    progress: Progress = ...,
) -> Evaluation:
    """Assess ``model`` on ``data``; with ``reference`` also what it lost against that. Raises OptkitError.

    reference: Model whose outputs or quality count as right.
    model: A torch, ONNX or OpenVINO model, or a bundle.
    data: .npz, folder of .npz, .yaml (images, text) or FILE.py:CALLABLE.
    metric: accuracy, top5, f1, mae, rmse, pearson, spearman (need labels); cosine, agreement, mae (fidelity to
        the baseline). By default chosen from the data.
    target: onnxruntime, openvino, tensorrt or torch; by default chosen by the model's format.
    device: Device to run on; by default a bundle's own, else the CPU.
    threads: Threads per session; by default all cores allowed.
    batch: Samples per inference.
    inputs: An input that the file does not describe; a word is a dynamic dimension.
    code: Function that builds the nn.Module of a state dict. This runs that file's code.
    trust: Let a pickled file that you made yourself run its code.
    seed: Seed of all random choices.
    """

def explain(
    baseline: str | Path,
    candidate: str | Path,
    *,
    calibration: str | Path | None = None,
    data: str | Path | None = None,
    metric: str | None = None,
    max_drop: float | None = None,
    target: str | None = None,
    threads: int | None = None,
    batch: int = 1,
    seconds: float = 5.0,
    time_limit: float = 600.0,
    inputs: Sequence[str] = (),
    code: str | None = None,
    trust: bool = False,
    seed: int = 0,
    progress: Progress = ...,
) -> Explanation:
    """Say where ``candidate``'s time went against ``baseline``, and with ``data`` its quality.

    Each is a path, a bundle or ``PATH@TARGET``. Both are measured side by side first, for ``seconds`` each, then their
    operators are watched and their layers compared. ``calibration`` is the data that the candidate was calibrated with.
    A candidate that fails is explained by its reason. Raises OptkitError.

    baseline: Model that the other is compared with.
    candidate: A model, a bundle or MODEL@TARGET.
    calibration: Data that the candidate was calibrated with.
    data: .npz, folder of .npz, .yaml (images, text) or FILE.py:CALLABLE.
    metric: accuracy, top5, f1, mae, rmse, pearson, spearman (need labels); cosine, agreement, mae (fidelity to
        the baseline). By default chosen from the data.
    max_drop: Largest loss allowed, in the metric's own units.
    target: onnxruntime, openvino, tensorrt or torch; by default chosen by the model's format.
    threads: Threads per session; by default all cores allowed.
    batch: Samples per inference.
    seconds: Measuring time per candidate, at most.
    time_limit: Seconds without an answer after which a model counts as hung.
    inputs: An input that the file does not describe; a word is a dynamic dimension.
    code: Function that builds the nn.Module of a state dict. This runs that file's code.
    trust: Let a pickled file that you made yourself run its code.
    seed: Seed of all random choices.
    """

def export(
    model: str | Path,
    output: str | Path,
    *,
    force: bool = False,
    opset: int = 18,
    rtol: float = 0.001,
    atol: float = 0.0001,
    data: str | Path | None = None,
    inputs: Sequence[str] = (),
    code: str | None = None,
    trust: bool = False,
    seed: int = 0,
    progress: Progress = ...,
) -> Transformation:
    """Write ``model`` as ONNX to ``output``. Raises ParityError where the result computes something else.

    model: A torch, ONNX or OpenVINO model, or a bundle.
    output: Path of the result.
    force: Replace an output that exists.
    opset: Version of the ONNX operators.
    rtol: Relative difference allowed between outputs.
    atol: Absolute difference allowed, times the largest output.
    data: .npz, folder of .npz, .yaml (images, text) or FILE.py:CALLABLE.
    inputs: An input that the file does not describe; a word is a dynamic dimension.
    code: Function that builds the nn.Module of a state dict. This runs that file's code.
    trust: Let a pickled file that you made yourself run its code.
    seed: Seed of all random choices.
    """

def gate(
    candidate: str | Path | None = None,
    *,
    baseline: str | Path | None = None,
    record: str | Path | None = None,
    retry: bool = False,
    max_drop: float | None = None,
    min_speedup: float | None = None,
    max_slowdown: float | None = None,
    max_p99: float | str | None = None,
    min_throughput: float | None = None,
    max_size_ratio: float | None = None,
    max_memory: int | str | None = None,
    data: str | Path | None = None,
    metric: str | None = None,
    target: str | None = None,
    device: Literal["cpu", "cuda"] | None = None,
    threads: int | None = None,
    batch: int = 1,
    seconds: float = 10.0,
    precision: float = 0.01,
    time_limit: float = 600.0,
    inputs: Sequence[str] = (),
    code: str | None = None,
    trust: bool = False,
    seed: int = 0,
    progress: Progress = ...,
) -> Gate:
    """Compare ``candidate`` with ``baseline`` now, or take the saved ``record`` of a run or comparison, and judge.

    ``retry`` measures three times as long where the first try was inconclusive and more time may tell. A ``baseline``
    that is a saved record stands for the model that it chose, which is measured now.

    In a ``record``, ``candidate`` names the row; by default the only one, or the one that the run chose. The rules of
    the run's recipe hold too, but for those given here. What another machine recorded is measured here, where both
    models and the data are at hand. Else only ratios are judged: raises UsageError where a rule is absolute (p99,
    throughput, memory).

    candidate: A model, a bundle or MODEL@TARGET; of a record, a row.
    baseline: Model that it is compared with; of a record, the model that it chose.
    record: Judge a saved run or comparison; measured anew if another machine made it.
    retry: Measure three times as long where the first verdict is inconclusive.
    max_drop: Largest loss allowed, in the metric's own units.
    min_speedup: Speed-up over the baseline, at least, as 1.5.
    max_slowdown: Slowdown against the baseline, at most, as 1.05.
    max_p99: 99 % quantile of the latency, at most, as 20ms.
    min_throughput: Samples per second, at least.
    max_size_ratio: Size as a share of the baseline's, at most, as 0.5.
    max_memory: Peak resident memory, at most, as 500MB.
    data: .npz, folder of .npz, .yaml (images, text) or FILE.py:CALLABLE.
    metric: accuracy, top5, f1, mae, rmse, pearson, spearman (need labels); cosine, agreement, mae (fidelity to
        the baseline). By default chosen from the data.
    target: onnxruntime, openvino, tensorrt or torch; by default chosen by the model's format.
    device: Device to run on; by default a bundle's own, else the CPU.
    threads: Threads per session; by default all cores allowed.
    batch: Samples per inference.
    seconds: Measuring time per candidate, at most.
    precision: Stop once every ratio's 95 % interval is within this share of it.
    time_limit: Seconds without an answer after which a model counts as hung.
    inputs: An input that the file does not describe; a word is a dynamic dimension.
    code: Function that builds the nn.Module of a state dict. This runs that file's code.
    trust: Let a pickled file that you made yourself run its code.
    seed: Seed of all random choices.
    """

def inspect(
    model: str | Path | Opened,
    *,
    targets: Sequence[str] = (),
    shapes: Sequence[str] = (),
    inputs: Sequence[str] = (),
    code: str | None = None,
    trust: bool = False,
    progress: Progress = ...,
) -> Inspection:
    """Describe the model at ``model``, and the nodes that each of ``targets`` (all that are installed) refuses in it.

    Each target opens the model in a process of its own; one that is asked for shows its layers, too, where it tells
    them. ``shapes`` are sizes of dynamic dimensions, for targets that build engines. Raises ModelError, UntrustedError,
    UsageError.

    model: A torch, ONNX or OpenVINO model, or a bundle.
    targets: Targets to ask; by default all that are installed.
    shapes: Sizes of a dynamic dimension, for tensorrt.
    inputs: An input that the file does not describe; a word is a dynamic dimension.
    code: Function that builds the nn.Module of a state dict. This runs that file's code.
    trust: Let a pickled file that you made yourself run its code.
    """

def optimize(
    model: str | Path,
    output: str | Path,
    *,
    data: str | Path,
    goal: Literal["latency", "throughput", "size", "memory"] = "latency",
    targets: Sequence[str] = (),
    budget: float | str = 600.0,
    max_size: int | str | None = None,
    max_p99: float | str | None = None,
    train_data: str | Path | None = None,
    calibration_samples: int | None = None,
    force: bool = False,
    metric: str | None = None,
    max_drop: float | None = None,
    calibration: str | Path | None = None,
    threads: int | None = None,
    batch: int = 1,
    seconds: float = 10.0,
    inputs: Sequence[str] = (),
    code: str | None = None,
    trust: bool = False,
    seed: int = 0,
    progress: Progress = ...,
) -> Run:
    """Search for the best form of ``model`` whose loss is at most ``max_drop``, for ``budget`` seconds at most.

    The bundle goes to ``output``; recipe, record and report to the folder ``OUTPUT-search``. The original is the result
    where nothing beats it. With ``train_data``, pruned and trained forms of a torch module are tried, too. Killed, and
    started again in the same way, it goes on. Without ``calibration_samples``, large models calibrate on fewer. Raises
    OptkitError.

    goal: Figure to make best.
    targets: onnxruntime, openvino or tensorrt; by default all that are there.
    budget: Time to search, as 10m.
    max_size: Size on disk, at most, as 20MB.
    max_p99: 99 % quantile of the latency, at most, as 20ms.
    train_data: Also try pruning and training, on these data.
    calibration_samples: Calibration samples, at most; by default by the size of the model.
    model: A torch, ONNX or OpenVINO model, or a bundle.
    output: Path of the result.
    force: Replace an output that exists.
    data: .npz, folder of .npz, .yaml (images, text) or FILE.py:CALLABLE.
    metric: accuracy, top5, f1, mae, rmse, pearson, spearman (need labels); cosine, agreement, mae (fidelity to
        the baseline). By default chosen from the data.
    max_drop: Largest loss allowed, in the metric's own units.
    calibration: Calibration data, when it is not to be split off --data.
    threads: Threads per session; by default all cores allowed.
    batch: Samples per inference.
    seconds: Measuring time per candidate, at most.
    inputs: An input that the file does not describe; a word is a dynamic dimension.
    code: Function that builds the nn.Module of a state dict. This runs that file's code.
    trust: Let a pickled file that you made yourself run its code.
    seed: Seed of all random choices.
    """

def plan(
    recipe: str | Path,
    *,
    settings: Sequence[str] = (),
    progress: Progress = ...,
) -> Plan:
    """Plan ``recipe`` with ``settings`` (``a.b=value``) put in. Nothing is computed. Raises OptkitError.

    recipe: A recipe: a YAML file.
    settings: Put a value into the recipe: benchmark.seconds=5, targets.0=openvino.
    """

def prune(
    model: str | Path,
    output: str | Path | None = None,
    *,
    force: bool = False,
    sparsity: float | None = None,
    of: Literal["macs", "parameters"] = "macs",
    target_speedup: float | None = None,
    drop_layers: int = 0,
    pattern: Literal["structured"] | Literal["unstructured", "2:4"] = "structured",
    importance: Literal["l1", "l2", "taylor", "activation"] = "taylor",
    scope: Literal["global", "layer"] = "global",
    steps: int = 3,
    round_to: int = 8,
    exclude: Sequence[str] = (),
    target: str = "onnxruntime",
    data: str | Path | None = None,
    train_data: str | Path | None = None,
    metric: str | None = None,
    max_drop: float | None = None,
    measure: bool = True,
    seconds: float = 5.0,
    threads: int | None = None,
    epochs: int = 5,
    batch_size: int = 64,
    learning_rate: float | None = None,
    weight_decay: float = 0.01,
    patience: int = 3,
    inputs: Sequence[str] = (),
    code: str | None = None,
    trust: bool = False,
    seed: int = 0,
    progress: Progress = ...,
) -> Transformation:
    """Cut ``model`` by ``sparsity``, to a measured ``target_speedup`` or by whole layers, let it learn again, and
    compare both on ``target`` unless ``measure`` is false.

    Killed, and started again in the same way, it goes on from its last checkpoint. Raises OptkitError.

    model: A torch, ONNX or OpenVINO model, or a bundle.
    output: Path of the result.
    force: Replace an output that exists.
    sparsity: Share to cut: 0.5 leaves half.
    of: Unit of sparsity: multiply-accumulates or parameters.
    target_speedup: Cut until the model is faster by this factor, as measured on the target.
    drop_layers: Whole layers to remove first, those that matter least.
    pattern: Remove units, or set weights to zero: anywhere, or two of each four.
    importance: Criterion that ranks units.
    scope: Rank units of all layers together, or cut each layer alike.
    steps: Cuts, with an epoch of training between them.
    round_to: Leave a multiple of this number of channels, as kernels like it.
    exclude: Layer to leave alone, by name.
    target: onnxruntime, openvino or tensorrt.
    data: .npz, folder of .npz, .yaml (images, text) or FILE.py:CALLABLE.
    train_data: Training data, when it is not to be split off --data.
    metric: accuracy, top5, f1, mae, rmse, pearson, spearman (need labels); cosine, agreement, mae (fidelity to
        the baseline). By default chosen from the data.
    max_drop: Largest loss allowed, in the metric's own units.
    measure: Compare the result with the model that came in.
    seconds: Measuring time per candidate, at most.
    threads: Threads per session; by default all cores allowed.
    epochs: Passes over the training data, at most.
    batch_size: Samples per training step.
    learning_rate: Peak learning rate; by default the best of five tried.
    weight_decay: Weight decay of AdamW.
    patience: Epochs without a lower held-out loss after which training stops.
    inputs: An input that the file does not describe; a word is a dynamic dimension.
    code: Function that builds the nn.Module of a state dict. This runs that file's code.
    trust: Let a pickled file that you made yourself run its code.
    seed: Seed of all random choices.
    """

def quantize(
    model: str | Path,
    output: str | Path | None = None,
    *,
    force: bool = False,
    precision: Literal["int8", "fp8", "fp16", "bf16", "int4"] = "int8",
    floats: Literal["float32", "fp16", "bf16"] = "float32",
    method: Literal["auto", "dynamic", "static", "weight-only", "qat"] = "auto",
    engine: Literal["auto", "onnxruntime", "nncf", "neural-compressor"] = "auto",
    calibrate: Literal["minmax", "entropy", "percentile", "mean"] = "minmax",
    per_channel: bool = True,
    model_type: Literal["auto", "transformer", "none"] = "auto",
    preset: Literal["mixed", "performance"] = "mixed",
    bias_correction: Literal["fast", "accurate", "none"] = "fast",
    smooth_quant: float | None = None,
    exclude: Sequence[str] = (),
    target: str = "onnxruntime",
    data: str | Path | None = None,
    train_data: str | Path | None = None,
    calibration: str | Path | None = None,
    calibration_samples: int = 300,
    metric: str | None = None,
    max_drop: float | None = None,
    measure: bool = True,
    seconds: float = 5.0,
    threads: int | None = None,
    epochs: int = 5,
    batch_size: int = 64,
    learning_rate: float | None = None,
    weight_decay: float = 0.01,
    patience: int = 3,
    inputs: Sequence[str] = (),
    code: str | None = None,
    trust: bool = False,
    seed: int = 0,
    progress: Progress = ...,
) -> Transformation:
    """Quantize ``model`` for ``target`` and, unless ``measure`` is false, compare the result with it.

    Without ``output`` the result lies beside the model, as ``MODEL-int8.onnx``, with the suffix of the target's files.
    Raises OptkitError.

    model: A torch, ONNX or OpenVINO model, or a bundle.
    output: Path of the result.
    force: Replace an output that exists.
    precision: Number format: int8, fp8, fp16, bf16, or int4 of weights alone.
    floats: Type of the operators that int8 or fp8 leaves in float, on tensorrt.
    method: Method of INT8; auto chooses by model, target and data.
    engine: Library that quantizes; auto takes the target's own.
    calibrate: Calibration method, from the values seen to a range; no engine knows all of them.
    per_channel: A scale for each output channel of a weight.
    model_type: NNCF's scheme for transformers, or none; auto looks at the graph.
    preset: NNCF's preset: symmetric activations (performance), or asymmetric where useful (mixed).
    bias_correction: NNCF's bias correction; none after qat.
    smooth_quant: Strength of SmoothQuant in NNCF's scheme for transformers; NNCF takes 0.95.
    exclude: Node or operator to keep in float, by name.
    target: onnxruntime, openvino or tensorrt.
    data: .npz, folder of .npz, .yaml (images, text) or FILE.py:CALLABLE.
    train_data: Training data, when it is not to be split off --data.
    calibration: Calibration data, when it is not to be split off --data.
    calibration_samples: Calibration samples, at most.
    metric: accuracy, top5, f1, mae, rmse, pearson, spearman (need labels); cosine, agreement, mae (fidelity to
        the baseline). By default chosen from the data.
    max_drop: Largest loss allowed, in the metric's own units.
    measure: Compare the result with the model that came in.
    seconds: Measuring time per candidate, at most.
    threads: Threads per session; by default all cores allowed.
    epochs: Passes over the training data, at most.
    batch_size: Samples per training step.
    learning_rate: Peak learning rate; by default the best of five tried.
    weight_decay: Weight decay of AdamW.
    patience: Epochs without a lower held-out loss after which training stops.
    inputs: An input that the file does not describe; a word is a dynamic dimension.
    code: Function that builds the nn.Module of a state dict. This runs that file's code.
    trust: Let a pickled file that you made yourself run its code.
    seed: Seed of all random choices.
    """

def report(
    run: str | Path,
    output: str | Path | None = None,
    *,
    format: str = "markdown",
    force: bool = False,
    progress: Progress = ...,
) -> str:
    """Render the report of the run in the folder ``run``; also write it to ``output``, where one is given.

    Raises UsageError for an unknown format and an unfinished run, OutputError.

    run: Folder of a run.
    format: markdown, html, csv, json or junit.
    output: Path of the result.
    force: Replace an output that exists.
    """

def run(
    recipe: str | Path,
    output: str | Path | None = None,
    *,
    settings: Sequence[str] = (),
    force: bool = False,
    progress: Progress = ...,
) -> Run:
    """Carry out ``recipe``, with ``settings`` (``a.b=value``) put in, into the folder ``output``.

    A branch that failed says why in the record. Raises OptkitError where there is no result at all.

    recipe: A recipe: a YAML file.
    settings: Put a value into the recipe: benchmark.seconds=5, targets.0=openvino.
    output: Path of the result.
    force: Replace an output that exists.
    """
