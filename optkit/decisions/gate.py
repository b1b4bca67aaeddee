"""The release gate's rules over a comparison, each ending in pass, fail or inconclusive.

A figure with an interval passes when all of the interval is inside the limit, and fails when all of it is outside;
otherwise it is inconclusive, as the data cannot tell. A figure without an interval (size, peak memory) only passes or
fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from optkit import units
from optkit.errors import UsageError
from optkit.metrics.statistics import MARGIN
from optkit.options.rules import Rules
from optkit.records import sentences
from optkit.records.comparison import Comparison, Row
from optkit.records.gate import GateVerdict, Judgement, RuleRecord
from optkit.records.record import Interval

NOT_WORSE = 0.01
"""The loss that passes when no rules are given: in the metric's own units where it lies between 0 and 1, else as a
share of the baseline's value."""
ABSOLUTE = frozenset({"max_p99", "min_throughput", "max_memory"})
"""Rules about figures that belong to one machine; all others compare two figures of one measurement."""
_UP_TO_ONE = ("accuracy", "top5", "f1", "cosine", "agreement", "pearson", "spearman")


def judge_candidate(rules: Rules, comparison: Comparison, candidate: Row) -> Judgement:
    """Judge ``candidate``, a row of the comparison, by the rules."""
    judged = judge_rules(rules, comparison, candidate)
    baseline = comparison.rows[0].title
    return Judgement(candidate=candidate.title, baseline=baseline, verdict=overall_verdict(judged), rules=judged)


def judge_rules(rules: Rules, comparison: Comparison, candidate: Row) -> list[RuleRecord]:
    """Judge every rule that was given; where none was, that the candidate is not worse than the baseline."""
    baseline = comparison.rows[0]
    candidate = _against_itself(candidate) if candidate.baseline else candidate
    if candidate.status == "failed":
        return [RuleRecord(rule="runs", verdict="fail", reason=f"{candidate.title} failed: {candidate.reason}")]
    if not rules.given:
        return list(_not_worse(baseline, candidate))
    return [_RULES[name](baseline, candidate, limit) for name, limit in rules.given.items()]


def overall_verdict(rules: list[RuleRecord]) -> GateVerdict:
    """Return the worst verdict."""
    found = {rule.verdict for rule in rules}
    return "fail" if "fail" in found else "inconclusive" if "inconclusive" in found else "pass"


def chosen_row(comparison: Comparison, name: str | None) -> Row:
    """Return the candidate called ``name``, by its name or title, or the baseline by its title.

    Without a name it is the only candidate. Raises UsageError.
    """
    others = [row for row in comparison.rows if not row.baseline]
    found = [row for row in others if name in (None, row.name, row.title)]
    found = found or [row for row in comparison.rows if row.title == name]
    if len(found) != 1:
        known = ", ".join(repr(row.title) for row in others)
        raise UsageError(
            f"{'several rows are' if found else 'no row is'} called {name!r}" if name else "which row is to be judged?",
            hint=f"give one of {known}",
        )
    return found[0]


def _against_itself(baseline: Row) -> Row:
    """Return the baseline as a candidate: exactly as fast as itself, and without a loss."""
    quality = baseline.quality and baseline.quality.model_copy(update={"loss": _exactly(0.0)})
    return baseline.model_copy(update={"speedup": _exactly(1.0), "quality": quality})


def _not_worse(baseline: Row, candidate: Row) -> Iterator[RuleRecord]:
    yield _max_slowdown(baseline, candidate, 1 + MARGIN)
    quality = candidate.quality
    if quality is not None and quality.loss is not None and baseline.quality is not None:
        bounded = quality.metric.partition(":")[0] in _UP_TO_ONE
        yield _max_drop(baseline, candidate, NOT_WORSE * (1 if bounded else abs(baseline.quality.value.value)))


def _max_drop(baseline: Row, candidate: Row, limit: float) -> RuleRecord:
    quality = candidate.quality
    if quality is None or quality.loss is None:
        return _unknown("max-drop", limit, "metric", "no quality was compared: give --data")
    loss = quality.loss
    shown = (
        f"{quality.metric} lost {units.quality_interval(loss.value, loss.low, loss.high)} on {quality.count:,} samples"
    )
    ended = _at_most(loss, limit)
    told = sentences.evidence(quality)
    if ended == "inconclusive" and told:
        shown += f", {told}"
    return _record("max-drop", ended, loss, limit, "metric", f"{shown}; at most {limit:g}")


def _min_speedup(baseline: Row, candidate: Row, limit: float) -> RuleRecord:
    ratio = candidate.speedup
    if ratio is None:
        return _unknown("min-speedup", limit, "ratio", "no speed was compared")
    shown = f"{units.ratio_interval(ratio.value, ratio.low, ratio.high)} as fast; at least {units.ratio(limit)}"
    return _record("min-speedup", _at_least(ratio, limit), ratio, limit, "ratio", shown)


def _max_slowdown(baseline: Row, candidate: Row, limit: float) -> RuleRecord:
    ratio = candidate.speedup
    if ratio is None:
        return _unknown("max-slowdown", limit, "ratio", "no speed was compared")
    slower = Interval(value=1 / ratio.value, low=1 / ratio.high, high=1 / ratio.low, confidence=ratio.confidence)
    shown = f"{units.ratio_interval(slower.value, slower.low, slower.high)} the baseline's time"
    return _record(
        "max-slowdown", _at_most(slower, limit), slower, limit, "ratio", f"{shown}; at most {units.ratio(limit)}"
    )


def _max_p99(baseline: Row, candidate: Row, limit: float) -> RuleRecord:
    found = candidate.latency.p99_interval if candidate.latency else None
    if found is None:
        return _unknown("max-p99", limit, "seconds", "too few inferences for a 99 % quantile: give more --seconds")
    span = f"{units.seconds(found.low)} to {units.seconds(found.high)}"
    shown = f"p99 {units.seconds(found.value)} ({span}); at most {units.seconds(limit)}"
    return _record("max-p99", _at_most(found, limit), found, limit, "seconds", shown)


def _min_throughput(baseline: Row, candidate: Row, limit: float) -> RuleRecord:
    found = candidate.throughput_interval
    if found is None:
        return _unknown("min-throughput", limit, "per second", "no throughput was measured")
    span = f"{units.rate(found.low)} to {units.rate(found.high)}"
    shown = f"{units.rate(found.value)} ({span}); at least {units.rate(limit)}"
    return _record("min-throughput", _at_least(found, limit), found, limit, "per second", shown)


def _max_size_ratio(baseline: Row, candidate: Row, limit: float) -> RuleRecord:
    if baseline.model is None or candidate.model is None:
        return _unknown("max-size-ratio", limit, "ratio", "no sizes are known")
    share = candidate.model.size_bytes / baseline.model.size_bytes
    shown = f"{units.percent(share)} of the size; at most {units.percent(limit)}"
    return _record("max-size-ratio", _at_most(_exactly(share), limit), _exactly(share), limit, "ratio", shown)


def _max_memory(baseline: Row, candidate: Row, limit: float) -> RuleRecord:
    if candidate.memory_bytes is None:
        return _unknown("max-memory", limit, "bytes", "the peak memory is not known on this system")
    found = _exactly(candidate.memory_bytes)
    shown = f"{units.size(candidate.memory_bytes)} resident at the peak; at most {units.size(limit)}"
    return _record("max-memory", _at_most(found, limit), found, limit, "bytes", shown)


_RULES: dict[str, Callable[[Row, Row, float], RuleRecord]] = {
    "max_drop": _max_drop,
    "min_speedup": _min_speedup,
    "max_slowdown": _max_slowdown,
    "max_p99": _max_p99,
    "min_throughput": _min_throughput,
    "max_size_ratio": _max_size_ratio,
    "max_memory": _max_memory,
}


def _at_most(found: Interval, limit: float) -> GateVerdict:
    return "pass" if found.high <= limit else "fail" if found.low > limit else "inconclusive"


def _at_least(found: Interval, limit: float) -> GateVerdict:
    return "pass" if found.low >= limit else "fail" if found.high < limit else "inconclusive"


def _exactly(value: float) -> Interval:
    return Interval(value=value, low=value, high=value)


def _record(rule: str, ended: GateVerdict, figure: Interval, limit: float, unit: Any, reason: str) -> RuleRecord:
    return RuleRecord(rule=rule, verdict=ended, figure=figure, limit=limit, unit=unit, reason=reason)


def _unknown(rule: str, limit: float, unit: Any, reason: str) -> RuleRecord:
    return RuleRecord(rule=rule, verdict="inconclusive", limit=limit, unit=unit, reason=reason)
