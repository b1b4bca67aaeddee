"""``explain``: why a candidate is slower or faster than its baseline, and where its quality went."""

from __future__ import annotations

import time

from optkit.data import splits
from optkit.data.splits import Parts
from optkit.explanation.quality.explain import explain_quality
from optkit.explanation.quality.remedies import Given
from optkit.explanation.speed.explain import explain_speed
from optkit.measurement import comparison, profiling, recording, workload
from optkit.measurement.worker import opened
from optkit.options.calling import takes
from optkit.options.verbs.explain import ExplainCommand
from optkit.progress import Progress
from optkit.records.explanation import Explanation, SpeedExplanation
from optkit.targets import libraries


@takes(ExplainCommand)
def explain(options: ExplainCommand, progress: Progress) -> Explanation:
    """Say where ``candidate``'s time went against ``baseline``, and with ``data`` its quality.

    Each is a path, a bundle or ``PATH@TARGET``. Both are measured side by side first, for ``seconds`` each, then their
    operators are watched and their layers compared. ``calibration`` is the data that the candidate was calibrated with.
    A candidate that fails is explained by its reason. Raises OptkitError.
    """
    started = time.monotonic()
    pair = opened((options.baseline, options.candidate), options)
    for each in pair:
        profiling.check(each)
    signature = pair[0].model.signature
    inputs = None if signature is None else signature.inputs
    parts = splits.parts(options.data, options.calibration, inputs, seed=options.seed, calibrates=False)
    dataset, threads = parts.evaluation, options.threads
    compared = comparison.side_by_side(
        pair,
        dataset=dataset,
        metric=options.metric,
        max_drop=options.max_drop,
        batch=options.batch,
        seconds=options.seconds,
        seed=options.seed,
        threads=threads,
        progress=progress,
    )
    found = explain_speed(
        pair[0],
        pair[1],
        compared,
        workload.make_workload(pair, dataset, options.batch, options.seed).feeds,
        data=_text(options.data),
        calibration=_text(options.calibration),
        seconds=min(options.seconds, profiling.SECONDS),
        progress=progress,
    )
    given = _given(parts, options)
    quality, notes = (
        explain_quality(pair[0], pair[1], compared, given, beside=found, threads=threads, progress=progress)
        if given
        else (None, [])
    )
    return Explanation(
        speed=_without_command(found) if quality and quality.command and found.leave_out else found,
        quality=quality,
        data=None if dataset is None else recording.of_dataset(dataset),
        machine=libraries.fingerprint(),
        seconds=time.monotonic() - started,
        notes=[*compared.notes, *notes],
    )


def _without_command(speed: SpeedExplanation) -> SpeedExplanation:
    """Leave out the command, the last sentence, as the command against the loss does that too."""
    return speed.model_copy(update={"command": None, "conclusion": speed.conclusion[:-1]})


def _given(parts: Parts, options: ExplainCommand) -> Given | None:
    if parts.evaluation is None:
        return None
    return Given(parts.evaluation, str(options.data), parts.calibration, _text(options.calibration))


def _text(path: object) -> str | None:
    return None if path is None else str(path)
