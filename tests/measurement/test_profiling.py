"""Operators as runtimes execute them: families, precisions, times by layer, and what is left behind: nothing."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_files import nodes_of, save

from optkit.formats.operators import family, plain, precision
from optkit.measurement import profiling
from optkit.measurement.candidate import resolve_candidate
from optkit.verbs.quantize import quantize


def feeds(samples, count=4):
    with np.load(samples / "evaluation.npz") as arrays:
        name = next(name for name in arrays.files if name != "labels")
        return [{name: arrays[name][index : index + 1]} for index in range(count)]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("Conv", "convolution"),
        ("QLinearConv", "convolution"),
        ("Convolution", "convolution"),
        ("Deconvolution", "convolution"),
        ("Convert", "conversion"),
        ("ReorderInput", "conversion"),
        ("DynamicQuantizeLinear", "conversion"),
        ("DynamicQuantizeMatMul", "matrix product"),
        ("FullyConnected", "matrix product"),
        ("DynamicQuantizeLSTM", "recurrent"),
        ("SkipLayerNormalization", "normalization"),
        ("QLinearGlobalAveragePool", "pooling"),
        ("Subgraph", "elementwise"),
        ("HardSwish", "elementwise"),
        ("Transpose", "layout"),
        ("Resize", "other"),
    ],
)
def test_operators_of_all_runtimes_fall_into_few_families(kind, expected):
    assert family(kind) == expected


@pytest.mark.parametrize(
    ("kind", "inputs", "outputs", "expected"),
    [
        ("Conv", ["float32", "float32"], ["float32"], "float32"),
        ("QLinearConv", ["uint8", "float32", "uint8"], ["uint8"], "int8"),
        ("MatMulIntegerToFloat", ["uint8", "int8", "float32"], ["float32"], "int8"),
        ("QuantizeLinear", ["float32", "float32", "uint8"], ["uint8"], "float32 to int8"),
        ("Gather", ["int64", "int64"], ["int64"], "int64"),
        ("Add", ["float16", "float16"], ["float16"], "float16"),
        ("Identity", [], [], "unknown"),
    ],
)
def test_precision_is_what_an_operator_computes_in(kind, inputs, outputs, expected):
    assert precision(kind, inputs, outputs) == expected


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_every_layer_with_weights_has_a_time(target, samples):
    given = {name: np.concatenate([feed[name] for feed in feeds(samples) * 16]) for name in feeds(samples)[0]}
    profile = profiling.measure(
        resolve_candidate(samples / "model.onnx", target=target, threads=1), [given], seconds=0.3
    )
    found = {name: each.seconds for each in profile.operators for name in map(plain, (*each.layers, *each.tensors))}
    layers = [node for node in onnx.load(samples / "model.onnx").graph.node if node.op_type in ("Conv", "Gemm")]
    assert layers
    for node in layers:  # OpenVINO calls a Gemm by the tensor that it gives
        assert found.get(node.name, found.get(node.output[0], 0.0)) > 0


def test_integer_operators_are_told_from_float_ones(samples, small):
    profile = profiling.measure(resolve_candidate(small, threads=1), feeds(samples), seconds=0.3)
    wanted = nodes_of(samples / "model.onnx", "Conv")
    integers = {name for each in profile.operators if each.integer for name in each.layers}
    assert wanted <= integers
    assert {each.kernel for each in profile.operators} == {"CPUExecutionProvider"}
    assert any(each.precision == "float32 to int8" for each in profile.operators)


def test_layers_keep_their_names_where_half_precision_is_computed_in_float(samples, tmp_path):
    path = tmp_path / "half.onnx"
    quantize(samples / "model.onnx", path, precision="fp16", measure=False)
    profile = profiling.measure(resolve_candidate(path, threads=1), feeds(samples), seconds=0.2)
    found = {name for each in profile.operators for name in map(plain, each.layers)}
    assert nodes_of(samples / "model.onnx", "Conv", "Gemm") <= found


def test_profiling_leaves_nothing_behind(samples, tmp_path, monkeypatch):
    for name in ("here", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    profiling.measure(resolve_candidate(samples / "model.onnx", threads=1), feeds(samples), seconds=0.1)
    assert list((tmp_path / "here").iterdir()) == []
    assert list((tmp_path / "temporary").glob("optkit-*")) == []


def test_what_a_loop_does_is_not_counted_twice(tmp_path):
    body = helper.make_graph(
        [helper.make_node("MatMul", ["state", "w"], ["next"], "inner"), helper.make_node("Identity", ["on"], ["go"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [64, 64]),
        ],
        [
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [64, 64]),
        ],
    )
    path = save(
        tmp_path / "loop.onnx",
        [helper.make_node("Loop", ["trips", "", "x"], ["y"], "outer", body=body)],
        {"x": [64, 64]},
        {"y": [64, 64]},
        {"w": np.eye(64, dtype=np.float32), "trips": np.array(50)},
    )
    profile = profiling.measure(resolve_candidate(path, threads=1), [{"x": np.ones((64, 64), np.float32)}], seconds=0.3)
    assert {each.name for each in profile.operators if each.seconds > 0} >= {"inner", "outer"}
    assert sum(each.seconds for each in profile.operators) <= profile.seconds
