"""``compare``: quality, speed and size side by side, with intervals."""

from __future__ import annotations

from optkit.data.dataset import open_dataset
from optkit.measurement import comparison
from optkit.measurement.worker import opened
from optkit.options.calling import takes
from optkit.options.verbs.compare import CompareCommand
from optkit.progress import Progress
from optkit.records.comparison import Comparison


@takes(CompareCommand)
def compare(options: CompareCommand, progress: Progress) -> Comparison:
    """Compare ``candidates`` with ``baseline``; each is a path, a bundle or ``PATH@TARGET``.

    ``inputs``, ``code`` and ``trust`` apply to every model that needs them. Raises OptkitError.
    """
    candidates = opened((options.baseline, *options.candidates), options)
    signature = candidates[0].model.signature
    inputs = None if signature is None else signature.inputs
    return comparison.side_by_side(
        candidates,
        dataset=None if options.data is None else open_dataset(options.data, inputs),
        metric=options.metric,
        max_drop=options.max_drop,
        batch=options.batch,
        seconds=options.seconds,
        precision=options.precision,
        seed=options.seed,
        threads=options.threads,
        progress=progress,
    )
