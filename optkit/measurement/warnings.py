"""Warnings about measurements: each names the cause of noise or bias and the option that helps.

Their ``kind`` stays the same for reports, the gate and tests; docs/measuring.md has a section on each kind.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator, Sequence
from typing import Any

from optkit import units
from optkit.measurement.candidate import Candidate
from optkit.measurement.timing import Measurement, Timing
from optkit.metrics import statistics
from optkit.notes import Note
from optkit.system import cgroup
from optkit.system.noise import Conditions
from optkit.targets.target import target

_NEIGHBOUR = 0.1
"""Cores taken by others from which on a warning is given: a tenth of a core moves medians by percents."""
_CLOCK = 1.05
"""Ratio of clock speeds up to which a change is the kernel's rounding."""


def find_warnings(measurement: Measurement, *, seconds: float, precision: float) -> list[Note]:
    """Find all warnings about a measurement that had ``seconds`` to reach ``precision``."""
    alive = [timing for timing in measurement.timings if timing.reason is None]
    return [
        *machine_warnings(measurement.conditions, max((_threads(timing) for timing in alive), default=1)),
        *(note for each in alive for note in session_warnings(each.candidate, each.facts, _threads(each))),
        *_spread_warnings(alive, seconds, precision),
    ]


def machine_warnings(seen: Conditions, threads: int) -> Iterator[Note]:
    """Warn of noise on the machine while models ran with ``threads`` threads in all."""
    if (seen.cores_by_others or 0.0) > _NEIGHBOUR:
        there = len(cgroup.cores()) or cgroup.cores_allowed()
        yield _warning(
            "noisy-neighbour",
            f"other programs took {seen.cores_by_others:.1f} of {there:g} cores meanwhile: end them"
            + (f", or leave them a core: --threads {threads - 1}" if threads > 1 else ""),
        )
    if (seen.cores_stolen or 0.0) > _NEIGHBOUR:
        yield _warning(
            "stolen-time",
            f"the hypervisor gave {seen.cores_stolen:.1f} cores' worth of time to others: measure longer (--seconds)",
        )
    if seen.throttled_seconds:
        allowed = max(1, int(cgroup.cores_allowed()))
        yield _warning(
            "quota",
            f"the control group's CPU quota throttled this process for {units.seconds(seen.throttled_seconds)}: "
            f"--threads {allowed}",
        )
    if seen.megahertz and seen.megahertz[1] > _CLOCK * seen.megahertz[0]:
        low, high = seen.megahertz
        yield _warning(
            "frequency",
            f"the processor's clock moved between {low:.0f} and {high:.0f} MHz: fix it (governor performance, no "
            "boost), or measure longer (--seconds)",
        )
    yield from _gpu_warnings(seen)
    if seen.swapped_bytes:
        size = units.size(seen.swapped_bytes)
        yield _warning("swap", f"{size} of memory was swapped meanwhile: compare fewer models at a time")
    if sysconfig.get_config_var("Py_DEBUG"):
        yield _warning("debug-build", "this Python is a debug build: use a release build")


def _gpu_warnings(seen: Conditions) -> Iterator[Note]:
    if seen.gpu_throttled:
        yield _warning(
            "gpu-throttled",
            f"the GPU throttled its clock ({', '.join(seen.gpu_throttled)}): cool it, or lock a clock that it keeps "
            "(sudo nvidia-smi --lock-gpu-clocks=MHZ)",
        )
    if seen.gpu_megahertz and seen.gpu_megahertz[1] > _CLOCK * seen.gpu_megahertz[0]:
        low, high = seen.gpu_megahertz
        yield _warning(
            "gpu-frequency",
            f"the GPU's clock moved between {low:.0f} and {high:.0f} MHz: lock it (sudo nvidia-smi "
            "--lock-gpu-clocks=MHZ), or measure longer (--seconds)",
        )


def session_warnings(candidate: Candidate, facts: dict[str, Any], threads: int) -> Iterator[Note]:
    """Warn of slow settings of a session, by its ``facts``, and of more ``threads`` in all than cores allowed."""
    allowed = cgroup.cores_allowed()
    if threads > allowed:
        text = f"{threads} threads share {allowed:g} cores: --threads {max(1, int(allowed))}"
        yield _warning("too-many-threads", text, candidate.name)
    if facts.get("build") == "Debug":
        yield _warning("debug-build", f"this {candidate.target} is a debug build: use a release build", candidate.name)
    for kind, text in target(candidate.target).warnings(candidate.options, facts):
        yield _warning(kind, text, candidate.name)


def _threads(timing: Timing) -> int:
    """Return the number of threads of all sessions together."""
    found = timing.facts.get("threads")
    return found if isinstance(found, int) else 1


def _spread_warnings(timings: Sequence[Timing], seconds: float, precision: float) -> Iterator[Note]:
    """Warn of intervals wider than asked for, with the time needed: widths shrink with the square root of the time."""
    for timing in timings:
        interval = timing.speedup or (timing.throughput if len(timings) == 1 else None)
        if interval is None or statistics.half_width(interval) <= precision:
            continue
        width = statistics.half_width(interval)
        needed = seconds * (width / precision) ** 2
        yield _warning(
            "spread",
            f"the interval is still ±{units.percent(width)}, wider than --precision {precision:g}: about --seconds "
            f"{units.one_digit(needed)} would be enough",
            timing.candidate.name,
        )


def _warning(kind: str, text: str, where: str | None = None) -> Note:
    return Note(text, where, level="warning", kind=kind)
