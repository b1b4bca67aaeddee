"""MLPerf's load generator and optkit drive the same session in one process: do they find the same?

Single-stream p90 and offline throughput are measured in turns; the highest rate of the server scenario is looked for by
both, in the same way and with the same limit of the p99. Needs ``mlcommons-loadgen`` from PyPI.
"""

import argparse
import queue
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import geometric_mean, median

import mlperf_loadgen as mlperf
import models
import numpy as np
from fingerprint import fingerprint

from optkit.formats.tensors import Arrays, synthetic_feed
from optkit.measurement import child, loadgen, rate_search
from optkit.measurement.candidate import Candidate, resolve_candidate
from optkit.metrics import statistics
from optkit.targets.target import Session, target

SAMPLES = 64
ROUNDS = 8


class Mlperf:
    """The load generator over sessions that run at once, each in a thread that takes queries from one queue."""

    def __init__(self, sessions: Sequence[Session], feed: Arrays) -> None:
        self._queries: queue.SimpleQueue = queue.SimpleQueue()
        for session in sessions:
            threading.Thread(target=self._work, args=(session.prepared(feed),), daemon=True).start()

    def _work(self, call: Callable[[], object]) -> None:
        while True:
            identity = self._queries.get()
            call()
            mlperf.QuerySamplesComplete([mlperf.QuerySampleResponse(identity, 0, 0)])

    def _issue(self, samples: list) -> None:
        for sample in samples:
            self._queries.put(sample.id)

    def run(self, issue: Callable[[list], None] | None = None, **settings: object) -> dict[str, float]:
        """One test; the figures of its summary by their names."""
        asked = mlperf.TestSettings()
        asked.mode = mlperf.TestMode.PerformanceOnly
        for name, value in settings.items():
            setattr(asked, name, value)
        sut = mlperf.ConstructSUT(issue or self._issue, lambda: None)
        library = mlperf.ConstructQSL(SAMPLES, SAMPLES, lambda _: None, lambda _: None)
        with tempfile.TemporaryDirectory() as folder:
            logs = mlperf.LogSettings()
            logs.log_output.outdir = folder
            logs.log_output.copy_summary_to_stdout = False
            logs.enable_trace = False
            mlperf.StartTestWithLogSettings(sut, library, asked, logs, "")
            text = (Path(folder) / "mlperf_log_summary.txt").read_text()
        mlperf.DestroyQSL(library)
        mlperf.DestroySUT(sut)
        return {name.strip(): float(value) for name, value in re.findall(r"^(.+?)\s*: ([\d.]+)$", text, re.MULTILINE)}


class InProcess:
    """Sessions of this process, asked as a worker is."""

    def __init__(self, sessions: Sequence[Session], feed: Arrays) -> None:
        self.sessions, self.feeds = sessions, [feed]

    def drain(self, count: int) -> float:
        return loadgen.closed_loop(self.sessions, self.feeds, count)

    def serve(self, arrivals: Sequence[float]) -> list[float]:
        return loadgen.open_loop(self.sessions, self.feeds, arrivals)


def single_stream(session: Session, feed: Arrays, generator: Mlperf, seconds: float) -> tuple[float, float]:
    """p90 in seconds: MLPerf's and ours, medians of rounds taken in turns."""
    call = session.prepared(feed)

    def issue(samples: list) -> None:
        call()
        mlperf.QuerySamplesComplete([mlperf.QuerySampleResponse(samples[0].id, 0, 0)])

    count = int(seconds / ROUNDS / median(loadgen.one_by_one(session, [feed], 50)))
    settings = {
        "scenario": mlperf.TestScenario.SingleStream,
        "min_duration_ms": 0,
        "single_stream_expected_latency_ns": 1,
    }
    pairs = []
    for _ in range(ROUNDS):
        theirs = generator.run(issue, **settings, min_query_count=count, max_query_count=count)
        ours = np.quantile(loadgen.one_by_one(session, [feed], count), 0.9)
        pairs.append((theirs["90.0th percentile latency (ns)"] / 1e9, float(ours)))
    return median(each for each, _ in pairs), median(each for _, each in pairs)


def offline(sessions: Sequence[Session], feed: Arrays, generator: Mlperf, seconds: float) -> tuple[float, float]:
    """Samples per second: MLPerf's and ours."""
    near = InProcess(sessions, feed)
    count = int(seconds / ROUNDS * 100 / near.drain(100))
    settings = {"scenario": mlperf.TestScenario.Offline, "min_duration_ms": 0, "offline_expected_qps": 1}
    pairs = []
    for _ in range(ROUNDS):
        theirs = generator.run(**settings, min_query_count=count, max_query_count=count)
        pairs.append((theirs["Samples per second"], count / near.drain(count)))
    return geometric_mean(each for each, _ in pairs), geometric_mean(each for _, each in pairs)


def arrivals(generator: Mlperf, count: int, rate: float, pattern: int) -> np.ndarray:
    """When MLPerf's queries arrive, in units of the mean gap: as a system sees them that answers at once."""
    seen: list[float] = []

    def answer(samples: list) -> None:
        seen.append(time.perf_counter())
        mlperf.QuerySamplesComplete([mlperf.QuerySampleResponse(samples[0].id, 0, 0)])

    settings = {"scenario": mlperf.TestScenario.Server, "schedule_rng_seed": pattern, "min_duration_ms": 0}
    generator.run(answer, **settings, server_target_qps=rate, min_query_count=count, max_query_count=count)
    return (np.array(seen) - seen[0]) * rate


def their_highest_rate(
    session: Session, feed: Arrays, generator: Mlperf, capacity: float, limit: float, seconds: float, pattern: int
) -> float:
    """Queries per second within the limit of the p99, by the search that ours makes.

    One session answers one query after the other, so it does so where MLPerf hands them over: a query that arrives
    meanwhile waits, and MLPerf counts its latency from when it was due.
    """
    call = session.prepared(feed)

    def issue(samples: list) -> None:
        for sample in samples:
            call()
            mlperf.QuerySamplesComplete([mlperf.QuerySampleResponse(sample.id, 0, 0)])

    settings = {"scenario": mlperf.TestScenario.Server, "server_target_latency_ns": int(1e9 * limit)}
    settings |= {"server_target_latency_percentile": 0.99, "schedule_rng_seed": pattern, "min_duration_ms": 0}
    held, refused, rate = 0.0, capacity, capacity / 2
    while not held or refused > rate_search.BRACKET * held:
        count = max(500, int(rate * seconds / rate_search.PROBES))
        within = False
        for _ in range(2):
            found = generator.run(
                issue, **settings, server_target_qps=rate, min_query_count=count, max_query_count=count
            )
            within = within or found["99.00 percentile latency (ns)"] <= 1e9 * limit
            if within:
                break
        held, refused = (rate, refused) if within else (held, rate)
        rate = float(np.sqrt((held or refused / 4) * refused))
    return held


def our_highest_rate(near: InProcess, times: np.ndarray, limit: float, seconds: float) -> float:
    """Queries per second within the limit of the p99, over MLPerf's arrivals: ``times`` in units of the mean gap."""
    single = min(near.drain(1) for _ in range(5))
    count = max(2, int(seconds / rate_search.PROBES / single))
    search = rate_search.RateSearch(
        limit,
        seconds,
        arrivals=lambda rate, count: (times[:count] / rate).tolist(),
        serve=lambda _, arrivals: near.serve(arrivals),
    )
    search.run(single, count / near.drain(count))
    return search.held or 0.0


def highest_rates(
    session: Session, feed: Arrays, limit: float, seconds: float, patterns: int
) -> tuple[list[float], list[float]]:
    """Queries per second within the limit of the p99: MLPerf's and ours, in turns.

    The luck of one pattern of some thousand arrivals moves the rate by about 5 % (simulated, with a server that always
    takes as long), so both meet the same pattern, and several of them.
    """
    generator, near = Mlperf([session], feed), InProcess([session], feed)
    theirs, ours = [], []
    for pattern in range(1, patterns + 1):
        capacity = 200 / near.drain(200)
        theirs.append(their_highest_rate(session, feed, generator, capacity, limit, seconds, pattern))
        times = arrivals(generator, int(1.2 * capacity * seconds / rate_search.PROBES), capacity, pattern)
        ours.append(our_highest_rate(near, times, limit, seconds))
        print(f"pattern {pattern}: {theirs[-1]:.0f}, {ours[-1]:.0f}", file=sys.stderr, flush=True)
    return theirs, ours


def opened(path: Path) -> tuple[Candidate, Arrays, Session]:
    """A model with one thread, a feed for it, and a session that is warm."""
    candidate = resolve_candidate(path, threads=1)
    feed = synthetic_feed(candidate.model.signature.inputs)
    session = target("onnxruntime").open(candidate.model, candidate.options)
    loadgen.one_by_one(session, [feed], 300)
    return candidate, feed, session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=24.0)
    parser.add_argument("--patterns", type=int, default=8, help="random patterns of arrivals of the server scenario")
    arguments = parser.parse_args()
    seconds = arguments.seconds
    child.wake_promptly()  # as sessions do in the processes that optkit measures
    print(fingerprint(), "\n")
    print("| scenario | figure | loadgen | optkit | optkit / loadgen |\n" + "|---" * 5 + "|")
    with tempfile.TemporaryDirectory() as folder:
        _, feed, session = opened(models.convolutions(Path(folder) / "3ms.onnx", channels=32, size=56))
        generator = Mlperf([session], feed)
        theirs, ours = single_stream(session, feed, generator, seconds)
        print(
            f"| single-stream | p90 | {1e3 * theirs:.3f} ms | {1e3 * ours:.3f} ms | {ours / theirs:.3f} |", flush=True
        )
        theirs, ours = offline([session], feed, generator, seconds)
        print(f"| offline | samples/s | {theirs:.0f} | {ours:.0f} | {ours / theirs:.3f} |", flush=True)
        # A faster model, for a p99 of random arrivals takes many thousand queries to be known to a few per cent.
        _, feed, session = opened(models.convolutions(Path(folder) / "1ms.onnx", channels=32, size=32))
        limit = 5 * median(loadgen.one_by_one(session, [feed], 300))
        theirs, ours = highest_rates(session, feed, limit, 3 * seconds, arguments.patterns)
        ratio = statistics.geometric_mean([[own / other] for other, own in zip(theirs, ours, strict=True)])
        name = f"queries/s, p99 within {1e3 * limit:.1f} ms, {arguments.patterns} patterns of arrivals each"
        figures = f"{geometric_mean(theirs):.0f} | {geometric_mean(ours):.0f}"
        print(f"| server | {name} | {figures} | {ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f}) |", flush=True)


if __name__ == "__main__":
    main()
