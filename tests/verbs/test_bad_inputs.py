"""What a user can get wrong: one line, a hint, the documented exit code, nothing written."""

import os

import numpy as np
import pytest

MODEL = "model.onnx"
QUANTIZE = ("quantize", "{samples}/model.onnx", "--int8", "--no-measure", "-o", "out.onnx", "--data")


@pytest.fixture(scope="module")
def bad(samples, tmp_path_factory):
    """A folder of things that are wrong in one way each."""
    folder = tmp_path_factory.mktemp("bad")
    data = np.load(samples / "evaluation.npz")
    x, labels = data["x"][:50], data["labels"][:50]
    broken = x.copy()
    broken[3, 0, 0, 0] = np.nan
    np.savez(folder / "name.npz", y=x, labels=labels)
    np.savez(folder / "dtype.npz", x=x.astype(np.float64), labels=labels)
    np.savez(folder / "rank.npz", x=x[:, 0], labels=labels)
    np.savez(folder / "size.npz", x=x[:, :, :20], labels=labels)
    np.savez(folder / "nan.npz", x=broken, labels=labels)
    np.savez(folder / "labels.npz", x=x, labels=labels[:-5])
    np.savez(folder / "few.npz", x=x[:1], labels=labels[:1])
    np.savez(folder / "unlabelled.npz", x=x)
    (folder / "empty.onnx").touch()
    (folder / "cut.onnx").write_bytes((samples / MODEL).read_bytes()[:300_000])
    (folder / "renamed.onnx").write_text("no model at all\n" * 50)
    (folder / "raises.py").write_text("def build():\n    raise ValueError('boom')\n")
    (folder / "recipe.yaml").write_text("model: x.onnx\nstages:\n  - quantise: {precision: int8}\n")
    (folder / "there.onnx").write_text("mine")
    return folder


CASES = {
    "no such file": (("inspect", "nope.onnx"), "no such file"),
    "a directory": (("inspect", "."), "without manifest.json"),
    "an empty file": (("inspect", "empty.onnx"), "the file is empty"),
    "a truncated file": (("inspect", "cut.onnx"), "truncated"),
    "a renamed file": (("inspect", "renamed.onnx"), "not a model"),
    "a pickle that would run code": (("inspect", "{samples}/module.pt"), "would run code; it asks for net.FashionCNN"),
    "a state dict without code": (
        ("export", "{samples}/weights.pth", "--input", "x:float32[b,1,28,28]", "-o", "out.onnx"),
        "no module to put them in",
    ),
    "code that raises": (
        (
            "export",
            "{samples}/weights.pth",
            "--code",
            "raises.py:build",
            "--input",
            "x:float32[b,1,28,28]",
            "-o",
            "out.onnx",
        ),
        "ValueError: boom",
    ),
    "a wrong name": ((*QUANTIZE, "name.npz"), "input 'x' of the model is missing"),
    "a wrong dtype": ((*QUANTIZE, "dtype.npz"), "dtype float64, not float32"),
    "a wrong rank": ((*QUANTIZE, "rank.npz"), "rank 3"),
    "a wrong size": ((*QUANTIZE, "size.npz"), "size 20 at axis 2, not 28"),
    "NaN": ((*QUANTIZE, "nan.npz"), "holds NaN"),
    "labels of the wrong length": ((*QUANTIZE, "labels.npz"), "45 labels for 50 samples"),
    "too few samples": ((*QUANTIZE, "few.npz"), "too few samples"),
    "an unknown stage": (("run", "recipe.yaml"), "did you mean 'quantize'?"),
    "an unknown metric": (
        ("evaluate", "{samples}/model.onnx", "--data", "unlabelled.npz", "--metric", "acuracy"),
        "unknown metric 'acuracy'",
    ),
    "a metric without labels": (
        ("evaluate", "{samples}/model.onnx", "--data", "unlabelled.npz", "--metric", "accuracy"),
        "needs labels",
    ),
    "an output that exists": (("quantize", "{samples}/model.onnx", "--int8", "-o", "there.onnx"), "exists already"),
    "a folder that cannot be written": (
        ("quantize", "{samples}/model.onnx", "--int8", "-o", "/proc/none/out.onnx"),
        "cannot be written",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), CASES.values(), ids=CASES)
def test_a_mistake_is_one_line_a_code_and_leaves_nothing(arguments, message, optkit, samples, bad):
    before = sorted(os.listdir(bad))
    done = optkit(*(text.format(samples=samples) for text in arguments), cwd=bad)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2
    assert len(lines) == 1
    assert message in lines[0] + done.stderr.partition("hint: ")[2]
    assert "Traceback" not in done.stderr
    assert sorted(os.listdir(bad)) == before
    assert (bad / "there.onnx").read_text() == "mine"
