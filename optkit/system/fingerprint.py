"""The fingerprint of this machine: all that a measurement depends on besides the model, and sources of noise."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Collection, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from optkit.lazy import Library
from optkit.records.machine import GpuRecord, LibraryRecord, Machine
from optkit.system import cgroup, nvidia_smi

LIBRARIES = (
    Library("onnx"),
    Library("numpy"),
    Library("neural-compressor", "neural-compressor"),
    Library("torchao", "neural-compressor"),
    Library("torch-pruning", "training"),
    Library("tokenizers", "text", writes=False),
)
"""The libraries that results depend on besides those of targets."""

# Flags that decide the speed or the result of quantized models: by the kernel's name, by ours.
_ISA = {
    name: name
    for name in (
        "avx2", "fma", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16",
        "asimddp", "i8mm", "bf16", "sve", "sve2",
    )
} | {"asimd": "neon"}  # fmt: skip
_X86 = {"avx2", "avx512f"}
_VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}
_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
_ROOT = Path("/")
_BUSY = 0.25
"""A load of a quarter of a core by others is enough to move medians by percents."""


def fingerprint(root: Path = _ROOT, *, libraries: Iterable[Library] = ()) -> Machine:
    """This machine as a record, with the versions of ``libraries`` and of optkit's own; cheap, imports no runtime.

    ``root`` is the folder that holds ``/proc`` and ``/sys``.
    """
    name, flags = _cpu(root)
    memory = _memory(root)
    limit = cgroup.limits(root).memory_bytes
    found = nvidia_smi.seen()
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        cpu=name,
        isa=sorted(isa(root)),
        cores=os.cpu_count() or 1,
        cores_allowed=cgroup.cores_allowed(root),
        memory_bytes=memory,
        memory_allowed_bytes=memory if limit is None else min(memory, limit),
        gpus=found,
        libraries=[
            LibraryRecord(name=each.name, version=version(each.name), extra=each.extra)
            for each in (*libraries, *LIBRARIES)
            if each.replaces is None or version(each.name)
        ],
        noise=[*_noise(flags, root), *(line for gpu in found for line in nvidia_smi.noise(gpu))],
    )


def memory_allowed(root: Path = _ROOT) -> int:
    """Bytes of memory that the machine and the control group leave to this process."""
    memory, limit = _memory(root), cgroup.limits(root).memory_bytes
    return memory if limit is None else min(memory, limit)


def isa(root: Path = _ROOT) -> frozenset[str]:
    """Return the instruction sets of this CPU that matter to models: ``avx512_vnni``, ``amx_int8``, …"""
    return frozenset(_ISA[flag] for flag in _cpu(root)[1] & _ISA.keys())


def saturates(instructions: Collection[str] | None = None) -> bool:
    """True if sums of 8-bit products go through 16 bits, and saturate there: on x86 before VNNI. By default, here."""
    found = isa() if instructions is None else set(instructions)
    return bool(_X86 & found) and not _VNNI & found


def computes_bf16(instructions: Collection[str] | None = None) -> bool:
    """True if a CPU with these instruction sets, by default this one, computes in bf16."""
    return bool(_BF16 & (isa() if instructions is None else set(instructions)))


def version(library: str) -> str | None:
    """Return the installed version of a library by its name on PyPI, without importing it."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def settled(here: Machine) -> dict[str, Any]:
    """Return the properties of a machine that stay from moment to moment, as plain JSON values."""
    return here.model_dump(mode="json", exclude={"noise": True, "gpus": {"__all__": {"state"}}})


def differences(one: Machine, other: Machine) -> list[str]:
    """Lines on each property that speed and memory depend on and that differs between the machines."""
    found = [
        f"{name}: {before} there, {now} here"
        for name in ("cpu", "cores_allowed")
        if (before := getattr(one, name)) != (now := getattr(other, name))
    ]
    if one.isa != other.isa:
        found.append(f"instruction sets: {', '.join(sorted(set(one.isa) ^ set(other.isa)))} on one of them only")
    versions = {library.name: library.version for library in other.libraries}
    found += [
        f"{library.name}: {library.version} there, {versions[library.name]} here"
        for library in one.libraries
        if library.version and versions.get(library.name) not in (None, library.version)
    ]
    return found + _gpu_differences(one.gpus, other.gpus)


def _gpu_differences(there: Sequence[GpuRecord], here: Sequence[GpuRecord]) -> list[str]:
    names = [", ".join(gpu.name for gpu in each) or "none" for each in (there, here)]
    if names[0] != names[1]:
        return [f"GPU: {names[0]} there, {names[1]} here"]
    facts = [
        (f"{before.name}, {what}", getattr(before, field), getattr(now, field), unit)
        for before, now in zip(there, here, strict=True)
        for what, field, unit in (("driver", "driver", ""), ("power limit", "power_limit_watts", " W"))
    ]
    return [
        f"{what}: {_told(before)}{unit} there, {_told(now)}{unit} here"
        for what, before, now, unit in facts
        if before is not None and now is not None and before != now
    ]


def _told(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _cpu(root: Path) -> tuple[str, set[str]]:
    """Return the name and the flags of the first core; ARM's kernel gives numbers for a name."""
    first, _, _ = (cgroup.read(root / "proc/cpuinfo") or "").partition("\n\n")
    pairs = (line.partition(":") for line in first.splitlines())
    found = {key.strip().lower(): value.strip() for key, _, value in pairs}
    flags = set((found.get("flags") or found.get("features") or "").split())
    if "cpu part" in found:
        return f"{platform.machine()} implementer {found['cpu implementer']} part {found['cpu part']}", flags
    return found.get("model name") or platform.processor() or platform.machine(), flags


def _memory(root: Path) -> int:
    kilobytes = _meminfo(root).get("MemTotal")
    if kilobytes is None:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return kilobytes * 1024


def _meminfo(root: Path) -> dict[str, int]:
    lines = re.findall(r"^(\w+):\s+(\d+) kB", cgroup.read(root / "proc/meminfo") or "", re.MULTILINE)
    return {name: int(kilobytes) for name, kilobytes in lines}


def _noise(flags: set[str], root: Path) -> list[str]:
    found = []
    affinity, allowed, memory = cgroup.affinity(), cgroup.cores_allowed(root), _meminfo(root)
    load = float((cgroup.read(root / "proc/loadavg") or "0").split()[0])
    if load > _BUSY:
        found.append(f"other work is running: load {load:.2f} over the last minute, on {affinity} cores")
    if allowed < affinity:
        found.append(f"a cgroup quota of {allowed:g} cores: work on more of the {affinity} is interrupted")
    if "hypervisor" in flags:
        found.append("a virtual machine: neighbours can take its time")
    if cgroup.read(root / "sys/devices/system/cpu/smt/active") == "1":
        found.append("SMT is on: two threads share one core")
    governor = cgroup.read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "performance"
    if governor != "performance":
        found.append(f"the CPU's frequency moves: governor {governor}")
    if memory.get("SwapTotal", 0) > memory.get("SwapFree", 0):
        found.append("memory has been swapped out")
    return found
