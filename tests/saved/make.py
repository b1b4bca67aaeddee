"""Make the files that ``test_saved.py`` opens: one of everything that optkit writes and opens again later.

``saved/0.1.0`` was made at commit 548dcdb (optkit 0.1.0, Python 3.11, the versions of ``constraints.txt`` of that
commit), before the modules moved into rooms, by

    python tests/saved/make.py tests/saved/0.1.0

It stays as it is: a later format is proven by a folder beside it, made by the same script. Everything happens in
``/tmp/example``, on one thread, and as if on a machine that does not exist, so that no file names the machine that it
was made on. Reports and pictures are left out, since nothing opens them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sources import FEEDS, NET, PHOTOS, RECIPES, TEXTS

PLACE = Path("/tmp/example")
WEIGHTS = ("models/weights.pth", "--code", "net.py:build", "--input", "x:float32[batch,1,8,8]")
DATA = ("--data", "data.npz")
QUICK = ("--threads", "1", "--seconds", "0.3")
LEARNING = ("--train-data", "calibration.npz", "--learning-rate", "0.001", "--batch-size", "16")


def as_example() -> None:
    """Run the command line in this process as if on the machine of the example."""
    from optkit.records.machine import LibraryRecord, Machine
    from optkit.system import fingerprint

    def example(*_: object) -> Machine:
        names = fingerprint.LIBRARIES.items()
        return Machine(
            system="Linux 6.1",
            python="3.11.7",
            cpu="Example CPU",
            isa=["avx2", "avx512_vnni", "avx512f", "fma"],
            cores=2,
            cores_allowed=2.0,
            memory_bytes=8_000_000_000,
            memory_allowed_bytes=8_000_000_000,
            libraries=[
                LibraryRecord(name=name, version=fingerprint.version(name), extra=extra) for name, extra in names
            ],
        )

    fingerprint.fingerprint = example  # type: ignore[assignment]  # before any other module imports it

    from optkit.__main__ import main

    sys.argv[0] = "optkit"
    main()


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(Path(__file__).resolve()), "--as-example", *arguments]


def optkit(*arguments: str, codes: tuple[int, ...] = (0,), into: str | None = None) -> None:
    """Run a command in the example's folder; ``into`` keeps its JSON."""
    print("optkit", *arguments, flush=True)
    json = ("--json",) if into else ()
    done = subprocess.run(command(*arguments, *json), cwd=PLACE, capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        raise SystemExit(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    if into:
        (PLACE / "records" / into).write_text(done.stdout)


def killed(*arguments: str, when: Callable[[], bool]) -> None:
    """Start a command, and kill it once ``when`` holds."""
    print("optkit", *arguments, "(killed)", flush=True)
    process = subprocess.Popen(
        command(*arguments), cwd=PLACE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not when():
        if process.poll() is not None:
            raise SystemExit(f"ended with {process.returncode} before there was anything to keep")
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def inputs() -> None:
    """Write models, data and recipes as a user has them."""
    import numpy as np
    import torch
    from PIL import Image

    for name in ("models", "records", "recipes", "runs", "searches", "bundles", "feeds"):
        (PLACE / name).mkdir()
    random = np.random.default_rng(0)
    labels = np.arange(180) % 3
    pictures = np.round(labels[:, None, None, None] + random.normal(0, 0.8, (180, 1, 8, 8)), 1).astype(np.float32)
    np.savez(PLACE / "calibration.npz", x=pictures[:60], labels=labels[:60])
    np.savez(PLACE / "data.npz", x=pictures[60:], labels=labels[60:])
    np.savez_compressed(PLACE / "feeds" / "0.npz", x=pictures[:2], labels=labels[:2])
    np.savez_compressed(PLACE / "feeds" / "1.npz", x=pictures[2:5], labels=labels[2:5])
    (PLACE / "net.py").write_text(NET)
    (PLACE / "feeds.py").write_text(FEEDS)
    for label, name in enumerate(("dark", "medium", "bright")):
        (PLACE / "photos" / name).mkdir(parents=True)
        for number in range(2):
            pixels = random.integers(80 * label, 80 * label + 80, (10, 12), np.uint8)
            Image.fromarray(pixels).save(PLACE / "photos" / name / f"{number}.png")
    (PLACE / "photos.yaml").write_text(PHOTOS)
    texts(random)
    for name, text in RECIPES.items():
        (PLACE / "recipes" / f"{name}.yaml").write_text(text)
    namespace: dict[str, Callable[[], torch.nn.Module]] = {"__name__": "net"}  # type: ignore[dict-item]
    exec(NET, namespace)
    torch.manual_seed(0)
    net = namespace["build"]()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(60):
        logits = net(torch.from_numpy(pictures[:60]))["logits"]
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[:60]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(net.eval().state_dict(), PLACE / "models" / "weights.pth")


def texts(random: object) -> None:
    """Write sentences, their tokenizer, and a model that reads them."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[UNK]", "[PAD]", "a", "the", "film", "is", "was", "good", "bad"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(PLACE / "tokenizer.json"))
    lines = [
        f'{{"sentence": "{article} film {verb} {word}", "mood": "{word}"}}'
        for article in ("a", "the") for verb in ("is", "was") for word in ("good", "bad")
    ]  # fmt: skip
    (PLACE / "texts.jsonl").write_text("\n".join(lines) + "\n")
    (PLACE / "texts.yaml").write_text(TEXTS)
    assert isinstance(random, np.random.Generator)
    weights = {
        "table": random.normal(0, 1, (16, 32)).astype(np.float32),
        "head": random.normal(0, 1, (32, 2)).astype(np.float32),
        "axis": np.array([2], np.int64),
        "rows": np.array([1], np.int64),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["embedded"], "embed"),
            helper.make_node("Cast", ["mask"], ["seen"], "cast", to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["seen", "axis"], ["column"], "unsqueeze"),
            helper.make_node("Mul", ["embedded", "column"], ["kept"], "hide"),
            helper.make_node("ReduceSum", ["kept", "rows"], ["pooled"], "pool", keepdims=0),
            helper.make_node("MatMul", ["pooled", "head"], ["logits"], "classify"),
        ],
        "text",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in ("ids", "mask")],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(made, PLACE / "models" / "text.onnx")


def models() -> None:
    """Write what ``export``, ``quantize``, ``prune`` and ``distill`` write."""
    optkit("export", *WEIGHTS, "-o", "models/model.onnx", into="export.json")
    made = ("quantize", "models/model.onnx")
    optkit(*made, "--int8", *DATA, *QUICK, "-o", "models/static.onnx", into="quantize.json")
    optkit(*made, "--fp16", *DATA, "--no-measure", "-o", "models/half.onnx")
    optkit(*made, "--int8", *DATA, "--no-measure", "--target", "openvino", "-o", "models/static.xml")
    optkit(*made, "--fp16", *DATA, "--no-measure", "--target", "openvino", "-o", "models/half.xml")
    optkit("quantize", "models/text.onnx", "--int8", "--method", "dynamic", "--no-measure", "-o", "models/dynamic.onnx")
    optkit("quantize", "models/text.onnx", "--int4", "--no-measure", "-o", "models/four.onnx")
    optkit("quantize", *WEIGHTS, "--int8", "--method", "qat", *DATA, *LEARNING, "--epochs", "1", "--no-measure",
           "-o", "models/aware.onnx", into="qat.json")  # fmt: skip
    optkit("prune", *WEIGHTS, "--sparsity", "0.4", "--round-to", "4", "--steps", "1", "--epochs", "1", *DATA, *LEARNING,
           "--no-measure", "-o", "models/pruned.safetensors", into="prune.json")  # fmt: skip
    optkit("prune", *WEIGHTS, "--sparsity", "0.5", "--pattern", "unstructured", "--steps", "1", "--epochs", "1", *DATA,
           *LEARNING, "--no-measure", "-o", "models/sparse.safetensors")  # fmt: skip
    optkit("distill", *WEIGHTS, "--student-code", "net.py:small", "--epochs", "1", *DATA, *LEARNING, "--no-measure",
           "-o", "models/student.safetensors", into="distill.json")  # fmt: skip


def bundles() -> None:
    """Write bundles of every target, in float and in integers, with options and without."""
    for model, target, name, *more in (
        ("model.onnx", "onnxruntime", "onnxruntime", "--threads", "1"),
        ("static.onnx", "onnxruntime", "onnxruntime-int8", "--threads", "1", "--option", "execution_mode=ORT_PARALLEL"),
        ("half.onnx", "onnxruntime", "onnxruntime-half", "--threads", "1"),
        ("model.onnx", "openvino", "openvino", "--threads", "1"),
        ("static.xml", "openvino", "openvino-int8", "--threads", "1", "--option", "NUM_STREAMS=1",
         "--option", 'static_shapes={"x": [1, 1, 8, 8]}'),
        ("static.onnx", "fake", "fake", "--option", "seconds=0.004"),
    ):  # fmt: skip
        optkit("compile", f"models/{model}", "--target", target, *more, "-o", f"bundles/{name}")
    optkit("compile", "models/text.onnx", "--target", "tensorrt", "--compute-capability", "8.9",
           "--shapes", "batch=1/1/4", "--shapes", "length=6", "-o", "bundles/tensorrt")  # fmt: skip


def records() -> None:
    """Keep what every verb says with ``--json``."""
    pair = ("models/model.onnx", "models/static.onnx")
    fakes = ("models/model.onnx@fake", "models/static.onnx@fake")
    optkit("doctor", into="doctor.json")
    optkit("inspect", "models/static.onnx", into="inspect.json")
    optkit("evaluate", pair[1], "--reference", pair[0], *DATA, into="evaluate.json")
    optkit("benchmark", *pair, *QUICK, into="benchmark.json")
    optkit("benchmark", *fakes, "--scenario", "server", "--threads", "1", "--max-p99", "50ms", into="server.json")
    optkit("compare", *pair, "models/static.xml", *DATA, *QUICK, into="compare.json")
    optkit("compare", *fakes, *DATA, *QUICK, into="compare-fake.json")
    optkit("explain", *pair, *DATA, "--threads", "1", into="explain.json")
    optkit(
        "gate", pair[1], "--baseline", pair[0], *DATA, "--max-drop", "0.5", *QUICK, into="gate.json", codes=(0, 3, 5)
    )
    optkit("plan", "recipes/all-keys.yaml", into="plan.json")


def runs() -> None:
    """Write the folders of a finished run with a gate, of one that trains, and of one that was killed."""
    optkit("run", "recipes/all-keys.yaml", "-o", "runs/gated", into="run.json", codes=(0, 3, 5))
    optkit("run", "recipes/trained.yaml", "-o", "runs/trained")
    optkit("run", "recipes/both.yaml", "-o", "runs/both", codes=(0, 3, 5))
    quick = ("--set", "benchmark.seconds=30", "--set", "benchmark.precision=0.0001", "--set", "benchmark.threads=1")
    killed(
        "run", "recipes/shortest.yaml", *quick, "-o", "runs/killed", when=lambda: bool(found("runs/killed/bundles/*/*"))
    )


def searches() -> None:
    """Write the folders of a finished search and of one that was killed."""
    how = (*DATA, "--max-drop", "0.3", *QUICK)
    optkit("optimize", "models/model.onnx", *how, "--budget", "40s", "-o", "searches/best", into="optimize.json")
    journal = PLACE / "searches" / "killed-search" / "trials.jsonl"
    killed("optimize", "models/static.onnx", *how, "--budget", "60s", "-o", "searches/killed",
           when=lambda: journal.is_file() and journal.read_text().count("\n") > 3)  # fmt: skip


def checkpoint() -> None:
    """Leave the checkpoint of a training that was killed."""
    killed("quantize", *WEIGHTS, "--int8", "--method", "qat", *DATA, *LEARNING, "--epochs", "9999", "--patience",
           "9999", "--no-measure", "-o", "models/never.onnx",
           when=lambda: bool(found("cache/checkpoints/**/*.pt")))  # fmt: skip


def found(pattern: str) -> list[Path]:
    return list(PLACE.glob(pattern))


def main(destination: Path) -> None:
    """Make everything, and bring it to ``destination``."""
    if destination.exists():
        raise SystemExit(f"{destination} exists; a set of saved files never changes")
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir()
    os.environ |= {"OPTKIT_CACHE": str(PLACE / "cache"), "HOME": str(PLACE), "OMP_NUM_THREADS": "1"}
    for step in (inputs, models, bundles, records, runs, searches, checkpoint):
        step()
    shutil.copytree(PLACE, destination, symlinks=True, ignore=shutil.ignore_patterns("report.*", "tmp", "lock", ".*"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as-example"]:
        del sys.argv[1]
        as_example()
    else:
        main(Path(sys.argv[1]).resolve())
