"""Records of the machine: its fingerprint, its GPUs, its libraries, and ``doctor``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from optkit.notes import Note
from optkit.records.record import Record, Root


class LibraryRecord(Record):
    """An installed or missing library."""

    name: str
    """The library's name on PyPI or, in the list of targets, the target's name."""
    version: str | None
    """The installed version; null where the library is missing."""
    extra: str | None = None
    """The extra of optkit that installs it; null where none does."""
    error: str | None = None
    """The reason why it does not import; null where it does, and where no import was tried."""


class GpuState(Record):
    """The state of a GPU at one moment."""

    sm_megahertz: float | None = None
    """Clock of the multiprocessors in MHz; null where unknown."""
    memory_megahertz: float | None = None
    """Clock of the memory in MHz; null where unknown."""
    power_watts: float | None = None
    """Power draw in watts; null where unknown."""
    performance_state: str | None = None
    """NVIDIA's performance state, from ``P0`` (fastest) to ``P15``; null where unknown."""
    celsius: float | None = None
    """Temperature in degrees Celsius; null where unknown."""
    utilization: float | None = None
    """Share of about the last second in which the GPU worked, for any process, from 0 to 1; null where unknown."""
    clock_reasons: list[str] | None = None
    """NVIDIA's names of the reasons why the clock is no higher: ``sw_power_cap``, ``gpu_idle``, …; null where unknown.
    """


class GpuRecord(Record):
    """A GPU, as ``nvidia-smi`` describes it."""

    name: str
    """The product's name."""
    memory_bytes: int | None = None
    """Memory of the device in bytes; null where it shares the CPU's."""
    compute_capability: str | None = None
    """CUDA compute capability: ``9.0``; null where unknown."""
    driver: str | None = None
    """Version of the driver; null where unknown."""
    sm_megahertz_max: float | None = None
    """Highest clock of the multiprocessors in MHz; null where unknown."""
    memory_megahertz_max: float | None = None
    """Highest clock of the memory in MHz; null where unknown."""
    power_limit_watts: float | None = None
    """Limit of the power draw in watts; null where unknown."""
    persistence_mode: bool | None = None
    """True if the driver stays loaded between processes; null where unknown."""
    mig_mode: bool | None = None
    """True if the GPU is divided into instances (MIG); null where unknown."""
    state: GpuState | None = None
    """Clocks, power and temperature at the time of the record; null where the driver does not report them."""


class Machine(Record):
    """The fingerprint: all that a measurement depends on besides the model."""

    system: str
    """Operating system and release of its kernel."""
    python: str
    """Version of Python."""
    cpu: str
    """The processor's name."""
    isa: list[str]
    """Instruction sets that matter to models, sorted: ``avx512_vnni``, ``amx_int8``, …"""
    cores: int
    """Logical cores of the machine."""
    cores_allowed: float
    """Cores that affinity and the cgroup quota leave to this process."""
    memory_bytes: int
    """Memory of the machine in bytes."""
    memory_allowed_bytes: int
    """Memory that the cgroup leaves to this process, in bytes."""
    gpus: list[GpuRecord] = Field(default_factory=list)
    """NVIDIA GPUs; empty where ``nvidia-smi`` is missing or fails."""
    libraries: list[LibraryRecord] = Field(default_factory=list)
    """The libraries that results depend on, missing ones included."""
    noise: list[str] = Field(default_factory=list)
    """Causes of noisy measurements on this machine, a line each."""


class ProviderRecord(Record):
    """An execution provider of the installed ONNX Runtime."""

    name: str
    """ONNX Runtime's name of the provider."""
    error: str | None = None
    """The reason why no session opens on it here; null where one does."""
    hint: str | None = None
    """A remedy for the error; null where none is known."""


class Doctor(Root):
    """The machine, the targets that work on it, and advice on what is missing."""

    schema_: Literal["optkit.doctor/1"] = Field("optkit.doctor/1", alias="schema")
    """Kind of the record and version of its format."""
    machine: Machine
    """The fingerprint of this machine."""
    targets: list[LibraryRecord]
    """Each target's runtime, imported in a process of its own."""
    providers: list[ProviderRecord] = Field(default_factory=list)
    """The execution providers of ONNX Runtime; empty where it is missing or crashes."""
    notes: list[Note] = Field(default_factory=list)
    """Advice: missing and broken libraries, limits of the processor and the GPUs."""
