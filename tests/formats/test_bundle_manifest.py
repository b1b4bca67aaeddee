"""The manifest of a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from optkit.errors import ModelError
from optkit.formats import bundle_manifest
from optkit.formats.tensors import Signature, TensorSpec
from optkit.system import digests

SIGNATURE = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 3]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": None}],
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"weights")
    write(folder, digests={"model.onnx": digests.sha256(folder / "model.onnx")})
    return folder


def write(folder: Path, **changes: Any) -> None:
    path = folder / bundle_manifest.FILE_NAME
    body: dict[str, Any] = {
        "schema": "optkit.bundle/1",
        "target": "onnxruntime",
        "model": "model.onnx",
        "format": "onnx",
        "options": {"intra_op_num_threads": 1},
        "signature": SIGNATURE,
        "digests": {},
    }
    before = json.loads(path.read_text()) if path.exists() else body
    path.write_text(json.dumps(before | changes))


def test_a_bundle_reads_back_with_its_signature(bundle: Path) -> None:
    read = bundle_manifest.read(bundle)
    assert (read.target, read.model, read.options) == ("onnxruntime", "model.onnx", {"intra_op_num_threads": 1})
    assert bundle_manifest.signature(read.signature) == Signature(
        (TensorSpec("x", "float32", ("batch", 3)),), (TensorSpec("y", "float32", None),)
    )


def test_the_record_reads_back_equal(bundle: Path) -> None:
    read = bundle_manifest.read(bundle)
    assert bundle_manifest.Manifest.model_validate_json(read.to_json()) == read


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"a folder without manifest.json is not a bundle"):
        bundle_manifest.read(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "optkit.bundle/1"}', "\0"])
def test_a_broken_manifest_is_one_line(bundle: Path, text: str) -> None:
    (bundle / bundle_manifest.FILE_NAME).write_text(text)
    with pytest.raises(ModelError, match=r"manifest.json: ") as error:
        bundle_manifest.read(bundle)
    assert "\n" not in error.value.message


def test_another_schema_is_refused_by_name(bundle: Path) -> None:
    write(bundle, schema="optkit.bundle/9")
    with pytest.raises(ModelError, match=r"schema should be 'optkit.bundle/1', not 'optkit.bundle/9'"):
        bundle_manifest.read(bundle)


def test_an_unknown_key_is_refused_by_name(bundle: Path) -> None:
    write(bundle, surprise=1)
    with pytest.raises(ModelError, match="surprise"):
        bundle_manifest.read(bundle)


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/hostname", "a/../../outside.onnx"])
def test_a_path_that_leaves_the_bundle_is_refused(bundle: Path, name: str) -> None:
    (bundle.parent / "outside.onnx").write_bytes(b"x")
    write(bundle, model=name, digests={name: "0"})
    with pytest.raises(ModelError, match="leaves the bundle"):
        bundle_manifest.read(bundle)


def test_a_link_that_leaves_the_bundle_is_refused(bundle: Path) -> None:
    outside = bundle.parent / "outside.onnx"
    outside.write_bytes(b"x")
    (bundle / "link.onnx").symlink_to(outside)
    write(bundle, model="link.onnx", digests={"link.onnx": digests.sha256(outside)})
    with pytest.raises(ModelError, match="leaves the bundle"):
        bundle_manifest.read(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    with pytest.raises(ModelError, match=r"model.onnx: .*missing"):
        bundle_manifest.read(bundle)


def test_a_changed_file_is_named(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"other weights")
    with pytest.raises(ModelError, match=r"model.onnx: changed"):
        bundle_manifest.read(bundle)


def test_a_model_without_digest_is_refused(bundle: Path) -> None:
    write(bundle, digests={})
    with pytest.raises(ModelError, match="not listed"):
        bundle_manifest.read(bundle)
