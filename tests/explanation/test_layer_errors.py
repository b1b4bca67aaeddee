"""Where the quality went: against constructed truth on both runtimes, and on the sample."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import optkit as ok
from optkit.data.dataset import open_dataset
from optkit.errors import StageError
from optkit.explanation.quality.causes import find_loss_causes
from optkit.explanation.quality.layer_errors import layer_errors
from optkit.formats import opening
from optkit.measurement.candidate import resolve_candidate
from optkit.records.layers import LayerErrorRecord, LayerErrors, RangeRecord

WIDTH = 16
TARGETS = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three products; what goes into the second has a channel that is a thousand times larger than the others."""
    folder = tmp_path_factory.mktemp("chain")
    random = np.random.default_rng(0)
    weights = [random.normal(0, 0.3, (WIDTH, WIDTH)).astype(np.float32) for _ in range(3)]
    weights[0][:, 5] *= 1000
    weights[1][5] /= 1000
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"], "first"),
        helper.make_node("Tanh", ["a"], ["unused"], "aside"),
        helper.make_node("MatMul", ["a", "w1"], ["b"], "second"),
        helper.make_node("MatMul", ["b", "w2"], ["y"], "third"),
    ]
    body = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", WIDTH))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("batch", WIDTH))],
        [numpy_helper.from_array(weight, f"w{number}") for number, weight in enumerate(weights)],
    )
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, folder / "model.onnx")
    x = random.normal(0, 1, (200, WIDTH)).astype(np.float32)
    np.savez(folder / "calibration.npz", x=x[:100])
    np.savez(folder / "evaluation.npz", x=x[100:])
    np.savez(folder / "larger.npz", x=3 * x[100:])
    return folder


def quantized(source, target, calibration, path):
    output = path / f"int8{'.xml' if target == 'openvino' else '.onnx'}"
    ok.quantize(source, output, target=target, calibration=calibration, method="static", measure=False)
    return output


def compare(baseline, quantized, target, samples, calibration=None):
    opened = opening.open(baseline)
    evaluation, known = (path and open_dataset(path, opened.signature.inputs) for path in (samples, calibration))
    pair = (resolve_candidate(opening.open(path), target=target) for path in (baseline, quantized))
    return layer_errors(*pair, evaluation, calibration=known)


@pytest.mark.parametrize("target", TARGETS)
def test_the_layer_behind_an_outlier_channel_introduces_the_error(target, folder, tmp_path):
    small = quantized(folder / "model.onnx", target, folder / "calibration.npz", tmp_path)
    found = compare(folder / "model.onnx", small, target, folder / "evaluation.npz")
    assert [layer.exclude for layer in found.layers] == ["first", "second", "third"]
    assert max(found.layers, key=lambda layer: layer.share).exclude == "second"
    assert found.unmatched == 0
    jump = next(finding for finding in found.findings if finding.kind == "jump")
    assert jump.exclude == ["second"]
    outlier = next(finding for finding in found.findings if finding.kind == "outlier-channel")
    assert "channel 5 of a" in outlier.text
    assert "second" in outlier.exclude
    assert LayerErrors.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("target", TARGETS)
def test_values_beyond_the_calibrated_range_are_found(target, folder, tmp_path):
    small = quantized(folder / "model.onnx", target, folder / "calibration.npz", tmp_path)
    known = folder / "calibration.npz"
    alike = compare(folder / "model.onnx", small, target, folder / "evaluation.npz", known)
    apart = compare(folder / "model.onnx", small, target, folder / "larger.npz", known)
    assert not [finding for finding in alike.findings if finding.kind == "out-of-range"]
    assert "out-of-range" in [finding.kind for finding in apart.findings]
    x = next(each for each in apart.ranges if each.tensor == "x")
    assert x.outside > 0.05
    assert x.seen_high > 2 * x.high


@pytest.mark.parametrize("target", TARGETS)
def test_the_samples_layers_are_all_compared(target, samples, tmp_path):
    small = quantized(samples / "model.onnx", target, samples / "calibration.npz", tmp_path)
    found = compare(samples / "model.onnx", small, target, samples / "evaluation.npz")
    assert found.unmatched == 0
    assert found.samples == 8
    assert all(0 < layer.error < 0.1 and layer.cosine > 0.95 for layer in found.layers)
    assert sum(layer.share for layer in found.layers) == pytest.approx(1)
    assert found.ranges


def test_an_onnx_model_is_compared_on_openvino_which_makes_one_of_equal_operations(samples, tmp_path):
    small = quantized(samples / "model.onnx", "onnxruntime", samples / "calibration.npz", tmp_path)
    found = compare(samples / "model.onnx", small, "openvino", samples / "evaluation.npz")
    assert len(found.layers) == 10
    assert max(layer.error for layer in found.layers) < 0.05


def test_a_model_compared_with_itself_has_no_error_and_no_finding(samples):
    found = compare(samples / "model.onnx", samples / "model.onnx", "onnxruntime", samples / "evaluation.npz")
    assert max(layer.error for layer in found.layers) < 1e-9
    assert found.findings == []


def test_models_without_a_tensor_in_common_are_refused(folder, samples):
    with pytest.raises(StageError, match="no intermediate tensor has the name of a layer's output") as caught:
        compare(folder / "model.onnx", samples / "model.onnx", "onnxruntime", folder / "evaluation.npz")
    assert caught.value.hint


def layer(name, share, error=0.1):
    return LayerErrorRecord(
        exclude=name, operator="Conv", tensor=name, depth=0, error=error, cosine=0.9, introduced=share, share=share
    )


def test_a_few_layers_are_named_and_many_are_not():
    few = find_loss_causes([layer("a", 0.5), layer("b", 0.4), *(layer(f"c{n}", 0.01) for n in range(10))], [])
    assert few[0].text == "2 layers introduce 90.0 % of the error: a, b"
    many = find_loss_causes([layer(f"c{number}", 0.05) for number in range(20)], [])
    assert many[0].kind == "everywhere"
    assert find_loss_causes([layer("a", 1.0, error=1e-6)], []) == []


def test_a_range_that_one_outlier_made_wide_is_told():
    wide = RangeRecord(tensor="x", exclude=["first"], low=0, high=3e4, seen_low=0, seen_high=3e4, outside=0, used=0.005)
    (found,) = find_loss_causes([], [wide])
    assert found.text.startswith("99 % of the values of x lie in 0.5 % of its calibration range of 0 to 3e+04")
    assert found.options == ["--calibrate percentile"]


@pytest.mark.parametrize(
    ("seen", "calibrated", "kinds"), [(1.02, None, []), (3.0, 0.01, ["out-of-range"]), (3.0, 0.2, ["cut-off"])]
)
def test_values_a_hair_beyond_a_range_are_no_reason_and_those_far_beyond_are_one(seen, calibrated, kinds):
    record = RangeRecord(
        tensor="x", exclude=[], low=0, high=1, seen_low=0, seen_high=seen, outside=0.2, used=1,
        outside_calibration=calibrated,
    )  # fmt: skip
    assert [finding.kind for finding in find_loss_causes([], [record])] == kinds


def test_layers_errors_are_a_lead_only_where_looking_at_them_changed_the_result():
    assert find_loss_causes([layer("a", 1.0)], [], disturbed=0.5)[-1].kind == "disturbed"


def test_weights_in_eight_bits_are_told_where_sums_saturate():
    assert [finding.kind for finding in find_loss_causes([], [], wide_weights=3)] == ["saturating-sums"]
