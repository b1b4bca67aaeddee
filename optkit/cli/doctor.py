"""``optkit doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from optkit.cli.app import console_of

if TYPE_CHECKING:
    from optkit.cli.console import Block
    from optkit.results import Doctor


def doctor(ctx: typer.Context) -> None:
    """Show what this machine has: targets, instruction sets, limits, noise."""
    from optkit.verbs.doctor import doctor as verb

    console = console_of(ctx)
    found = verb()
    console.notes(found.notes)
    console.answer(found, lambda: _blocks(found))


def _blocks(found: Doctor) -> list[Block]:
    from optkit import units
    from optkit.cli.console import Table

    here = found.machine
    facts = [
        ["system", f"{here.system}, Python {here.python}"],
        ["CPU", here.cpu],
        ["instruction sets", ", ".join(here.isa) or "none that matter"],
        ["cores", f"{here.cores_allowed:g} of {here.cores} allowed"],
        ["memory", f"{units.size(here.memory_allowed_bytes)} of {units.size(here.memory_bytes)} allowed"],
        ["GPUs", ", ".join(gpu.name for gpu in here.gpus) or "none"],
        *(["noise", line] for line in here.noise),
    ]
    targets = [[each.name, each.version or "-", f"bad:{each.error}" if each.error else "ok"] for each in found.targets]
    libraries = [[each.name, each.version or "-", each.extra or "core"] for each in here.libraries]
    return [
        Table(["machine", ""], facts),
        Table(["target", "version", "state"], targets),
        Table(["library", "version", "extra"], libraries),
    ]
