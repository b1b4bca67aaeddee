"""On a real NVIDIA GPU: ``nox -s gpu``. Where there is none, these are skipped with the reason."""

import numpy as np
import onnxruntime
import pytest

import optkit as package
from optkit.errors import OptkitError, TargetError
from optkit.formats import opening
from optkit.formats.model import Model
from optkit.formats.tensors import Signature, TensorSpec
from optkit.measurement import loadgen
from optkit.targets import cuda
from optkit.targets.onnxruntime import providers
from optkit.targets.target import target
from optkit.targets.tensorrt import bindings
from optkit.targets.torch import session as torch_session

pytestmark = pytest.mark.gpu
RANDOM = np.random.default_rng(0)
FEED = {"x": RANDOM.standard_normal((8, 3, 32, 32)).astype(np.float32)}
LARGE = 64 << 20
cuda_build = pytest.mark.skipif(
    providers.CUDA not in onnxruntime.get_available_providers(), reason="needs onnxruntime-gpu"
)


@pytest.fixture
def runtime():
    if reason := cuda.available():
        pytest.skip(reason)


@pytest.fixture
def net(tmp_path):
    """A small convolutional net as an exported program, where torch has a GPU."""
    torch = pytest.importorskip("torch")
    try:
        torch_session.require_gpu()
    except OptkitError as error:
        pytest.skip(error.message)
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(16 * 32 * 32, 10)
    ).eval()
    program = torch.export.export(module, (torch.ones(8, 3, 32, 32),))
    torch.export.save(program, tmp_path / "net.pt2")
    shape = TensorSpec("x", "float32", (8, 3, 32, 32))
    signature = Signature((shape,), (TensorSpec("y", "float32", (8, 10)),))
    return Model(tmp_path / "net.pt2", "exported-program", "", signature)


def session(model, device, **options):
    runtime = target("torch")
    return runtime.open(model, runtime.default_options(threads=1) | runtime.device_options(device) | options)


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("cuda_graph", [False, True])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.filterwarnings("ignore"))])
def test_torch_computes_on_the_gpu_what_it_computes_on_the_cpu(net, compiled, cuda_graph, copies):
    with session(net, "cpu") as opened:
        expected = opened.run(FEED)["y"]
    with session(net, "cuda", compile=compiled, cuda_graph=cuda_graph, copies=copies) as opened:
        found, other, again = opened.run(FEED)["y"], opened.run({"x": -FEED["x"]})["y"], opened.run(FEED)["y"]
        assert opened.facts()["gpu"]
        assert opened.facts()["allow_tf32"] is False
        assert opened.peak_memory_bytes() > FEED["x"].nbytes
        assert min(loadgen.one_by_one(opened, [FEED], 3)) > 0
        assert loadgen.closed_loop([opened, opened.sibling()], [FEED], 10) > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found, again)
    assert np.abs(other - found).max() > 1e-3


def test_tf32_is_on_where_it_is_asked_for(net):
    with session(net, "cuda", allow_tf32=True) as opened:
        assert opened.facts()["allow_tf32"] is True


def test_an_inference_without_copies_takes_no_longer_than_one_with_them(net):
    medians = []
    for copies in (True, False):
        with session(net, "cuda", copies=copies, cuda_graph=True) as opened:
            medians.append(np.median(loadgen.one_by_one(opened, [FEED], 200)[100:]))
    assert medians[1] < medians[0]


def test_a_shape_that_does_not_fit_is_one_line(net):
    with session(net, "cuda") as opened, pytest.raises(OptkitError, match="torch failed to run") as caught:
        opened.run({"x": np.zeros((8, 4, 32, 32), np.float32)})
    assert "\n" not in caught.value.message


def test_bytes_come_back_from_the_device(runtime):
    array = RANDOM.integers(0, 255, 100_000).astype(np.uint8)
    back = np.zeros_like(array)
    with cuda.Stream() as stream, cuda.Buffer(array.nbytes) as buffer, cuda.Pinned(array.nbytes) as pinned:
        buffer.copy_from(array, stream)
        buffer.copy_to(pinned.bytes, stream)
        buffer.copy_to(back, stream)
        stream.synchronize()
        np.testing.assert_array_equal(pinned.bytes, array)
        np.testing.assert_array_equal(back, array)
    major, minor = cuda.compute_capability().split(".")
    assert int(major) >= 5
    assert int(minor) >= 0


def test_events_agree_with_the_hosts_clock(runtime):
    from time import perf_counter

    with cuda.Stream() as stream, cuda.Buffer(LARGE) as buffer, cuda.Pinned(LARGE) as pinned, cuda.Timer() as timer:
        buffer.copy_from(pinned.bytes, stream)
        stream.synchronize()
        start = perf_counter()
        timer.start(stream)
        for _ in range(20):
            buffer.copy_from(pinned.bytes, stream)
        timer.stop(stream)
        stream.synchronize()
        elapsed = perf_counter() - start
        assert 0.5 * elapsed < timer.seconds() <= 1.01 * elapsed


def test_a_graph_of_copies_is_launched_as_one(runtime):
    size = 1000
    with cuda.Stream() as stream, cuda.Buffer(size) as buffer, cuda.Pinned(size) as there, cuda.Pinned(size) as back:

        def both_ways():
            buffer.copy_from(there.bytes, stream)
            buffer.copy_to(back.bytes, stream)

        there.bytes[:], back.bytes[:] = 1, 0
        with cuda.CudaGraph(both_ways, stream) as graph:
            assert back.bytes.max() == 0
            for value in (5, 7):
                there.bytes[:] = value
                graph.launch(stream)
                stream.synchronize()
                assert (back.bytes == value).all()


def test_more_memory_than_there_is_is_one_line(runtime):
    with pytest.raises(OptkitError, match="out of memory on the GPU") as caught:
        cuda.Buffer(1 << 50)
    assert "cudaErrorMemoryAllocation" in caught.value.message


@cuda_build
def test_onnxruntime_computes_on_cuda_what_it_computes_on_the_cpu(runtime, samples):
    opened, images = opening.open(samples / "model.onnx"), np.load(samples / "evaluation.npz")["x"][:64]
    onnx_runtime = target("onnxruntime")
    with onnx_runtime.open(opened, onnx_runtime.default_options()) as running:
        expected = running.run({"x": images})["logits"]
    with onnx_runtime.open(opened, onnx_runtime.default_options() | onnx_runtime.device_options("cuda")) as running:
        facts, found = running.facts(), running.run({"x": images})["logits"]
    assert facts["providers"][0] == providers.CUDA
    assert facts["nodes"][providers.CUDA] > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@cuda_build
def test_onnxruntime_without_a_gpu_does_not_fall_back(optkit, samples):
    """Runs on any machine: no GPU is visible to the command."""
    done = optkit("benchmark", samples / "model.onnx", "--device", "cuda", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 4
    assert done.stderr.startswith(f"error: {providers.CUDA} does not ")
    assert "hint: " in done.stderr


@pytest.fixture(scope="module")
def engines(samples, tmp_path_factory):
    """The committed CNN in each precision as an engine for the GPU that is there."""
    if reason := target("tensorrt").absence():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("engines")
    data, found = samples / "evaluation.npz", {"float32": samples / "model.onnx"}
    for name in ("fp16", "bf16", "int8", "int8-fp16", "fp8-fp16"):
        precision, _, floats = name.partition("-")
        if precision == "fp8" and tuple(map(int, cuda.compute_capability().split("."))) < (8, 9):
            continue
        found[name] = folder / f"{name}.onnx"
        package.quantize(
            samples / "model.onnx", found[name], precision=precision, floats=floats or "float32", target="tensorrt",
            data=data,
        )  # fmt: skip
    for precision, path in found.items():
        package.compile(path, folder / precision, target="tensorrt", shapes=["batch=1/8/64"])
    return folder


@pytest.mark.parametrize(
    ("precision", "share"),
    [("float32", 1e-4), ("fp16", 1e-2), ("bf16", 5e-2), ("int8", 2e-1), ("int8-fp16", 2e-1), ("fp8-fp16", 2e-1)],
)
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_an_engine_computes_what_the_cpu_does(samples, engines, precision, share, cuda_graph):
    images = np.load(samples / "evaluation.npz")["x"][:64].astype(np.float32)
    with package.load(samples / "model.onnx") as opened:
        expected = opened.run({"x": images})["logits"]
    if not (engines / precision).exists():
        pytest.skip(f"compute capability {cuda.compute_capability()} has no {precision}")
    opened = opening.open(engines / precision)
    with target("tensorrt").open(opened, opened.options | {"cuda_graph": cuda_graph}) as running:
        for count in (64, 8, 64):  # other shapes between, as in a server
            found = running.run({"x": images[:count]})["logits"]
            error = np.linalg.norm(found - expected[:count]) / np.linalg.norm(expected[:count])
            assert error < share
        assert running.facts()["gpu"]


def test_an_engine_without_copies_takes_no_longer(samples, engines):
    images = np.load(samples / "evaluation.npz")["x"][:64].astype(np.float32)
    opened, medians = opening.open(engines / "fp16"), []
    for copies in (True, False):
        with target("tensorrt").open(opened, opened.options | {"copies": copies}) as running:
            medians.append(np.median(loadgen.one_by_one(running, [{"x": images}], 200)[100:]))
    assert medians[1] < medians[0]


def test_an_engine_for_another_gpu_is_one_line(samples, tmp_path):
    if reason := target("tensorrt").absence():
        pytest.skip(reason)
    if not bindings.is_rtx():
        pytest.skip("TensorRT builds for the GPU that is there")
    other = "12.0" if cuda.compute_capability() != "12.0" else "8.9"
    package.compile(samples / "model.onnx", tmp_path / "bundle", target="tensorrt", compute_capability=[other])
    with pytest.raises(TargetError, match="does not load model"):
        package.load(tmp_path / "bundle")
