"""The contract of a quantizer, over the table: a new method of an engine is tested by its line there."""

import typing

import numpy as np
import onnx_files
import pytest
from onnx import helper

from optkit.data.dataset import open_dataset
from optkit.errors import MissingLibraryError, UsageError
from optkit.formats import opening
from optkit.options.verbs.quantize import Calibrate, EngineName, Method, Precision, QuantizeOptions
from optkit.quantization.quantizer import QUANTIZERS, Quantizer, Request, quantizer
from optkit.targets.table import TARGETS
from optkit.targets.target import target

MAKERS = [
    (precision, maker)
    for each in map(target, TARGETS)
    for precision, makers in each.precisions.makers.items()
    for maker in makers
]
"""The quantizers that targets ask for, by precision."""
ENGINES = {*typing.get_args(EngineName), *(maker.engine for _, maker in MAKERS)} - {"auto"}
METHODS = {*typing.get_args(Method), "convert", "float8"} - {"auto", "qat"}
"""Methods that a user names, and those that a precision names."""
BITS = {"int4": 4, "int8": 8, "fp8": 8, "fp16": 16}
OF_TORCH = {"neural-compressor"}
"""Engines that take a module of PyTorch; slow, and so run by tests of their own."""
RANDOM = np.random.default_rng(3)


def split(key):
    """Engine and method of a key of the table."""
    (engine,) = [each for each in ENGINES if key.startswith(f"{each}-")]
    return engine, key.removeprefix(f"{engine}-")


def asked(key):
    """The precisions that some target asks this maker for."""
    return {precision for precision, maker in MAKERS if maker.key == key}


@pytest.fixture(params=QUANTIZERS)
def key(request):
    return request.param


@pytest.fixture
def request_of(tmp_path):
    """Build a Request for a small model with Conv and MatMul, calibrated on eight samples."""
    weights = {
        "w": RANDOM.standard_normal((8, 2, 3, 3)).astype(np.float32),
        "v": RANDOM.standard_normal((288, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Flatten", ["r"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "v"], ["y"], "product"),
    ]
    path = onnx_files.save(tmp_path / "model.onnx", nodes, {"x": ["batch", 2, 8, 8]}, {"y": ["batch", 4]}, weights)
    np.savez(tmp_path / "data.npz", x=RANDOM.standard_normal((8, 2, 8, 8)).astype(np.float32))
    model, workdir = opening.open(path), tmp_path / "workdir"
    workdir.mkdir()
    data = open_dataset(tmp_path / "data.npz", model.signature.inputs)

    def make(key):
        precision = min(asked(key) or {"int8"}, key=lambda name: -BITS.get(name, 0))
        floats = "fp16" if precision == "fp16" else "float32"
        return Request(model, workdir, BITS[precision], data, QuantizeOptions(precision=precision, floats=floats))

    return make


def test_its_key_is_an_engine_and_a_method(key):
    engine, method = split(key)
    assert method in METHODS
    assert quantizer(engine, method) is quantizer(engine, method)
    assert isinstance(quantizer(engine, method), Quantizer)
    with pytest.raises(UsageError, match="unknown engine and method"):
        quantizer(engine, "guess")


def test_it_declares_calibrations_and_options_that_exist(key):
    found = quantizer(*split(key))
    assert set(found.calibrations) <= set(typing.get_args(Calibrate))
    assert not found.calibrations or "minmax" in found.calibrations  # the default
    assert found.options <= set(QuantizeOptions.model_fields)


def test_a_user_can_come_to_it(key):
    engine, method = split(key)
    by_name = engine in typing.get_args(EngineName) and method in typing.get_args(Method)
    allowed = any(engine in each.precisions.engines for each in map(target, TARGETS))
    assert asked(key) or (by_name and allowed)
    assert asked(key) <= set(typing.get_args(Precision))


def test_it_writes_below_the_workdir_only_and_the_result_opens(key, request_of, tmp_path, monkeypatch):
    if split(key)[0] in OF_TORCH:
        pytest.skip("takes a module")
    request = request_of(key)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    try:
        done = quantizer(*split(key))(request)
    except MissingLibraryError as error:
        pytest.skip(error.message)
    assert done.path.is_relative_to(request.workdir)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert not list(elsewhere.iterdir())
    result = opening.open(done.path)
    assert [spec.name for spec in result.signature.inputs] == ["x"]
    assert [spec.name for spec in result.signature.outputs] == ["y"]
    assert result.digest != request.model.digest
    assert all(note.text and "\n" not in note.text for note in done.notes)
