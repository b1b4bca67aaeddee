"""A bundle as it is written: it holds all that it needs, runs as the model did, and is refused once it is changed."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnx_files
import pytest
from onnx import helper

import optkit as package
from optkit import lazy
from optkit.deployment import bundle
from optkit.errors import ModelError, OutputError, SignatureError, UsageError
from optkit.formats import bundle_manifest, opening
from optkit.targets.table import TARGETS
from optkit.targets.target import target

FEED = {"x": np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)}
WEIGHTS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def model(tmp_path):
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    shapes = {"x": ["batch", 4]}, {"y": ["batch", 3]}
    return opening.open(onnx_files.save(tmp_path / "model.onnx", [node], *shapes, {"w": WEIGHTS}))


@pytest.fixture
def written(model, tmp_path):
    """A bundle for the default target."""
    compiled = replace(model, target="onnxruntime", options=target("onnxruntime").default_options(threads=1))
    bundle.write(tmp_path / "bundle", compiled, stages=[])
    return tmp_path / "bundle"


@pytest.mark.parametrize("name", [name for name in TARGETS if target(name).deploys])
def test_it_runs_on_every_target_that_compiles(name, model, tmp_path):
    runtime = target(name)
    if not all(map(lazy.available, runtime.modules[:1])) or runtime.absence():
        pytest.skip(f"{name} does not run here")
    compiled = runtime.compile(model, runtime.default_options(threads=1), tmp_path)
    source = replace(opening.open(compiled.path), signature=model.signature, target=name, options=compiled.options)
    opened = bundle.write(tmp_path / "bundle", source, stages=[])
    assert (opened.target, opened.options, opened.signature) == (name, compiled.options, model.signature)
    with package.load(tmp_path / "bundle") as session, runtime.open(source, source.options) as before:
        np.testing.assert_array_equal(session.run(FEED)["y"], before.run(FEED)["y"])


def test_it_may_be_moved_and_needs_nothing_else(written, model, tmp_path):
    model.path.unlink()
    moved = shutil.move(written, tmp_path / "elsewhere")
    with package.load(moved) as session:
        np.testing.assert_allclose(session.run(FEED)["y"], FEED["x"] @ WEIGHTS, rtol=1e-5)
        with pytest.raises(SignatureError, match="x"):
            session.run({"x": np.ones((2, 5), np.float32)})


def test_its_manifest_lists_every_file(written):
    manifest = bundle_manifest.read(written)
    files = {path.relative_to(written).as_posix() for path in written.rglob("*") if path.is_file()}
    assert files == {*manifest.digests, bundle_manifest.FILE_NAME}
    assert manifest.made_by.versions["onnxruntime"]


def test_a_changed_file_is_refused_by_its_digest(written):
    path = written / bundle_manifest.read(written).model
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ModelError, match="its digest differs") as caught:
        package.load(written)
    assert "optkit compile" in caught.value.hint


def test_a_file_outside_is_refused(written, model):
    manifest = json.loads((written / "manifest.json").read_text())
    manifest["digests"]["../model.onnx"] = model.digest
    (written / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="leaves the bundle"):
        package.load(written)


def test_it_replaces_nothing_unasked_and_needs_a_target(written, model):
    before = (written / "manifest.json").read_bytes()
    compiled = replace(model, target="fake")
    with pytest.raises(OutputError, match="exists already"):
        bundle.write(written, compiled, stages=[])
    assert (written / "manifest.json").read_bytes() == before
    bundle.write(written, compiled, stages=[], force=True)
    assert bundle_manifest.read(written).target == "fake"
    with pytest.raises(UsageError, match="compiled for no target"):
        bundle.write(written, model, stages=[], force=True)
