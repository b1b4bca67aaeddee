"""Each runtime, for real: what it answers, what it refuses, what it writes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optkit.errors import MissingDeviceError, SignatureError, TargetError, UsageError
from optkit.formats.model import Model
from optkit.formats.openvino import stable_names
from optkit.formats.tensors import Signature, TensorSpec
from optkit.measurement.candidate import Candidate
from optkit.measurement.worker import Worker
from optkit.targets.table import TARGETS
from optkit.targets.target import target

RUNTIMES = ["onnxruntime", "openvino"]
RANDOM = np.random.default_rng(0)
FEED = {"x": RANDOM.standard_normal((2, 1, 8, 8)).astype(np.float32)}


def tensor(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def save(path, nodes, inputs, outputs, weights=(), domains=()):
    graph = helper.make_graph(nodes, "graph", inputs, outputs, [numpy_helper.from_array(w, n) for n, w in weights])
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return Model(path, "onnx", "sha256:0")


@pytest.fixture
def net(tmp_path):
    """A convolution with a ReLU and a classifier, two outputs."""
    weights = [
        ("w", RANDOM.standard_normal((4, 1, 3, 3)).astype(np.float32)),
        ("v", RANDOM.standard_normal((4, 3)).astype(np.float32)),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["features"]),
        helper.make_node("MatMul", ["features", "v"], ["logits"]),
    ]
    outputs = [tensor("logits", ["batch", 3]), tensor("features", ["batch", 4])]
    return save(tmp_path / "net.onnx", nodes, [tensor("x", ["batch", 1, 8, 8])], outputs, weights)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "compiled"
    path.mkdir()
    return path


def session(model, name, **options):
    runtime = target(name)
    return runtime.open(model, runtime.checked(runtime.default_options(threads=1) | options))


@pytest.mark.parametrize("name", list(TARGETS))
def test_every_entry_of_the_table_is_a_target_of_that_name(name):
    assert target(name).name == name
    assert target(name).formats


def test_an_unknown_target_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="unknown target 'openvine'") as caught:
        target("openvine")
    assert "did you mean 'openvino'?" in caught.value.hint


@pytest.mark.parametrize("name", RUNTIMES)
def test_outputs_bear_the_models_names_in_its_order(net, name):
    with session(net, name) as opened:
        outputs = opened.run(FEED)
    assert list(outputs) == ["logits", "features"]
    assert outputs["logits"].shape == (2, 3)


def test_both_runtimes_compute_the_same_in_float32(net):
    with session(net, "onnxruntime") as first, session(net, "openvino") as second:
        expected, found = first.run(FEED), second.run(FEED)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", RUNTIMES)
def test_outputs_of_one_run_survive_the_next(net, name):
    with session(net, name) as opened:
        first = opened.run(FEED)["logits"]
        kept = first.copy()
        opened.run({"x": -FEED["x"]})
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("name", RUNTIMES)
def test_the_signature_comes_from_the_runtime_when_the_model_has_none(net, name):
    signature = session(net, name).signature
    assert [str(spec) for spec in signature.inputs] == ["x:float32[batch,1,8,8]"]
    assert [spec.name for spec in signature.outputs] == ["logits", "features"]


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_compiled_model_computes_the_same_and_loads_with_its_options(net, name, folder):
    runtime = target(name)
    compiled = runtime.compile(net, runtime.default_options(threads=1), folder)
    assert compiled.path.parent == folder
    with session(net, name) as plain, runtime.open(Model(compiled.path, compiled.format, ""), compiled.options) as fast:
        expected, found = plain.run(FEED), fast.run(FEED)
    assert list(found) == list(expected)
    for output, array in expected.items():
        np.testing.assert_allclose(found[output], array, rtol=1e-4, atol=1e-5)


def test_onnxruntimes_compiled_graph_has_no_layout_of_this_cpu(net, folder):
    runtime = target("onnxruntime")
    compiled = runtime.compile(net, runtime.default_options(threads=1), folder)
    domains = {node.domain for node in onnx.load(compiled.path).graph.node}
    assert "com.microsoft.nchwc" not in domains
    assert compiled.options["graph_optimization_level"] == "ORT_ENABLE_ALL"


def test_a_graph_that_onnxruntime_would_blow_up_is_kept_as_it_came(tmp_path, folder):
    weights = [("w", RANDOM.standard_normal((64, 64)).astype(np.float16))]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    kind = TensorProto.FLOAT16
    model = save(tmp_path / "half.onnx", nodes, [tensor("x", ["n", 64], kind)], [tensor("y", ["n", 64], kind)], weights)
    runtime = target("onnxruntime")
    compiled = runtime.compile(model, runtime.default_options(threads=1), folder)
    if compiled.path.name == "half.onnx":
        assert compiled.path.read_bytes() == model.path.read_bytes()
        assert "larger" in compiled.notes[0]
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 1.1 * model.size_bytes


def test_openvino_computes_in_f32_unless_asked_and_says_what_it_does(net):
    assert session(net, "openvino").facts()["precision"] == "f32"
    assert session(net, "openvino", INFERENCE_PRECISION_HINT="bf16").facts()["precision"] in ("bf16", "f32")


@pytest.mark.parametrize("name", RUNTIMES)
def test_threads_are_explicit(name):
    options = target(name).default_options(threads=3)
    assert 3 in options.values()


def custom_operator(tmp_path):
    nodes = [helper.make_node("Mystery", ["x"], ["y"], name="node_7", domain="com.acme")]
    return save(tmp_path / "odd.onnx", nodes, [tensor("x", [1])], [tensor("y", [1])], domains=["com.acme"])


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_refused_operator_is_named_in_one_line_and_nothing_is_printed(tmp_path, name, capfd):
    with pytest.raises(TargetError, match=r"refuses odd\.onnx.*Mystery") as caught:
        session(custom_operator(tmp_path), name)
    assert "\n" not in caught.value.message
    assert "Exception from" not in caught.value.message
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", RUNTIMES)
def test_an_operator_is_refused_when_compiling_too(tmp_path, name, folder):
    with pytest.raises(TargetError, match="Mystery"):
        target(name).compile(custom_operator(tmp_path), target(name).default_options(), folder)


def test_what_openvino_refuses_is_one_line_for_its_quantizer_too(tmp_path):
    with pytest.raises(TargetError, match=r"openvino refuses odd\.onnx.*Mystery") as caught:
        stable_names.read(custom_operator(tmp_path).path)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_feed_that_does_not_fit_is_a_target_error(net, name, capfd):
    with session(net, name) as opened, pytest.raises(TargetError, match="failed to run"):
        opened.run({"x": np.zeros((1, 1, 8, 9), np.float32)})
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("intra_op_num_thread", 1, "no session option 'intra_op_num_thread'"),
        ("graph_optimization_level", "ORT_ENABLE_MOST", "cannot be 'ORT_ENABLE_MOST'"),
        ("intra_op_num_threads", "many", "intra_op_num_threads should be a valid integer, not 'many'"),
        ("log_id", [1], "log_id should be a valid"),
    ],
)
def test_a_wrong_option_of_onnxruntime_is_a_usage_error(net, option, value, says):
    with pytest.raises(UsageError, match=says):
        session(net, "onnxruntime", **{option: value})


def test_a_wrong_option_of_openvino_names_what_is_allowed(net):
    with pytest.raises(TargetError, match=r"INFERENCE_PRECISION_HINT.*bf16, f16, f32"):
        session(net, "openvino", INFERENCE_PRECISION_HINT="f99")


def test_openvino_runs_other_shapes_than_the_static_ones_too(net):
    general = session(net, "openvino")
    static = session(net, "openvino", static_shapes={"x": [2, 1, 8, 8]})
    for size in (2, 3):
        feed = {"x": np.ones((size, 1, 8, 8), np.float32)}
        np.testing.assert_allclose(static.run(feed)["logits"], general.run(feed)["logits"], atol=1e-6)
    assert [spec.shape for spec in static.signature.inputs] == [("batch", 1, 8, 8)]


def test_static_shapes_that_a_graph_does_not_take_are_left_out_of_the_bundle(net, folder):
    runtime = target("openvino")
    options = runtime.default_options(threads=1)
    compiled = runtime.compile(net, options | {"static_shapes": {"x": [1, 5, 8, 8]}}, folder)
    assert compiled.options == options
    assert "static shapes" in compiled.notes[-1]


@pytest.mark.parametrize("shapes", [[1, 2], {"x": "1,1,8,8"}, {"x": [1, None]}])
def test_static_shapes_that_are_none_are_a_usage_error(net, shapes):
    with pytest.raises(UsageError, match="static_shapes"):
        session(net, "openvino", static_shapes=shapes)


def test_torch_needs_to_be_told_the_inputs(tmp_path):
    with pytest.raises(SignatureError, match="does not tell its inputs"):
        session(Model(tmp_path / "weights.pth", "state-dict", ""), "torch")


def scripted(path, forward):
    """A TorchScript file whose forward returns what ``forward`` makes of its input."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)

    class Net(torch.nn.Module):
        def forward(self, x):
            return forward(x)

    torch.jit.trace(Net(), torch.ones(2, 3), strict=False).save(path)
    inputs = (TensorSpec("x", "float32", ("batch", 3)),)
    return Model(path, "torchscript", "", Signature(inputs))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("forward", "names"),
    [
        (lambda x: x + 1, ["output"]),
        (lambda x: (x + 1, x * 2), ["output_0", "output_1"]),
        (lambda x: {"sum": x + 1, "product": x * 2}, ["sum", "product"]),
    ],
)
def test_outputs_of_torch_are_named_by_their_keys_or_places(tmp_path, forward, names):
    model = scripted(tmp_path / "net.pt", forward)
    feed = np.ones((4, 3), np.float32)
    feed.flags.writeable = False
    with session(model, "torch") as opened:
        outputs = opened.run({"x": feed})
        assert opened.facts()["threads"] == 1
    assert list(outputs) == names
    np.testing.assert_array_equal(outputs[names[0]], feed + 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torch_without_a_gpu_says_why_and_what_would_help(tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    model = scripted(tmp_path / "net.pt", lambda x: x)
    runtime = target("torch")
    options = runtime.default_options(threads=1) | runtime.device_options("cuda")
    with pytest.raises(MissingDeviceError, match=r"torch .* has no GPU to compute on: \w+") as caught:
        Worker(Candidate("net.pt", model, "torch", options))
    assert torch.__version__ in caught.value.message
    assert caught.value.exit_code == 4
    assert ("without CUDA" if torch.version.cuda is None else "nvidia-smi") in caught.value.hint


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_device_that_torch_does_not_know_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="device should be 'cpu' or 'cuda', not 'gpu'"):
        session(scripted(tmp_path / "net.pt", lambda x: x), "torch", device="gpu")


def test_torchs_choices_on_a_gpu_are_explicit():
    options = target("torch").device_options("cuda")
    assert options == {"device": "cuda", "copies": True, "cuda_graph": False, "allow_tf32": False}
    assert target("torch").default_options(threads=2) == {"num_threads": 2, "device": "cpu"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_error_inside_a_torch_module_is_one_line(tmp_path):
    model = scripted(tmp_path / "net.pt", lambda x: x @ x.new_ones(3, 2))
    with session(model, "torch") as opened, pytest.raises(TargetError, match="torch failed to run") as caught:
        opened.run({"x": np.ones((4, 5), np.float32)})
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("library", "name", "command"),
    [
        ("openvino", "openvino", "pip install 'openvino>=2025.2' 'nncf>=2.17'"),
        ("torch", "torch", "pip install 'torch>=2.7' 'onnxscript>=0.5' 'safetensors>=0.4'"),
        ("onnxruntime", "onnxruntime", "pip install 'onnxruntime>=1.22,<2'"),
    ],
)
def test_a_missing_library_is_asked_for_by_its_pip_command(library, name, command):
    program = f"""
import sys
sys.modules[{library!r}] = None
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {library!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
del sys.modules[{library!r}]
sys.meta_path.insert(0, Blocked())
from optkit.errors import OptkitError
from optkit.targets.target import target
try:
    target({name!r}).version()
except OptkitError as error:
    print(error.exit_code, error.hint)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"4 {command}"


SIGNATURE = Signature((TensorSpec("x", "float32", ("batch", 4)),), (TensorSpec("y", "float32", ("batch", 3)),))


def test_the_fake_target_answers_the_same_for_the_same_sample_in_any_batch():
    model = Model(Path("model.onnx"), "onnx", "", SIGNATURE)
    inputs = RANDOM.standard_normal((3, 4)).astype(np.float32)
    opened = session(model, "fake")
    together = opened.run({"x": inputs})["y"]
    np.testing.assert_allclose(opened.run({"x": inputs[1:2]})["y"][0], together[1])
