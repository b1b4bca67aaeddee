"""Quantization-aware training ends in ordinary INT8, and leaves nothing of its own in the graph."""

import onnx
import pytest
import torch
from training_files import INPUT, share

import optkit as package
from optkit.errors import UsageError
from optkit.formats.torch import structure
from optkit.training import fake_quantization


@pytest.fixture(scope="module")
def lesson(samples, tmp_path_factory):
    data = share(samples / "evaluation.npz", tmp_path_factory.mktemp("data") / "data.npz", 300)
    return {
        "model": samples / "weights.pth", "code": f"{samples}/net.py:build", "inputs": (INPUT,), "method": "qat",
        "data": data, "epochs": 1, "learning_rate": 1e-4, "measure": False,
    }  # fmt: skip


def test_it_ends_in_integers_for_onnxruntime(lesson, tmp_path):
    done = package.quantize(output=tmp_path / "q.onnx", **lesson)
    operators = {node.op_type for node in onnx.load(tmp_path / "q.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    assert (done.stage.engine, done.stage.method) == ("onnxruntime", "int8 qat")
    assert done.stage.facts["training"][0]["label"] == "qat"
    assert done.stage.facts["training"][0]["precision"] == "float32"  # bf16 would round the integers' steps once more
    assert done.stage.result.size_bytes < 0.4 * done.stage.source.size_bytes
    assert done.calibration.count <= done.training.count


@pytest.mark.openvino
def test_it_ends_in_integers_for_openvino(lesson, tmp_path):
    done = package.quantize(output=tmp_path / "q.xml", target="openvino", **lesson)
    assert done.stage.engine == "nncf"
    assert done.stage.facts["quantizers"] > 8


def test_what_it_cannot_do_is_one_line(lesson, samples, tmp_path):
    for changes, message in (
        ({"precision": "int4"}, "qat makes int8"),
        ({"model": samples / "model.onnx", "code": None, "inputs": ()}, "modules of PyTorch"),
        ({"data": None}, "needs training data"),
    ):
        with pytest.raises(UsageError, match=message):
            package.quantize(output=tmp_path / "q.onnx", **lesson | changes)


def test_fake_quantization_rounds_and_is_taken_out_without_a_trace():
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3))
    names, weights = set(net.state_dict()), net[0].weight.detach().clone()
    x = torch.randn(2, 1, 8, 8)
    expected = net(x)
    assert fake_quantization.put_into(net, weight_bits=4, per_channel=True) == 2
    rounded = net.train()(x)
    assert len(torch.unique(net[0].weight[0])) <= 15
    assert (rounded - expected).abs().max() > 0
    rounded.sum().backward()
    assert net[0].parametrizations.weight.original.grad.abs().sum() > 0
    fake_quantization.take_out(net)
    assert set(net.state_dict()) == names
    assert torch.equal(net[0].weight, weights)
    assert torch.equal(net(x), expected)


@pytest.mark.parametrize("inplace", [False, True])
def test_what_convolutions_give_is_rounded_behind_the_batch_norm_unless_integers_absorb_what_follows(inplace):
    class Net(torch.nn.Module):
        def __init__(self, inplace):
            super().__init__()
            self.act = torch.nn.ReLU(inplace)
            self.normed, self.norm = torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.BatchNorm2d(2)
            self.cut, self.added = torch.nn.Conv2d(2, 2, 1), torch.nn.Conv2d(2, 2, 1)

        def forward(self, x):
            x = torch.nn.functional.silu(self.norm(self.normed(x)))
            return x + self.added(self.act(self.cut(x)))

    net, x = Net(inplace).eval(), torch.randn(2, 1, 32, 32)
    names, expected = set(net.state_dict()), net(x)
    fake_quantization.put_into(net, weight_bits=8, per_channel=True, giving_integers=lambda each: each(x))
    assert [name for name, each in net.named_children() if hasattr(each, "optkit_output")] == ["norm", "added"]
    assert len(torch.unique(net.norm(net.normed(x)).detach())) > 256
    fake_quantization.observe(net, lambda each: each(x))
    assert len(torch.unique(net.norm(net.normed(x)).detach())) <= 256
    fake_quantization.take_out(net)
    assert set(net.state_dict()) == names
    assert torch.equal(net(x), expected)


def test_ranges_begin_where_rounding_loses_least_and_say_what_they_cut_off():
    even = torch.linspace(0, 1, 4000)[:, None]
    for rare, cut in ((1.0, False), (1.2, True)):
        net = torch.nn.Sequential(torch.nn.Linear(1, 1))
        fake_quantization.put_into(net, weight_bits=8, per_channel=True)
        batches = [torch.cat([even[1:], torch.tensor([[rare]])]), *[even] * 50]
        fake_quantization.observe(net, lambda each, batches=batches: [each(batch) for batch in batches])
        found = fake_quantization.ranges(net)
        assert bool(found) == cut
        if cut:
            low, high = found["0"]["input"]
            assert low == 0
            assert 0.95 < high < 1.15


def test_what_learnt_ranges_cut_off_is_cut_off_in_float_too(tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(2, 2))
    structure.clip(net, {"0": {"input": [-1.0, 1.0], "output": [0.0, 0.5]}})
    torch.save(net, tmp_path / "net.pt")
    again = torch.load(tmp_path / "net.pt", weights_only=False)
    x = 10 * torch.randn(64, 2)
    expected = torch.nn.functional.linear(x.clamp(-1, 1), net[0].weight, net[0].bias).clamp(0, 0.5)
    assert torch.equal(net(x), expected)
    assert torch.equal(again(x), expected)


def test_ranges_are_learnt():
    net = torch.nn.Sequential(torch.nn.Linear(4, 4))
    fake_quantization.put_into(net, weight_bits=8, per_channel=True)
    fake_quantization.observe(net, lambda each: each(torch.randn(64, 4)))
    before = net[0].optkit_input.learnt()[1].item()
    net.train()(torch.randn(64, 4)).square().sum().backward()
    assert net[0].optkit_input.stretch.grad.abs().sum() > 0
    with torch.no_grad():
        net[0].optkit_input.stretch -= 0.01
    assert net[0].optkit_input.learnt()[1].item() < before


def test_batch_norms_keep_their_statistics_until_rounding_is_taken_out():
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    fake_quantization.put_into(net, weight_bits=8, per_channel=True)
    before = net[1].running_mean.clone()
    net.train()(torch.randn(4, 1, 8, 8))
    assert torch.equal(net[1].running_mean, before)
    fake_quantization.take_out(net)
    net.train()(torch.randn(4, 1, 8, 8))
    assert not torch.equal(net[1].running_mean, before)


def test_ranges_are_seen_without_learning():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    x = torch.randn(8, 2)
    fake_quantization.put_into(net, weight_bits=8, per_channel=True)
    before = {name: value.clone() for name, value in net.state_dict().items() if "optkit" not in name}
    fake_quantization.observe(net, lambda each: each(x))
    assert net[0].optkit_input.range.tolist() == pytest.approx([x.min().item(), x.max().item()])
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


def test_a_weight_tied_to_an_embedding_stays_in_float():
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.out = torch.nn.Embedding(10, 4), torch.nn.Linear(4, 10, bias=False)
            self.out.weight = self.table.weight

    assert fake_quantization.put_into(Tied(), weight_bits=8, per_channel=True) == 0
