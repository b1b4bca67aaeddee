"""``optkit cache``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from optkit.cli.app import console_of

if TYPE_CHECKING:
    from optkit.cli.console import Block
    from optkit.records.run import Cache, CacheEntry


def cache(
    ctx: typer.Context,
    action: Annotated[str, typer.Argument(metavar="list|prune", help="Show the entries, or remove some.")] = "list",
    older_than: Annotated[
        float | None, typer.Option("--older-than", metavar="DAYS", min=0, help="Remove what was not used for so long.")
    ] = None,
    max_bytes: Annotated[
        int | None, typer.Option("--max-bytes", min=0, help="Remove the longest unused until the rest fits.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Remove everything.")] = False,
) -> None:
    """List what the store of finished stages holds, or prune it."""
    from optkit.verbs.cache import cache as verb

    record = verb(action, older_than=older_than, max_bytes=max_bytes, all=all_)  # type: ignore[arg-type]
    console_of(ctx).answer(record, lambda: _blocks(record, pruned=action == "prune"))


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
