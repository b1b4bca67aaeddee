"""``optimize`` on other kinds of models than the samples: it ends with a result that is not worse."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import optkit
from optkit.decisions import choice

QUICK = {"seconds": 0.3, "threads": 1, "budget": 12.0, "calibration_samples": 16}
pytestmark = pytest.mark.slow


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def saved(path, nodes, inputs, outputs, weights, opset=17):
    graph = helper.make_graph(nodes, "net", inputs, outputs, weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(proto)
    onnx.save(proto, path)
    return path


def lstm(folder):
    """A recurrent net over sequences of any length; a whole feed each."""
    hidden, inputs = 64, 32
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r", "b"], ["", "h", ""], hidden_size=hidden, name="lstm"),
        helper.make_node("Squeeze", ["h", "zero"], ["s"], name="squeeze"),
        helper.make_node("MatMul", ["s", "m"], ["y"], name="head"),
    ]
    weights = [
        constant("w", 0.2 * draw(1, 4 * hidden, inputs)),
        constant("r", 0.1 * draw(1, 4 * hidden, hidden, seed=1)),
        constant("b", np.zeros((1, 8 * hidden), np.float32)),
        constant("zero", np.array([0], np.int64)),
        constant("m", draw(hidden, 10, seed=2)),
    ]
    shapes = [value("x", ["time", "batch", inputs])], [value("y", ["batch", 10])]
    (folder / "feeds").mkdir()
    for number in range(40):
        np.savez(folder / "feeds" / f"{number:02}.npz", x=draw(8 + number % 5, 1, inputs, seed=number))
    return saved(folder / "lstm.onnx", nodes, *shapes, weights), folder / "feeds"


def tabular(folder):
    """A column of categories and one of numbers, an old opset."""
    nodes = [
        helper.make_node("Gather", ["table", "category"], ["e"], name="embed"),
        helper.make_node("Concat", ["e", "numbers"], ["c"], axis=1, name="concat"),
        helper.make_node("Gemm", ["c", "w0", "b0"], ["h"], name="hidden"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("Gemm", ["r", "w1", "b1"], ["y"], name="head"),
    ]
    weights = [
        constant("table", draw(500, 24)),
        constant("w0", draw(32, 256, seed=1) / 6),
        constant("b0", draw(256, seed=2)),
        constant("w1", draw(256, 5, seed=3) / 16),
        constant("b1", draw(5, seed=4)),
    ]
    inputs = [value("category", ["batch"], TensorProto.INT64), value("numbers", ["batch", 8])]
    generator = np.random.default_rng(0)
    data = {
        "category": generator.integers(0, 500, 120),
        "numbers": draw(120, 8),
        "labels": generator.integers(0, 5, 120),
    }
    np.savez(folder / "table.npz", **data)
    return saved(folder / "tabular.onnx", nodes, inputs, [value("y", ["batch", 5])], weights, 11), folder / "table.npz"


def spectrum(folder):
    """A net on sound that begins with a transform written as Conv: its inputs' squares span six orders."""
    length, kernel, bins = 2048, 256, 64
    angle = 2 * np.pi * np.outer(np.arange(bins), np.arange(kernel)) / kernel
    weights = [
        constant("cos", np.cos(angle)[:, None].astype(np.float32)),
        constant("sin", np.sin(angle)[:, None].astype(np.float32)),
        constant("w0", draw(64, bins, 3, seed=1) / 14),
        constant("w1", draw(64, 64, 3, seed=2) / 14),
        constant("m", draw(64, 8, seed=3) / 8),
        constant("small", np.float32(1e-6)),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "cos"], ["re"], strides=[64], name="cos"),
        helper.make_node("Conv", ["x", "sin"], ["im"], strides=[64], name="sin"),
        helper.make_node("Mul", ["re", "re"], ["re2"], name="re2"),
        helper.make_node("Mul", ["im", "im"], ["im2"], name="im2"),
        helper.make_node("Add", ["re2", "im2"], ["power"], name="power"),
        helper.make_node("Add", ["power", "small"], ["positive"], name="positive"),
        helper.make_node("Log", ["positive"], ["log"], name="log"),
        helper.make_node("Conv", ["log", "w0"], ["a"], pads=[1, 1], name="first"),
        helper.make_node("Relu", ["a"], ["ra"], name="relu0"),
        helper.make_node("Conv", ["ra", "w1"], ["b"], pads=[1, 1], name="second"),
        helper.make_node("Relu", ["b"], ["rb"], name="relu1"),
        helper.make_node("ReduceMean", ["rb"], ["mean"], axes=[2], keepdims=0, name="mean"),
        helper.make_node("MatMul", ["mean", "m"], ["y"], name="head"),
    ]
    sounds = draw(80, 1, length) * (10.0 ** -np.arange(80) % 4)[:, None, None].astype(np.float32)
    np.savez(folder / "sounds.npz", x=sounds.astype(np.float32))
    path = saved(
        folder / "spectrum.onnx", nodes, [value("x", ["batch", 1, length])], [value("y", ["batch", 8])], weights
    )
    return path, folder / "sounds.npz"


def branching(folder):
    """A branch that depends on the data, and operators within it."""
    then = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["t"], name="then")], "then", [], [value("t", ["batch", 32])]
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["e"], name="else")], "else", [], [value("e", ["batch", 32])]
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0, name="sum"),
        helper.make_node("Greater", ["sum", "zero"], ["positive"], name="greater"),
        helper.make_node("If", ["positive"], ["z"], then_branch=then, else_branch=other, name="if"),
        helper.make_node("MatMul", ["z", "w"], ["y"], name="head"),
    ]
    weights = [constant("w", draw(32, 32) / 6), constant("zero", np.float32(0))]
    np.savez(folder / "data.npz", x=draw(60, 32))
    path = saved(folder / "branching.onnx", nodes, [value("x", ["batch", 32])], [value("y", ["batch", 32])], weights)
    return path, folder / "data.npz"


def contributed(folder):
    """An operator of onnxruntime's own between two layers: OpenVINO refuses the model."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("Inverse", ["a"], ["b"], name="odd", domain="com.microsoft"),
        helper.make_node("MatMul", ["b", "w"], ["y"], name="second"),
    ]
    shape = ["batch", 32, 32]
    graph = helper.make_graph(nodes, "net", [value("x", shape)], [value("y", shape)], [constant("w", draw(32, 32) / 6)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "contributed.onnx")
    np.savez(folder / "data.npz", x=np.eye(32, dtype=np.float32) + 0.1 * draw(60, 32, 32, seed=1))
    return folder / "contributed.onnx", folder / "data.npz"


OTHERS = [pytest.param(kind, marks=pytest.mark.thorough) for kind in (lstm, tabular, branching, contributed)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [spectrum, *OTHERS])
def test_a_search_ends_well_on_any_kind_of_model(kind, tmp_path):
    model, data = kind(tmp_path)
    run = optkit.optimize(model, tmp_path / "out", data=data, **QUICK)
    best = next(row for row in run.comparison.rows if row.title == run.chosen)
    assert best.baseline or (best.speed_verdict in ("faster", "no difference") and choice.inside(best.quality, None))
    assert (tmp_path / "out" / "manifest.json").is_file()
    for trial in run.search.trials:
        assert "Traceback" not in (trial.row.reason or "")
