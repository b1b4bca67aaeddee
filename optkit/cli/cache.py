"""``optkit cache``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from optkit.cli.app import console_of
from optkit.cli.derive import derived
from optkit.cli.running import carried_out
from optkit.options.verbs.cache import CacheCommand

if TYPE_CHECKING:
    from optkit.cli.console import Block
    from optkit.records.run import Cache, CacheEntry


@derived(CacheCommand)
def cache(ctx: typer.Context, options: CacheCommand) -> None:
    """List or prune, and show the entries."""
    from optkit.verbs.cache import cache as verb

    record = carried_out(ctx, verb, options)
    console_of(ctx).answer(record, lambda: _blocks(record, pruned=options.action == "prune"))


def _blocks(cache: Cache, *, pruned: bool) -> list[Block]:
    from optkit import units
    from optkit.cli.console import Table, Text

    shown = cache.removed if pruned else cache.entries
    table = Table(["entry", "stage", "target", "size", "last used"], _rows(shown))
    freed = units.size(sum(entry.size_bytes for entry in cache.removed))
    removed = f"removed {units.count(len(cache.removed))} entries, {freed}; " if pruned else ""
    left = f"{units.count(len(cache.entries))} entries, {units.size(cache.size_bytes)} in {cache.path}"
    return [*([table] if shown else []), Text(removed + left)]


def _rows(entries: Sequence[CacheEntry]) -> list[list[str]]:
    from optkit import units

    return [
        [
            entry.key[:12],
            entry.stage or "unreadable",
            entry.target or units.UNKNOWN,
            units.size(entry.size_bytes),
            entry.used,
        ]
        for entry in entries
    ]
