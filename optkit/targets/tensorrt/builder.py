"""An ONNX model parsed by TensorRT, and an engine built of it. No GPU is needed where the library is TensorRT-RTX."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optkit import lazy, units
from optkit.errors import MissingDeviceError, TargetError, UsageError
from optkit.formats.onnx import graph
from optkit.formats.onnx.signature import name_dimensions
from optkit.lazy import did_you_mean
from optkit.progress import Progress, no_progress
from optkit.system import atomic, native
from optkit.targets.target import EngineLayer, RefusedNode
from optkit.targets.tensorrt import bindings
from optkit.targets.tensorrt.layers import parse_layers

_DOUBLE = 11
"""``onnx.TensorProto.DOUBLE``."""
_LONGEST = 300
"""Characters of a message: some hold a whole part of the graph."""


@dataclass(frozen=True)
class Built:
    """An engine's bytes, and its layers."""

    engine: bytes
    layers: tuple[EngineLayer, ...]


class Network:
    """A parsed model. Raises TargetError where the file is none, MissingDeviceError where TensorRT finds no GPU.

    ``refused`` are the nodes that the parser does not take; such a network cannot be built. ``doubles`` are the inputs
    in float64, which TensorRT does not know: it takes float32 for them.
    """

    def __init__(self, path: Path) -> None:
        from optkit.targets.tensorrt.callbacks import Log

        library = bindings.library()
        self.path, self.log = path, Log()
        self._builder = library.Builder(self.log)
        if self._builder is None:
            raise MissingDeviceError(f"{bindings.name()} does not start: {self._last_error()}", hint="optkit doctor")
        typed = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # 11 knows no other networks
        self._definition = self._builder.create_network(0 if typed is None else 1 << int(typed))
        self._parser = library.OnnxParser(self._definition, self.log)  # which owns the weights
        proto = graph.parse(path)
        if name_dimensions(proto):
            parsed = self._parser.parse(proto.SerializeToString(), str(path))
        else:
            parsed = self._parser.parse_from_file(str(path))
        self.doubles = [each.name for each in proto.graph.input if each.type.tensor_type.elem_type == _DOUBLE]
        del proto
        errors = [self._parser.get_error(number) for number in range(self._parser.num_errors)]
        self.refused = tuple(_refused(error) for error in errors)
        if not parsed and not self.refused:
            raise TargetError(f"{bindings.name()} cannot read {path.name}: {self._last_error()}")

    def build(self, options: Mapping[str, Any], progress: Progress = no_progress) -> Built:
        """Build an engine. Raises TargetError with what the builder says, UsageError for an unknown option's value."""
        from optkit.targets.tensorrt.callbacks import Monitor

        if self.refused:
            raise TargetError(_told(self.path, self.refused), hint=f"optkit inspect {self.path} --target tensorrt")
        self._check_inputs()
        config, monitor = self._config(options), Monitor(progress)
        config.progress_monitor = monitor
        cache = TimingCache(config, options.get("timing_cache"))
        engine = self._builder.build_serialized_network(self._definition, config)
        if monitor.stopped is not None:
            raise monitor.stopped
        if engine is None:
            reason = self._last_error()
            hint = _CHIPS if "HW-specific datatypes" in reason else None
            raise TargetError(f"{bindings.name()} cannot build {self.path.name}: {reason}", hint=hint)
        cache.keep()
        return Built(bytes(engine), tuple(parse_layers(self.log.layers)))

    def _check_inputs(self) -> None:
        for place in range(self._definition.num_inputs):
            given = self._definition.get_input(place)
            if given.is_shape_tensor:
                raise TargetError(
                    f"{self.path.name}: the values of input {given.name!r} decide shapes, which optkit gives no range",
                    hint="make it a constant of the model",
                )

    def _config(self, options: Mapping[str, Any]) -> Any:
        library = bindings.library()
        config = self._builder.create_builder_config()
        config.profiling_verbosity = library.ProfilingVerbosity.DETAILED
        config.builder_optimization_level = options["builder_optimization_level"]
        config.clear_flag(library.BuilderFlag.TF32)  # on by itself: products of rounded float32
        for flag in options["flags"]:
            config.set_flag(_member(library.BuilderFlag, "flags", flag))
        for pool, size in options["memory_pool_limits"].items():
            config.set_memory_pool_limit(_member(library.MemoryPoolType, "memory_pool_limits", pool), size)
        level = options["hardware_compatibility_level"]
        config.hardware_compatibility_level = _member(
            library.HardwareCompatibilityLevel, "hardware_compatibility_level", level
        )
        self._for_capabilities(config, options["compute_capabilities"])
        for shapes in options["profiles"]:
            config.add_optimization_profile(self._profile(shapes))
        return config

    def _for_capabilities(self, config: Any, wanted: list[str]) -> None:
        known = bindings.capabilities()
        if wanted and not known:
            raise UsageError(
                f"{bindings.name()} builds for the GPU that is there, not for {', '.join(wanted)}",
                hint=f"leave --compute-capability out, or {lazy.pip_command('tensorrt-rtx')}",
            )
        for name in wanted:
            if name not in known:
                raise UsageError(
                    f"{bindings.name()} builds for no compute capability {name}", hint=_of_capabilities(known)
                )
        if known:
            config.num_compute_capabilities = len(wanted)
            for place, name in enumerate(wanted):
                config.set_compute_capability(known[name], place)

    def _profile(self, shapes: Mapping[str, Mapping[str, list[int]]]) -> Any:
        profile = self._builder.create_optimization_profile()
        for place in range(self._definition.num_inputs):
            given = self._definition.get_input(place)
            if -1 not in tuple(given.shape):
                continue
            if given.name not in shapes:
                raise TargetError(f"{self.path.name}: no shapes are given for input {given.name!r}", hint=_SHAPES)
            each = shapes[given.name]
            try:
                profile.set_shape(given.name, each["min"], each["opt"], each["max"])
            except (ValueError, RuntimeError, TypeError) as error:
                what = f"{self.path.name}: shapes of {given.name!r}"
                raise TargetError(f"{what}: {native.reason(error)}", hint=_SHAPES) from None
        return profile

    def _last_error(self) -> str:
        return _plain(self.log.errors[-1]) if self.log.errors else "it gives no reason"


_SHAPES = "--shapes batch=1/8/32 for each dynamic dimension"
_CHIPS = "--compute-capability of GPUs that compute in these types: fp8 from 8.9 on"


class TimingCache:
    """The timing cache: the builder's measurements of kernels, in a file for the next build."""

    def __init__(self, config: Any, path: str | None) -> None:
        self._config, self._path = config, None if path is None else Path(path)
        if self._path is not None and bindings.is_rtx():
            raise UsageError(f"timing_cache: {bindings.name()} times nothing while it builds", hint="leave it out")
        if self._path is not None:
            kept = self._path.read_bytes() if self._path.is_file() else b""
            config.set_timing_cache(config.create_timing_cache(kept), ignore_mismatch=False)

    def keep(self) -> None:
        if self._path is not None:
            with atomic.aside(self._path) as folder:
                (folder / self._path.name).write_bytes(bytes(self._config.get_timing_cache().serialize()))


def _refused(error: Any) -> RefusedNode:
    return RefusedNode(error.node_operator() or "model", error.node_name(), _why(error))


def _why(error: Any) -> str:
    """Return the parser's assertion as a sentence."""
    described = " ".join(str(error.desc()).split())
    quoted = re.search(r'"([^"]+)"', described)
    code = getattr(error.code(), "name", "")
    described = _plain(described)
    if "Plugin not found" in described:
        return "no such operator, and no plugin of this name"
    if code == "UNSUPPORTED_NODE" and described in ("false", ""):
        return "no such operator"
    return quoted[1].rstrip(".") if quoted else described or code


def _told(path: Path, refused: tuple[RefusedNode, ...]) -> str:
    named = [f"{each.operator}{f' ({each.node})' if each.node else ''}: {each.reason}" for each in refused]
    return f"{bindings.name()} refuses {path.name}: {units.listed(named, separator='; ')}"


def _member(enum: Any, option: str, name: str) -> Any:
    if name not in enum.__members__:
        raise UsageError(f"{option}: no {name!r} in {bindings.name()}", hint=did_you_mean(name, list(enum.__members__)))
    return enum.__members__[name]


def _of_capabilities(known: Mapping[str, Any]) -> str:
    return f"known: {', '.join(known)}"


def _plain(message: str) -> str:
    """TensorRT's message in one readable line, without the places in its source."""
    text = re.sub(
        r"\s*\(?In \S+ at \S+\)?|^I\w+::\w+: |Error Code \d+: |\[\w+\.\w+(: ?:?\w+)+\] ", "", " ".join(message.split())
    ).strip()
    text = re.sub(r"^((?:\w+ )+Error) \((.*?)\)?$", r"\1: \2", text)  # it closed behind the place
    if text.count("(") > text.count(")"):  # which closed behind the place, too
        text = re.sub(r"^\w+ \(", "", text)
    return units.shortened(text, _LONGEST)
