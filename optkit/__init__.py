"""optkit: make a trained model small and fast, and prove that it kept its quality.

The verbs of the command line as functions of the same names: ``optkit.quantize("model.pt", precision="int8")``.
They are imported on first use, so that ``import optkit`` costs nothing. ``__init__.pyi``, which is generated, has their
keywords for editors and type checkers.
"""

from __future__ import annotations

import importlib
from typing import Any

from optkit.version import VERSION

__version__ = VERSION

_FUNCTIONS = {
    "benchmark": "optkit.verbs.benchmark",
    "cache": "optkit.verbs.cache",
    "compare": "optkit.verbs.compare",
    "compile": "optkit.verbs.compile",
    "distill": "optkit.verbs.distill",
    "doctor": "optkit.verbs.doctor",
    "evaluate": "optkit.verbs.evaluate",
    "explain": "optkit.verbs.explain",
    "export": "optkit.verbs.export",
    "gate": "optkit.verbs.gate",
    "inspect": "optkit.verbs.inspect",
    "load": "optkit.deployment.loading",
    "open": "optkit.formats.opening",
    "optimize": "optkit.verbs.optimize",
    "plan": "optkit.verbs.plan",
    "prune": "optkit.verbs.prune",
    "quantize": "optkit.verbs.quantize",
    "report": "optkit.verbs.report",
    "run": "optkit.verbs.run",
}

__all__ = ["__version__", *sorted(_FUNCTIONS)]


def __getattr__(name: str) -> Any:
    if name not in _FUNCTIONS:
        raise AttributeError(f"module 'optkit' has no attribute {name!r}")
    return getattr(importlib.import_module(_FUNCTIONS[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
