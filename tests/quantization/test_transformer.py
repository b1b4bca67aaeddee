"""Transformers: what quantization does to attention, GELU and embeddings."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import optkit as ok
from optkit.errors import UsageError

WORDS, WIDTH = 200, 32


class Encoder(nn.Module):
    """Token numbers to one vector per text."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 64, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, tokens):
        return {"embedding": self.layers(self.words(tokens)).mean(1)}


def build():
    torch.manual_seed(0)
    return Encoder().eval()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    torch.save(build().state_dict(), folder / "weights.pth")
    ok.export(
        folder / "weights.pth",
        folder / "model.onnx",
        code=f"{__file__}:build",
        inputs=("tokens:int64[batch,sequence]",),
    )
    np.savez(folder / "data.npz", tokens=np.random.default_rng(0).integers(0, WORDS, (60, 16)))
    return folder


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_static_int8_keeps_a_transformers_embeddings(target, encoder, tmp_path):
    done = ok.quantize(
        encoder / "model.onnx",
        tmp_path / f"out{'.xml' if target == 'openvino' else '.onnx'}",
        data=encoder / "data.npz",
        method="static",
        target=target,
        seconds=0.1,
        threads=1,
    )
    assert done.comparison.rows[-1].quality.value.value > 0.98


def test_smoothquant_moves_ranges_into_the_weights_as_strongly_as_asked(encoder, tmp_path):
    def quantized(name, **options):
        ok.quantize(
            encoder / "model.onnx", tmp_path / name, data=encoder / "data.npz", method="static", target="openvino",
            measure=False, **options,
        )  # fmt: skip
        return (tmp_path / name).with_suffix(".bin").read_bytes()

    default = quantized("default.xml")
    assert quantized("same.xml", smooth_quant=0.95) == default
    assert quantized("weaker.xml", smooth_quant=0.5) != default
    done = ok.quantize(
        encoder / "model.onnx", tmp_path / "none.xml", data=encoder / "data.npz", method="static", target="openvino",
        measure=False, smooth_quant=0.5, model_type="none",
    )  # fmt: skip
    assert any(note.text.startswith("no SmoothQuant") for note in done.stage.notes)
    with pytest.raises(UsageError, match="onnxruntime has no SmoothQuant"):
        ok.quantize(encoder / "model.onnx", tmp_path / "o.onnx", data=encoder / "data.npz", smooth_quant=0.5)


def test_onnxruntime_measures_activations_at_every_run_even_where_data_could_calibrate(encoder, tmp_path):
    done = ok.quantize(encoder / "model.onnx", tmp_path / "out.onnx", data=encoder / "data.npz", seconds=0.1, threads=1)
    assert any("dynamic int8 with onnxruntime: MatMul and Gemm dominate" in note.text for note in done.stage.notes)
    assert done.comparison.rows[-1].quality.value.value > 0.98


@pytest.mark.parametrize("options", [{"method": "dynamic"}, {"method": "weight-only"}, {"precision": "int4"}])
def test_embeddings_become_rows_of_integers(options, encoder, tmp_path):
    done = ok.quantize(encoder / "model.onnx", tmp_path / "out.onnx", measure=False, **options)
    tables = {
        tensor.name: tensor
        for tensor in onnx.load(tmp_path / "out.onnx").graph.initializer
        if list(tensor.dims) == [WORDS, WIDTH]
    }
    assert [tensor.data_type for tensor in tables.values()] == [onnx.TensorProto.INT8]
    assert any("embedding tables in INT8" in note.text for note in done.stage.notes)


def test_an_excluded_embedding_stays_in_float(encoder, tmp_path):
    ok.quantize(encoder / "model.onnx", tmp_path / "out.onnx", measure=False, method="dynamic", exclude=("Gather",))
    kinds = {
        tensor.data_type
        for tensor in onnx.load(tmp_path / "out.onnx").graph.initializer
        if list(tensor.dims) == [WORDS, WIDTH]
    }
    assert kinds == {onnx.TensorProto.FLOAT}


def test_attention_with_joined_weights_becomes_three_products_that_integers_take_in(tmp_path):
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    from optkit.stages import fuse

    draw = np.random.default_rng(0)
    weights = {name: draw.standard_normal((16, 16)).astype(np.float32) / 4 for name in "qkv"}
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    stored.append(numpy_helper.from_array(draw.standard_normal(48).astype(np.float32), "bias"))
    nodes = [
        helper.make_node("Concat", ["q", "k", "v"], ["joined"], axis=1),
        helper.make_node("Attention", ["x", "joined", "bias"], ["y"], "heads", domain="com.microsoft", num_heads=4),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "time", 16]) for name in "xy")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(helper.make_graph(nodes, "net", [x], [y], stored), opset_imports=opsets, ir_version=8)
    feed = {"x": draw.standard_normal((2, 5, 16)).astype(np.float32)}
    before = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feed)[0]
    fuse._unpack(proto)
    after = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feed)[0]
    np.testing.assert_allclose(after, before, atol=1e-5)
    onnx.save(proto, tmp_path / "model.onnx")
    ok.quantize(tmp_path / "model.onnx", tmp_path / "out.onnx", method="dynamic", measure=False)
    small = onnx.load(tmp_path / "out.onnx")
    assert [node.op_type for node in small.graph.node].count("MatMulInteger") == 3
