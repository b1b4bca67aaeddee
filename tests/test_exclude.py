"""What is excluded stays in float on both engines, under the names of the ONNX model."""

from pathlib import Path

import pytest

import optkit as ok
from optkit import correspondence, graph, irnames, model
from optkit.quantizer import Engine, simplified, weighted_nodes

FETCHED = Path(__file__).parent.parent / "sample_models" / "fetched"


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_an_excluded_convolution_stays_in_float_and_an_unknown_name_is_told(target, samples, tmp_path):
    path, _ = simplified(model.open(samples / "model.onnx"), tmp_path, Engine())
    nodes = weighted_nodes(graph.load(path))
    for number, node in enumerate((nodes[0], nodes[len(nodes) // 2], nodes[-1])):
        output = tmp_path / f"{number}{'.xml' if target == 'openvino' else '.onnx'}"
        options = {"calibration": samples / "calibration.npz", "calibration_samples": 20, "measure": False}
        done = ok.quantize(
            samples / "model.onnx", output, target=target, method="static", exclude=(node.name, "Nowhere"), **options
        )
        told = [note.text for note in done.stage.notes if note.text.startswith("exclude")]
        assert len(told) == 1
        assert "'Nowhere'" in told[0]
        assert in_float(output, samples / "model.onnx", nodes, tmp_path) == [node.name]


def test_onnxruntime_does_not_quantize_an_excluded_convolution_by_itself(samples, tmp_path):
    import onnxruntime

    path, _ = simplified(model.open(samples / "model.onnx"), tmp_path, Engine())
    nodes = weighted_nodes(graph.load(path))
    options = {"calibration": samples / "calibration.npz", "calibration_samples": 20, "measure": False}
    excluded = [node.name for node in nodes[1:4]]
    ok.quantize(samples / "model.onnx", tmp_path / "out.onnx", exclude=excluded, **options)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    settings.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(tmp_path / "out.onnx"), settings)
    kinds = graph.operators(graph.load(tmp_path / "optimized.onnx"))
    assert sum(kinds.get(name, 0) for name in ("Conv", "com.microsoft.FusedConv")) == len(excluded)


@pytest.mark.slow
@pytest.mark.skipif(not FETCHED.is_dir(), reason="run sample_models/fetch.py first")
@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_an_excluded_product_of_a_transformer_stays_in_float(target, tmp_path):
    ok.export(
        FETCHED / "minilm" / "model.safetensors",
        tmp_path / "model.onnx",
        code=f"{FETCHED.parent}/minilm/net.py:build",
        inputs=tuple(f"{name}:int64[batch,sequence]" for name in ("input_ids", "attention_mask", "token_type_ids")),
    )
    path, _ = simplified(model.open(tmp_path / "model.onnx"), tmp_path, Engine())
    nodes = weighted_nodes(graph.load(path))
    output = tmp_path / f"out{'.xml' if target == 'openvino' else '.onnx'}"
    options = {"calibration": FETCHED.parent / "minilm" / "texts.yaml", "calibration_samples": 4, "measure": False}
    chosen = nodes[len(nodes) // 2]
    ok.quantize(tmp_path / "model.onnx", output, target=target, method="static", exclude=(chosen.name,), **options)
    assert in_float(output, tmp_path / "model.onnx", nodes, tmp_path) == [chosen.name]


def in_float(path, source, nodes, folder):
    """The names of the nodes whose weights the quantized model at ``path`` holds as floats."""
    if path.suffix == ".onnx":
        proto = graph.load(path)
        rounded = {name for node in proto.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
        found = {node.name: node for node in proto.graph.node}
        return [node.name for node in nodes if found[node.name].input[1] not in rounded]
    openvino = pytest.importorskip("openvino")
    names = correspondence.operations([node.name for node in nodes], model.open(source), irnames.read(source), folder)
    found = {each.get_friendly_name(): each for each in openvino.Core().read_model(path).get_ops()}
    products = {
        name: [found[each] for each in operations if found[each].get_type_name() in correspondence.WEIGHTED]
        for name, operations in names.items()
    }
    assert all(len(each) == 1 for each in products.values())
    return [name for name, (product,) in products.items() if not _integers_in(product)]


def _integers_in(product):
    source = product.input_value(1).get_node()
    while source.input_values():
        source = source.input_value(0).get_node()
    return source.get_element_type().to_string() in ("i8", "u8")
