"""CPU and memory limits of this process, by affinity and Linux control groups (versions 1 and 2), as in containers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class Limits:
    """The limits of control groups; ``None`` for no limit."""

    cpus: float | None = None
    """Quota of CPU time, in cores."""
    memory_bytes: int | None = None


@cache
def cores() -> tuple[int, ...]:
    """Return the numbers of the cores that this process may run on; empty if the system does not report them.

    Read once per process, because OpenVINO at times pins the thread that calls it.
    """
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def affinity() -> int:
    """Count the cores that this process may run on."""
    return len(cores()) or os.cpu_count() or 1


def cores_allowed(root: Path = Path("/")) -> float:
    """Return the cores that affinity and the control groups' quota allow this process, as a fraction if need be."""
    quota = limits(root).cpus
    return float(affinity()) if quota is None else min(float(affinity()), quota)


def limits(root: Path = Path("/")) -> Limits:
    """Return the tightest limits of this process's groups and of all groups above them."""
    return Limits(
        cpus=_least(_cpus_of(folder) for folder in _folders(root, "cpu")),
        memory_bytes=_least(_memory_of(folder) for folder in _folders(root, "memory")),
    )


def throttled_seconds(root: Path = Path("/")) -> float | None:
    """Return the seconds for which quotas have throttled this process's groups since these were made."""
    stats = [read(folder / "cpu.stat") or "" for folder in _folders(root, "cpu")]
    # Version 2 counts microseconds, version 1 nanoseconds.
    found = [re.search(r"^throttled_(usec|time) (\d+)$", text, re.MULTILINE) for text in stats]
    times = [int(match[2]) * (1e-6 if match[1] == "usec" else 1e-9) for match in found if match]
    return max(times, default=None)


def read(path: Path) -> str | None:
    """Read a file of the kernel, stripped; ``None`` if it cannot be read."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Iterate over the group's folder and those above it, in all hierarchies that may hold the controller."""
    mounts = root / "sys/fs/cgroup"
    for line in (read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # Version 2 has one hierarchy; beside version 1 it is mounted as "unified".
        tops = (mounts / controllers, mounts / controller) if controllers else (mounts, mounts / "unified")
        inside = Path(group.lstrip("/"))
        for top in dict.fromkeys(tops):
            # In a container the group's path may be the host's, and the mount begin at the group itself.
            yield from (top / part for part in (inside, *inside.parents) if (top / part).is_dir())


def _cpus_of(folder: Path) -> float | None:
    both = read(folder / "cpu.max")
    if both is not None:
        quota, _, period = both.partition(" ")
    else:
        quota, period = (read(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period"))
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _memory_of(folder: Path) -> int | None:
    text = read(folder / "memory.max") or read(folder / "memory.limit_in_bytes") or ""
    return int(text) if text.isdigit() else None


def _least(values: Iterator[_Number | None]) -> _Number | None:
    return min((value for value in values if value is not None), default=None)
