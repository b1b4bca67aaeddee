"""Foreign libraries: their errors as one clear line, their noise kept away."""

import errno
import logging
import re
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from optkit import errors
from optkit.errors import DataError, OutputError, StageError, TargetError, UsageError
from optkit.system import native

SOURCE = re.compile(
    r"\.(cc|cpp|h|hpp|cu|py):\d+|onnxruntime_src|Check '|::|ONNXRuntimeError|Status Message|CapturedTraceback"
)


def graph(*nodes, weights=None, shape=("n", "k"), opset=17, kind=TensorProto.FLOAT):
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    stored = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    made = helper.make_graph(list(nodes), "g", inputs, outputs, stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


PRODUCT = graph(helper.make_node("MatMul", ["x", "w"], ["y"], name="mm"), weights={"w": np.zeros((5, 3), np.float32)})
RESHAPE = graph(helper.make_node("Reshape", ["x", "s"], ["y"], name="rs"), weights={"s": np.array([3, 7])})
LOOKUP = graph(
    helper.make_node("Gather", ["w", "x"], ["y"]), weights={"w": np.zeros((5, 3), np.float32)}, shape=("n",),
    kind=TensorProto.INT64,
)  # fmt: skip
UNKNOWN = graph(helper.make_node("Foo", ["x"], ["y"]))
AHEAD = graph(helper.make_node("Relu", ["x"], ["y"]), opset=99)


def run_onnxruntime(model, feed, folder):
    path = folder / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    session.run(None, {"x": feed})


def run_openvino(model, feed, folder):
    path = folder / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    core = openvino.Core()
    core.compile_model(core.read_model(path), "CPU")({"x": feed})


def load_torch(content, folder):
    (folder / "model.pt").write_bytes(content)
    torch.load(folder / "model.pt", weights_only=True)


def scripted():
    torch.jit.script(torch.nn.Linear(4, 3))(torch.zeros(2, 5))


def data_dependent():
    class Module(torch.nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    torch.export.export(Module(), (torch.zeros(2, 4),))


FLOATS = np.zeros((2, 4), np.float32)
PROVOKED = {
    "onnxruntime, no model": (
        lambda folder: run_onnxruntime(b"garbage" * 9, FLOATS, folder), "Protobuf parsing failed",
    ),
    "onnxruntime, unknown operator": (
        lambda folder: run_onnxruntime(UNKNOWN, FLOATS, folder),
        "This is an invalid model. Foo: No Op registered for Foo with domain_version of 17",
    ),
    "onnxruntime, opset to come": (
        lambda folder: run_onnxruntime(AHEAD, FLOATS, folder), "ONNX Runtime only *guarantees* support for models",
    ),
    "onnxruntime, a product of other shapes": (
        lambda folder: run_onnxruntime(PRODUCT, FLOATS, folder), "node 'mm' (MatMul): MatMul dimension mismatch",
    ),
    "onnxruntime, a reshape": (
        lambda folder: run_onnxruntime(RESHAPE, FLOATS, folder),
        "node 'rs' (Reshape): The input tensor cannot be reshaped to the requested shape. "
        "Input shape:{2,4}, requested shape:{3,7}",
    ),
    "onnxruntime, out of bounds": (
        lambda folder: run_onnxruntime(LOOKUP, np.array([99]), folder),
        "Gather: indices element out of data bounds, idx=99 must be within the inclusive range [-5,4]",
    ),
    "onnxruntime, another dtype": (
        lambda folder: run_onnxruntime(PRODUCT, np.zeros((2, 5), np.int64), folder), "Unexpected input data type",
    ),
    "openvino, no model": (lambda folder: run_openvino(b"garbage" * 9, FLOATS, folder), "Unable to read the model"),
    "openvino, unknown operator": (
        lambda folder: run_openvino(UNKNOWN, FLOATS, folder), "No conversion rule found for operations: Foo-17",
    ),
    "openvino, a product of other shapes": (
        lambda folder: run_openvino(PRODUCT, FLOATS, folder), "FullyConnected node with name 'y' could not create",
    ),
    "openvino, a reshape": (
        lambda folder: run_openvino(RESHAPE, FLOATS, folder), "conflicts with the reshape pattern (3.7)",
    ),
    "openvino, another rank": (
        lambda folder: run_openvino(PRODUCT, np.zeros((2, 2, 2), np.float32), folder), "Can't set the input tensor",
    ),
    "torch, a product of other shapes": (
        lambda folder: torch.nn.Linear(4, 3)(torch.zeros(2, 5)),
        "mat1 and mat2 shapes cannot be multiplied (2x5 and 4x3)",
    ),
    "torch, TorchScript": (lambda folder: scripted(), "mat1 and mat2 shapes cannot be multiplied (2x5 and 4x3)"),
    "torch, a branch on data": (lambda folder: data_dependent(), "Could not guard on data-dependent expression"),
    "torch, a damaged file": (
        lambda folder: load_torch(b"PK\3\4garbage", folder),
        "PytorchStreamReader failed reading zip archive: not a ZIP archive",
    ),
    "torch, no file of its": (lambda folder: load_torch(b"hello world", folder), "KeyError: 101"),
    "torch, an empty file": (lambda folder: load_torch(b"", folder), "EOFError"),
    "torch, other weights": (
        lambda folder: torch.nn.Linear(3, 3).load_state_dict({"weight": torch.zeros(2, 2)}),
        'Error(s) in loading state_dict for Linear: Missing key(s) in state_dict: "bias". size mismatch for weight',
    ),
    "onnx, an invalid model": (
        lambda folder: onnx.checker.check_model(helper.make_model(helper.make_graph([], "", [], []))), "name",
    ),
    "onnx, shapes": (
        lambda folder: onnx.shape_inference.infer_shapes(
            graph(helper.make_node("MatMul", ["x", "w"], ["y"], name="mm"), shape=("n", 4),
                  weights={"w": np.zeros((5, 3), np.float32)}),
            strict_mode=True,
        ),
        "(op_type:MatMul, node name: mm): Incompatible dimensions for matrix multiplication",
    ),
    "protobuf": (lambda folder: onnx.ModelProto.FromString(b"garbage" * 9), "Error parsing message"),
    "the system": (lambda folder: (folder / "gone").read_bytes(), "gone: No such file or directory"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", PROVOKED)
def test_an_error_of_a_library_becomes_one_clear_line(name):
    provoke, expected = PROVOKED[name]
    onnxruntime.set_default_logger_severity(4)
    with (
        tempfile.TemporaryDirectory(prefix="optkit-") as folder,
        pytest.raises(StageError) as caught,
        native.foreign("it does not work"),
    ):
        provoke(Path(folder))
    text = caught.value.message
    assert expected in text
    assert text.startswith("it does not work: ")
    assert "\n" not in text
    assert not SOURCE.search(text)
    assert folder not in text
    assert len(text) < 260


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : Load model from /tmp/optkit-a1b2c3d4/m.onnx failed:/onnxruntime_src/"
            "onnxruntime/core/graph/model.cc:256 onnxruntime::Model::Model(onnx::ModelProto&&, const "
            "onnxruntime::PathString&, const onnxruntime::logging::Logger&) Unsupported model IR version: 99, "
            "max supported IR version: 14\n",
            "Unsupported model IR version: 99, max supported IR version: 14",
        ),
        (
            'External data path validation failed for initializer: w. Error: tensorprotoutils.cc:619 '
            'ValidateExternalDataPathFromDir External data path does not exist: "/home/me/tmp/optkit-invos7h0/w"',
            'External data path validation failed for initializer: w. Error: External data path does not exist: "w"',
        ),
        (
            "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call\n"
            "For debugging consider passing CUDA_LAUNCH_BLOCKING=1\nCompile with `TORCH_USE_CUDA_DSA` to enable",
            "CUDA error: out of memory",
        ),
        (
            "x failed\nException raised from operator() at /pytorch/c10/core/Tensor.cpp:12 (most recent call first):\n"
            "C++ CapturedTraceback:\n#4 std::_Function_handler",
            "x failed",
        ),
        ("The same\nThe same\nAnd more\nof it", "The same; And more of it"),
        ("\x1b[1mbold\x1b[0m   words\t here. ", "bold words here"),
        ("no library /opt/lib/libx.so: give /data/model.onnx", "no library /opt/lib/libx.so: give /data/model.onnx"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_message_keeps_what_a_user_needs(message, line):
    assert native.readable(message) == line


def test_long_messages_end_with_a_word():
    text = native.readable("word " * 500)
    assert text.endswith("word...")
    assert len(text) <= 240


def test_types_are_told_where_they_say_more_than_the_text():
    assert native.reason(KeyError("weight")) == "KeyError: 'weight'"
    assert native.reason(RuntimeError("it broke")) == "it broke"
    assert native.reason(RuntimeError()) == "RuntimeError"
    assert native.reason(MemoryError()) == "out of memory"
    assert native.named(RuntimeError("it broke")) == "RuntimeError: it broke"


def test_our_own_errors_pass_as_they_are():
    ours = UsageError("mine", hint="do this")
    with pytest.raises(UsageError) as caught, native.foreign("the engine", TargetError):
        raise ours
    assert caught.value is ours


def test_the_failure_has_its_kind_a_hint_and_its_cause():
    cause = ValueError("no such width")
    with pytest.raises(DataError) as caught, native.foreign("net.py", DataError, hint=lambda error: f"not {error}"):
        raise cause
    assert (caught.value.message, caught.value.hint) == ("net.py: no such width", "not no such width")
    assert caught.value.__cause__ is cause


def test_a_library_that_wants_to_end_the_process_ends_its_step():
    with pytest.raises(StageError, match="the engine: SystemExit: 3"), native.foreign("the engine"):
        sys.exit(3)


def test_a_full_disk_is_told_as_such():
    with pytest.raises(OutputError, match="the engine: No space left on device"), native.foreign("the engine"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_nobody_expected_is_told_with_its_type():
    with pytest.raises(StageError, match="failed unexpectedly: IndexError: out of range"), native.surviving():
        raise IndexError("out of range")


def test_silence_ends_with_its_block(capsys, caplog):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with native.silent():
            logging.getLogger("engine").error("loud")
            print("loud")
            warnings.warn("loud", stacklevel=1)
            print("progress", file=sys.stderr)
        logging.getLogger("engine").error("heard")
        warnings.warn("heard", stacklevel=1)
        print("heard")
    assert caplog.messages == ["heard"]
    assert [str(each.message) for each in caught] == ["heard"]
    assert capsys.readouterr() == ("heard\n", "progress\n")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/home/me/.cache/optkit/tmp/optkit-invos7h0/model.onnx", "/home/me/.cache/optkit/tmp"),
        ("out/.optkit-invos7h0/model.onnx", "out"),
        ("/tmp/optkit-profile-invos7h0/x", "/tmp"),
        ("/data/optkit-models/model.onnx", "/data/optkit-models/model.onnx"),
    ],
)
def test_the_lasting_part_of_a_path_is_what_a_user_knows(path, place):
    assert errors.lasting(path) == place


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (f"/c/optkit/entries/{'0a' * 32}/model.onnx: no Conv", "model.onnx: no Conv"),
        ("/tmp/optkit-invos7h0/float/model.onnx and /data/m.onnx", "model.onnx and /data/m.onnx"),
        ("'/tmp/optkit-invos7h0': cannot be written", "'/tmp': cannot be written"),
        ("either/or", "either/or"),
    ],
)
def test_no_error_shows_a_temporary_path(message, shown):
    error = StageError(message, hint=f"optkit inspect {message}")
    assert (error.message, error.hint, str(error)) == (shown, f"optkit inspect {shown}", shown)
