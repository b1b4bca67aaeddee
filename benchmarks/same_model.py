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


def verdicts(times: int, seconds: float) -> Counter[str]:
    return Counter(
        optkit.compare(MODEL, [MODEL], threads=1, seconds=seconds, seed=seed).rows[1].speed_verdict or "none"
        for seed in range(times)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    print("| machine | verdicts |\n|---|---|")
    print(f"| idle | {dict(verdicts(options.times, options.seconds))} |", flush=True)
    neighbour = multiprocessing.Process(target=busy, daemon=True)
    neighbour.start()
    print(f"| one busy core | {dict(verdicts(options.times, options.seconds))} |")
    neighbour.kill()


if __name__ == "__main__":
    main()
