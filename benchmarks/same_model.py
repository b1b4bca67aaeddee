"""A model compared with itself must show no difference: how often does it, idle and with the other core busy?"""

import argparse
import multiprocessing
from collections import Counter
from pathlib import Path

import optkit

MODEL = Path(__file__).parent.parent / "sample_models" / "fashion_cnn" / "model.onnx"


def busy() -> None:
    while True:
        pass


def row(machine: str, threads: int, times: int, seconds: float) -> str:
    """How the comparisons ended."""
    found = [
        optkit.compare(MODEL, [MODEL], threads=threads, seconds=seconds, seed=seed).rows[1] for seed in range(times)
    ]
    ends = Counter(each.speed_verdict for each in found)
    known = ("no difference", "inconclusive", "faster", "slower")
    return f"| {machine} | {threads} | {times} | {' | '.join(str(ends[end]) for end in known)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    print("| machine | threads | comparisons | no difference | inconclusive | faster | slower |")
    print("|---|---|---|---|---|---|---|")
    for threads in (1, 2):
        print(row("idle", threads, options.times, options.seconds), flush=True)
    neighbour = multiprocessing.Process(target=busy, daemon=True)
    neighbour.start()
    for threads in (1, 2):
        print(row("one busy core", threads, options.times, options.seconds), flush=True)
    neighbour.kill()


if __name__ == "__main__":
    main()
