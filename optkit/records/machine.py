"""Records of the machine: its fingerprint, its GPUs, its libraries, and ``doctor``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from optkit.notes import Note
from optkit.records.record import Record, Root


class LibraryRecord(Record):
    """An installed or missing library; ``error`` says why it does not import."""

    name: str
    version: str | None
    extra: str | None = None
    error: str | None = None


class GpuState(Record):
    """What of a GPU changes from moment to moment.

    ``utilization`` is the share of about the last second in which it worked, for whomever. ``clock_reasons`` are
    NVIDIA's names of why the clock is no higher.
    """

    sm_megahertz: float | None = None
    memory_megahertz: float | None = None
    power_watts: float | None = None
    performance_state: str | None = None
    celsius: float | None = None
    utilization: float | None = None
    clock_reasons: list[str] | None = None


class GpuRecord(Record):
    """A GPU; ``mig_mode`` says whether it is divided among several."""

    name: str
    memory_bytes: int | None = None
    compute_capability: str | None = None
    driver: str | None = None
    sm_megahertz_max: float | None = None
    memory_megahertz_max: float | None = None
    power_limit_watts: float | None = None
    persistence_mode: bool | None = None
    mig_mode: bool | None = None
    state: GpuState | None = None


class Machine(Record):
    """The fingerprint: what a measurement depends on besides the model."""

    system: str
    python: str
    cpu: str
    isa: list[str]
    cores: int
    cores_allowed: float
    """Cores that affinity and the cgroup quota leave to this process."""
    memory_bytes: int
    memory_allowed_bytes: int
    gpus: list[GpuRecord] = Field(default_factory=list)
    libraries: list[LibraryRecord] = Field(default_factory=list)
    noise: list[str] = Field(default_factory=list)
    """What makes measurements on this machine noisy, a line each."""


class ProviderRecord(Record):
    """An execution provider of the installed ONNX Runtime; ``error`` says why no session opens on it here."""

    name: str
    error: str | None = None
    hint: str | None = None


class Doctor(Root):
    """What this machine has."""

    schema_: Literal["optkit.doctor/1"] = Field("optkit.doctor/1", alias="schema")
    machine: Machine
    targets: list[LibraryRecord]
    providers: list[ProviderRecord] = Field(default_factory=list)
    notes: list[Note] = Field(default_factory=list)
