"""A target that computes next to nothing and has its own clock.

Tests compare whole tables and reports as text, and none sleeps. The target takes any model and reads no file: outputs
follow from the inputs and the signature, times and faults from the options.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optkit.errors import SignatureError, TargetError
from optkit.formats.model import TORCH_FORMATS, Model
from optkit.formats.operators import Operator, Profile
from optkit.formats.tensors import Array, Arrays, Signature, TensorSpec
from optkit.progress import Progress, no_progress
from optkit.targets.target import Compiled, Session, Target


class Fake(Target):
    """Any model, on a clock of its own: see FakeOptions."""

    name = "fake"
    options_model = "optkit.targets.fake.options:FakeOptions"
    thread_options = ("threads",)
    offered = False
    formats = (*TORCH_FORMATS, "onnx", "openvino")
    tells_operators = True

    def version(self) -> str:
        return "1"

    def default_options(self, *, threads: int | None = None) -> dict[str, Any]:
        return {
            "seconds": 0.010,
            "noise": 0.0,
            "error": 0.0,
            "seed": 0,
            "memory_bytes": 50_000_000,
            "threads": threads or 1,
            "stall": None,
            "operators": [],
            "fault": None,
        }

    def parallel_options(self, *, threads: int, sessions: int = 1) -> dict[str, Any]:
        return {"threads": threads}

    def compile(
        self, model: Model, options: dict[str, Any], workdir: Path, progress: Progress = no_progress
    ) -> Compiled:
        path = workdir / model.path.name
        path.write_bytes(model.path.read_bytes())
        return Compiled(path, model.format, options, ("nothing was compiled: this target is fake",))

    def open(self, model: Model, options: dict[str, Any]) -> Session:
        if model.signature is None:
            raise SignatureError(f"{model.path.name} does not tell its inputs", hint="give them with --input")
        if options.get("fault") == "refuse":
            raise TargetError(f"fake refuses {model.path.name}: no implementation of the operator Mystery (node_7)")
        return FakeSession(model.signature, self.default_options() | options)

    def profile(self, model: Model, options: dict[str, Any], feeds: Sequence[Arrays], seconds: float) -> Profile:
        _fail(options["fault"])
        shown = options["operators"] or [
            {"name": "model", "kind": "Mystery", "seconds": 0.9 * options["seconds"], "precision": "float32"}
        ]
        operators = [{key: _frozen(value) for key, value in fields.items()} for fields in shown]
        return Profile(tuple(Operator(**fields) for fields in operators), len(feeds), options["seconds"])


class FakeSession(Session):
    """Outputs that depend on the inputs alone; a clock that goes on with every run and at no other time."""

    def __init__(self, signature: Signature, options: dict[str, Any]) -> None:
        self.signature = signature
        self._options = options
        self._random = np.random.default_rng(options["seed"])
        # Times differ from process to process, as they do on real targets; outputs do not.
        self._jitter = np.random.default_rng([options["seed"], os.getpid()])
        self._now = 0.0
        self._runs = 0

    def run(self, feed: Arrays) -> Arrays:
        _fail(self._options["fault"])
        self._now += self._options["seconds"] * float(np.exp(self._options["noise"] * self._jitter.standard_normal()))
        self._runs += 1
        if self._options["stall"] and self._runs == self._options["stall"][0]:
            self._now += self._options["stall"][1]
        return {spec.name: self._output(spec, feed) for spec in self.signature.outputs}

    def _output(self, spec: TensorSpec, feed: Arrays) -> Array:
        first = feed[self.signature.inputs[0].name]
        count, *rest = [dim if isinstance(dim, int) else len(first) for dim in spec.shape or (len(first),)]
        means = first.reshape(count, -1).astype(float).mean(axis=1) if first.size else np.zeros(count)
        phases = 1000.0 * means[:, None] + np.arange(int(np.prod(rest)))
        off = self._options["error"] * self._random.standard_normal(phases.shape)
        output: Array = (np.sin(phases) + off).reshape(count, *rest).astype(spec.dtype)
        return output

    def facts(self) -> dict[str, Any]:
        return {"threads": self._options["threads"], "precision": "f32"}

    def clock(self) -> float:
        return self._now

    def wait(self, until: float) -> None:
        self._now = max(self._now, until)

    def sibling(self) -> Session:
        return FakeSession(self.signature, self._options | {"seed": self._options["seed"] + 1})

    def peak_memory_bytes(self) -> int | None:
        memory: int = self._options["memory_bytes"]
        return memory


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _fail(fault: str | None) -> None:
    """Go wrong in the way of native libraries."""
    if fault == "run":
        raise TargetError("fake failed to run the model: Mystery (node_7): bad shape")
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "out of memory":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hang":
        threading.Event().wait()
