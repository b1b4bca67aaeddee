"""``gate``: the verdict on releasing a candidate."""

from __future__ import annotations

from optkit.errors import UsageError
from optkit.options.calling import takes
from optkit.options.verbs.gate import GateCommand
from optkit.progress import Progress
from optkit.records.gate import Gate
from optkit.runs.gating import EXAMPLE, GateMeasurement, judge_record, measure_fresh, rules_of


@takes(GateCommand)
def gate(options: GateCommand, progress: Progress) -> Gate:
    """Compare ``candidate`` with ``baseline`` now, or take the saved ``record`` of a run or comparison, and judge.

    ``retry`` measures three times as long where the first try was inconclusive and more time may tell. A ``baseline``
    that is a saved record stands for the model that it chose, which is measured now.

    In a ``record``, ``candidate`` names the row; by default the only one, or the one that the run chose. The rules of
    the run's recipe hold too, but for those given here. What another machine recorded is measured here, where both
    models and the data are at hand. Else only ratios are judged: raises UsageError where a rule is absolute (p99,
    throughput, memory).
    """
    measuring, rules, candidate = GateMeasurement(options, progress), rules_of(options), options.candidate
    if options.record is not None:
        if options.baseline is not None:
            raise UsageError("--record holds its own baseline, and --baseline names another", hint=EXAMPLE)
        return judge_record(options.record, None if candidate is None else str(candidate), rules, measuring)
    if candidate is None or options.baseline is None:
        raise UsageError("a gate compares a candidate with a baseline", hint=EXAMPLE)
    place = {"target": options.target, "device": options.device}
    return measure_fresh(candidate, options.baseline, place, rules, measuring)
