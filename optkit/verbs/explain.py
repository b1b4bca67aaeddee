"""``explain``: why a candidate is slower or faster than its baseline, and where its quality went."""

from __future__ import annotations

import time
from pathlib import Path

from optkit.data import splits
from optkit.data.dataset import Dataset
from optkit.explanation.quality import explain as quality_explanation
from optkit.explanation.quality.remedies import Given
from optkit.explanation.speed import explain as speed_explanation
from optkit.measurement import comparison, profiling, recording, workload
from optkit.measurement.candidate import TIME_LIMIT
from optkit.measurement.candidate import candidate as as_candidate
from optkit.progress import Progress, no_progress
from optkit.records.explanation import Explanation, SpeedExplanation
from optkit.system import fingerprint


def explain(
    baseline: str | Path,
    candidate: str | Path,
    *,
    data: str | Path | None = None,
    calibration: str | Path | None = None,
    metric: str | None = None,
    max_drop: float | None = None,
    target: str | None = None,
    threads: int | None = None,
    batch: int = 1,
    seconds: float = 5.0,
    seed: int = 0,
    inputs: tuple[str, ...] = (),
    code: str | None = None,
    trust: bool = False,
    time_limit: float = TIME_LIMIT,
    progress: Progress = no_progress,
) -> Explanation:
    """Say where ``candidate``'s time went against ``baseline``, and with ``data`` its quality.

    Each is a path, a bundle or ``PATH@TARGET``. Both are measured side by side first, for ``seconds`` each, then their
    operators are watched and their layers compared. ``calibration`` is what the candidate was calibrated with. A
    candidate that fails is explained by its reason. Raises OptkitError.
    """
    started = time.monotonic()
    opened = [
        as_candidate(
            source, target=target, threads=threads, inputs=inputs, code=code, trust=trust, time_limit=time_limit
        )
        for source in (baseline, candidate)
    ]
    for each in opened:
        profiling.check(each)
    signature = opened[0].model.signature
    inputs_of = None if signature is None else signature.inputs
    parts = splits.parts(data, calibration, inputs_of, seed=seed, calibrates=False)
    calibrating, dataset = parts.calibration, parts.evaluation
    compared = comparison.side_by_side(
        opened,
        dataset=dataset,
        metric=metric,
        max_drop=max_drop,
        batch=batch,
        seconds=seconds,
        seed=seed,
        threads=threads,
        progress=progress,
    )
    feeds = workload.make_workload(opened, dataset, batch, seed).feeds
    found = speed_explanation.speed(
        opened[0],
        opened[1],
        compared,
        feeds,
        data=None if data is None else str(data),
        calibration=None if calibration is None else str(calibration),
        seconds=min(seconds, profiling.SECONDS),
        progress=progress,
    )
    given = _given(dataset, data, calibrating, calibration)
    quality, notes = (
        quality_explanation.quality(
            opened[0], opened[1], compared, given, beside=found, threads=threads, progress=progress
        )
        if given
        else (None, [])
    )
    return Explanation(
        speed=_without_command(found) if quality and quality.command and found.leave_out else found,
        quality=quality,
        data=None if dataset is None else recording.of_dataset(dataset),
        machine=fingerprint.fingerprint(),
        seconds=time.monotonic() - started,
        notes=[*compared.notes, *notes],
    )


def _without_command(speed: SpeedExplanation) -> SpeedExplanation:
    """Without what to try, the last sentence, as the command against the loss does that too."""
    return speed.model_copy(update={"command": None, "conclusion": speed.conclusion[:-1]})


def _given(
    dataset: Dataset | None, data: str | Path | None, calibrating: Dataset | None, calibration: str | Path | None
) -> Given | None:
    if dataset is None:
        return None
    return Given(dataset, str(data), calibrating, None if calibration is None else str(calibration))
