"""ONNX Runtime: ONNX models on its execution providers."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit import lazy
from optkit.errors import OptkitError, TargetError, UsageError
from optkit.formats.model import Model
from optkit.formats.operators import Profile
from optkit.formats.tensors import Array, Arrays, Signature, TensorSpec
from optkit.lazy import Library
from optkit.progress import Progress, no_progress
from optkit.system.cgroup import cores_allowed
from optkit.system.native import foreign
from optkit.targets.onnxruntime import providers
from optkit.targets.onnxruntime.trace import Trace
from optkit.targets.precisions import Maker, Precisions
from optkit.targets.target import Compiled, Session, Target, in_turn

if TYPE_CHECKING:
    from optkit.notes import Note
    from optkit.records.machine import LibraryRecord, Machine

_FATAL = 4
"""Log severity: every message worth reading comes as an exception as well."""
_PROTOBUF_LIMIT = 1_500_000_000
"""Bytes from which the optimized graph's weights go to a file of their own, safely below protobuf's 2 GB."""
_GROWTH = 1.1
"""The size of the optimized graph over its source's from which on it is not worth keeping."""
_WARM_UP = 0.3
"""Share of the time for a profile in which nothing counts."""
_PROBING = 0.1
"""Seconds to measure the cost of writing a trace."""
_MOST_EVENTS = 100_000
"""The most events of a trace: it lies in memory until it is written, and again when it is read."""
_DTYPES = {"float": "float32", "double": "float64"}


class OnnxRuntime(Target):
    """ONNX models, also with ONNX Runtime's own operators in them."""

    name = "onnxruntime"
    formats = ("onnx",)
    options_model = "optkit.targets.onnxruntime.options:OnnxRuntimeOptions"
    thread_options = ("intra_op_num_threads", "inter_op_num_threads")
    modules = ("onnxruntime",)
    libraries = (Library("onnxruntime"), Library("onnxruntime-gpu", replaces="onnxruntime"))
    tells_operators = True
    fused_operators = True
    zeros = "onnxruntime multiplies by zeros as by any number"
    precisions = Precisions(
        makers={
            "int8": tuple(Maker("onnxruntime", method) for method in ("dynamic", "static", "weight-only")),
            "int4": (Maker("onnxruntime", "weight-only"),),
            "fp16": (Maker("onnxruntime", "convert"),),
        },
        engines=("nncf", "neural-compressor"),
        refused={"bf16": "onnxruntime has no bf16 kernels on CPUs"},
        quantization_aware=True,
        rounds_outputs=True,
    )

    def version(self) -> str:
        return str(providers.library().__version__)

    def default_options(self, *, threads: int | None = None) -> dict[str, Any]:
        return {
            "providers": [providers.CPU],
            "graph_optimization_level": "ORT_ENABLE_ALL",
            "execution_mode": "ORT_SEQUENTIAL",
            "inter_op_num_threads": 1,
            # Threads may spin inside an inference, never between two: there they would steal a neighbour's core.
            "session_config": {"session.force_spinning_stop": "1"},
        } | self.parallel_options(threads=threads or max(1, int(cores_allowed())))

    def parts(self) -> Iterator[tuple[str, str | None, str | None]]:
        """Open a session on each provider of this build and of the installed plugins."""
        from optkit.targets.onnxruntime import trace

        with tempfile.TemporaryDirectory(prefix="optkit-probe-") as name:
            path, _ = trace.probe(Path(name) / "probe.onnx")
            for provider in providers.here():
                try:
                    _open(path, {"providers": [provider]})
                    yield provider, None, None
                except OptkitError as error:
                    yield provider, error.message, error.hint

    def advice(self, here: Machine, found: LibraryRecord) -> Iterator[Note]:
        """Yield a warning where both packages are installed."""
        from optkit.notes import Note

        installed = {each.name for each in here.libraries if each.version}
        if {each.name for each in self.libraries} <= installed:
            text = "onnxruntime and onnxruntime-gpu overwrite each other's files: uninstall both, install one"
            yield Note(text=text, where=self.name, level="warning")

    def parallel_options(self, *, threads: int, sessions: int = 1) -> dict[str, Any]:
        """Sessions that run at once share one pool, to which each brings the thread that calls it."""
        return {"intra_op_num_threads": sessions * (threads - 1) + 1}

    def device_options(self, device: str) -> dict[str, Any]:
        """On a GPU float32 stays float32: onnxruntime's own choice there is TF32."""
        if device == "cuda":
            return {"providers": [[providers.CUDA, {"use_tf32": "0"}]]}
        return super().device_options(device) | {"providers": [providers.CPU]}

    def variants(self) -> dict[str, dict[str, Any]]:
        config = self.default_options()["session_config"]
        entries = {
            "denormals as zero": {"session.set_denormal_as_zero": "1"},
            "no spinning": {"session.intra_op.allow_spinning": "0"},
            "no prepacking": {"session.disable_prepacking": "1"},
        }
        return {name: {"session_config": config | entry} for name, entry in entries.items()}

    def compile(
        self, model: Model, options: dict[str, Any], workdir: Path, progress: Progress = no_progress
    ) -> Compiled:
        """Save the graph as ONNX Runtime has fused it, up to the level that any machine can load.

        ORT_ENABLE_ALL would also write this CPU's blocked layouts into the file. So the file holds the extended level,
        which is then found done at load, and ``options`` keep the level asked for, which adds the layouts there.
        """
        first = next(iter(providers.parse(options["providers"])))
        if first != providers.CPU:
            _open(model.path, options)
            return self._copied(model, options, workdir, f"the graph is kept as it came: {first} fuses it at load")
        path = workdir / "model.onnx"
        _open(model.path, _saving(options, path, large=model.size_bytes > _PROTOBUF_LIMIT))
        if _bytes(workdir.iterdir()) > _GROWTH * model.size_bytes:
            for file in workdir.iterdir():
                file.unlink()
            note = "the graph is kept as it came: ONNX Runtime's optimized one is larger (weights folded to float32)"
            return self._copied(model, options, workdir, note)
        _open(path, options)
        note = "the graph is saved with fusions up to ORT_ENABLE_EXTENDED; the layouts of a CPU are chosen at load"
        return Compiled(path, "onnx", options, (note,))

    def _copied(self, model: Model, options: dict[str, Any], workdir: Path, note: str) -> Compiled:
        for file in model.files:
            copy = workdir / file.relative_to(model.path.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        return Compiled(workdir / model.path.name, "onnx", options, (note,))

    def open(self, model: Model, options: dict[str, Any]) -> Session:
        return OnnxRuntimeSession(_open(model.path, options), model.signature, options)

    def profile(self, model: Model, options: dict[str, Any], feeds: Sequence[Arrays], seconds: float) -> Profile:
        """Read the session's own trace, and the graph that it executes, to map operators to the file's nodes."""
        from optkit.formats.onnx import fusion_map, graph
        from optkit.targets.onnxruntime import trace

        on_gpu = [name for name in providers.parse(options["providers"]) if name in providers.ON_GPU]
        if on_gpu:
            raise UsageError(
                f"onnxruntime tells when {on_gpu[0]} was handed an operator, not how long that took",
                hint="time whole inferences: optkit benchmark",
            )
        source = graph.parse(model.path)
        most = max(2, _MOST_EVENTS // max(1, len(source.graph.node)))
        with tempfile.TemporaryDirectory(prefix="optkit-profile-") as name:
            probe, feed = trace.probe(Path(name) / "probe.onnx")
            unchanged = options | {"graph_optimization_level": "ORT_DISABLE_ALL"}
            watching = trace.watching(_traced(probe, [feed], unchanged, _PROBING, most))
            executed = Path(name) / "executed.onnx"
            writing = _written(options, executed, large=model.size_bytes > _PROTOBUF_LIMIT)
            traced = _traced(model.path, feeds, writing, seconds, most)
            covered = fusion_map.map_operators(source, graph.parse(executed))
        return trace.profile(traced, covered, watching)

    def warnings(self, options: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield a warning where the first provider left nodes to others."""
        given: dict[str, int] = facts.get("nodes", {})
        elsewhere = {name: count for name, count in given.items() if name != facts["providers"][0]}
        if elsewhere:
            told = " and ".join(f"{count} to {name}" for name, count in elsewhere.items())
            yield (
                "other-provider",
                f"{facts['providers'][0]} left {told}, of {sum(given.values())} nodes: copies to and fro take time",
            )

    def expected_kernel(self, options: Mapping[str, Any]) -> str | None:
        """Return the first provider asked for."""
        asked = options.get("providers")
        return next(iter(providers.shape(asked))) if asked else None


class OnnxRuntimeSession(Session):
    """An ``InferenceSession``."""

    def __init__(self, session: Any, signature: Signature | None, options: dict[str, Any]) -> None:
        self._session = session
        self._options = options
        self._nodes = providers.nodes(session) if set(session.get_providers()) & set(providers.ON_GPU) else {}
        self._outputs = [output.name for output in session.get_outputs()]
        self.signature = signature or Signature(_specs(session.get_inputs()), _specs(session.get_outputs()))

    def run(self, feed: Arrays) -> Arrays:
        with self.explaining():
            arrays = self._session.run(self._outputs, feed)
        return dict(zip(self._outputs, map(_array, arrays), strict=True))

    def prepared(self, feed: Arrays) -> Callable[[], object]:
        return partial(self._session.run, self._outputs, feed)

    def explaining(self) -> AbstractContextManager[None]:
        return foreign("onnxruntime failed to run the model", TargetError)

    def facts(self) -> dict[str, Any]:
        known = {
            "version": str(providers.library().__version__),
            "build": _build(providers.library().get_build_info()),
            "providers": list(self._session.get_providers()),
            "threads": self._options.get("intra_op_num_threads"),
        }
        return known | ({"nodes": self._nodes} if self._nodes else {})

    def close(self) -> None:
        self._session = None


def _traced(path: Path, feeds: Sequence[Arrays], options: dict[str, Any], seconds: float, most: int) -> Trace:
    """Return the trace of at most ``most`` inferences in ``seconds`` seconds, warming up included."""
    with tempfile.TemporaryDirectory(prefix="optkit-trace-") as name:
        watched = options | {"enable_profiling": True, "profile_file_prefix": str(Path(name) / "trace")}
        library = _open(path, watched)
        session = OnnxRuntimeSession(library, None, options)
        with session.explaining():
            calls = [session.prepared(feed) for feed in feeds]
            warm_up = in_turn(calls, _WARM_UP * seconds, most=most)
            in_turn(calls, seconds - _WARM_UP * seconds, fewest=2, most=most)
        return Trace.read(Path(library.end_profiling()), warm_up)


def _open(path: Path, options: dict[str, Any]) -> Any:
    asked = providers.parse(options["providers"])
    settings = _session_options(options)
    try:
        with providers.quiet(), foreign(f"onnxruntime refuses {path.name}", TargetError):
            given = providers.give(asked, settings)
            session = providers.library().InferenceSession(str(path), settings, providers=given, enable_fallback=0)
    except TargetError as error:
        raise providers.failure(asked, str(error.__cause__)) or error from None
    providers.check_used(asked, session.get_providers())
    return session


def _session_options(options: dict[str, Any]) -> Any:
    library = providers.library()
    enums = {"graph_optimization_level": library.GraphOptimizationLevel, "execution_mode": library.ExecutionMode}
    settings = library.SessionOptions()
    settings.log_severity_level = _FATAL
    for name, value in options.items():
        if name == "session_config":
            for key, text in value.items():
                settings.add_session_config_entry(key, str(text))
        elif name != "providers":
            _set(settings, name, _member(enums[name], value, name) if name in enums else value)
    return settings


def _set(settings: Any, name: str, value: Any) -> None:
    known = [key for key in dir(settings) if not key.startswith("_") and not callable(getattr(settings, key))]
    if name not in known:
        raise UsageError(f"onnxruntime has no session option {name!r}", hint=lazy.did_you_mean(name, known))
    try:
        setattr(settings, name, value)
    except TypeError:
        raise UsageError(f"onnxruntime's session option {name!r} cannot be {value!r}") from None


def _member(enum: Any, value: str, name: str) -> Any:
    if value not in enum.__members__:
        hint = lazy.did_you_mean(value, list(enum.__members__))
        raise UsageError(f"onnxruntime's session option {name!r} cannot be {value!r}", hint=hint)
    return enum.__members__[value]


def _saving(options: dict[str, Any], path: Path, *, large: bool) -> dict[str, Any]:
    """``options`` that also write the optimized graph to ``path``, as portable as it can be."""
    level = "ORT_ENABLE_EXTENDED" if options["graph_optimization_level"] == "ORT_ENABLE_ALL" else None
    portable = {"graph_optimization_level": level or options["graph_optimization_level"]}
    return _written(options, path, large=large) | portable


def _written(options: dict[str, Any], path: Path, *, large: bool) -> dict[str, Any]:
    config = dict(options.get("session_config", {}))
    if large:
        config["session.optimized_model_external_initializers_file_name"] = f"{path.name}.data"
    return options | {"optimized_model_filepath": str(path), "session_config": config}


def _specs(values: Iterable[Any]) -> tuple[TensorSpec, ...]:
    return tuple(_spec(value) for value in values)


def _spec(value: Any) -> TensorSpec:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    dims = [dim if isinstance(dim, int | str) else f"{value.name}_{axis}" for axis, dim in enumerate(value.shape or ())]
    return TensorSpec(value.name, _DTYPES.get(kind, kind), tuple(dims))


def _build(info: str) -> str:
    """``Release`` or ``Debug``."""
    found = re.search(r"build type=(\w+)", info)
    return found[1] if found else "unknown"


def _array(value: Any) -> Array:
    """Return an output as an array; sequences and maps of classical models become arrays of objects."""
    return value if isinstance(value, np.ndarray) else np.array(value, dtype=object)


def _bytes(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files)
