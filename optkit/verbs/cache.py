"""``cache``: what the store holds, and less of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from optkit import units
from optkit.errors import UsageError
from optkit.lazy import did_you_mean
from optkit.records.run import Cache, CacheEntry
from optkit.runs.store import Listed, Store

ACTIONS = ("list", "prune")


def cache(
    action: Literal["list", "prune"] = "list",
    *,
    older_than: float | None = None,
    max_bytes: int | None = None,
    all: bool = False,  # noqa: A002  the option's name
) -> Cache:
    """List the store's entries, or remove those unused for ``older_than`` days, beyond ``max_bytes``, or ``all``.

    Raises UsageError, and OutputError while a run uses the store.
    """
    if action not in ACTIONS:
        raise UsageError(f"unknown action {action!r}", hint=did_you_mean(action, list(ACTIONS)))
    limits = (older_than is not None, max_bytes is not None, all)
    if action == "list" and any(limits):
        raise UsageError("cache list removes nothing", hint="optkit cache prune --older-than 30")
    if action == "prune" and not any(limits):
        raise UsageError("cache prune needs to know what to remove", hint="--older-than DAYS, --max-bytes N or --all")
    store = Store()
    pruned = action == "prune"
    removed = store.prune(older_than_days=older_than, max_bytes=max_bytes, everything=all) if pruned else []
    return _record(store, removed)


def _record(store: Store, removed: Sequence[Listed]) -> Cache:
    kept = store.listing()
    return Cache(
        path=str(store.root),
        entries=[_entry(entry) for entry in kept],
        removed=[_entry(entry) for entry in removed],
        size_bytes=sum(entry.size_bytes for entry in kept),
    )


def _entry(entry: Listed) -> CacheEntry:
    used = units.timestamp(datetime.fromtimestamp(entry.used, UTC))
    return CacheEntry(key=entry.key, stage=entry.stage, target=entry.target, size_bytes=entry.size_bytes, used=used)
