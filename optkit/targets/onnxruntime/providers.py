"""Execution providers of ONNX Runtime: those asked for, and the reasons why one does not load here."""

from __future__ import annotations

import ctypes
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from optkit import lazy
from optkit.errors import MissingDeviceError, OptkitError, TargetError, UsageError
from optkit.system import native

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
RTX = "NvTensorRTRTXExecutionProvider"
ON_GPU = (CUDA, TENSORRT, RTX)
PLUGINS = {RTX: "onnxruntime_ep_nv_tensorrt_rtx"}
"""Providers that come as a package of their own, by its module; the package is called so with hyphens."""

Asked = dict[str, dict[str, str]]
"""The options of each provider, by its name, in the order of preference."""

_FATAL, _WARNING = 4, 2
"""Severities of the log; the latter is onnxruntime's own choice."""
_EXAMPLE = """for example providers=[["CUDAExecutionProvider",{"device_id":0}]]"""
_GPU_PACKAGE = "onnxruntime-gpu[cuda,cudnn]"
_GPU_BUILD = f"pip uninstall onnxruntime, then pip install '{_GPU_PACKAGE}': either, never both"
_WITH_TENSORRT = "install TensorRT of that version and put its folder on LD_LIBRARY_PATH"
_BRINGS = (
    ("libcuda.so", "NVIDIA's driver brings it, where there is a GPU; a container must be started with it (--gpus all)"),
    ("libnvinfer", _WITH_TENSORRT),
    ("libnvonnxparser", _WITH_TENSORRT),
    ("libcu", f"pip install '{_GPU_PACKAGE}'"),
    ("libnvrtc", f"pip install '{_GPU_PACKAGE}'"),
)
"""Hints on installing a shared library, by the beginning of its name."""
_FAILURE = re.compile(r"CUDA failure (\d+): (.*?) *;")
_NO_DEVICE = {"35", "100", "101", "803", "804"}
"""CUDA's errors that say that there is no such GPU, or no driver that fits."""
_UNKNOWN_OPTION = re.compile(r'Unknown provider option: "(.*?)"')


def parse(option: Any) -> Asked:
    """``["A", ["B", {"device_id": 0}]]`` -> each provider's options.

    Raises UsageError for another shape, and for names that onnxruntime does not know.
    """
    asked = shape(option)
    known = list(dict.fromkeys([*library().get_all_providers(), *PLUGINS]))
    for name in asked:
        if name not in known:
            raise UsageError(f"onnxruntime knows no provider {name!r}", hint=lazy.did_you_mean(name, known))
    return asked


def shape(option: Any) -> Asked:
    """Return each provider's options, whatever the providers are called. Raises UsageError for another shape."""
    if not isinstance(option, list | tuple) or not option:
        raise UsageError(f"providers {option!r} is no list of providers", hint=_EXAMPLE)
    asked: Asked = {}
    for entry in option:
        name, options = _pair(entry)
        if name in asked:
            raise UsageError(f"providers: {name} is there twice")
        if name == CPU and options:
            raise UsageError(f"providers: {CPU} takes no options, and {', '.join(options)} is given")
        asked[name] = options
    return asked


def _pair(entry: Any) -> tuple[str, dict[str, str]]:
    if not isinstance(entry, str) and not _is_pair(entry):
        raise UsageError(f"providers: {entry!r} is neither a name nor [name, {{option: value}}]", hint=_EXAMPLE)
    name, options = (entry, {}) if isinstance(entry, str) else entry
    return name, {key: str(value) for key, value in options.items()}


def _is_pair(entry: Any) -> bool:
    return (
        isinstance(entry, list | tuple)
        and len(entry) == 2
        and isinstance(entry[0], str)
        and isinstance(entry[1], dict)
        and all(isinstance(key, str) and isinstance(value, str | int | float) for key, value in entry[1].items())
    )


def here() -> list[str]:
    """Return the providers of this build and of the plugins that are installed, whether they load or not."""
    return [*library().get_available_providers(), *(name for name, module in PLUGINS.items() if lazy.available(module))]


def give(asked: Asked, settings: Any) -> list[tuple[str, dict[str, str]]] | None:
    """Register the providers asked for; the argument of ``InferenceSession``, ``None`` where ``settings`` hold all.

    Raises MissingDeviceError where this build or machine lacks one.
    """
    _check(asked)
    if asked.keys() & set(ON_GPU):
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        with native.silent():  # what it misses is told, better, where the session does not come about
            library().preload_dlls()
    if not asked.keys() & PLUGINS.keys():
        return list(asked.items())
    for name, options in asked.items():
        if name in PLUGINS:
            settings.add_provider_for_devices(_devices(name), options)
        else:
            settings.add_provider(name, options)
    return None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the engines' logs from the user, onnxruntime's too where it is imported: its failures come as errors."""
    imported = sys.modules.get("onnxruntime")
    if imported is None:
        with native.silent():
            yield
        return
    imported.set_default_logger_severity(_FATAL)
    try:
        with native.silent():
            yield
    finally:
        imported.set_default_logger_severity(_WARNING)


def _check(names: Iterable[str]) -> None:
    available = library().get_available_providers()
    for name in names:
        if name in PLUGINS:
            if not lazy.available(PLUGINS[name]):
                package = PLUGINS[name].replace("_", "-")
                raise MissingDeviceError(f"{name} is not installed", hint=f"pip install {package}")
        elif name not in available:
            raise MissingDeviceError(
                f"{_build()} is built without {name}; it has {', '.join(available)}",
                hint=_GPU_BUILD if name in ON_GPU else None,
            )


def _build() -> str:
    """``onnxruntime 1.32.0``, by the package that is installed."""
    for package in ("onnxruntime-gpu", "onnxruntime"):
        try:
            return f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            continue
    return f"onnxruntime {library().__version__}"


def _devices(name: str) -> list[Any]:
    """Return the devices of a plugin, which is registered once per process."""
    if not _of(name):
        path = importlib.import_module(PLUGINS[name]).get_library_path()
        try:
            with native.foreign(name, TargetError):
                library().register_execution_provider_library(name, path)
        except TargetError as error:
            told = str(error.__cause__)
            if "already registered" not in told:
                raise _unloaded(name, native.readable(told.partition("with error: ")[2] or told), path) from None
    if not _of(name):
        raise MissingDeviceError(f"{name} finds no device that it runs on", hint="optkit doctor shows the GPUs")
    return _of(name)


def _of(name: str) -> list[Any]:
    return [device for device in library().get_ep_devices() if device.ep_name == name]


def failure(asked: Asked, reason: str) -> OptkitError | None:
    """The error of a provider for which no session opened; ``None`` where ``reason`` (onnxruntime's) tells of none."""
    for name in asked:
        if unloadable := _unloadable(_file(name)):
            return _unloaded(name, unloadable, _file(name))
    if found := _UNKNOWN_OPTION.search(reason):
        return UsageError(f"{', '.join(asked)}: no such option: {found[1]!r}", hint="onnxruntime.ai lists them")
    found = _FAILURE.search(reason)
    if found and found[1] in _NO_DEVICE:
        return MissingDeviceError(f"{next(iter(asked))} does not run here: {found[2]}", hint="nvidia-smi shows more")
    return None


def check_used(asked: Asked, used: list[str]) -> None:
    """Raise MissingDeviceError for a provider that a session should use and does not, with the reason."""
    for name in asked:
        if name not in used:
            reason = _unloadable(_file(name)) or f"onnxruntime does not say why, and uses {', '.join(used)}"
            raise _unloaded(name, reason, _file(name))


def _unloaded(name: str, reason: str, path: Path | str) -> MissingDeviceError:
    """Return the error for a provider whose shared library lies at ``path``."""
    hint = next((hint for start, hint in _BRINGS if reason.startswith(start)), f"ldd {path} shows what it needs")
    return MissingDeviceError(f"{name} does not load: {reason}", hint=hint)


def _file(name: str) -> Path:
    """Return the shared library of a provider that is not built in."""
    stem = name.removesuffix("ExecutionProvider").lower()
    return Path(library().__file__).parent / "capi" / f"libonnxruntime_providers_{stem}.so"


def _unloadable(path: Path) -> str | None:
    """Return the loader's error for a shared library, which names a missing one; ``None`` where it loads."""
    if not path.is_file():
        return None
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        return str(error)
    return None


def nodes(session: Any) -> Mapping[str, int]:
    """Return the number of nodes of each provider; empty where this version of onnxruntime does not tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    counted: dict[str, int] = {}
    for part in session.get_provider_graph_assignment_info():
        counted[part.ep_name] = counted.get(part.ep_name, 0) + len(part.get_nodes())
    return counted


def library() -> Any:
    """Return the module ``onnxruntime``. Raises MissingLibraryError."""
    return lazy.require("onnxruntime")
