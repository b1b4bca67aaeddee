"""How a session puts an engine to work: an engine that copies its input, a CUDA runtime in the host's memory."""

import numpy as np
import pytest
from cuda_runtime import Runtime

from optkit.errors import TargetError
from optkit.formats.tensors import Signature, TensorSpec
from optkit.targets import cuda
from optkit.targets.tensorrt.session import TensorRtSession


class Context:
    """Of an engine whose output is its input; a dimension that nobody set is -1."""

    def __init__(self, device):
        self.device, self.shape, self.addresses, self.broken = device, (-1, 4), {}, False

    def get_tensor_shape(self, name):
        return self.shape

    def set_input_shape(self, name, shape):
        if shape[0] > 5:
            return False
        self.shape = shape
        return True

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        if not self.broken:
            size = 4 * int(np.prod(self.shape))
            self.device.cudaMemcpyAsync(self.addresses["y"], self.addresses["x"], size, None, stream)
        return not self.broken


class Copying:
    """What ``trtsession.Engine`` is, without TensorRT."""

    device_memory_size_v2 = 16

    def __init__(self, device):
        self.handle, self.device, self.contexts = self, device, []

    def create_execution_context(self):
        self.contexts.append(Context(self.device))
        return self.contexts[-1]

    def names(self, mode):
        return {"INPUT": ["x"], "OUTPUT": ["y"]}[mode]

    def dtype(self, name):
        return np.dtype(np.float32)

    def signature(self):
        return Signature((TensorSpec("x", "float32", ("x_0", 4)),), (TensorSpec("y", "float32", ("y_0", 4)),))

    def sizes(self, name):
        return "it was built for [1, 4] to [5, 4]"

    def reason(self):
        return "as the library words it"


@pytest.fixture
def device(monkeypatch):
    found = Runtime()
    monkeypatch.setattr(cuda, "_library", lambda: found)
    return found


def session(device, **options):
    return TensorRtSession(Copying(device), None, {"cuda_graph": False, "copies": True} | options)


def feed(rows, start=0):
    return {"x": np.arange(start, start + 4 * rows, dtype=np.float32).reshape(rows, 4)}


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_feeds_of_changing_shapes_come_back_and_all_memory_is_freed(device, cuda_graph):
    with session(device, cuda_graph=cuda_graph) as opened:
        for rows, start in ((2, 0), (5, 7), (2, 3), (2, 9), (1, 1)):
            given = feed(rows, start)
            np.testing.assert_array_equal(opened.run(given)["y"], given["x"])
    assert device.alive == []


def test_outputs_are_the_callers_own(device):
    with session(device) as opened:
        first = opened.run(feed(2))["y"]
        opened.run(feed(2, 100))
        np.testing.assert_array_equal(first, feed(2)["x"])


def test_a_graph_is_kept_for_a_shape_and_dropped_with_it(device):
    with session(device, cuda_graph=True) as opened:
        opened.run(feed(2))
        kept = opened._graph
        opened.run(feed(2, 5))
        assert opened._graph is kept
        opened.run(feed(3))
        assert opened._graph is not kept


def test_siblings_share_the_engine_and_nothing_else(device):
    with session(device) as opened, opened.sibling() as other:
        first, second = opened.prepared(feed(2)), other.prepared(feed(3, 50))
        assert opened._engine is other._engine
        second()
        np.testing.assert_array_equal(first()["y"], feed(2)["x"])
    assert device.alive == []


@pytest.mark.parametrize(("copies", "counted"), [(True, None), (False, 1)])
def test_without_copies_the_device_times_what_it_computes(device, copies, counted):
    with session(device, copies=copies) as opened:
        seconds = opened.timed(feed(2))()
    # the runtime's clock goes a millisecond a copy: there, back, and the one in which the engine's work consists
    assert seconds == pytest.approx(counted / 1000) if counted else 0 < seconds < 1


def test_an_engine_that_fails_is_one_line(device):
    with session(device) as opened:
        opened._context.broken = True
        with pytest.raises(TargetError, match="failed to run the model: as the library words it"):
            opened.run(feed(1))


def test_a_shape_beyond_the_profile_is_one_line(device):
    with session(device) as opened:
        opened.run(feed(4))
        with pytest.raises(TargetError, match=r"does not take 'x' of shape \[8, 4\]: it was built for \[1, 4\] to"):
            opened.run(feed(8))


def test_arrays_come_in_the_engines_types_and_go_in_the_models(device):
    shapes = (TensorSpec("x", "float64", ("n", 4)),), (TensorSpec("y", "float64", ("n", 4)),)
    with TensorRtSession(Copying(device), Signature(*shapes), {"cuda_graph": False, "copies": True}) as opened:
        found = opened.run({"x": feed(2)["x"].astype(np.float64)})["y"]
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, feed(2)["x"])


def test_memory_is_the_devices(device):
    with session(device) as opened:
        opened.run(feed(2))
        assert opened.peak_memory_bytes() == 2 * 32 + 16
