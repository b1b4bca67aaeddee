"""A known slowdown must be found: the same model with extra work of exactly 5 % (idle) or 10 % (beside a busy core)."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import models
import rounds
import slowed
from fingerprint import fingerprint
from neighbour import neighbour
from rounds import Known

from optkit.measurement.candidate import Candidate, resolve_candidate
from optkit.metrics import statistics

SECONDS = 12.0
"""Per candidate at most, so that a comparison takes half a minute at most."""
LAUNCHES = (3, 5, 8, 10, 12, 16)


def pair(threads: int, extra: float) -> tuple[Candidate, Candidate]:
    plain = resolve_candidate(models.CNN, target="slowed", threads=threads)
    return plain, replace(plain, options=plain.options | {"extra": extra})


def found(extra: float, threads: int, noisy: bool, times: int) -> list[Known]:
    """The comparisons, and a line of the table."""
    name, truth = f"{100 * extra:.0f} % slower", 1 / (1 + extra)
    both = pair(threads, extra)
    with neighbour(noisy=noisy):
        known = [rounds.compare(both, "power", name, noisy, truth, seed, SECONDS) for seed in range(times)]
    hits = sum(each.verdict == "slower" for each in known)
    machine, longest = "a busy core" if noisy else "idle", max(each.seconds for each in known)
    typical = median(each.seconds for each in known)
    print(f"| {name} | {machine} | {threads} | {hits} of {times} | {typical:.0f} s | {longest:.0f} s |", flush=True)
    return known


def curve(known: Sequence[Known]) -> str:
    """How wide the interval is after so many launches, and how long they took: medians over the comparisons."""
    cells = []
    for count in LAUNCHES:
        enough = [each for each in known if len(each.ratios) >= count]
        if len(enough) < len(known) / 2:
            break
        width = median(statistics.half_width(statistics.geometric_mean(each.ratios[:count])) for each in enough)
        took = median(each.seconds * count / len(each.ratios) for each in enough)
        cells.append(f"±{100 * width:.2f} % in {took:.0f} s")
    return " | ".join(cells + ["-"] * (len(LAUNCHES) - len(cells)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=40)
    times = parser.parse_args().times
    slowed.install()
    print(fingerprint(), "\n")
    print("| slowdown | machine | threads | found | typical time | longest |\n" + "|---" * 6 + "|")
    idle, noisy = found(0.05, 1, False, times), found(0.10, 1, True, times)
    print("\nTime against precision: half the interval's width after so many launches.\n")
    print("| machine | " + " | ".join(map(str, LAUNCHES)) + " |\n" + "|---" * (1 + len(LAUNCHES)) + "|")
    print(f"| idle | {curve(idle)} |\n| a busy core | {curve(noisy)} |")


if __name__ == "__main__":
    main()
