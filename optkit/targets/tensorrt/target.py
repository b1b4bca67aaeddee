"""TensorRT: ONNX models and engines built of them, on NVIDIA's GPUs; TensorRT or TensorRT-RTX, whichever is there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optkit.errors import OptkitError, TargetError, UsageError
from optkit.formats import tensorrt_engine
from optkit.formats.model import Model
from optkit.formats.tensors import Signature
from optkit.lazy import did_you_mean
from optkit.progress import Progress, no_progress
from optkit.targets import cuda
from optkit.targets.target import Compiled, EngineLayer, Examination, Session, Target
from optkit.targets.tensorrt import library as tensorrt_library
from optkit.targets.tensorrt import shape_profiles

_AHEAD_OF_TIME = ("8.0", "8.6", "8.9", "12.0")
"""What TensorRT-RTX itself builds for where no compute capability is named."""


_KINDS: dict[str, type] = {
    "compute_capabilities": list, "builder_optimization_level": int, "flags": list, "memory_pool_limits": dict,
    "hardware_compatibility_level": str, "shapes": dict, "profiles": list, "timing_cache": str, "cuda_graph": bool,
    "copies": bool,
}  # fmt: skip
_WORDS = {list: "a list", int: "a whole number", dict: "an object", str: "a text", bool: "true or false"}
_MOST_LEVEL = 5


class TensorRT(Target):
    """Options are the attributes of ``IBuilderConfig`` (enums by name), ``profiles``, and for running an engine:

    ``shapes``: the sizes of dynamic dimensions that profiles are made of, ``{"batch": "1/8/32"}``.
    ``compute_capabilities``: what TensorRT-RTX builds for; TensorRT builds for the GPU that is there.
    ``timing_cache``: a file that the builder reads and writes. It stays behind when a bundle goes.
    ``cuda_graph``: an inference is one launch. ``copies``: whether copies from and to the host count when it is timed.
    """

    name = "tensorrt"
    formats = ("onnx", "tensorrt")
    without_operators = "optkit inspect MODEL --target tensorrt shows the layers"

    def version(self) -> str:
        return str(tensorrt_library.library().__version__)

    def absence(self) -> str | None:
        """No GPU, no library, or a GPU that the library knows nothing of, as TensorRT-RTX of an H100."""
        try:
            cuda.require()
            tensorrt_library.check_knows(cuda.compute_capability())
        except OptkitError as error:
            return error.message
        return None

    def default_options(self, *, threads: int | None = None) -> dict[str, Any]:
        return {
            "compute_capabilities": _capabilities() if tensorrt_library.is_rtx() else [],
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

    def variants(self) -> dict[str, dict[str, Any]]:
        return {"CUDA graph": {"cuda_graph": True}}

    def compile(
        self, model: Model, options: dict[str, Any], workdir: Path, progress: Progress = no_progress
    ) -> Compiled:
        """Build an engine. Raises TargetError, naming the nodes that are refused."""
        from optkit.targets.tensorrt.builder import Network

        if model.format == "tensorrt":
            raise TargetError(f"{model.path}: an engine already", hint="compile the ONNX model it was built of")
        _check_options(options)
        options, notes = with_profiles(model, options)
        network = Network(model.path)
        with _supposing(notes):
            built = network.build(options, progress)
        if doubles := network.doubles:
            notes += (f"TensorRT knows no float64: {', '.join(doubles)} and what follows are computed in float32",)
        path = workdir / "model.engine"
        path.write_bytes(built.engine)
        kept = {key: value for key, value in options.items() if key not in ("timing_cache", "shapes")}
        facts = {"library": tensorrt_library.name(), "layers_by_precision": counted(built.layers)}
        return Compiled(path, "tensorrt", kept, (*notes, *_notes(options, built.layers)), facts)

    def open(self, model: Model, options: dict[str, Any]) -> Session:
        """Load an engine; an ONNX model is built for the GPU that is there first. Raises MissingDeviceError."""
        from optkit.targets.tensorrt.session import LoadedEngine, TensorRtSession

        _check_kind(model)
        cuda.require()
        tensorrt_library.check_knows(cuda.compute_capability())
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
    if model.format != "tensorrt" or not tensorrt_library.is_rtx():
        return
    with model.path.open("rb") as stream:
        found = tensorrt_engine.header(stream.read(tensorrt_engine.HEADER_BYTES))
    if found is not None and found.version is None:
        raise TargetError(
            f"{model.path}: an engine of TensorRT, and here is {tensorrt_library.name()}",
            hint="pip install tensorrt, or build it again: optkit compile MODEL --target tensorrt -o BUNDLE",
        )


def _built_here(model: Model, options: dict[str, Any]) -> bytes:
    from optkit.targets.tensorrt.builder import Network

    here = [cuda.compute_capability()] if tensorrt_library.is_rtx() else []
    options, notes = with_profiles(model, options | {"compute_capabilities": here})
    with _supposing(notes):
        return Network(model.path).build(options).engine


def with_profiles(model: Model, options: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The options with profiles for the signature's dynamic dimensions, and what was supposed of their sizes."""
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
    """Inside, an error over shapes hints at the sizes that were supposed, of which ``notes`` tell."""
    try:
        yield
    except TargetError as error:
        if not notes or error.hint or not re.search(r"shape|dimension|kOPT|kMIN|kMAX", error.message, re.IGNORECASE):
            raise
        raise TargetError(error.message, hint=f"perhaps for the sizes that were supposed: {'; '.join(notes)}") from None


def counted(layers: Iterable[EngineLayer]) -> dict[str, int]:
    """How many layers compute in which precision."""
    return dict(Counter(layer.precision for layer in layers).most_common())


def _notes(options: dict[str, Any], layers: tuple[EngineLayer, ...]) -> tuple[str, ...]:
    notes = []
    capabilities = options["compute_capabilities"]
    if capabilities:
        notes.append(f"{tensorrt_library.name()}: the engine is for compute capability {', '.join(capabilities)}")
    if "TF32" not in options["flags"]:
        notes.append(
            "float32 stays float32: without TF32, which TensorRT has on by itself (--option 'flags=[\"TF32\"]')"
        )
    if layers:
        told = ", ".join(f"{count} {precision}" for precision, count in counted(layers).items())
        notes.append(f"{len(layers)} {'layer' if len(layers) == 1 else 'layers'}: {told}")
    return tuple(notes)


def _check_options(options: dict[str, Any]) -> None:
    """Refuse what no part of a build or a session reads, and values of another kind. Raises UsageError."""
    for name, value in options.items():
        if name not in _KINDS:
            raise UsageError(f"tensorrt has no option {name!r}", hint=did_you_mean(name, list(_KINDS)))
        kind = _KINDS[name]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise UsageError(f"tensorrt's option {name} is {_WORDS[kind]}, not {value!r}")
    if not 0 <= options["builder_optimization_level"] <= _MOST_LEVEL:
        raise UsageError(f"builder_optimization_level goes from 0 to {_MOST_LEVEL}")
    for pool, size in options["memory_pool_limits"].items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise UsageError(f"memory_pool_limits: {pool} is a number of bytes, not {size!r}")


def _capabilities() -> list[str]:
    """The GPU's that is there, else those that the library builds for by itself."""
    try:
        here = cuda.compute_capability()
    except OptkitError:  # without cuda-bindings, too, engines can be built
        return list(_AHEAD_OF_TIME)
    known = tensorrt_library.capabilities()
    return [here] if here in known else list(_AHEAD_OF_TIME)
