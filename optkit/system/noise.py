"""What else the machine did while something was measured: others at work, time taken away, swapping, clock speed."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from optkit.records.machine import GpuRecord
from optkit.system import cgroup, nvidia_smi

_ROOT = Path("/")
_BUSY = slice(0, 3), slice(5, 7)
"""Fields of /proc/stat: user, nice, system; irq, softirq. Between them lie idle and iowait, after them steal."""
_STEAL = 7


@dataclass(frozen=True)
class Conditions:
    """Means over the time watched; ``None`` where the system does not tell."""

    seconds: float
    cores_by_others: float | None = None
    """Cores' worth of time that processes other than this one and its children took, of the cores allowed to it."""
    cores_stolen: float | None = None
    """Cores' worth of time that the hypervisor gave to other machines."""
    throttled_seconds: float | None = None
    """How long the control group's quota held this process back."""
    swapped_bytes: int | None = None
    """What was swapped in or out meanwhile."""
    megahertz: tuple[float, float] | None = None
    """The least and the highest clock speed seen."""
    gpu_throttled: tuple[str, ...] = ()
    """Why a GPU held its clock back at any look, in NVIDIA's words."""
    gpu_megahertz: tuple[float, float] | None = None
    """The least and the highest clock speed seen of the GPU whose clock moved most, of those that had work."""


class Watch:
    """Looks when made, at every ``look``, and at the end. Children must have ended by then for their time to count."""

    def __init__(self, root: Path = _ROOT) -> None:
        self._root = root
        self._megahertz: list[float] = []
        self._gpus: list[list[GpuRecord]] = []
        self._begin = _Counters.read(root)
        self._started = time.perf_counter()

    def look(self, *, gpu: bool = False) -> None:
        """Note how fast the cores run now; and the GPUs, where one is measured: that takes a moment."""
        found = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cgroup.read(self._root / "proc/cpuinfo") or "", re.MULTILINE)
        self._megahertz += [max(map(float, found))] if found else []
        self._gpus += [nvidia_smi.seen()] if gpu else []

    def seen(self) -> Conditions:
        """What happened since the beginning."""
        seconds, end = time.perf_counter() - self._started, _Counters.read(self._root)
        own = end.own - self._begin.own
        busy, stolen = _since(self._begin.busy, end.busy), _since(self._begin.stolen, end.stolen)
        swapped = _since(self._begin.swapped_bytes, end.swapped_bytes)
        return Conditions(
            seconds,
            cores_by_others=None if busy is None else max(0.0, busy - own) / seconds,
            cores_stolen=None if stolen is None else stolen / seconds,
            throttled_seconds=_since(self._begin.throttled, end.throttled),
            swapped_bytes=None if swapped is None else int(swapped),
            megahertz=(min(self._megahertz), max(self._megahertz)) if self._megahertz else None,
            gpu_throttled=tuple(
                sorted({why for look in self._gpus for gpu in look for why in nvidia_smi.throttled(gpu)})
            ),
            gpu_megahertz=_moved(self._gpus),
        )


@dataclass(frozen=True)
class _Counters:
    """The kernel's counters at one moment: seconds and bytes since the machine started."""

    own: float
    busy: float | None
    stolen: float | None
    throttled: float | None
    swapped_bytes: float | None

    @classmethod
    def read(cls, root: Path) -> _Counters:
        cores = _cores(root)
        swapped = re.findall(r"^pswp(?:in|out) (\d+)$", cgroup.read(root / "proc/vmstat") or "", re.MULTILINE)
        return cls(
            own=sum(os.times()[:4]),
            busy=sum(sum(map(sum, (fields[part] for part in _BUSY))) for fields in cores) if cores else None,
            stolen=sum(fields[_STEAL] for fields in cores) if cores else None,
            throttled=cgroup.throttled_seconds(root),
            swapped_bytes=sum(map(int, swapped)) * os.sysconf("SC_PAGE_SIZE") if swapped else None,
        )


def _moved(looks: Sequence[Sequence[GpuRecord]]) -> tuple[float, float] | None:
    clocks: dict[int, list[float]] = {}
    for look in looks:
        for number, gpu in enumerate(look):
            state = gpu.state
            if state and state.sm_megahertz and nvidia_smi.IDLE not in (state.clock_reasons or ()):
                clocks.setdefault(number, []).append(state.sm_megahertz)
    return max(((min(seen), max(seen)) for seen in clocks.values()), key=lambda seen: seen[1] / seen[0], default=None)


def _cores(root: Path) -> list[list[float]]:
    """Seconds by kind of work, for each core that this process may use."""
    lines = re.findall(r"^cpu(\d+) ([\d ]+)$", cgroup.read(root / "proc/stat") or "", re.MULTILINE)
    ticks = os.sysconf("SC_CLK_TCK")
    allowed = cgroup.cores()
    return [[int(field) / ticks for field in fields.split()] for core, fields in lines if int(core) in allowed]


def _since(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
