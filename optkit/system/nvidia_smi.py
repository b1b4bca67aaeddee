"""The NVIDIA GPUs of this machine and their present state, from ``nvidia-smi``."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

from optkit import units
from optkit.records.machine import GpuRecord, GpuState

_NAMES = ("name", "memory.total", "compute_cap", "driver_version")
_STATE = (
    "clocks.sm", "clocks.max.sm", "clocks.mem", "clocks.max.mem", "power.draw", "power.limit", "pstate",
    "temperature.gpu", "utilization.gpu", "persistence_mode", "mig.mode.current",
)  # fmt: skip
_QUERIES = (
    (*_NAMES, *_STATE, "clocks_event_reasons.active"),
    (*_NAMES, *_STATE, "clocks_throttle_reasons.active"),
    _NAMES,
)
"""The newest driver's first: one field that a driver does not know fails the whole query."""
_TIME_LIMIT = 20

# The bits of NVML's "clocks event reasons".
_REASONS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}
IDLE = "gpu_idle"
_FIXED = "applications_clocks_setting"
_THROTTLES = {
    "sw_power_cap", "hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown",
}  # fmt: skip
_BUSY = 0.1
"""The share of the last second with work from which on it is noise."""


def seen() -> list[GpuRecord]:
    """Return every GPU as it is now; none where there is no ``nvidia-smi``, or it fails. It may take a second."""
    if shutil.which("nvidia-smi") is None:
        return []
    for fields in _QUERIES:
        query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(query, capture_output=True, text=True, timeout=_TIME_LIMIT, check=False)
        except (OSError, subprocess.SubprocessError):
            return []
        if done.returncode == 0:
            rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
            return [_gpu(dict(zip(fields, row, strict=True))) for row in rows if len(row) == len(fields)]
    return []


def throttled(gpu: GpuRecord) -> list[str]:
    """Return the reasons why the GPU holds its clock back now, in NVIDIA's words."""
    reasons = gpu.state.clock_reasons if gpu.state else None
    return [reason for reason in reasons or () if reason in _THROTTLES]


def noise(gpu: GpuRecord) -> Iterator[str]:
    """Yield the sources of noise in measurements on this GPU, a line each."""
    if reasons := throttled(gpu):
        yield f"{gpu.name} is throttled: {', '.join(reasons)}"
    state = gpu.state or GpuState()
    if (state.utilization or 0.0) > _BUSY:
        yield f"work is running on {gpu.name}: busy {units.percent(state.utilization)} of the last second"
    if state.sm_megahertz is not None and _FIXED not in (state.clock_reasons or ()):
        most = f" of {gpu.sm_megahertz_max:.0f}" if gpu.sm_megahertz_max else ""
        yield (
            f"nothing says that the clock of {gpu.name} is locked ({state.sm_megahertz:.0f}{most} MHz now): "
            "sudo nvidia-smi --lock-gpu-clocks=MHZ"
        )


def _gpu(told: dict[str, str]) -> GpuRecord:
    memory = _number(told, "memory.total")  # none where GPU and CPU share it
    return GpuRecord(
        name=told["name"],
        memory_bytes=None if memory is None else int(memory) << 20,
        compute_capability=_text(told, "compute_cap"),
        driver=_text(told, "driver_version"),
        sm_megahertz_max=_number(told, "clocks.max.sm"),
        memory_megahertz_max=_number(told, "clocks.max.mem"),
        power_limit_watts=_number(told, "power.limit"),
        persistence_mode=_enabled(told, "persistence_mode"),
        mig_mode=_enabled(told, "mig.mode.current"),
        state=_state(told) if "pstate" in told else None,
    )


def _state(told: dict[str, str]) -> GpuState:
    busy = _number(told, "utilization.gpu")
    return GpuState(
        sm_megahertz=_number(told, "clocks.sm"),
        memory_megahertz=_number(told, "clocks.mem"),
        power_watts=_number(told, "power.draw"),
        performance_state=_text(told, "pstate"),
        celsius=_number(told, "temperature.gpu"),
        utilization=None if busy is None else busy / 100,
        clock_reasons=_reasons(told),
    )


def _reasons(told: dict[str, str]) -> list[str] | None:
    """Return the names of the bits that are set."""
    text = next((value for name, value in told.items() if name.endswith("_reasons.active")), "")
    try:
        bits = int(text, 16)
    except ValueError:
        return None
    return [name for bit, name in _REASONS.items() if bits & bit]


def _text(told: dict[str, str], field: str) -> str | None:
    """``None`` for ``[N/A]``, ``[Not Supported]`` and the like."""
    text = told.get(field, "")
    return None if not text or text.startswith("[") or text == "N/A" else text


def _number(told: dict[str, str], field: str) -> float | None:
    try:
        return float(_text(told, field) or "")
    except ValueError:
        return None


def _enabled(told: dict[str, str], field: str) -> bool | None:
    text = _text(told, field)
    return None if text is None else text == "Enabled"
