"""Noise on the machine during a measurement: other processes, stolen time, throttling, swapping, changes of clock."""

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
    """The noise during a measurement; ``None`` for what the system does not report."""

    seconds: float
    """Duration of the measurement."""
    cores_by_others: float | None = None
    """Cores taken on average by processes other than this one and its children, of the cores allowed to it."""
    cores_stolen: float | None = None
    """Cores taken on average by the hypervisor for other machines (steal time)."""
    throttled_seconds: float | None = None
    """Time for which the control group's quota throttled this process."""
    swapped_bytes: int | None = None
    """Bytes swapped in or out."""
    megahertz: tuple[float, float] | None = None
    """The lowest and the highest clock speed observed."""
    gpu_throttled: tuple[str, ...] = ()
    """Reasons for which a GPU throttled its clock in any observation, in NVIDIA's words."""
    gpu_megahertz: tuple[float, float] | None = None
    """The lowest and the highest clock speed of the busy GPU whose clock changed most."""


class Watch:
    """Observes noise from its construction until ``seen``; child processes that run longer count as others."""

    def __init__(self, root: Path = _ROOT) -> None:
        self._root = root
        self._megahertz: list[float] = []
        self._gpus: list[list[GpuRecord]] = []
        self._begin = _Counters.read(root)
        self._started = time.perf_counter()

    def look(self, *, gpu: bool = False) -> None:
        """Record the present clock speed of the cores and, if ``gpu``, the state of the GPUs (which takes a moment)."""
        found = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cgroup.read(self._root / "proc/cpuinfo") or "", re.MULTILINE)
        self._megahertz += [max(map(float, found))] if found else []
        self._gpus += [nvidia_smi.seen()] if gpu else []

    def seen(self) -> Conditions:
        """Return the conditions since the beginning."""
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
    """The kernel's counters at one moment, in seconds and bytes since the machine started."""

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
    """Read the seconds by kind of work, for each core that this process may use."""
    lines = re.findall(r"^cpu(\d+) ([\d ]+)$", cgroup.read(root / "proc/stat") or "", re.MULTILINE)
    ticks = os.sysconf("SC_CLK_TCK")
    allowed = cgroup.cores()
    return [[int(field) / ticks for field in fields.split()] for core, fields in lines if int(core) in allowed]


def _since(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
