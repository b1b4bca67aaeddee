"""The offline scenario: highest throughput of a model, with the best batch size and number of parallel sessions.

Each candidate is tried alone with growing batches, in one session with all cores and in as many sessions as there are
cores; then all are measured interleaved, each with its best configuration.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from optkit.data.dataset import Dataset
from optkit.errors import DataError, OptkitError
from optkit.measurement import comparison, recording, timing, workload
from optkit.measurement.candidate import Candidate
from optkit.measurement.quality import Assessment
from optkit.measurement.timing import Task, Timing
from optkit.measurement.warnings import find_warnings
from optkit.measurement.worker import Worker
from optkit.measurement.workload import Workload
from optkit.metrics.statistics import PRECISION, SECONDS
from optkit.notes import Note
from optkit.progress import Progress, no_progress
from optkit.records.comparison import Comparison, LoadRecord, LoadTrial, Row
from optkit.system import cgroup
from optkit.targets import libraries

_TRIAL_SECONDS = 0.3
"""Least duration of a trial, which ranks configurations only; the measurement comes after."""
_GAIN = 1.03
"""Least ratio of throughputs at which doubling the batch counts as a gain."""
_PATIENCE = 2
"""Doublings without a gain after which larger batches are given up."""
_LARGEST = 512
_SAMPLES = 64
"""Samples in all feeds of one batch size together, unless one batch is larger: this bounds the memory."""
_LONGEST = 2.0
"""Seconds of one inference from which on batches no longer grow."""


def side_by_side(
    candidates: Sequence[Candidate],
    *,
    dataset: Dataset | None,
    batches: Sequence[int] = (),
    sessions: int | None = None,
    threads: int | None = None,
    seconds: float = SECONDS,
    precision: float = PRECISION,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Comparison:
    """Measure the highest throughput of each candidate. Batches, sessions and threads that are not given are searched.

    Raises the baseline's error, and the errors of ``comparison.side_by_side``.
    """
    started = time.monotonic()
    searches = [_Search(each, dataset, list(batches), seed) for each in comparison.with_distinct_names(candidates)]
    for index, search in enumerate(searches):
        progress("trying batches and sessions", index, len(searches))
        search.explore(parallel(sessions, threads))
    if searches[0].error is not None:
        raise searches[0].error
    tasks = [search.task() for search in searches if search.error is None]
    measured = timing.measure(
        tasks, mode=timing.THROUGHPUT, seconds=seconds, precision=precision, seed=seed, progress=progress
    )
    found = {(each.candidate.name, each.candidate.target): each for each in measured.timings}
    rows = [search.row(found.get((search.candidate.name, search.candidate.target))) for search in searches]
    notes = [*searches[0].notes, *find_warnings(measured, seconds=seconds, precision=precision)]
    return Comparison(
        scenario="offline",
        rows=[rows[0].model_copy(update={"baseline": True}), *rows[1:]],
        data=None if dataset is None else recording.of_dataset(dataset),
        threads=threads,
        batch=tasks[0].batch,
        launches=measured.launches,
        rounds=measured.rounds,
        precision=precision,
        machine=libraries.fingerprint(),
        seconds=time.monotonic() - started,
        notes=list(notes),
    )


def parallel(sessions: int | None, threads: int | None) -> list[tuple[int, int]]:
    """List the configurations (sessions, threads of each) to try: by default one session with all cores, and one
    session per core.
    """
    cores = max(1, int(cgroup.cores_allowed()))
    if sessions is not None:
        return [(sessions, threads or max(1, cores // sessions))]
    if threads is not None:
        return [(count, threads) for count in dict.fromkeys((1, max(1, cores // threads)))]
    return [(count, cores // count) for count in dict.fromkeys((1, cores))]


@dataclass
class _Search:
    """The search for one candidate's best configuration: its trials, and the best of them."""

    candidate: Candidate
    dataset: Dataset | None
    batches: Sequence[int]
    seed: int
    reached: int = 1
    trials: list[LoadTrial] = field(default_factory=list)
    best: LoadTrial | None = None
    error: OptkitError | None = None
    notes: list[Note] = field(default_factory=list)

    def explore(self, configurations: Sequence[tuple[int, int]]) -> None:
        """Try every configuration (sessions, threads) with the batches asked for, or with growing ones."""
        for sessions, threads in configurations:
            try:
                self._explore(sessions, threads)
            except OptkitError as error:
                self._failed(error, sessions, threads)
        self.error = self.error if self.best is None else None

    def task(self) -> Task:
        """Return the candidate in its best configuration, with its feeds."""
        best = self._best()
        work = self._workload(best.batch)
        candidate = self.candidate.in_parallel(sessions=best.sessions, threads=best.threads)
        return Task(candidate, work.feeds, work.batch)

    def row(self, timed: Timing | None) -> Row:
        """Make the candidate's row from its timing and its trials."""
        if self.best is None or timed is None:
            return comparison.row(self.candidate, Assessment(error=self.error))
        trials = [trial.model_copy(update={"kept": trial is self.best}) for trial in self.trials]
        load = LoadRecord(sessions=self.best.sessions, threads=self.best.threads, trials=trials)
        return comparison.row(timed.candidate, Assessment(), timed, self.best.batch).model_copy(update={"load": load})

    def _explore(self, sessions: int, threads: int) -> None:
        candidate = self.candidate.in_parallel(sessions=sessions, threads=threads)
        top, idle = 0.0, 0
        with ExitStack() as stack:
            worker = stack.enter_context(Worker(candidate))
            for work in self._workloads():
                trial = _trial(worker, work, sessions, threads)
                self._add(trial)
                rate = trial.throughput or 0.0
                idle = 0 if rate > _GAIN * top else idle + 1
                top = max(top, rate)
                slow = sessions * work.batch / rate > _LONGEST
                if not self.batches and (idle >= _PATIENCE or slow):
                    return

    def _workloads(self) -> Iterator[Workload]:
        """Make a workload for each batch size; growing sizes end where the data or the model allows no larger."""
        if self.batches:
            yield from map(self._workload, self.batches)
            return
        for power in range(int(math.log2(_LARGEST)) + 1):
            try:
                work = self._workload(2**power)
            except DataError:
                if power == 0:
                    raise
                return
            if power and work.batch != 2**power:
                return
            yield work

    def _workload(self, batch: int) -> Workload:
        self.reached = batch
        work = workload.make_workload([self.candidate], self.dataset, batch, self.seed, feeds=max(1, _SAMPLES // batch))
        # A note that another batch is run than asked for is no news to the user if the search chose the batch.
        notes = [note for note in work.notes if self.batches or note.kind is not None]
        self.notes = list(dict.fromkeys([*self.notes, *notes]))
        return work

    def _add(self, trial: LoadTrial) -> None:
        self.trials.append(trial)
        if (trial.throughput or 0.0) > ((self.best and self.best.throughput) or 0.0):
            self.best = trial

    def _failed(self, error: OptkitError, sessions: int, threads: int) -> None:
        """Record a failed configuration as a trial with a reason; larger batches of it are not tried."""
        self.error = error
        self.trials.append(LoadTrial(batch=self.reached, sessions=sessions, threads=threads, reason=error.message))
        if self.batches:
            self.notes.append(Note(f"batch {self.reached} failed: {error.message}", self.candidate.name, "warning"))

    def _best(self) -> LoadTrial:
        if self.best is None:
            raise ValueError("nothing was tried yet")
        return self.best


def _trial(worker: Worker, work: Workload, sessions: int, threads: int) -> LoadTrial:
    """Measure the throughput of one configuration for a short time, after a warm-up."""
    worker.load(work.feeds)
    once = min(worker.drain(sessions), worker.drain(sessions))
    count = sessions * max(2, math.ceil(_TRIAL_SECONDS / once))
    rate = count * work.batch / worker.drain(count)
    return LoadTrial(batch=work.batch, sessions=sessions, threads=threads, throughput=rate)
