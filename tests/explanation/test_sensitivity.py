"""Which layers INT8 damages: against constructed truth, on the sample, and what excluding them does on both engines."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import optkit as ok
from optkit.data.dataset import open_dataset
from optkit.errors import StageError
from optkit.explanation.quality import switchable_layers
from optkit.explanation.quality.sensitivity import sensitivity
from optkit.formats import opening
from optkit.formats.onnx import graph
from optkit.formats.openvino import stable_names
from optkit.quantization import affine, openvino_nodes
from optkit.quantization.preparation import simplified
from optkit.quantization.selection import weighted_nodes
from optkit.system.native import Engine

WIDTH = 16


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Three products, the second of which meets an activation that is a thousand times larger than its neighbours."""
    folder = tmp_path_factory.mktemp("chain")
    random = np.random.default_rng(0)
    weights = [random.normal(0, 0.3, (WIDTH, WIDTH)).astype(np.float32) for _ in range(3)]
    weights[0][:, 0] *= 1000
    weights[1][0] /= 1000
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"], "first"),
        helper.make_node("MatMul", ["a", "w1"], ["b"], "second"),
        helper.make_node("Tanh", ["b"], ["c"], "between"),
        helper.make_node("MatMul", ["c", "w2"], ["y"], "third"),
    ]
    save(folder / "model.onnx", nodes, {f"w{number}": weight for number, weight in enumerate(weights)})
    np.savez(folder / "data.npz", x=random.normal(0, 1, (100, WIDTH)).astype(np.float32))
    return folder


def save(path, nodes, weights, shape=("batch", WIDTH), opset=17, inputs=("x",)):
    body = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)


def measure(path, samples, **options):
    opened = opening.open(path)
    return sensitivity(opened, open_dataset(samples, opened.signature.inputs), **options)


def test_the_layer_with_an_outlier_comes_first(chain):
    found = measure(chain / "model.onnx", chain / "data.npz", seconds=5)
    assert found.layers[0].name == "second"  # the first gives the outlier, and gives it in float
    assert found.layers[0].damage > 20 * found.layers[1].damage
    assert found.all_quantized > 0.5 * found.layers[0].damage
    assert found.samples == 32
    assert [layer.depth for layer in sorted(found.layers, key=lambda layer: layer.depth)] == [0, 1, 3]
    assert all(layer.operations == layer.parameters == WIDTH * WIDTH for layer in found.layers)


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_excluding_what_comes_first_helps_most(target, chain, tmp_path):
    def loss(*exclude):
        done = ok.quantize(
            chain / "model.onnx",
            tmp_path / f"out{'.xml' if target == 'openvino' else '.onnx'}",
            calibration=chain / "data.npz",
            method="static",
            target=target,
            exclude=exclude,
            measure=False,
            force=True,
        )
        assert not [note for note in done.stage.notes if note.level == "warning" and "exclude" in note.text]
        x = np.load(chain / "data.npz")["x"]
        with ok.load(chain / "model.onnx") as exact, ok.load(tmp_path / done.output) as rounded:
            return float(((rounded.run({"x": x})["y"] - exact.run({"x": x})["y"]) ** 2).mean())

    worst = measure(chain / "model.onnx", chain / "data.npz", seconds=5).layers
    assert loss(worst[0].name) < 0.1 * loss() < loss(worst[-1].name)


def test_switches_that_are_off_change_nothing_and_one_that_is_on_rounds_as_the_quantizer_does(chain, tmp_path):
    proto = graph.load(chain / "model.onnx")
    layers = switchable_layers.switchable_layers(proto)
    ranges = {name: affine.of_range(-4, 4) for name in switchable_layers.ranged_tensors(layers)}
    graph.save(switchable_layers.with_switches(proto, layers, ranges), tmp_path / "switches.onnx")
    x = np.load(chain / "data.npz")["x"][:4]
    with ok.load(chain / "model.onnx") as exact, ok.load(tmp_path / "switches.onnx") as switched:
        wanted = exact.run({"x": x})["y"]
        off = switched.run({"x": x, switchable_layers.SWITCHES: np.zeros(3, bool)})
        on = switched.run({"x": x, switchable_layers.SWITCHES: np.array([False, False, True])})
    np.testing.assert_allclose(off["y"], wanted, rtol=1e-5, atol=1e-5)
    assert not off[switchable_layers.ERRORS].any()
    assert on[switchable_layers.ERRORS][2] == pytest.approx(
        ((on["y"] - off["y"]) ** 2).sum() / (off["y"] ** 2).sum(), rel=1e-3
    )
    weights = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}
    taken = np.tanh(x @ weights["w0"] @ weights["w1"])
    scale, zero = ranges["c"].scale, ranges["c"].zero_point.astype(np.float32)
    taken = (np.clip(np.rint(taken / scale) + zero, 0, 255) - zero) * scale
    integers, rounded = affine.of_weight(weights["w2"], 1, 8)
    np.testing.assert_allclose(on["y"], taken @ (integers * rounded.scale), atol=1e-4)


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("bits", [7, 8])
def test_weights_lose_at_most_half_a_step(axis, bits):
    weight = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    integers, parameters = affine.of_weight(weight, axis, bits)
    scale = parameters.scale if axis is None else np.expand_dims(parameters.scale, 1 - axis)
    assert (np.abs(integers * scale - weight) <= 0.5001 * scale).all()
    assert np.abs(integers).max() == (127 if bits == 8 else 64)


def test_a_range_always_holds_zero_and_is_never_empty():
    assert affine.of_range(2.0, 4.0) == affine.of_range(0.0, 4.0)
    assert affine.of_range(0.0, 0.0).scale == 1
    assert affine.of_range(-1.0, 1.0).zero_point == 128


def test_the_sample_is_measured_in_seconds_under_names_that_exclude_takes(samples, tmp_path):
    found = measure(samples / "model.onnx", samples / "calibration.npz", seconds=10)
    path, _ = simplified(opening.open(samples / "model.onnx"), tmp_path, Engine())
    assert sorted(layer.name for layer in found.layers) == sorted(
        node.name for node in weighted_nodes(graph.load(path))
    )
    assert found.seconds < 10
    assert 0 < found.layers[-1].damage <= found.layers[0].damage < found.all_quantized * 2 < 1
    assert type(found).model_validate_json(found.model_dump_json()) == found


def test_a_fixed_batch_old_opset_two_inputs_and_a_subgraph_are_no_hindrance(tmp_path):
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=(WIDTH, WIDTH)).astype(np.float32) for name in ("w0", "w1")}
    inner = [helper.make_node("MatMul", ["b", "w1"], ["inner"]), helper.make_node("Identity", ["b"], ["same"])]
    branches = {
        name: helper.make_graph([node], name, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)])
        for name, node, output in (("then_branch", inner[0], "inner"), ("else_branch", inner[1], "same"))
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("Add", ["a", "z"], ["b"]),
        helper.make_node("ReduceSum", ["z"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], **branches),
    ]
    save(tmp_path / "model.onnx", nodes, weights | {"zero": np.float32(0)}, (4, WIDTH), opset=11, inputs=("x", "z"))
    np.savez(tmp_path / "data.npz", **{name: random.normal(size=(10, WIDTH)).astype(np.float32) for name in "xz"})
    found = measure(tmp_path / "model.onnx", tmp_path / "data.npz", seconds=5)
    assert len(found.layers) == 1
    assert found.samples == 10
    assert found.layers[0].damage > 0


def test_whole_feeds_of_different_shapes_are_measured_one_by_one(chain, tmp_path):
    (tmp_path / "feeds").mkdir()
    for rows in (1, 3, 7):
        np.savez(tmp_path / "feeds" / f"{rows}.npz", x=np.ones((rows, WIDTH), np.float32))
    assert measure(chain / "model.onnx", tmp_path / "feeds", seconds=5).samples == 11


def test_products_of_activations_are_layers_where_asked_for(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "weighted"),
        helper.make_node("Transpose", ["a"], ["b"], "turned"),
        helper.make_node("MatMul", ["a", "b"], ["y"], "product"),
    ]
    save(tmp_path / "model.onnx", nodes, {"w": np.eye(WIDTH, dtype=np.float32)})
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(8, WIDTH)).astype(np.float32))
    without = measure(tmp_path / "model.onnx", tmp_path / "data.npz", seconds=5)
    both = measure(tmp_path / "model.onnx", tmp_path / "data.npz", seconds=5, activations=True)
    assert {layer.name for layer in without.layers} == {"weighted"}
    assert {layer.name: layer.operations for layer in both.layers} == {"weighted": WIDTH**2, "product": WIDTH}


def test_a_product_with_its_weight_first_is_a_layer_where_asked_for_and_can_be_left_in_float(tmp_path):
    """As a filter bank is written behind a spectrum, whose squares span six orders."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["m", "x"], ["a"], "mel"),
        helper.make_node("MatMul", ["a", "w"], ["y"], "behind"),
    ]
    weights = {name: random.normal(0, 0.3, (WIDTH, WIDTH)).astype(np.float32) for name in "mw"}
    save(tmp_path / "model.onnx", nodes, weights, shape=("batch", WIDTH, WIDTH))
    powers = random.normal(0, 1, (60, WIDTH, WIDTH)) ** 2 * 10.0 ** -random.uniform(0, 6, (60, WIDTH, 1))
    np.savez(tmp_path / "data.npz", x=powers.astype(np.float32))
    assert [layer.name for layer in measure(tmp_path / "model.onnx", tmp_path / "data.npz", seconds=5).layers] == [
        "behind"
    ]
    found = measure(tmp_path / "model.onnx", tmp_path / "data.npz", seconds=5, activations=True)
    mel = next(layer for layer in found.layers if layer.name == "mel")
    assert mel.nncf_only
    assert mel.operations == WIDTH**3
    assert mel.damage > 0
    opened = opening.open(tmp_path / "model.onnx")
    network = stable_names.read(opened.path)
    assert openvino_nodes.operations(["mel"], opened, network, tmp_path) == {"mel": ("mel",)}


def test_a_model_without_layers_is_refused(tmp_path):
    save(tmp_path / "model.onnx", [helper.make_node("Relu", ["x"], ["y"])], {})
    np.savez(tmp_path / "data.npz", x=np.ones((2, WIDTH), np.float32))
    with pytest.raises(StageError, match="no layer to measure") as caught:
        measure(tmp_path / "model.onnx", tmp_path / "data.npz")
    assert caught.value.hint
