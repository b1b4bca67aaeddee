"""OpenVINO: ONNX models and its own IR, on its devices."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.errors import TargetError
from optkit.formats.model import Model
from optkit.formats.openvino import stable_names
from optkit.formats.openvino.reading import openvino_library
from optkit.formats.operators import Operator, Profile, family, plain
from optkit.formats.tensors import Arrays, Signature, TensorSpec
from optkit.lazy import Library
from optkit.progress import Progress, no_progress
from optkit.system.cgroup import cores_allowed
from optkit.system.native import foreign
from optkit.targets.openvino.compiled import Forms
from optkit.targets.precisions import Maker, Precisions
from optkit.targets.target import Compiled, Session, Target, in_turn

if TYPE_CHECKING:
    from optkit.notes import Note
    from optkit.records.machine import LibraryRecord, Machine

_WARM_UP = 0.3
"""Share of the time for a profile in which nothing counts."""
_MICRO = 1e-6
_EDGES = ("Input", "Output", "Const", "Constant", "Parameter", "Result")
"""Types of layers that do no work."""
_DTYPES = {
    "f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "boolean": "bool", "string": "string",
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
}  # fmt: skip


class OpenVino(Target):
    """ONNX models and IR, on CPUs."""

    name = "openvino"
    formats = ("onnx", "openvino")
    options_model = "optkit.targets.openvino.options:OpenVinoOptions"
    thread_options = ("INFERENCE_NUM_THREADS",)
    modules = ("openvino",)
    extra = "openvino"
    libraries = (Library("openvino", "openvino"), Library("nncf", "openvino"))
    tells_operators = True
    zeros = "openvino skips zeros only in INT8 weights on AMX, with CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE"
    search_priority = 1
    precisions = Precisions(
        makers={
            "int8": (Maker("nncf", "static"), Maker("nncf", "weight-only")),
            "int4": (Maker("nncf", "weight-only"),),
            "fp16": (Maker("openvino", "convert"),),
            "bf16": (Maker("openvino", "convert"),),
        },
        engines=("onnxruntime", "neural-compressor"),
        suffix=".xml",
        quantization_aware=True,
        rounds_between=True,
    )

    def version(self) -> str:
        return str(openvino_library().__version__).partition("-")[0]

    def default_options(self, *, threads: int | None = None) -> dict[str, Any]:
        return {
            "device": "CPU",
            # Left alone, OpenVINO computes in bf16 wherever the CPU can. Integer operators are not touched by this.
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            # Pinned threads of two processes would meet on the same cores.
            "ENABLE_CPU_PINNING": False,
            # Where weights alone are int8 or int4, activations are quantized on the fly in groups of this size.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 32,
        } | self.parallel_options(threads=threads or max(1, int(cores_allowed())))

    def advice(self, here: Machine, found: LibraryRecord) -> Iterator[Note]:
        """Yield a note where OpenVINO would choose bf16."""
        from optkit.notes import Note
        from optkit.system import fingerprint

        if found.error is None and fingerprint.computes_bf16(here.isa):
            text = "this CPU has bf16, and OpenVINO chooses it by itself; optkit sets the precision that it measured"
            yield Note(text=text, where=self.name)

    def parallel_options(self, *, threads: int, sessions: int = 1) -> dict[str, Any]:
        """Return a stream for each session; the threads are divided among them."""
        return {"INFERENCE_NUM_THREADS": threads * sessions, "NUM_STREAMS": sessions}

    def device_options(self, device: str) -> dict[str, Any]:
        return super().device_options(device) | {"device": "CPU"}

    def variants(self) -> dict[str, dict[str, Any]]:
        return {"denormals as zero": {"CPU_DENORMALS_OPTIMIZATION": True}}

    def half_options(self) -> dict[str, Any]:
        from optkit.system import fingerprint  # a child process, which runs this module too, starts faster without

        return {"INFERENCE_PRECISION_HINT": "bf16"} if fingerprint.computes_bf16() else {}

    def static_options(self, shapes: dict[str, list[int]]) -> dict[str, Any]:
        return {"static_shapes": shapes}

    def compile(
        self, model: Model, options: dict[str, Any], workdir: Path, progress: Progress = no_progress
    ) -> Compiled:
        forms = Forms(model.path, options)
        notes = _notes(forms.core, options)
        try:
            forms.first()
        except TargetError as error:
            forms.general()
            options = {key: value for key, value in options.items() if key != "static_shapes"}
            notes += (f"not compiled for static shapes: {error.message}",)
        path = workdir / "model.xml"
        stable_names.save(forms.graph, path)
        return Compiled(path, "openvino", options, notes)

    def open(self, model: Model, options: dict[str, Any]) -> Session:
        return OpenVinoSession(Forms(model.path, options), model.signature)

    def profile(self, model: Model, options: dict[str, Any], feeds: Sequence[Arrays], seconds: float) -> Profile:
        """Read the plugin's counters, which are means over all inferences so far, less those of warming up."""
        forms = Forms(model.path, options | {"PERF_COUNT": True})
        layers = _layers(forms.graph)
        compiled = forms.fitting(feeds[0])
        session = OpenVinoSession(forms, model.signature)
        with session.explaining():
            calls = [session.prepared(feed) for feed in feeds]
            warm_up = in_turn(calls, _WARM_UP * seconds)
            before = {each.name: each.seconds * warm_up for each in _executed(compiled, layers)}
            start = time.perf_counter()
            count = in_turn(calls, seconds - _WARM_UP * seconds, fewest=2)
            elapsed = time.perf_counter() - start
            found = _executed(compiled, layers)
        totals = [each.seconds * (warm_up + count) - before.get(each.name, 0.0) for each in found]
        timed = [replace(each, seconds=max(0.0, total) / count) for each, total in zip(found, totals, strict=True)]
        return Profile(tuple(timed), count, elapsed / count)

    def warnings(self, options: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield a warning where OpenVINO chose bf16 unasked."""
        if facts.get("precision") == "bf16" and options.get("INFERENCE_PRECISION_HINT") != "bf16":
            yield (
                "bf16",
                f"{self.name} chose bf16 by itself: optkit compile --option INFERENCE_PRECISION_HINT=f32 says what "
                "you want",
            )


class OpenVinoSession(Session):
    """A compiled model with one inference request for each form of it that is used."""

    def __init__(self, forms: Forms, signature: Signature | None) -> None:
        self._forms: Any = forms
        self._requests: dict[int, Any] = {}
        graph = forms.graph
        self.signature = signature or Signature(_specs(graph.inputs), _specs(graph.outputs))
        self._outputs = _names(graph.outputs, self.signature.outputs)
        self._request(forms.first())

    def run(self, feed: Arrays) -> Arrays:
        with self.explaining():
            arrays: Any = self.prepared(feed)()
        return dict(zip(self._outputs, arrays.to_tuple(), strict=True))

    def prepared(self, feed: Arrays) -> Callable[[], object]:
        # Inputs are shared as onnxruntime shares them; outputs are copied, so that the next run leaves them alone.
        request = self._request(self._forms.fitting(feed))
        return partial(request.infer, feed, share_inputs=True, share_outputs=False)

    def _request(self, compiled: Any) -> Any:
        if id(compiled) not in self._requests:
            self._requests[id(compiled)] = compiled.create_infer_request()
        return self._requests[id(compiled)]

    def explaining(self) -> AbstractContextManager[None]:
        return foreign("openvino failed to run the model", TargetError)

    def sibling(self) -> Session:
        _load_numpy_bindings()
        return OpenVinoSession(self._forms, self.signature)

    def facts(self) -> dict[str, Any]:
        compiled = self._forms.first()
        return {
            "version": str(openvino_library().__version__).partition("-")[0],
            "devices": list(compiled.get_property("EXECUTION_DEVICES")),
            "precision": str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string()),
            "operators_by_precision": _precisions(compiled.get_runtime_model()),
            "threads": int(compiled.get_property("INFERENCE_NUM_THREADS")),
        }

    def close(self) -> None:
        self._requests.clear()
        self._forms = None


@cache
def _load_numpy_bindings() -> None:
    """Have OpenVINO's Python bindings look numpy up now: two threads that both come first wait for each other for good.

    One holds the guard of a C++ static and wants the interpreter's lock, the other the reverse; in one of thirty runs
    (OpenVINO 2026.4) beside other work.
    """
    openvino_library().Tensor(np.zeros(1, np.float32), shared_memory=True)


def _notes(core: Any, options: dict[str, Any]) -> tuple[str, ...]:
    """Return notes on choices that OpenVINO by itself would make otherwise."""
    silent = str(core.get_property(options["device"], "INFERENCE_PRECISION_HINT").to_string())
    chosen = options.get("INFERENCE_PRECISION_HINT", silent)
    if chosen == silent:
        return ()
    return (f"float operators run in {chosen}; OpenVINO's own default on this machine is {silent}",)


def _names(ports: Any, wanted: tuple[TensorSpec, ...]) -> list[str]:
    """Return model's own output names, in the order of ``ports``: one of a port's names, else the one in its place."""
    names = [spec.name for spec in wanted]
    fallback = names if len(names) == len(ports) else [_name(port, index) for index, port in enumerate(ports)]
    return [next((n for n in names if n in port.get_names()), fallback[index]) for index, port in enumerate(ports)]


def _name(port: Any, index: int) -> str:
    return min(port.get_names(), default=f"output_{index}")


def _specs(ports: Any) -> tuple[TensorSpec, ...]:
    return tuple(_spec(port, _name(port, index)) for index, port in enumerate(ports))


def _spec(port: Any, name: str) -> TensorSpec:
    kind = port.get_element_type().to_string()
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return TensorSpec(name, _DTYPES.get(kind, kind), None)
    # OpenVINO forgets the names of dynamic dimensions; a first one is the batch, by far the most common case.
    dims = [
        (("batch" if axis == 0 else f"{name}_{axis}") if dim.is_dynamic else dim.get_length())
        for axis, dim in enumerate(shape)
    ]
    return TensorSpec(name, _DTYPES.get(kind, kind), tuple(dims))


def _precisions(graph: Any) -> dict[str, int]:
    """Return the number of executed operators by precision."""
    executed = (op.rt_info for op in graph.get_ops())
    computing = (info for info in executed if str(_value(info["layerType"])) not in _EDGES)
    return dict(Counter(str(_value(info["runtimePrecision"])) for info in computing))


def _layers(graph: Any) -> dict[str, tuple[str, ...]]:
    """Return tensors of each operator of the model by its plain name; operators that OpenVINO numbered have no name."""
    found: dict[str, tuple[str, ...]] = {}
    for node in graph.get_ops():
        if node.get_friendly_name() != node.get_name() and node.get_type_name() not in _EDGES:
            name = plain(str(node.get_friendly_name()))
            tensors = (str(tensor) for port in node.outputs() for tensor in port.get_names())
            found[name] = (*found.get(name, ()), *tensors)
    return found


def _executed(compiled: Any, layers: dict[str, tuple[str, ...]]) -> list[Operator]:
    """Return the operators as executed, with their mean seconds so far.

    OpenVINO calls an operator of less than a microsecond not executed, like one that was computed beforehand; the
    latter is no layer of the model.
    """
    nodes = [(node, _facts(node)) for node in compiled.get_runtime_model().get_ordered_ops()]
    found = [(_operator(node, facts, layers), facts) for node, facts in nodes if facts["layerType"] not in _EDGES]
    return [each for each, facts in found if each.layers or _microseconds(facts) is not None]


def _microseconds(facts: dict[str, str]) -> int | None:
    taken = facts.get("execTimeMcs", "")
    return int(taken) if taken.isdigit() else None


def _operator(node: Any, facts: dict[str, str], layers: dict[str, tuple[str, ...]]) -> Operator:
    sources = [port.get_source_output().get_node() for port in node.inputs()]
    carried: dict[str, str] = {}
    for name in (*facts.get("originalLayersNames", "").split(","), str(node.get_friendly_name())):
        if plain(name) in layers:
            carried.setdefault(plain(name), name)
    return Operator(
        name=str(node.get_friendly_name()),
        kind=facts["layerType"],
        seconds=_MICRO * (_microseconds(facts) or 0),
        precision=_precision(node, facts),
        kernel=facts.get("primitiveType", ""),
        layers=tuple(carried.values()),
        tensors=tuple(tensor for name in carried for tensor in layers[name]),
        sources=tuple(str(source.get_friendly_name()) for source in sources),
    )


def _facts(node: Any) -> dict[str, str]:
    return {key: str(_value(node.rt_info[key])) for key in node.rt_info}


def _precision(node: Any, facts: dict[str, str]) -> str:
    if family(facts["layerType"]) == "conversion" and node.get_input_size():
        types = [port.get_element_type().to_string() for port in (node.input(0), node.output(0))]
        given, made = (_arithmetic(kind) for kind in types)
        return given if given == made else f"{given} to {made}"
    return _arithmetic(facts.get("runtimePrecision", "unknown"))


def _arithmetic(kind: str) -> str:
    return "int8" if kind in ("i8", "u8") else _DTYPES.get(kind, kind)


def _value(info: Any) -> Any:
    return info.value if hasattr(info, "value") else info
