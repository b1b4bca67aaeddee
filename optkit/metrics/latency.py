"""Latency distributions as records: each figure with its interval, quantiles only if there are enough samples."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from optkit.metrics import statistics
from optkit.records.comparison import LatencyRecord
from optkit.records.record import Interval

_LEVELS = {"median": 0.5, "p90": 0.90, "p95": 0.95, "p99": 0.99}


def latency_record(
    clusters: Sequence[Sequence[float]], *, fastest: float | None = None, seed: int = 0
) -> LatencyRecord:
    """Make the record of latencies in seconds, measured in clusters: launches, or stretches of one run."""
    samples = [time for times in clusters for time in times]
    edges, counts = statistics.histogram(samples)
    supported = {name: level for name, level in _LEVELS.items() if statistics.quantile(samples, level) is not None}
    values = dict(zip(supported, np.quantile(samples, list(supported.values())).tolist(), strict=True))
    found = statistics.clustered_quantiles(clusters, list(supported.values()), seed=seed)
    intervals = {} if found is None else {f"{name}_interval": each for name, each in zip(supported, found, strict=True)}
    return LatencyRecord(
        count=len(samples),
        mean=fmean(samples),
        mean_interval=_mean(clusters),
        fastest=fastest,
        histogram_edges=edges,
        histogram_counts=counts,
        **{"median": float(np.median(samples))} | values | intervals,
    )


def throughput_interval(clusters: Sequence[Sequence[float]], batch: int) -> Interval | None:
    """Compute samples per second from the seconds of inferences of ``batch`` samples; ``None`` for a single cluster."""
    mean = _mean(clusters)
    if mean is None:
        return None
    low, value, high = (batch / each for each in (mean.high, mean.value, max(mean.low, 1e-12)))
    return Interval(value=value, low=low, high=high, confidence=mean.confidence)


def _mean(clusters: Sequence[Sequence[float]]) -> Interval | None:
    return statistics.mean_interval([fmean(times) for times in clusters]) if len(clusters) > 1 else None
