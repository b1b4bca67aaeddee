"""``inspect``: what a model is, for every format, as a record and on the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch_files import X, code_in, exported, network, save

from optkit.errors import ModelError, UsageError
from optkit.verbs.inspect import inspect

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
WEIGHTS = 4 * 9 + 4 + 4 * 4 + 144 * 3 + 3


@pytest.fixture
def conditional(tmp_path: Path) -> Path:
    """An ONNX model with a quarter of its weights in a subgraph's Constant node, half of those zero."""
    values = np.ones((2, 2), "float32")
    values[0] = 0
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(values, "c"))
    then = helper.make_graph(
        [constant, helper.make_node("MatMul", ["x", "c"], ["t"])],
        "t",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, ["batch", 2])],
    )
    other = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["e"])],
        "e",
        [],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, ["batch", 2])],
    )
    node = helper.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=other)
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.ones((2, 2), "float32"), "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8, producer_name="me")
    onnx.save(proto, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_an_onnx_model_is_counted_with_its_subgraphs(conditional: Path) -> None:
    found = inspect(conditional, targets=["onnxruntime"])
    assert found.operators == {"MatMul": 2, "Constant": 1, "If": 1}
    assert (found.parameters, found.precisions, found.sparsity) == (8, {"float32": 8}, 0.25)
    assert (found.opsets, found.producer, found.quantized) == ({"ai.onnx": 11}, "me", None)
    assert [(each.target, each.accepted) for each in found.targets] == [("onnxruntime", True)]


def test_a_target_that_refuses_an_operator_is_a_row_with_a_reason(conditional: Path) -> None:
    proto = onnx.load(conditional)
    proto.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(proto, conditional)
    (refusal,) = inspect(conditional, targets=["onnxruntime"]).targets
    assert not refusal.accepted
    assert "NoSuchOperator" in (refusal.reason or "")


def test_a_target_that_does_not_take_the_format_says_so(tmp_path: Path) -> None:
    torch.jit.trace(network(), X).save(tmp_path / "t.pt")
    (refusal,) = inspect(tmp_path / "t.pt", targets=["onnxruntime"]).targets
    assert (refusal.target, refusal.accepted) == ("onnxruntime", False)
    assert "optkit export" in (refusal.reason or "")


def test_torch_models_count_layers_and_the_same_weights_in_all_forms(tmp_path: Path) -> None:
    net = network()
    torch.jit.trace(net, X).save(tmp_path / "t.pt")
    save(net.state_dict(), tmp_path / "w.pth")
    layers = {"BatchNorm2d": 1, "Conv2d": 1, "Flatten": 1, "Linear": 1}
    forms = [
        (inspect(save(net, tmp_path / "m.pt"), targets=["torch"]), layers),
        (inspect(tmp_path / "t.pt", targets=["torch"]), layers),
        (inspect(tmp_path / "w.pth", code=code_in(tmp_path), targets=["torch"]), layers),
    ]
    for found, expected in forms:
        assert found.operators == expected
        assert found.precisions == {"float32": WEIGHTS}


def test_an_exported_program_lists_its_operators(tmp_path: Path) -> None:
    found = inspect(exported(network(), tmp_path / "e.pt2"), targets=["torch"])
    assert found.operators["aten.linear.default"] == 1
    assert found.precisions == {"float32": WEIGHTS}
    assert [each.accepted for each in found.targets] == [True]


def test_a_state_dict_without_code_is_inspected_with_a_note(tmp_path: Path) -> None:
    found = inspect(save(network().state_dict(), tmp_path / "w.pth"))
    assert (found.model.format, found.parameters, found.operators) == ("state-dict", WEIGHTS, {})
    assert found.targets == []
    assert "--code" in found.notes[0].text


def test_tied_weights_count_once(tmp_path: Path) -> None:
    first, second = torch.nn.Linear(8, 8, bias=False), torch.nn.Linear(8, 8, bias=False)
    second.weight = first.weight
    assert inspect(save(torch.nn.Sequential(first, second), tmp_path / "m.pt"), targets=["torch"]).parameters == 64


@pytest.mark.openvino
def test_openvino_ir_is_counted_without_openvino(conditional: Path, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    net = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU())
    converted = openvino.convert_model(torch.jit.trace(net, torch.ones(1, 8)), example_input=torch.ones(1, 8))
    openvino.save_model(converted, tmp_path / "m.xml", compress_to_fp16=True)
    found = inspect(tmp_path / "m.xml", targets=["openvino"])
    assert found.operators["MatMul"] == 1
    assert found.precisions["float16"] == 36
    assert found.quantized == "float16"
    assert [each.accepted for each in found.targets] == [True]


def test_an_unknown_target_is_answered_with_the_nearest(conditional: Path) -> None:
    with pytest.raises(UsageError, match="unknown target 'onnxruntme'") as error:
        inspect(conditional, targets=["onnxruntme"])
    assert "'onnxruntime'" in (error.value.hint or "")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("hello")
    with pytest.raises(ModelError, match="a text file"):
        inspect(tmp_path / "m.onnx")


def test_the_command_prints_one_json_document(cli, conditional: Path) -> None:
    done = cli("inspect", str(conditional), "--json", "--target", "onnxruntime")
    assert done.exit_code == 0
    record = json.loads(done.stdout)
    assert (record["schema"], record["parameters"]) == ("optkit.inspection/1", 8)


def test_the_command_shows_facts_signature_operators_and_targets(cli, conditional: Path) -> None:
    done = cli("inspect", str(conditional), "--target", "onnxruntime")
    assert done.exit_code == 0
    for part in ("opset", "ai.onnx 11", "input x", "[batch, 2]", "MatMul", "onnxruntime", "yes", "25.0 %"):
        assert part in done.stdout


def test_a_mistake_ends_with_its_exit_code(cli, tmp_path: Path) -> None:
    done = cli("inspect", str(tmp_path / "nothing.onnx"))
    assert done.exit_code == 2
    assert "no such file" in done.stderr
