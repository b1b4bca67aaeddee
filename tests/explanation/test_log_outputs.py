"""``explain`` on nets that take the logarithm of a spectrum: INT8 loses quiet sounds, and what it says mends that."""

import shlex

import numpy as np
import pytest
from onnx import helper
from onnx_files import save

from optkit.explanation.quality import intermediates
from optkit.explanation.quality.causes import find_loss_causes
from optkit.explanation.quality.intermediates import Operation
from optkit.explanation.quality.quantized_ranges import QuantizedRange, RangeStatistics, significantly_larger
from optkit.records.layers import RangeRecord
from optkit.verbs.explain import explain
from optkit.verbs.quantize import quantize

LENGTH, WINDOW, BANDS, KINDS = 1024, 64, 12, 4
FREQUENCIES = WINDOW // 2 + 1
FLOOR = np.float32(1e-6)


def sounds(random, count):
    """Tones in one of four ranges of pitch with a little noise, at any loudness within 50 dB."""
    labels = np.arange(count) % KINDS
    pitch = (labels[:, None] + random.uniform(0.1, 0.9, (count, 1))) / KINDS / 2
    waves = np.sin(2 * np.pi * pitch * np.arange(LENGTH)) + 0.1 * random.normal(0, 1, (count, LENGTH))
    return (waves * 10 ** random.uniform(-2.5, 0, (count, 1))).astype(np.float32), labels


def parts(begins):
    """Nodes from sound to power, each frequency in each window, and their weights."""
    at = 2 * np.pi / WINDOW * np.arange(WINDOW) * np.arange(FREQUENCIES)[:, None]
    window = np.hanning(WINDOW).astype(np.float32)
    if begins == "stft":
        nodes = [
            helper.make_node("Unsqueeze", ["x", "last"], ["signal"], "signal"),
            helper.make_node("STFT", ["signal", "step", "window", "length"], ["complex"], "stft"),
            helper.make_node("Mul", ["complex", "complex"], ["squares"], "squares"),
            helper.make_node("ReduceSum", ["squares", "last"], ["power"], "power", keepdims=0),
        ]
        return nodes, {"last": np.array([-1]), "step": np.array(WINDOW), "window": window, "length": np.array(WINDOW)}
    nodes = [
        helper.make_node("Unsqueeze", ["x", "second"], ["signal"], "signal"),
        helper.make_node("Conv", ["signal", "waves"], ["complex"], "fourier", strides=[WINDOW]),
        helper.make_node("Mul", ["complex", "complex"], ["squares"], "squares"),
        helper.make_node("Split", ["squares"], ["real", "imaginary"], "parts", axis=1),
        helper.make_node("Add", ["real", "imaginary"], ["sums"], "sums"),
        helper.make_node("Transpose", ["sums"], ["power"], "power", perm=[0, 2, 1]),
    ]
    waves = (np.concatenate([np.cos(at), -np.sin(at)]) * window)[:, None].astype(np.float32)
    return nodes, {"second": np.array([1]), "waves": waves}


def listener(folder, begins):
    """A net with a fixed filter bank and a linear classifier on its logarithms, by least squares; and its data."""
    random = np.random.default_rng(0)
    bands = np.repeat(np.eye(BANDS), 3, axis=0)[:FREQUENCIES].astype(np.float32)
    nodes, weights = parts(begins)
    nodes += [
        helper.make_node("MatMul", ["power", "bands"], ["spectrum"], "mel"),
        helper.make_node("Add", ["spectrum", "floor"], ["floored"], "floored"),
        helper.make_node("Log", ["floored"], ["decibels"], "log"),
        helper.make_node("ReduceMean", ["decibels"], ["mean"], "mean", axes=[1], keepdims=0),
        helper.make_node("Gemm", ["mean", "linear", "bias"], ["y"], "linear"),
    ]
    x, labels = sounds(random, 800)
    framed = x[:, : LENGTH // WINDOW * WINDOW].reshape(len(x), -1, WINDOW) * np.hanning(WINDOW)
    known = np.log(np.abs(np.fft.rfft(framed)) ** 2 @ bands + FLOOR).mean(axis=1)
    solved = np.linalg.lstsq(np.column_stack([known, np.ones(len(x))]), np.eye(KINDS)[labels], rcond=None)[0]
    weights |= {"bands": bands, "floor": FLOOR, "linear": solved[:-1], "bias": solved[-1]}
    stored = {name: value if value.dtype.kind == "i" else np.float32(value) for name, value in weights.items()}
    save(folder / "model.onnx", nodes, {"x": ["batch", LENGTH]}, {"y": ["batch", KINDS]}, stored)
    for name, count in (("calibration", 100), ("evaluation", 400)):
        x, labels = sounds(random, count)
        np.savez(folder / f"{name}.npz", x=x, labels=labels)
    return folder / "model.onnx"


def explained(model, candidate, target):
    return explain(
        model, candidate, data=model.parent / "evaluation.npz", calibration=model.parent / "calibration.npz",
        metric="accuracy", max_drop=0.01, target=target, threads=1, seconds=0.2,
    )  # fmt: skip


def loss_of(found):
    return found.speed.comparison.rows[1].quality.loss.value


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begins", "target", "suffix", "excluded"),
    [
        ("stft", "onnxruntime", ".onnx", {"mel"}),
        ("convolution", "onnxruntime", ".onnx", {"mel", "fourier"}),
        pytest.param("convolution", "openvino", ".xml", {"mel", "fourier", "sums"}, marks=pytest.mark.openvino),
    ],
)
def test_quiet_sounds_are_lost_before_the_logarithm_and_what_is_said_brings_them_back(
    cli, begins, target, suffix, excluded, tmp_path, monkeypatch
):
    model = listener(tmp_path, begins)
    path = tmp_path / f"small{suffix}"
    quantize(model, path, calibration=tmp_path / "calibration.npz", method="static", target=target, measure=False)
    found = explained(model, path, target)
    assert loss_of(found) > 0.1
    why = next(sentence for sentence in found.quality.conclusion if sentence.startswith("Why: "))
    assert "underflow to 0 before the logarithm log" in why
    words = shlex.split(found.quality.command)
    assert excluded <= {words[place + 1] for place, word in enumerate(words) if word == "--exclude"}
    monkeypatch.chdir(tmp_path)
    done = cli(*words[1:], "--no-measure")
    assert done.exit_code == 0, done.output
    assert loss_of(explained(model, tmp_path / words[-1], target)) <= 0.01


def test_a_logarithm_reaches_back_through_what_keeps_small_values_small():
    operators = (("MatMul", "x", "a"), ("Pow", "a", "b"), ("Log", "b", "c"), ("Softmax", "c", "d"), ("Log", "d", "e"))
    found = [Operation(kind.lower(), kind, n, (before,), (after,)) for n, (kind, before, after) in enumerate(operators)]
    assert intermediates.before_logarithms(found) == {"x": "log", "a": "log", "b": "log", "d": "log"}
    assert intermediates.behind_logarithms(found[:-1]) == {"c", "d"}
    assert intermediates.behind_logarithms([*found[:3], Operation("conv", "Conv", 3, ("c",), ("d",))]) == {"c"}


def ranged(**facts):
    known = {"exclude": ["mel"], "low": 0, "high": 255, "seen_low": 0, "seen_high": 9, "outside": 0, "used": 0.01}
    return RangeRecord(tensor="power", **(known | facts))


def test_a_wide_range_is_put_down_to_the_logarithm_and_not_to_outliers():
    (found,) = find_loss_causes([], [ranged(logarithm="log", vanished=0.9)])
    assert (found.kind, found.options) == ("logarithm", [])
    assert found.text == (
        "90.0 % of the values of power underflow to 0 before the logarithm log: the uniform steps of its INT8 range "
        "have to cover 0 to 255"
    )
    assert [each.kind for each in find_loss_causes([], [ranged(vanished=0.9)])] == ["dead-range"]
    assert [each.kind for each in find_loss_causes([], [ranged(logarithm="log", vanished=0.01)])] == ["dead-range"]


def test_what_vanishes_is_counted_and_a_zero_is_none():
    seen = RangeStatistics(QuantizedRange("x", 0.0, 255.0))
    seen.add(np.array([[0.0, 0.1, 0.4, 0.6, 200.0]]))
    assert seen.record([], None).vanished == pytest.approx(2 / 5)


def test_channels_are_where_a_convolution_has_them():
    values = np.ones((1, 4, 9))
    values[0, 2] = 50.0
    for convolved, wanted in ((True, 2), (False, None)):
        seen = RangeStatistics(QuantizedRange("x", 0.0, 50.0), convolved)
        seen.add(values)
        record = seen.record([], None)
        assert (record.channel if record.channel_ratio != 1 else None) == wanted
    sound = RangeStatistics(QuantizedRange("x", 0.0, 50.0), True)
    sound.add(values[0])
    assert sound.record([], None).channel is None


def test_a_few_samples_that_differ_by_chance_are_no_other_data():
    quiet, loud = [0.6, 0.5, 0.0, 0.1], [0.0, 0.2, 0.1, 0.05]
    assert not significantly_larger(quiet, loud)
    assert significantly_larger(
        [0.5, 0.6, 0.55, 0.52, 0.58, 0.61, 0.5, 0.57], [0.05, 0.1, 0.08, 0.02, 0.0, 0.07, 0.1, 0.04]
    )
    kept = {"outside": 0.26, "outside_calibration": 0.1, "seen_high": 400}
    assert [each.kind for each in find_loss_causes([], [ranged(**kept, used=1, unlike=False)])] == ["cut-off"]
    assert [each.kind for each in find_loss_causes([], [ranged(**kept, used=1, unlike=True)])] == ["out-of-range"]
