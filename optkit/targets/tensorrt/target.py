"""TensorRT: ONNX models and engines built of them, on NVIDIA's GPUs; TensorRT or TensorRT-RTX, whichever is there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optkit.errors import OptkitError, TargetError, UsageError
from optkit.formats import tensorrt_engine
from optkit.formats.model import Model
from optkit.formats.tensors import Signature
from optkit.lazy import Library
from optkit.progress import Progress, no_progress
from optkit.targets import cuda
from optkit.targets.precisions import Maker, Precisions
from optkit.targets.target import Compiled, EngineLayer, Examination, Session, Target
from optkit.targets.tensorrt import bindings, shape_profiles

if TYPE_CHECKING:
    from optkit.notes import Note
    from optkit.records.machine import LibraryRecord, Machine

_AHEAD_OF_TIME = ("8.0", "8.6", "8.9", "12.0")
"""The compute capabilities that TensorRT-RTX itself builds for where none is named."""


class TensorRT(Target):
    """Engines, and ONNX models of which engines are built; on NVIDIA's GPUs."""

    name = "tensorrt"
    formats = ("onnx", "tensorrt")
    options_model = "optkit.targets.tensorrt.options:TensorRtOptions"
    modules = bindings.MODULES
    extra = "tensorrt-rtx"
    libraries = (Library("tensorrt"), Library("tensorrt-rtx-cu13"))
    builds_engines = True
    without_operators = "optkit inspect MODEL --target tensorrt shows the layers"
    zeros = "tensorrt has kernels for 2:4 in FP16 and INT8 from Ampere on, and for no other zeros"
    precisions = Precisions(
        makers={
            "int8": (Maker("tensorrt", "static"),),
            "fp8": (Maker("tensorrt", "float8"),),
            "fp16": (Maker("tensorrt", "convert"),),
            "bf16": (Maker("tensorrt", "convert"),),
        },
        refused={"int4": "nothing is made int4 for tensorrt"},
        floats=("float32", "fp16", "bf16"),
        only_static="strongly typed networks take ranges from the graph",
        half_kernels=True,
    )

    def version(self) -> str:
        return str(bindings.library().__version__)

    def advice(self, here: Machine, found: LibraryRecord) -> Iterator[Note]:
        """Yield notes on TensorRT-RTX: the GPUs that it builds for, and those of this machine that it does not know."""
        from optkit.notes import Note
        from optkit.system import fingerprint

        if found.error is not None or found.version == fingerprint.version("tensorrt"):
            return
        known = tensorrt_engine.CAPABILITIES
        text = f"it is TensorRT-RTX, which builds engines without a GPU, for compute capability {', '.join(known)}"
        yield Note(text=text, where=self.name)
        for gpu in here.gpus:
            if gpu.compute_capability not in known:
                text = f"TensorRT-RTX knows no compute capability {gpu.compute_capability}: install tensorrt instead"
                yield Note(text=text, where=gpu.name, level="warning")

    def absence(self) -> str | None:
        """No GPU, no library, or a GPU that the library knows nothing of, as TensorRT-RTX of an H100."""
        try:
            cuda.require()
            bindings.check_knows(cuda.compute_capability())
        except OptkitError as error:
            return error.message
        return None

    def default_options(self, *, threads: int | None = None) -> dict[str, Any]:
        return {
            "compute_capabilities": _capabilities() if bindings.is_rtx() else [],
            "builder_optimization_level": 3,
            # Without TF32, which is on by itself: products of float32 numbers that are rounded to 10 bits.
            "flags": [],
            "memory_pool_limits": {},
            "hardware_compatibility_level": "NONE",
            "shapes": {},
            "cuda_graph": False,
            "copies": True,
        }

    def parallel_options(self, *, threads: int, sessions: int = 1) -> dict[str, Any]:
        """Threads of the CPU are nothing to a GPU."""
        return {}

    def device_options(self, device: str) -> dict[str, Any]:
        """None are needed: it runs on a GPU always."""
        if device != "cuda":
            raise UsageError(f"tensorrt does not run on {device!r}", hint="leave --device out, or choose a --target")
        return {}

    def build_options(
        self, signature: Signature | None, *, compute_capability: Sequence[str] = (), shapes: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Raises UsageError for malformed sizes, and for a name that no dynamic dimension of the inputs bears."""
        found: dict[str, Any] = {"compute_capabilities": list(compute_capability)} if compute_capability else {}
        given = shape_profiles.parsed(shapes)
        shape_profiles.of(signature or Signature(()), given)
        return found | ({"shapes": {name: str(sizes) for name, sizes in given.items()}} if given else {})

    def variants(self) -> dict[str, dict[str, Any]]:
        return {"CUDA graph": {"cuda_graph": True}}

    def compile(
        self, model: Model, options: dict[str, Any], workdir: Path, progress: Progress = no_progress
    ) -> Compiled:
        """Build an engine. Raises TargetError, naming the nodes that are refused."""
        from optkit.targets.tensorrt.builder import Network

        if model.format == "tensorrt":
            raise TargetError(f"{model.path}: an engine already", hint="compile the ONNX model it was built of")
        options, notes = with_profiles(model, options)
        network = Network(model.path)
        with _supposing(notes):
            built = network.build(options, progress)
        if doubles := network.doubles:
            notes += (f"TensorRT knows no float64: {', '.join(doubles)} and what follows are computed in float32",)
        path = workdir / "model.engine"
        path.write_bytes(built.engine)
        kept = {key: value for key, value in options.items() if key not in ("timing_cache", "shapes")}
        facts = {"library": bindings.name(), "layers_by_precision": counted(built.layers)}
        return Compiled(path, "tensorrt", kept, (*notes, *_notes(options, built.layers)), facts)

    def open(self, model: Model, options: dict[str, Any]) -> Session:
        """Load an engine; an ONNX model is built for the GPU that is there first. Raises MissingDeviceError."""
        from optkit.targets.tensorrt.session import LoadedEngine, TensorRtSession

        _check_kind(model)
        cuda.require()
        bindings.check_knows(cuda.compute_capability())
        options = self.default_options() | options
        data = model.path.read_bytes() if model.format == "tensorrt" else _built_here(model, options)
        return TensorRtSession(LoadedEngine(data, model), model.signature, options)

    def examine(self, model: Model, options: dict[str, Any], *, layers: bool = False) -> Examination:
        """Parse, and for the layers build for the last compute capability asked for; nothing is loaded."""
        from optkit.targets.tensorrt.builder import Network

        if model.format == "tensorrt":
            return super().examine(model, options)
        network = Network(model.path)
        if network.refused or not layers:
            return Examination(network.refused)
        options, notes = with_profiles(model, options)
        last = options | {"compute_capabilities": options["compute_capabilities"][-1:]}
        with _supposing(notes):
            return Examination(layers=network.build(last).layers)


def _check_kind(model: Model) -> None:
    """Refuse an engine of TensorRT itself where the library is TensorRT-RTX, which reads none of those."""
    if model.format != "tensorrt" or not bindings.is_rtx():
        return
    with model.path.open("rb") as stream:
        found = tensorrt_engine.header(stream.read(tensorrt_engine.HEADER_BYTES))
    if found is not None and found.version is None:
        raise TargetError(
            f"{model.path}: an engine of TensorRT, and here is {bindings.name()}",
            hint="pip install tensorrt, or build it again: optkit compile MODEL --target tensorrt -o BUNDLE",
        )


def _built_here(model: Model, options: dict[str, Any]) -> bytes:
    from optkit.targets.tensorrt.builder import Network

    here = [cuda.compute_capability()] if bindings.is_rtx() else []
    options, notes = with_profiles(model, options | {"compute_capabilities": here})
    with _supposing(notes):
        return Network(model.path).build(options).engine


def with_profiles(model: Model, options: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return options with profiles for the signature's dynamic dimensions, and notes on the sizes that were assumed."""
    if "profiles" in options:
        return options, ()
    signature = model.signature or Signature(())
    given = {name: shape_profiles.one(name, str(sizes)) for name, sizes in options["shapes"].items()}
    for spec in signature.inputs:
        if spec.shape is None:
            raise TargetError(f"{model.path}: input {spec.name!r} has no rank, and engines need one")
    ranges, supposed = shape_profiles.of(signature, given)
    profile = shape_profiles.profile(signature, ranges)
    notes = tuple(f"{name} may be {ranges[name]} (min/opt/max); --shapes {name}=... changes it" for name in supposed)
    return options | {"profiles": [profile] if profile else []}, notes


@contextmanager
def _supposing(notes: tuple[str, ...]) -> Iterator[None]:
    """Add the assumed sizes, told in ``notes``, as a hint to errors over shapes raised inside."""
    try:
        yield
    except TargetError as error:
        if not notes or error.hint or not re.search(r"shape|dimension|kOPT|kMIN|kMAX", error.message, re.IGNORECASE):
            raise
        raise TargetError(error.message, hint=f"perhaps for the sizes that were assumed: {'; '.join(notes)}") from None


def counted(layers: Iterable[EngineLayer]) -> dict[str, int]:
    """Return the number of layers by precision."""
    return dict(Counter(layer.precision for layer in layers).most_common())


def _notes(options: dict[str, Any], layers: tuple[EngineLayer, ...]) -> tuple[str, ...]:
    notes = []
    capabilities = options["compute_capabilities"]
    if capabilities:
        notes.append(f"{bindings.name()}: the engine is for compute capability {', '.join(capabilities)}")
    if "TF32" not in options["flags"]:
        notes.append(
            "float32 stays float32: without TF32, which TensorRT has on by itself (--option 'flags=[\"TF32\"]')"
        )
    if layers:
        told = ", ".join(f"{count} {precision}" for precision, count in counted(layers).items())
        notes.append(f"{len(layers)} {'layer' if len(layers) == 1 else 'layers'}: {told}")
    return tuple(notes)


def _capabilities() -> list[str]:
    """Return the capability of this machine's GPU, else those that the library builds for by itself."""
    try:
        here = cuda.compute_capability()
    except OptkitError:  # without cuda-bindings, too, engines can be built
        return list(_AHEAD_OF_TIME)
    known = bindings.capabilities()
    return [here] if here in known else list(_AHEAD_OF_TIME)
