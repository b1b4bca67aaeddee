"""``benchmark``: latency percentiles, throughput and peak memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optkit import comparison
from optkit import data as datasets
from optkit.results import Comparison
from optkit.stage import Progress, no_progress
from optkit.worker import candidate


def benchmark(
    models: str | Path | Sequence[str | Path],
    *,
    batch: int | Sequence[int] = 1,
    data: str | Path | None = None,
    target: str | None = None,
    threads: int | None = None,
    seconds: float = 10.0,
    seed: int = 0,
    inputs: tuple[str, ...] = (),
    code: str | None = None,
    trust: bool = False,
    progress: Progress = no_progress,
) -> Comparison:
    """Time one or several models (a path, a bundle or ``PATH@TARGET``), at one or several batch sizes.

    The rows of each batch size are compared with the first model at that size. Raises OptkitError.
    """
    sources = [models] if isinstance(models, str | Path) else list(models)
    opened = [
        candidate(source, target=target, threads=threads, inputs=inputs, code=code, trust=trust) for source in sources
    ]
    signature = opened[0].model.signature
    dataset = None if data is None else datasets.open(data, None if signature is None else signature.inputs)
    return _joined(
        [
            comparison.side_by_side(
                opened,
                dataset=dataset,
                with_quality=False,
                batch=size,
                seconds=seconds,
                seed=seed,
                threads=threads,
                progress=progress,
            )
            for size in ([batch] if isinstance(batch, int) else batch)
        ]
    )


def _joined(parts: Sequence[Comparison]) -> Comparison:
    """One record of the batch sizes that were measured after each other."""
    first = parts[0]
    notes = [note for index, part in enumerate(parts) for note in part.notes if note not in parts[index - 1].notes]
    return first.model_copy(
        update={
            "rows": [row for part in parts for row in part.rows],
            "rounds": sum(part.rounds for part in parts),
            "seconds": sum(part.seconds for part in parts),
            "notes": notes if len(parts) > 1 else first.notes,
        }
    )
