"""A model compared with itself must show no difference: how often does it, idle and beside a busy core?"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import models
import rounds
from fingerprint import fingerprint
from neighbour import neighbour

ENDS = ("no difference", "inconclusive", "faster", "slower")


def row(name: str, path: Path, threads: int, noisy: bool, times: int, seconds: float) -> Counter[str]:
    """How the comparisons ended."""
    pair = rounds.same(path, threads)
    found = [rounds.compare(pair, "same model", name, noisy, 1.0, seed, seconds) for seed in range(times)]
    ends = Counter(each.verdict for each in found)
    widest = max(max(each.high, 1 / each.low) for each in found) - 1
    machine, took = "a busy core" if noisy else "idle", sum(each.seconds for each in found) / times
    counts = " | ".join(str(ends[end]) for end in ENDS)
    print(f"| {name} | {machine} | {threads} | {times} | {counts} | {100 * widest:.1f} % | {took:.0f} s |", flush=True)
    return ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    print(fingerprint(), "\n")
    print("| model | machine | threads | comparisons | " + " | ".join(ENDS) + " | farthest end | each took |")
    print("|---" * 10 + "|")
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for noisy in (False, True):
            with neighbour(noisy=noisy):
                for name, path in models.three_sizes(Path(folder)).items():
                    for threads in (1, 2):
                        total += row(name, path, threads, noisy, options.times, options.seconds)
    count = total.total()
    print(f"\nFalse alarms: {total['faster'] + total['slower']} of {count}; inconclusive: {total['inconclusive']}.")


if __name__ == "__main__":
    main()
