"""Pruning: what is cut is gone from the graph, what cannot be cut has a reason, and the file opens again."""

import math

import numpy as np
import onnx
import pytest
import torch
from training_files import INPUT, SMALL, TRANSFORMER, share, weights_of, written

import optkit as package
from optkit.errors import ModelError, StageError, UsageError
from optkit.records.record import Interval
from optkit.stages.measured_speedup import SpeedupTimer
from optkit.stages.stage import Context
from optkit.training.pruning import masks as sparsity_masks
from optkit.training.pruning import selection as pruning_selection
from optkit.training.pruning.dependencies import Group
from optkit.training.pruning.selection import GroupSensitivity, UnitBlock


@pytest.fixture(scope="module")
def data(samples, tmp_path_factory):
    return share(samples / "evaluation.npz", tmp_path_factory.mktemp("data") / "data.npz", 300)


@pytest.fixture(scope="module")
def residual(samples, data):
    """The options of a pruning of the committed CNN."""
    return {
        "model": samples / "weights.pth", "code": f"{samples}/net.py:build", "inputs": (INPUT,), "data": data,
        "epochs": 1, "steps": 1, "learning_rate": 1e-3, "measure": False,
    }  # fmt: skip


@pytest.fixture(scope="module")
def halved(residual, tmp_path_factory):
    path = tmp_path_factory.mktemp("halved") / "halved.safetensors"
    return package.prune(output=path, **residual | {"sparsity": 0.5, "steps": 2, "measure": True, "seconds": 0.5})


@pytest.fixture(scope="module")
def transformer(tmp_path_factory, data):
    """The options for a transformer that keeps the number of its heads in an attribute."""
    folder = tmp_path_factory.mktemp("transformer")
    code = written(folder, "net.py", TRANSFORMER)
    weights = weights_of(code, "build", folder / "weights.pth")
    return {
        "model": weights, "code": f"{code}:build", "inputs": (INPUT,), "data": data,
        "epochs": 1, "steps": 1, "learning_rate": 1e-3, "measure": False,
    }  # fmt: skip


def test_half_of_the_operations_are_gone_from_the_graph(halved, residual, tmp_path):
    facts = halved.stage.facts
    assert facts["after"]["macs"] <= 0.5 * facts["before"]["macs"]
    assert facts["after"]["parameters"] < facts["before"]["parameters"]
    package.export(halved.output, tmp_path / "small.onnx", code=residual["code"])
    weights = onnx.load(tmp_path / "small.onnx").graph.initializer
    assert sum(math.prod(tensor.dims) for tensor in weights if len(tensor.dims) > 1) < 0.8 * 125_000
    before, after = halved.comparison.rows
    assert after.quality.count == 60
    assert after.model.size_bytes < before.model.size_bytes


def test_layers_are_ranked_and_what_ends_in_the_outputs_is_left(halved):
    damages = [each["damage"] for each in halved.stage.facts["sensitivity"]]
    assert damages == sorted(damages, reverse=True)
    assert len(damages) >= 4
    assert halved.stage.facts["refused"] == {"head": "the outputs' shapes depend on it"}


def test_a_pruned_file_tells_its_inputs_and_wants_its_own_code(halved, residual, samples, tmp_path, optkit):
    assert str(package.open(halved.output, code=residual["code"]).signature.inputs[0]) == INPUT
    other = written(tmp_path, "other.py", SMALL)
    done = optkit("export", halved.output, "--code", f"{other}:build", "-o", tmp_path / "out.onnx")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    with pytest.raises(ModelError, match="another module than was pruned"):
        package.export(halved.output, tmp_path / "out.onnx", code=f"{other}:build")


def test_a_pruned_model_is_pruned_further(halved, residual, tmp_path):
    again = residual | {"model": halved.output, "inputs": (), "sparsity": 0.3}
    done = package.prune(output=tmp_path / "again.safetensors", **again)
    assert done.stage.facts["after"]["macs"] <= 0.7 * halved.stage.facts["after"]["macs"]


@pytest.mark.parametrize("importance", ["l1", "l2", "activation"])
def test_other_ways_to_tell_what_matters_less(importance, residual, tmp_path):
    cut = residual | {"sparsity": 0.3, "importance": importance, "of": "parameters", "scope": "layer"}
    facts = package.prune(output=tmp_path / "p.safetensors", **cut).stage.facts
    assert facts["after"]["parameters"] <= 0.7 * facts["before"]["parameters"]


def test_excluded_layers_keep_their_width(residual, tmp_path):
    cut = residual | {"sparsity": 0.2, "exclude": ("stages.0",)}
    done = package.prune(output=tmp_path / "p.safetensors", **cut)
    assert "excluded" in done.stage.facts["refused"].values()


def test_heads_neurons_and_whole_layers_of_a_transformer(transformer, tmp_path):
    done = package.prune(output=tmp_path / "t.safetensors", **transformer | {"sparsity": 0.4, "drop_layers": 1})
    kinds = {each["kind"] for each in done.stage.facts["sensitivity"]}
    assert "heads" in kinds
    assert len(done.stage.facts["layers"]) == 4
    assert done.stage.facts["after"]["macs"] <= 0.6 * done.stage.facts["before"]["macs"]
    package.export(done.output, tmp_path / "t.onnx", code=transformer["code"])
    assert package.inspect(tmp_path / "t.onnx").parameters < 0.8 * done.stage.facts["before"]["parameters"]


def test_cut_heads_are_gone(transformer, tmp_path):
    kept = ("layers.0.up", "layers.1.up", "layers.2.up", "layers.3.up", "layers.3.down", "embed")
    done = package.prune(output=tmp_path / "t.safetensors", **transformer | {"sparsity": 0.15, "exclude": kept})
    facts = done.stage.facts
    assert {each["kind"] for each in facts["sensitivity"]} == {"heads"}
    assert facts["after"]["macs"] <= 0.85 * facts["before"]["macs"]


def test_heads_that_the_code_fixes_are_left_with_the_reason(transformer, tmp_path):
    fixed = transformer | {"code": transformer["code"].replace(":build", ":fixed")}
    done = package.prune(output=tmp_path / "t.safetensors", **fixed | {"sparsity": 0.2})
    reasons = [why for name, why in done.stage.facts["refused"].items() if "attention" in name]
    assert len(reasons) == 4
    assert all("fixes its 4 heads" in reason for reason in reasons)


def test_recurrent_layers_are_left_alone(data, tmp_path):
    code = written(tmp_path, "net.py", SMALL)
    weights = weights_of(code, "recurrent", tmp_path / "weights.pth")
    with pytest.raises(StageError, match="LSTM"):
        package.prune(
            weights, tmp_path / "p.safetensors", code=f"{code}:recurrent", inputs=(INPUT,), data=data, sparsity=0.5,
            epochs=1, measure=False,
        )  # fmt: skip


@pytest.mark.parametrize(("pattern", "given", "least"), [("unstructured", 0.8, 0.79), ("2:4", None, 0.45)])
def test_zeros_stay_zero_and_their_worth_is_told(pattern, given, least, residual, tmp_path):
    done = package.prune(output=tmp_path / "z.safetensors", **residual | {"pattern": pattern, "sparsity": given})
    package.export(done.output, tmp_path / "z.onnx", code=residual["code"])
    weights = [
        np.asarray(onnx.numpy_helper.to_array(each)) for each in onnx.load(tmp_path / "z.onnx").graph.initializer
    ]
    matrices = np.concatenate([each.ravel() for each in weights if each.ndim > 1])
    assert (matrices == 0).mean() >= least
    told = {note.where: note.text for note in done.stage.notes}
    assert "as by any number" in told["onnxruntime"]
    assert "2:4" in told["tensorrt"]


def test_two_of_each_four_inputs_are_left():
    layer = torch.nn.Sequential(torch.nn.Linear(8, 3), torch.nn.Linear(3, 5))
    found = sparsity_masks.smallest(layer, "2:4", 0.5)
    assert set(found.kept) == {"0"}  # three inputs are no multiple of four
    assert (found.kept["0"].reshape(3, 2, 4).sum(2) == 2).all()


def test_outliers_are_fragile_and_few_layers_are_none():
    def found(damages):
        every = [
            GroupSensitivity(Group(str(number), "channels", 8), (0,), each, 0.1) for number, each in enumerate(damages)
        ]
        return [each.group.name for each in pruning_selection._mark_fragile(every) if each.fragile]

    assert found([5.0, 0.02, 0.018, 0.015, 0.012, 0.01]) == ["0"]
    assert found([0.02, 0.018, 0.015, 0.012, 0.01]) == []
    assert found([5.0, 0.01, 0.01]) == []


class _Stepped(SpeedupTimer):
    """A target where a block of ``step`` brings far more than another one; without noise."""

    def speedup(self, module, seconds):
        value = 1 + sum(0.5 if block.group.name == "step" else 0.1 for block in module)
        return Interval(value=value, low=value, high=value)


class _Flattering(_Stepped):
    """Short looks see a tenth more than there is."""

    def speedup(self, module, seconds):
        found = super().speedup(module, seconds)
        return found if seconds > 2 else Interval(value=1.1 * found.value, low=found.low, high=found.high)


class _Listing:
    """Cuts nothing: what is cut is the list of the blocks."""

    def cut(self, module, blocks):
        return list(blocks)


@pytest.mark.parametrize(
    ("order", "wanted", "chosen"),
    [
        ("fine fine step fine fine fine", 1.4, [0, 1, 3, 4]),  # not 1.7x
        ("step step fine fine fine fine", 1.7, [0, 2, 3]),  # nor 2x
        ("fine step step", 1.5, [0, 1]),  # nothing comes closer
        ("fine fine fine", 9.0, [0, 1, 2]),
        ("", 1.5, []),
        ("fine fine", 1.0, []),
    ],
)
def test_a_block_that_brings_more_than_is_wanted_is_left_for_finer_ones(tmp_path, order, wanted, chosen):
    blocks = [UnitBlock(Group(name, "channels", 8), (0,), 0.0) for name in order.split()]
    timer = _Stepped(Context(tmp_path), None, None)
    assert timer.blocks_for(wanted, wanted, _Listing(), None, blocks)[0] == chosen


def test_looks_that_see_too_much_do_not_keep_it_from_ending(tmp_path):
    blocks = [UnitBlock(Group("fine", "channels", 8), (number,), 0.0) for number in range(3)]
    found = _Flattering(Context(tmp_path), None, None).blocks_for(1.1, 1.1, _Listing(), None, blocks)
    assert found[0] == [0]


@pytest.mark.thorough
def test_a_speedup_that_pruning_cannot_reach_is_one_line(residual, tmp_path):
    with pytest.raises(StageError, match="1000x cannot be reached on onnxruntime") as raised:
        package.prune(output=tmp_path / "p.safetensors", **residual | {"target_speedup": 1000.0, "threads": 1})
    assert "--target-speedup" in raised.value.hint
    assert not (tmp_path / "p.safetensors").exists()


@pytest.mark.thorough
def test_a_measured_speedup_decides_how_much_is_cut(residual, tmp_path):
    done = package.prune(output=tmp_path / "p.safetensors", **residual | {"target_speedup": 1.2, "threads": 1})
    facts = done.stage.facts
    assert facts["speedup"]["high"] >= 1.2
    assert facts["after"]["macs"] < facts["before"]["macs"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "no pruning ratio is given"),
        ({"sparsity": 0.5, "target_speedup": 2.0}, "both say how much"),
        ({"pattern": "2:4", "drop_layers": 1}, "no dense kernel"),
        ({"pattern": "unstructured"}, "share of weights"),
        ({"sparsity": 0.5, "data": None}, "needs training data"),
        ({"drop_layers": 9}, "9 layers to drop"),
    ],
)
def test_what_cannot_be_cut_is_one_line(changes, message, residual, tmp_path):
    with pytest.raises((UsageError, StageError), match=message):
        package.prune(output=tmp_path / "p.safetensors", **residual | changes)


@pytest.mark.parametrize("name", ["traced.pt", "program.pt2", "model.onnx"])
def test_only_modules_can_be_cut(name, samples, data, tmp_path):
    with pytest.raises(UsageError, match="changes and trains modules of PyTorch"):
        package.prune(samples / name, tmp_path / "p.safetensors", data=data, sparsity=0.5)


def test_the_command_writes_onnx_where_asked(residual, samples, data, tmp_path, optkit):
    done = optkit(
        *("prune", samples / "weights.pth", "--code", residual["code"], "--input", INPUT, "--sparsity", "0.3"),
        *("--data", data, "--epochs", "1", "--steps", "1", "--learning-rate", "0.001", "--seconds", "0.3"),
        *("-o", tmp_path / "small.onnx"),
    )
    assert done.returncode == 0, done.stderr
    assert package.inspect(tmp_path / "small.onnx").model.format == "onnx"
    assert "macs 18,600,336 ->" in done.stderr
