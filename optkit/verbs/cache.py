"""``cache``: what the store holds, and less of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from optkit import units
from optkit.errors import UsageError
from optkit.options.calling import takes
from optkit.options.verbs.cache import CacheCommand
from optkit.progress import Progress
from optkit.records.run import Cache, CacheEntry
from optkit.runs.store import Listed, Store


@takes(CacheCommand)
def cache(options: CacheCommand, progress: Progress) -> Cache:
    """List the store's entries, or remove those unused for ``older_than`` days, beyond ``max_bytes``, or ``all``.

    Raises UsageError, and OutputError while a run uses the store.
    """
    older_than, max_bytes, pruned = options.older_than, options.max_bytes, options.action == "prune"
    limited = older_than is not None or max_bytes is not None or options.all
    if limited and not pruned:
        raise UsageError("cache list removes nothing", hint="optkit cache prune --older-than 30")
    if pruned and not limited:
        raise UsageError(
            "cache prune without a limit removes nothing", hint="--older-than DAYS, --max-bytes N or --all"
        )
    store = Store()
    removed = store.prune(older_than_days=older_than, max_bytes=max_bytes, everything=options.all) if pruned else []
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
