"""``evaluate``: the quality of one model, alone or against a reference."""

from __future__ import annotations

import time

from optkit.data.dataset import open_dataset
from optkit.measurement import comparison, quality, recording
from optkit.measurement.worker import opened
from optkit.options.calling import takes
from optkit.options.verbs.evaluate import EvaluateCommand
from optkit.progress import Progress
from optkit.records.comparison import Evaluation
from optkit.targets import libraries


@takes(EvaluateCommand)
def evaluate(options: EvaluateCommand, progress: Progress) -> Evaluation:
    """Assess ``model`` on ``data``; with ``reference`` also what it lost against that. Raises OptkitError."""
    started = time.monotonic()
    reference, batch = options.reference, options.batch
    sources = [options.model] if reference is None else [reference, options.model]
    candidates = comparison.with_distinct_names(opened(sources, options))
    signature = candidates[0].model.signature
    dataset = open_dataset(options.data, None if signature is None else signature.inputs)
    assessed = quality.assess(candidates, dataset, options.metric, batch=batch, seed=options.seed, progress=progress)
    if assessed[-1].error is not None:
        raise assessed[-1].error
    rows = [comparison.row(entry, found, batch=batch) for entry, found in zip(candidates, assessed, strict=True)]
    return Evaluation(
        row=rows[-1],
        reference=None if reference is None else rows[0].model_copy(update={"baseline": True}),
        data=recording.of_dataset(dataset),
        machine=libraries.fingerprint(),
        seconds=time.monotonic() - started,
    )
