"""One stall of 500 ms: the server scenario's p99 shows it, a closed loop's does not."""

from dataclasses import replace

import models
import numpy as np
import slowed
from fingerprint import fingerprint

from optkit import units
from optkit.measurement import workload
from optkit.measurement.candidate import Candidate, resolve_candidate
from optkit.measurement.worker import Worker

RATE = 200.0
QUERIES = 2000
STALL = [1000, 0.5]


def p99s(candidate: Candidate) -> tuple[float, float]:
    """Of a closed loop, and of an open loop with Poisson arrivals."""
    found = workload.make_workload([candidate], None, 1, 0)
    arrivals = np.cumsum(np.random.default_rng(0).exponential(1 / RATE, QUERIES)).tolist()
    with Worker(candidate) as closed, Worker(candidate) as opened:
        closed.load(found.feeds), opened.load(found.feeds)
        return tuple(float(np.quantile(each, 0.99)) for each in (closed.time(QUERIES), opened.serve(arrivals)))


def main() -> None:
    slowed.install()
    plain = resolve_candidate(models.CNN, target="slowed", threads=1)
    stalled = replace(plain, options=plain.options | {"stall": STALL})
    print(fingerprint(), "\n")
    print(f"{QUERIES:,} queries, {RATE:g} a second in the open loop.\n")
    print("| | closed loop, p99 | open loop, p99 |\n|---|---|---|")
    for name, candidate in (("undisturbed", plain), ("one stall of 500 ms", stalled)):
        print(f"| {name} | {' | '.join(map(units.seconds, p99s(candidate)))} |")


if __name__ == "__main__":
    main()
