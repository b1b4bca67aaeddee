"""``optkit doctor``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from optkit.cli.app import console_of
from optkit.cli.console import Block, Table, Text
from optkit.cli.derive import derived
from optkit.cli.running import carried_out
from optkit.options.verbs.doctor import DoctorCommand
from optkit.reports.sheet import Cell

if TYPE_CHECKING:
    from optkit.records.machine import Doctor, GpuRecord, LibraryRecord, Machine, ProviderRecord


@derived(DoctorCommand)
def doctor(ctx: typer.Context, options: DoctorCommand) -> None:
    """Examine the machine, and show what it has; ``-v`` shows all libraries."""
    from optkit.verbs.doctor import doctor as verb

    console = console_of(ctx)
    found = carried_out(ctx, verb, options)
    console.notes(found.notes)
    console.answer(found, lambda: _blocks(found, whole=bool(console.verbose)))


def _blocks(found: Doctor, *, whole: bool) -> list[Block]:
    targets = Table(("target", "version", "state"), [_target(target) for target in found.targets])
    blocks: list[Block] = [Text("This machine", "bold"), Text(_lines(_facts(found.machine))), targets]
    if found.providers:
        blocks.append(Table(("execution provider", "state"), [_provider(each) for each in found.providers]))
    if whole:
        libraries = [(each.name, each.version or "-", each.extra or "core") for each in found.machine.libraries]
        blocks.append(Table(("library", "version", "comes with"), libraries))
    return blocks


def _facts(here: Machine) -> Iterable[tuple[str, str]]:
    from optkit import units

    yield "system", f"{here.system}, Python {here.python}"
    yield "CPU", here.cpu
    yield "instructions", ", ".join(here.isa) or "none that matter to models"
    yield "cores", _of(f"{here.cores_allowed:g}", str(here.cores))
    yield "memory", _of(units.size(here.memory_allowed_bytes), units.size(here.memory_bytes))
    for gpu in here.gpus:
        yield "GPU", _gpu(gpu)
        if state := ", ".join(_state(gpu)):
            yield "GPU", state
    for line in here.noise:
        yield "noise", line


def _of(allowed: str, whole: str) -> str:
    return whole if allowed == whole else f"{allowed} of {whole}, as limits on this process say"


def _gpu(gpu: GpuRecord) -> str:
    from optkit import units

    parts = (gpu.name, units.size(gpu.memory_bytes), f"compute capability {gpu.compute_capability}", gpu.driver)
    return ", ".join(part for part in parts if part)


def _state(gpu: GpuRecord) -> Iterable[str]:
    """Format as ``P0, SM 1980 of 1980 MHz, memory 2619 of 2619 MHz, 97 of 700 W, 34 °C, persistence mode on``."""
    now = gpu.state
    if now is None:
        return
    if now.performance_state:
        yield now.performance_state
    for what, value, most, unit in (
        ("SM ", now.sm_megahertz, gpu.sm_megahertz_max, "MHz"),
        ("memory ", now.memory_megahertz, gpu.memory_megahertz_max, "MHz"),
        ("", now.power_watts, gpu.power_limit_watts, "W"),
        ("", now.celsius, None, "°C"),
    ):
        if value is not None:
            yield f"{what}{value:.0f}{'' if most is None else f' of {most:.0f}'} {unit}"
    for what, on in (("persistence mode", gpu.persistence_mode), ("MIG", gpu.mig_mode)):
        if on is not None:
            yield f"{what} {'on' if on else 'off'}"


def _target(target: LibraryRecord) -> tuple[str, str, Cell]:
    if target.error is None:
        return target.name, target.version or "-", Cell("works", "good")
    return target.name, target.version or "-", Cell(target.error, "" if target.version is None else "bad")


def _provider(provider: ProviderRecord) -> tuple[str, Cell]:
    reason = (provider.error or "").removeprefix(f"{provider.name} ")
    return provider.name, Cell(reason) if reason else Cell("works", "good")


def _lines(pairs: Iterable[tuple[str, str]]) -> str:
    """Align names and values in two columns; a repeated name is shown once."""
    lines, last = [], None
    for name, value in pairs:
        lines.append(f"{'' if name == last else name:<13} {value}")
        last = name
    return "\n".join(lines)
