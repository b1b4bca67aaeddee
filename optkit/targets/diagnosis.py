"""The diagnosis behind ``doctor``: which runtimes import, which providers open a session, and why not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from optkit import lazy
from optkit.formats import tensorrt_engine
from optkit.notes import Note
from optkit.records.machine import LibraryRecord, Machine, ProviderRecord
from optkit.system import fingerprint, native
from optkit.targets.tensorrt import library as tensorrt_library


@dataclass(frozen=True)
class Runtime:
    """The libraries of a target: the first of ``modules`` that is installed; the extra that brings it, if one does."""

    name: str
    modules: tuple[str, ...]
    extra: str | None = None


RUNTIMES = (
    Runtime("onnxruntime", ("onnxruntime",)),
    Runtime("openvino", ("openvino",), "openvino"),
    Runtime("torch", ("torch",), "torch"),
    Runtime("tensorrt", tensorrt_library.MODULES, "tensorrt-rtx"),
)


_TIME_LIMIT = 120


_NOT_INSTALLED = "not installed"


def tried(runtime: Runtime) -> LibraryRecord:
    """Import the runtime in a process of its own, which it may crash."""
    modules = [module for module in runtime.modules if lazy.available(module)]
    found = LibraryRecord(name=runtime.name, version=None, extra=runtime.extra, error=_NOT_INSTALLED)
    for module in modules:
        version, error = _imported(module)
        version = fingerprint.version(module) or version
        found = LibraryRecord(name=runtime.name, version=version, extra=runtime.extra, error=error)
        if error is None:
            break
    return found


def _imported(module: str) -> tuple[str | None, str | None]:
    """Return the version that the module tells, and the reason why it does not import."""
    done = _run(f"import {module}; print(getattr({module}, '__version__', ''))")
    if done is None:
        return None, f"does not import within {_TIME_LIMIT} s"
    if done.returncode:
        return None, _reason(done, "on import")
    return done.stdout.strip() or None, None


def tried_providers() -> tuple[list[ProviderRecord], list[Note]]:
    """Open a session on each execution provider of onnxruntime, in a process that this may crash; notes say what to do
    where one fails.
    """
    if not lazy.available("onnxruntime"):
        return [], []
    root = str(Path(__file__).parents[2])
    code = f"import sys, json; sys.path.append({root!r}); from optkit.targets.onnxruntime.target import states"
    done = _run(f"{code}; print(json.dumps(list(states())))")
    if done is None or done.returncode:
        reason = f"no answer within {_TIME_LIMIT} s" if done is None else _reason(done, "when its providers are tried")
        return [], [Note(text=reason, where="onnxruntime", level="warning")]
    answers = json.loads(done.stdout.splitlines()[-1])
    found = [ProviderRecord(name=name, error=error, hint=hint) for name, error, hint in answers]
    return found, [Note(text=each.hint, where=each.name) for each in found if each.hint]


def _run(code: str) -> subprocess.CompletedProcess[str] | None:
    """Run Python code in a process of its own; return None where it takes too long."""
    # In a folder of its own, so that no file in the user's folder is taken for a library.
    with tempfile.TemporaryDirectory() as folder:
        try:
            return subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True, text=True, errors="replace", timeout=_TIME_LIMIT, cwd=folder, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None


def _reason(done: subprocess.CompletedProcess[str], when: str) -> str:
    if done.returncode < 0:
        return f"crashes {when}: {signal.Signals(-done.returncode).name}"
    last = done.stderr.strip().rpartition("\n")[2]
    return native.readable(last) or f"ends with exit code {done.returncode} {when}"


def of_libraries(here: Machine, targets: Sequence[LibraryRecord]) -> Iterable[Note]:
    """Notes on missing libraries, with the command that brings them, on broken ones, and on those that conflict."""
    missing: dict[str, list[str]] = {}
    for library in (*targets, *here.libraries):
        if library.extra is not None and library.version is None and library.error in (None, _NOT_INSTALLED):
            missing.setdefault(library.extra, []).append(library.name)
    for extra, names in missing.items():
        one = "is" if len(set(names)) == 1 else "are"
        text = f"{', '.join(dict.fromkeys(names))} {one} not installed: {lazy.pip_command(extra)}"
        yield Note(text=text)
    for target in targets:
        if target.error not in (None, _NOT_INSTALLED):
            text = f"is installed and does not work: {target.error}"
            yield Note(text=text, where=target.name, level="warning")
    if all(fingerprint.version(name) for name in ("onnxruntime", "onnxruntime-gpu")):
        text = "onnxruntime and onnxruntime-gpu overwrite each other's files: uninstall both, install one"
        yield Note(text=text, where="onnxruntime", level="warning")


def of_cpu(here: Machine, targets: Sequence[LibraryRecord]) -> Iterable[Note]:
    """Notes on what the processor does to quantized models."""
    if fingerprint.saturates(here.isa):
        text = "no VNNI: INT8 sums saturate on this CPU, so the same INT8 file computes something else than elsewhere"
        yield Note(text=f"{text}, and INT8 gains less speed", where="CPU", level="warning")
    working = {target.name for target in targets if target.error is None}
    if "openvino" in working and fingerprint.computes_bf16(here.isa):
        text = "this CPU has bf16, and OpenVINO chooses it by itself; optkit sets the precision that it measured"
        yield Note(text=text, where="openvino")


def of_gpus(here: Machine, targets: Sequence[LibraryRecord]) -> Iterable[Note]:
    """Notes on which TensorRT is installed, and on GPUs that it does not know."""
    working = next((each for each in targets if each.name == "tensorrt" and each.error is None), None)
    if working is None or working.version == fingerprint.version("tensorrt"):
        return
    known = tensorrt_engine.CAPABILITIES
    yield Note(
        text=f"it is TensorRT-RTX, which builds engines without a GPU, for compute capability {', '.join(known)}",
        where="tensorrt",
    )
    for gpu in here.gpus:
        if gpu.compute_capability not in known:
            text = f"TensorRT-RTX knows no compute capability {gpu.compute_capability}: install tensorrt in its place"
            yield Note(text=text, where=gpu.name, level="warning")
