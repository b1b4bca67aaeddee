"""``compare``: quality, speed and size side by side, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optkit.data import dataset as datasets
from optkit.measurement import comparison
from optkit.measurement.candidate import TIME_LIMIT, candidate
from optkit.metrics.statistics import PRECISION
from optkit.progress import Progress, no_progress
from optkit.records.comparison import Comparison


def compare(
    baseline: str | Path,
    candidates: Sequence[str | Path],
    *,
    data: str | Path | None = None,
    metric: str | None = None,
    max_drop: float | None = None,
    target: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    batch: int = 1,
    seconds: float = 10.0,
    precision: float = PRECISION,
    seed: int = 0,
    inputs: tuple[str, ...] = (),
    code: str | None = None,
    trust: bool = False,
    time_limit: float = TIME_LIMIT,
    progress: Progress = no_progress,
) -> Comparison:
    """Compare ``candidates`` with ``baseline``; each is a path, a bundle or ``PATH@TARGET``.

    ``inputs``, ``code`` and ``trust`` apply to every model that needs them. Raises OptkitError.
    """
    opened = [
        candidate(
            source,
            target=target,
            device=device,
            threads=threads,
            inputs=inputs,
            code=code,
            trust=trust,
            time_limit=time_limit,
        )
        for source in (baseline, *candidates)
    ]
    signature = opened[0].model.signature
    dataset = None if data is None else datasets.open(data, None if signature is None else signature.inputs)
    return comparison.side_by_side(
        opened,
        dataset=dataset,
        metric=metric,
        max_drop=max_drop,
        batch=batch,
        seconds=seconds,
        precision=precision,
        seed=seed,
        threads=threads,
        progress=progress,
    )
