"""The fingerprint of this machine: what a measurement depends on besides the model, and what makes it noisy here."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

from optkit.results import GpuRecord, LibraryRecord, Machine

LIBRARIES = {
    "onnxruntime": None,
    "onnx": None,
    "numpy": None,
    "torch": "torch",
    "onnxscript": "torch",
    "openvino": "openvino",
    "nncf": "openvino",
    "neural-compressor": "neural-compressor",
    "tokenizers": "text",
}
"""The libraries that results depend on, with the extra that brings each."""

_ISA = {
    "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "bf16", "sve",
}  # fmt: skip
_CGROUP = Path("/sys/fs/cgroup")
_BUSY = 0.25
"""A load of a quarter of a core by others is enough to move medians by percents."""


def fingerprint() -> Machine:
    """This machine as a record; cheap, imports no runtime."""
    name, flags = _cpu()
    memory = psutil.virtual_memory().total
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        cpu=name,
        isa=sorted(flags & _ISA),
        cores=os.cpu_count() or 1,
        cores_allowed=cores_allowed(),
        memory_bytes=memory,
        memory_allowed_bytes=min(memory, _memory_limit() or memory),
        gpus=_gpus(),
        libraries=[
            LibraryRecord(name=library, version=version(library), extra=LIBRARIES[library]) for library in LIBRARIES
        ],
        noise=_noise(flags),
    )


def cores_allowed() -> float:
    """Cores that affinity and the cgroup's quota leave to this process."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota()
    return float(affinity) if quota is None else min(float(affinity), quota)


def isa() -> frozenset[str]:
    """The instruction sets of this CPU that matter to models: ``avx512_vnni``, ``amx_int8``, …"""
    return frozenset(_cpu()[1] & _ISA)


def version(library: str) -> str | None:
    """The installed version of a library by its name on PyPI, without importing it."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> tuple[str, set[str]]:
    text = _read(Path("/proc/cpuinfo")) or ""
    fields = [line.partition(":") for line in text.splitlines()]
    found = {key.strip().lower(): value.strip() for key, _, value in reversed(fields)}
    flags = set((found.get("flags") or found.get("features") or "").split())
    return found.get("model name") or platform.processor() or platform.machine(), flags


def _cpu_quota() -> float | None:
    text = _read(_CGROUP / "cpu.max")
    if text is not None:
        quota, _, period = text.strip().partition(" ")
    else:
        quota = (_read(_CGROUP / "cpu/cpu.cfs_quota_us") or "-1").strip()
        period = (_read(_CGROUP / "cpu/cpu.cfs_period_us") or "100000").strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _memory_limit() -> int | None:
    text = _read(_CGROUP / "memory.max") or _read(_CGROUP / "memory/memory.limit_in_bytes") or ""
    return int(text) if text.strip().isdigit() else None


def _gpus() -> list[GpuRecord]:
    query = ["nvidia-smi", "--query-gpu=name,memory.total,compute_cap,driver_version", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.splitlines() if line.count(",") == 3]
    return [
        GpuRecord(name=name, memory_bytes=int(float(mebibytes) * 2**20), compute_capability=capability, driver=driver)
        for name, mebibytes, capability, driver in rows
    ]


def _noise(flags: set[str]) -> list[str]:
    found = []
    load = os.getloadavg()[0]
    if load > _BUSY:
        found.append(f"other work is running: load {load:.2f}")
    if cores_allowed() < len(os.sched_getaffinity(0)):
        found.append(f"a cgroup quota of {cores_allowed():.1f} cores interrupts work that uses more")
    if "hypervisor" in flags:
        found.append("a virtual machine: neighbours can take its time")
    governor = (_read(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")) or "performance").strip()
    if governor != "performance":
        found.append(f"the CPU's frequency moves: governor {governor}")
    if psutil.swap_memory().used:
        found.append("memory has been swapped out")
    return found


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None
