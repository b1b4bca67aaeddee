"""What is this file? Formats by content, mistakes by name, signatures given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optkit.errors import ModelError, SignatureError, UsageError
from optkit.formats import opening
from optkit.formats.tensors import Signature, TensorSpec
from optkit.system import digests

SIGNATURE = Signature((TensorSpec("x", "float32", ("batch", 4)),), (TensorSpec("y", "float32", ("batch", 3)),))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])]
    weights = [numpy_helper.from_array(np.ones((4, 3), "float32"), "w")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", inputs, outputs, weights)
    imports = [helper.make_opsetid("", 17)]
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path


@pytest.fixture
def ir(file: Path) -> Path:
    openvino = pytest.importorskip("openvino")
    path = file.with_suffix(".xml")
    openvino.save_model(openvino.convert_model(file), path, compress_to_fp16=False)
    return path


def bundle_of(file: Path, **changes: Any) -> Path:
    folder = file.parent / "bundle"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(file.read_bytes())
    record: dict[str, Any] = {
        "schema": "optkit.bundle/1",
        "target": "onnxruntime",
        "model": "model.onnx",
        "format": "onnx",
        "options": {"intra_op_num_threads": 1},
        "signature": {
            "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 4]}],
            "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 3]}],
        },
        "digests": {"model.onnx": digests.sha256(file)},
    }
    (folder / "manifest.json").write_text(json.dumps(record | changes))
    return folder


# --- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.onnx", "model.pt", "model", "model.xml"])
def test_an_onnx_file_is_known_by_its_content(file: Path, name: str) -> None:
    opened = opening.open(file.rename(file.with_name(name)))
    assert (opened.format, opened.signature) == ("onnx", SIGNATURE)


@pytest.mark.openvino
def test_openvino_ir_tells_its_signature_and_counts_its_weights(ir: Path) -> None:
    opened = opening.open(ir)
    assert (opened.format, opened.signature) == ("openvino", SIGNATURE)
    assert opened.size_bytes == ir.stat().st_size + ir.with_suffix(".bin").stat().st_size


@pytest.mark.openvino
def test_the_weights_of_an_ir_count_in_its_digest(ir: Path) -> None:
    before = opening.open(ir).digest
    ir.with_suffix(".bin").write_bytes(bytes(48))
    assert opening.open(ir).digest != before


def test_a_bundle_opens_as_the_model_in_it_with_its_options(file: Path) -> None:
    opened = opening.open(bundle_of(file))
    assert opened.path == file.parent / "bundle" / "model.onnx"
    assert (opened.format, opened.target, opened.options) == ("onnx", "onnxruntime", {"intra_op_num_threads": 1})
    assert opened.signature == SIGNATURE
    assert opened.digest == opening.open(file).digest


def test_a_changed_bundle_does_not_open(file: Path) -> None:
    folder = bundle_of(file)
    with (folder / "model.onnx").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(ModelError, match="changed since the bundle was made"):
        opening.open(folder)


def test_an_onnx_file_opens_without_importing_torch(file: Path) -> None:
    import subprocess
    import sys

    code = f"import sys; from optkit.formats import opening; opening.open({str(file)!r})"
    script = f"{code}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_answered_with_the_nearest(file: Path) -> None:
    with pytest.raises(ModelError, match=r"modle.onnx: no such file") as error:
        opening.open(file.with_name("modle.onnx"))
    assert error.value.hint == f"did you mean {file}?"


def test_a_missing_folder_is_no_crash(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        opening.open(tmp_path / "nowhere" / "model.onnx")


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"a folder without manifest.json is not a bundle"):
        opening.open(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "model.pt", "model.xml"])
def test_an_empty_file_is_said_to_be_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ModelError, match="the file is empty"):
        opening.open(tmp_path / name)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8, 0.99])
def test_a_truncated_onnx_file_says_so(file: Path, share: float) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match="damaged or truncated ONNX file"):
        opening.open(file)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"epoch,loss\n1,0.5\n", "a text file"),
        (b"\x89PNG\r\n\x1a\n\0\0", "a PNG image"),
        (b"\xff\xd8\xff\xe0\0\0", "a JPEG image"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"PK\x05\x06" + bytes(18), "a zip archive, but not torch's"),
        (b"\x80\x04K\x01.", "a pickle that torch.save did not write"),
        (b"\x93NUMPY\x01\0", "a numpy array"),
        (bytes(range(256)), ""),
    ],
)
@pytest.mark.parametrize("name", ["model.onnx", "model.pt"])
def test_a_renamed_file_is_told_what_it_is(tmp_path: Path, content: bytes, kind: str, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"not a model.*{kind}"):
        opening.open(tmp_path / name)


def test_an_npz_is_no_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.ones(3))
    with pytest.raises(ModelError, match="a zip archive, but not torch's"):
        opening.open(tmp_path / "data.npz")


@pytest.mark.openvino
def test_the_weights_of_an_ir_lead_to_its_model(ir: Path) -> None:
    with pytest.raises(ModelError, match="not a model") as error:
        opening.open(ir.with_suffix(".bin"))
    assert error.value.hint == f"the model is beside it: {ir}"


@pytest.mark.openvino
def test_missing_and_truncated_weights_of_an_ir_are_named(ir: Path) -> None:
    weights = ir.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(ModelError, match=r"model.bin: truncated"):
        opening.open(ir)
    weights.unlink()
    with pytest.raises(ModelError, match=r"model.bin: missing"):
        opening.open(ir)


LAUGHS = """<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<net><layers><layer name="&b;"/></layers></net>"""
OUTSIDE = """<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a SYSTEM "file:///etc/hostname">]>
<net><layers><layer name="&a;"/></layers></net>"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "DOCTYPE"),
        (OUTSIDE, "DOCTYPE"),
        ("<?xml version='1.0'?><html></html>", "its root is 'html'"),
        ("<?xml version='1.0'?><net><layers>", "damaged or truncated XML"),
        ("<?xml version='1.0'?><net><layers><layer id='0' type='Result'/></layers></net>", "its layers do not fit"),
        ("<?xml version='1.0'?><net><layers><layer><data offset='a' size='1'/></layer></layers></net>", "damaged"),
    ],
)
def test_hostile_and_foreign_xml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.xml").write_text(text)
    with pytest.raises(ModelError, match=message):
        opening.open(tmp_path / "m.xml")


def test_xml_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.xml").write_bytes(b"<?xml version='1.0' encoding='utf-16'?>" + LAUGHS.encode("utf-16"))
    with pytest.raises(ModelError):
        opening.open(tmp_path / "m.xml")


# --- signatures given -------------------------------------------------------------------------------------------------


def test_an_input_given_refines_the_one_in_the_file(file: Path) -> None:
    opened = opening.open(file, inputs=("x:float32[8,4]",))
    assert opened.signature == Signature((TensorSpec("x", "float32", (8, 4)),), SIGNATURE.outputs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("z:float32[batch,4]", "no such input"),
        ("x:int64[batch,4]", "takes float32, not int64"),
        ("x:float32[batch,4,1]", "takes rank 2, not 3"),
        ("x:float32[batch,5]", "fixed size 4 at axis 1, not 5"),
        ("x:float32[batch,width]", "fixed size 4 at axis 1, not width"),
    ],
)
def test_an_input_that_does_not_fit_the_file_is_refused(file: Path, text: str, message: str) -> None:
    with pytest.raises(SignatureError, match=message):
        opening.open(file, inputs=(text,))


def test_an_input_that_is_spelled_wrong_is_refused(file: Path) -> None:
    with pytest.raises(UsageError, match="is not NAME:DTYPE"):
        opening.open(file, inputs=("x",))
