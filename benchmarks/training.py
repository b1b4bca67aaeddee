"""Compression by training, over several seeds: what pruning, distillation and quantization-aware training bring.

Needs Debian's package ``dataset-fashion-mnist``, and ``sample_models/fetch.py`` run first. Each part trains on two CPU
cores in minutes; accuracy is on all 10,000 test images, and speed is of one thread, batch 1.
"""

from __future__ import annotations

import argparse
import contextlib
import runpy
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from statistics import fmean, pstdev

import numpy as np
import torch
from fingerprint import fingerprint
from scipy import stats

import optkit
from optkit import units
from optkit.records.comparison import Comparison, Row

ROOT = Path(__file__).parent.parent
CNN = ROOT / "sample_models" / "fashion_cnn"
CODE = f"{CNN}/net.py:build"
NARROW = Path(__file__).parent / "narrow.py"
INPUT = ("x:float32[batch,1,28,28]",)
TARGETS = ("onnxruntime", "openvino")
MINILM = ROOT / "sample_models" / "fetched" / "minilm"
LEE = ROOT / "sample_models" / "fetched" / "lee"
WEIGHTS, ENCODER = MINILM / "model.safetensors", f"{ROOT}/sample_models/minilm/net.py:build"
TEACHER_EPOCHS, NARROW_EPOCHS = 12, 4
FEW = 12_000
"""Images to train on where training is not the question."""
TOKENS = tuple(f"{name}:int64[batch,sequence]" for name in ("input_ids", "attention_mask", "token_type_ids"))


class Work:
    """Data, settings and what was found, line by line."""

    def __init__(self, folder: Path, seeds: int, epochs: int, seconds: float) -> None:
        self.folder, self.seeds, self.epochs, self.seconds = folder, range(seeds), epochs, seconds
        sys.path.insert(0, str(CNN))  # where the script finds the net
        self._script = runpy.run_path(str(CNN / "train.py"))
        self._images = self._script["load"]("train")
        self.train, self.test = self._npz("train", *self._images), self._npz("test", *self._script["load"]("t10k"))
        self.few = self._npz("few", *(each[:FEW] for each in self._images))

    @cached_property
    def teacher(self) -> Path:
        """The sample net, trained twice as long as the one that comes with it."""
        return self.trained(self._script["build"], "teacher", CODE, epochs=TEACHER_EPOCHS)

    def trained(self, build: Callable[[], torch.nn.Module], name: str, code: str, *, epochs: int) -> Path:
        """A net's weights, beside them its ONNX model. Labels are taken as they are: a teacher of smoothed ones
        teaches less (Müller et al., 2019).
        """
        torch.manual_seed(0)
        with contextlib.redirect_stdout(sys.stderr):  # it tells each epoch
            module = self._script["fit"](build(), *self._images, epochs=epochs, smoothing=0.0)
        path = self.folder / f"{name}.pth"
        torch.save(module.state_dict(), path)
        optkit.export(path, path.with_suffix(".onnx"), code=code, inputs=INPUT)
        return path

    def _npz(self, name: str, images: object, labels: object) -> Path:
        path = self.folder / f"{name}.npz"
        np.savez(path, x=np.asarray(images), labels=np.asarray(labels))
        return path

    def right(self, path: Path) -> np.ndarray:
        """Of each test image 1 where the model is right, else 0."""
        test = np.load(self.test)
        with optkit.load(path) as session:
            found = [next(iter(session.run({"x": part}).values())) for part in np.array_split(test["x"], 20)]
        return (np.concatenate(found).argmax(1) == test["labels"]).astype(float)

    @property
    def lesson(self) -> dict[str, object]:
        return {
            "code": CODE, "inputs": INPUT, "train_data": self.train, "data": self.test, "epochs": self.epochs,
            "batch_size": 128, "threads": 1, "measure": False, "force": True,
        }  # fmt: skip

    def compared(self, models: list[Path], target: str) -> Comparison:
        named = [f"{path}@{target}" for path in models]
        return optkit.compare(named[0], named[1:], data=self.test, metric="accuracy", threads=1, seconds=self.seconds)


def pruned(work: Work) -> Iterator[str]:
    """A little more than half of the operations cut, and INT8 on top."""
    yield "| model | target | MACs left | accuracy lost, points | speed-up | INT8: accuracy lost | INT8: speed-up |"
    yield "|---" * 7 + "|"
    found: dict[str, list[tuple[float, ...]]] = {target: [] for target in TARGETS}
    for seed in work.seeds:
        done = optkit.prune(
            CNN / "weights.pth", work.folder / f"half-{seed}.safetensors", sparsity=0.53, seed=seed, **work.lesson
        )
        share = done.stage.facts["after"]["macs"] / done.stage.facts["before"]["macs"]
        plain = work.folder / f"half-{seed}.onnx"
        optkit.export(done.output, plain, code=CODE, force=True)
        for target in TARGETS:
            small = work.folder / f"half-{seed}-int8{'.xml' if target == 'openvino' else '.onnx'}"
            optkit.quantize(
                plain, small, method="static", target=target, calibration=CNN / "calibration.npz", measure=False,
                force=True,
            )  # fmt: skip
            rows = work.compared([CNN / "model.onnx", plain, small], target).rows
            found[target].append((share, *(value for row in rows[1:] for value in (100 * lost(row), speed(row)))))
    for target, values in found.items():
        columns = list(zip(*values, strict=True))
        cells = [percent(columns[0]), points(columns[1]), ratio(columns[2]), points(columns[3]), ratio(columns[4])]
        yield f"| residual CNN | {target} | {' | '.join(cells)} |"


def distilled(work: Work) -> Iterator[str]:
    """A student of less than a quarter of the parameters, with its teacher and without.

    Each seed by McNemar's test; all by a paired t-test over images: in how many of the seeds each is right.
    """
    student = f"{CNN}/net.py:small"
    yield "| seed | parameters | teacher | student | alone | student against alone |"
    yield "|---" * 6 + "|"
    lesson = work.lesson | {"student_code": student}
    values, gains = [], []
    for seed in work.seeds:
        paths = {}
        for name, more in (("taught", {}), ("alone", {"logits": 0.0, "task": 1.0})):
            paths[name] = work.folder / f"{name}-{seed}.safetensors"
            optkit.distill(work.teacher, paths[name], seed=seed, **lesson | more)
            optkit.export(paths[name], paths[name].with_suffix(".onnx"), code=student, force=True)
        teacher, taught, alone = (path.with_suffix(".onnx") for path in (work.teacher, *paths.values()))
        share = optkit.inspect(taught).parameters / optkit.inspect(teacher).parameters
        first = work.compared([teacher, taught], "onnxruntime").rows
        second = work.compared([alone, taught], "onnxruntime").rows
        values.append([row.quality.value.value for row in (first[0], first[1], second[0])])
        against = second[1].quality
        gains.append(work.right(taught) - work.right(alone))
        yield (
            f"| {seed} | {share:.1%} | {values[-1][0]:.4f} | {values[-1][1]:.4f} | {values[-1][2]:.4f} | "
            f"{-100 * against.loss.value:+.2f} points, McNemar {units.p_value(against.p_value)} |"
        )
    means = [f"{fmean(column):.4f} ± {pstdev(column):.4f}" for column in zip(*values, strict=True)]
    together = units.p_value(stats.ttest_1samp(np.mean(gains, 0), 0.0).pvalue)
    yield f"| mean | | {' | '.join(means)} | {100 * np.mean(gains):+.2f} points, paired t-test {together} |"


def shortened(work: Work) -> Iterator[str]:
    """MiniLM with half of its layers, distilled on unlabelled text; cosine on 50 documents of the Lee corpus."""
    yield "| seed | layers | cosine to the teacher | correlation with people: teacher | student | speed-up |"
    yield "|---" * 6 + "|"
    teacher, training, documents = encoder(work)
    for seed in work.seeds:
        student = work.folder / f"minilm-{seed}.safetensors"
        optkit.distill(
            WEIGHTS, student, code=ENCODER, inputs=TOKENS, layers=3, train_data=training, data=documents, seed=seed,
            epochs=work.epochs, batch_size=32, measure=False, force=True,
        )  # fmt: skip
        small = student.with_suffix(".onnx")
        optkit.export(student, small, code=ENCODER, data=documents, force=True)
        row = optkit.compare(teacher, [small], data=documents, metric="cosine", threads=1, seconds=work.seconds).rows[1]
        likeness = [correlation(path, documents) for path in (teacher, small)]
        yield (
            f"| {seed} | 3 of 6 | {row.quality.value.value:.4f} | {likeness[0]:.3f} | {likeness[1]:.3f} | "
            f"{units.ratio_interval(row.speedup.value, row.speedup.low, row.speedup.high)} |"
        )


def recovered(work: Work) -> Iterator[str]:
    """What quantization-aware training wins back of what static INT8 on onnxruntime loses of a deep narrow net."""
    yield "| seed | float | static INT8 | after training | won back of the loss | trained against static |"
    yield "|---" * 6 + "|"
    code = f"{NARROW}:build"
    weights = work.trained(runpy.run_path(str(NARROW))["build"], "narrow", code, epochs=NARROW_EPOCHS)
    given, static = weights.with_suffix(".onnx"), work.folder / "narrow-static.onnx"
    optkit.quantize(given, static, method="static", calibration=work.few, measure=False, force=True)
    for seed in work.seeds:
        trained = work.folder / f"narrow-{seed}.onnx"
        optkit.quantize(weights, trained, method="qat", seed=seed, **work.lesson | {"code": code})
        found = work.compared([given, static, trained], "onnxruntime").rows
        against = work.compared([static, trained], "onnxruntime").rows[1].quality
        yield (
            f"| {seed} | {' | '.join(f'{row.quality.value.value:.4f}' for row in found)} | "
            f"{1 - lost(found[2]) / lost(found[1]):.0%} | McNemar {units.p_value(against.p_value)} |"
        )


def paced(work: Work) -> Iterator[str]:
    """A speed-up asked for, and what another measurement finds."""
    yield "| seed | target | asked for | measured apart | accuracy lost, points |"
    yield "|---" * 5 + "|"
    lesson = work.lesson | {"epochs": 1, "train_data": work.few}  # speed is the question here
    for seed in work.seeds:
        for target in TARGETS:
            done = optkit.prune(
                CNN / "weights.pth", work.folder / f"fast-{target}-{seed}.safetensors", target=target,
                target_speedup=1.5, seed=seed, **lesson,
            )  # fmt: skip
            small = Path(done.output).with_suffix(".onnx")
            optkit.export(done.output, small, code=CODE, force=True)
            row = work.compared([CNN / "model.onnx", small], target).rows[1]
            found = units.ratio_interval(row.speedup.value, row.speedup.low, row.speedup.high)
            yield f"| {seed} | {target} | 1.5x | {found} | {100 * lost(row):.2f} |"


def encoder(work: Work) -> tuple[Path, Path, Path]:
    """MiniLM in float, texts to train on, and documents to judge by."""
    training, documents = text(work, "background", 64), text(work, "documents", 128)
    teacher = work.folder / "minilm.onnx"
    if not teacher.exists():
        optkit.export(WEIGHTS, teacher, code=ENCODER, inputs=TOKENS, data=documents)
    return teacher, training, documents


def text(work: Work, name: str, length: int) -> Path:
    """A description of the corpus's part, cut at so many tokens."""
    path = work.folder / f"{name}.yaml"
    tokenizer = MINILM / "tokenizer.json"
    path.write_text(f"path: {LEE / name}.jsonl\ntext: {{tokenizer: {tokenizer}, max_length: {length}}}\n")
    return path


def correlation(model: Path, documents: Path) -> float:
    """Of the cosines between embeddings with people's judgement, over all pairs of documents: Pearson's."""
    from optkit.data.dataset import open_dataset
    from optkit.metrics import fidelity

    session = optkit.load(model)
    dataset = open_dataset(documents, session.signature.inputs)
    embeddings = np.concatenate([next(iter(session.run(batch.feed).values())) for batch in dataset.batches(1)])
    judged = np.array([line.split() for line in (LEE / "similarities.txt").read_text().splitlines()], float)
    upper = np.triu_indices(len(embeddings), 1)
    return fidelity.correlation((embeddings @ embeddings.T)[upper], judged[upper])


def lost(row: Row) -> float:
    return float(row.quality.loss.value)


def speed(row: Row) -> float:
    return float(row.speedup.value)


def points(values: tuple[float, ...]) -> str:
    return f"{fmean(values):.2f} ± {pstdev(values):.2f}"


def ratio(values: tuple[float, ...]) -> str:
    return f"{fmean(values):.2f}x ± {pstdev(values):.2f}"


def percent(values: tuple[float, ...]) -> str:
    return f"{fmean(values):.1%}"


BENCHMARKS: dict[str, Callable[[Work], Iterator[str]]] = {
    "pruned": pruned, "distilled": distilled, "shortened": shortened, "recovered": recovered, "paced": paced,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--only", choices=BENCHMARKS)
    arguments = parser.parse_args()
    print(fingerprint(), "\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Work(Path(folder), arguments.seeds, arguments.epochs, arguments.seconds)
        for name, benchmark in BENCHMARKS.items():
            if arguments.only in (None, name):
                started = time.monotonic()
                print(f"**{name}**: {benchmark.__doc__}\n")
                for line in benchmark(work):
                    print(line, flush=True)
                print(f"\n{units.seconds(time.monotonic() - started)}\n", flush=True)


if __name__ == "__main__":
    main()
