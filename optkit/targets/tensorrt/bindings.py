"""TensorRT's library: ``tensorrt`` or ``tensorrt_rtx``, whichever is importable. Both have one API."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from optkit import lazy
from optkit.errors import MissingDeviceError, MissingLibraryError
from optkit.system import native

MODULES = ("tensorrt", "tensorrt_rtx")
_INSTALL = f"{lazy.pip_command('tensorrt-rtx')}; for data-centre GPUs pip install tensorrt, from NVIDIA's own index"


@cache
def library() -> Any:
    """Return the module. Raises MissingLibraryError where neither imports, with the reason of an installed one."""
    broken = []
    for name in filter(lazy.available, MODULES):
        try:
            with native.foreign(f"{name} is installed and does not import", MissingLibraryError):
                return importlib.import_module(name)
        except MissingLibraryError as error:
            broken.append(error.message)
    if broken:
        raise MissingLibraryError("; ".join(broken), hint=_INSTALL)
    raise MissingLibraryError("this needs TensorRT: neither tensorrt nor tensorrt_rtx is installed", hint=_INSTALL)


def is_rtx() -> bool:
    """True for TensorRT-RTX, which builds ahead of time, for GPUs of other machines."""
    return str(library().__name__) == "tensorrt_rtx"


def name() -> str:
    """``TensorRT-RTX 1.7.1.116``"""
    return f"{'TensorRT-RTX' if is_rtx() else 'TensorRT'} {library().__version__}"


def check_knows(capability: str) -> None:
    """Raise MissingDeviceError where the library runs nothing on GPUs of this compute capability: ``9.0``."""
    known = capabilities()
    if known and capability not in known:
        raise MissingDeviceError(
            f"{name()} knows no compute capability {capability}, only {', '.join(known)}",
            hint="pip install tensorrt, from NVIDIA's own index, in its place",
        )


def capabilities() -> dict[str, Any]:
    """Return compute capabilities that engines can be built for ahead of time, by number: ``8.9``; none in TensorRT."""
    members = getattr(library(), "ComputeCapability", None)
    if members is None:
        return {}
    named = {key.removeprefix("SM"): member for key, member in members.__members__.items() if key.startswith("SM")}
    return {f"{digits[:-1]}.{digits[-1]}": member for digits, member in named.items()}
