"""A 95 % interval must hold the truth in 95 of 100 comparisons: those that ``same_model.py`` and ``power.py`` kept.

Counted are the comparisons themselves, against the known ratio; and comparisons drawn anew from the recorded rounds of
each kind (launches, and rounds within them, that stop as the real ones do), against the ratio of all of that kind.
"""

import random
from collections import defaultdict

import rounds
from fingerprint import fingerprint
from rounds import Known

from optkit.measurement import timing
from optkit.metrics import statistics
from optkit.records.record import Interval

DRAWS = 300


def drawn(launches: list[list[float]], most: int, draw: random.Random) -> Interval:
    """A comparison made of recorded launches, which ends by the rule of ``timing``."""
    taken: list[list[float]] = []
    while True:
        launch = draw.choice(launches)
        taken.append(draw.choices(launch, k=len(launch)))
        if len(taken) < 2:
            continue
        interval = statistics.geometric_mean(taken)
        tight = len(taken) >= timing._LAUNCHES and statistics.half_width(interval) <= statistics.PRECISION
        if tight or len(taken) >= most:
            return interval


def main() -> None:
    draw = random.Random(0)
    cells: dict[tuple, list[Known]] = defaultdict(list)
    for known in rounds.read():
        cells[known.cell].append(known)
    print(fingerprint(), "\n")
    print("| experiment | model | machine | threads | comparisons | hold the truth | launches | drawn, hold it |")
    print("|---" * 8 + "|")
    held = count = again = 0
    for (experiment, model, threads, noisy), found in cells.items():
        launches = [launch for each in found for launch in each.ratios]
        truth = statistics.geometric_mean(launches).value
        most = max(len(each.ratios) for each in found)
        intervals = [drawn(launches, most, draw) for _ in range(DRAWS)]
        inside = sum(each.low <= truth <= each.high for each in intervals)
        ours = sum(each.holds for each in found)
        machine = "a busy core" if noisy else "idle"
        share = f"{100 * inside / DRAWS:.1f} %"
        print(f"| {experiment} | {model} | {machine} | {threads} | {len(found)} | {ours} | {len(launches)} | {share} |")
        held, count, again = held + ours, count + len(found), again + inside
    total = DRAWS * len(cells)
    print(f"\nOf {count} comparisons {held} intervals hold the known ratio: {100 * held / count:.1f} %.")
    print(f"Of {total:,} drawn from the recorded rounds {again:,} do: {100 * again / total:.1f} %.")


if __name__ == "__main__":
    main()
