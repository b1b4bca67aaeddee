"""neural-compressor as the engine for PyTorch models: integers in the graph, quality kept, mistakes answered."""

import onnx
import pytest

import optkit as ok
from optkit.errors import UsageError
from optkit.stages.export import Export
from optkit.system import fingerprint


def quantized(samples, output, **options):
    return ok.quantize(
        samples / options.pop("model", "program.pt2"),
        output,
        engine="neural-compressor",
        **{"calibration": samples / "calibration.npz", "calibration_samples": 60} | options,
    )


def weights(path):
    """The constants of more than one dimension that Conv and Gemm take, by their element type."""
    proto = onnx.load(path)
    return {tensor.data_type for tensor in proto.graph.initializer if len(tensor.dims) > 1}


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.thorough)])
def test_a_model_becomes_integers_and_keeps_its_accuracy(target, samples, few, tmp_path):
    done = quantized(
        samples,
        tmp_path / "out.onnx",
        model="weights.pth",
        code=f"{samples}/net.py:build",
        inputs=("x:float32[batch,1,28,28]",),
        data=few,
        target=target,
        seconds=0.2,
        threads=1,
    )
    before, after = done.comparison.rows
    if target == "onnxruntime" and fingerprint.saturates():
        assert any("8-bit sums saturate" in note.text for note in done.stage.notes)
    else:
        assert after.quality.loss.value < 0.02
    assert after.model.size_bytes < 0.5 * before.model.size_bytes
    assert weights(tmp_path / "out.onnx") == {onnx.TensorProto.INT8}
    assert after.model.signature.inputs[0].shape == ["batch", 1, 28, 28]
    assert done.stage.source.format == "state-dict"


@pytest.mark.thorough
def test_an_excluded_layer_stays_in_float(samples, tmp_path):
    quantized(samples, tmp_path / "out.onnx", model="program.pt2", exclude=("head",), measure=False)
    assert weights(tmp_path / "out.onnx") == {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model": "traced.pt"}, "works on modules of PyTorch, not on torchscript"),
        ({"model": "model.onnx"}, "works on modules of PyTorch, not on onnx"),
        ({"precision": "fp16"}, "makes int8, not fp16"),
        ({"method": "dynamic"}, "has no method 'dynamic'"),
        ({"calibration": None}, "needs calibration data"),
        ({"calibrate": "percentile"}, "cannot calibrate by percentile"),
    ],
)
def test_what_it_cannot_do_is_refused_with_a_hint_before_anything_is_exported(
    options, says, samples, tmp_path, monkeypatch
):
    monkeypatch.setattr(Export, "apply", lambda *_: pytest.fail("exported first"))
    with pytest.raises(UsageError, match=says) as caught:
        quantized(samples, tmp_path / "out.onnx", measure=False, **options)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []
