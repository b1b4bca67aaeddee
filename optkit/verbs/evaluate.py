"""``evaluate``: the quality of one model, alone or against a reference."""

from __future__ import annotations

import time
from pathlib import Path

from optkit.data import dataset as datasets
from optkit.measurement import comparison, quality, recording
from optkit.measurement.candidate import candidate
from optkit.progress import Progress, no_progress
from optkit.records.comparison import Evaluation
from optkit.system import fingerprint


def evaluate(
    model: str | Path,
    *,
    data: str | Path,
    reference: str | Path | None = None,
    metric: str | None = None,
    target: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    batch: int = 1,
    seed: int = 0,
    inputs: tuple[str, ...] = (),
    code: str | None = None,
    trust: bool = False,
    progress: Progress = no_progress,
) -> Evaluation:
    """Assess ``model`` on ``data``; with ``reference`` also what it lost against that. Raises OptkitError."""
    started = time.monotonic()
    sources = [model] if reference is None else [reference, model]
    opened = comparison.with_distinct_names(
        [
            candidate(source, target=target, device=device, threads=threads, inputs=inputs, code=code, trust=trust)
            for source in sources
        ]
    )
    signature = opened[0].model.signature
    dataset = datasets.open(data, None if signature is None else signature.inputs)
    assessed = quality.assess(opened, dataset, metric, batch=batch, seed=seed, progress=progress)
    if assessed[-1].error is not None:
        raise assessed[-1].error
    rows = [comparison.row(entry, found, batch=batch) for entry, found in zip(opened, assessed, strict=True)]
    return Evaluation(
        row=rows[-1],
        reference=None if reference is None else rows[0].model_copy(update={"baseline": True}),
        data=recording.of_dataset(dataset),
        machine=fingerprint.fingerprint(),
        seconds=time.monotonic() - started,
    )
