"""The harness costs nothing: a bare loop over the runtime against optkit's, in one process, in turns."""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import models
from fingerprint import fingerprint

from optkit.formats.tensors import Arrays, synthetic_feed
from optkit.measurement import loadgen
from optkit.measurement.candidate import resolve_candidate
from optkit.metrics import statistics
from optkit.targets.target import target

CHUNK = 200


def bare_onnxruntime(session: object, feed: Arrays) -> Callable[[], object]:
    run, outputs = session._session.run, session._outputs
    return lambda: run(outputs, feed)


def bare_openvino(session: object, feed: Arrays) -> Callable[[], object]:
    request = session._request
    return lambda: request.infer(feed, share_inputs=True)


BARE = {"onnxruntime": bare_onnxruntime, "openvino": bare_openvino}


def loop(call: Callable[[], object]) -> list[float]:
    """What anybody would write."""
    seconds = []
    for _ in range(CHUNK):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def row(name: str, path: Path, target_name: str, chunks: int) -> str:
    candidate = resolve_candidate(path, target=target_name, threads=1)
    feed = synthetic_feed(candidate.model.signature.inputs)
    with target(target_name).open(candidate.model, candidate.options) as session:
        call = BARE[target_name](session, feed)
        loop(call), loadgen.one_by_one(session, [feed], CHUNK)
        pairs = [(median(loop(call)), median(loadgen.one_by_one(session, [feed], CHUNK))) for _ in range(chunks)]
    bare, ours = ([each[side] for each in pairs] for side in (0, 1))
    # Neighbouring pairs meet the machine in one state: ten stretches of them stand for launches.
    stretches = [(bare[start::10], ours[start::10]) for start in range(10)]
    ratio = statistics.paired_ratio([after for _, after in stretches], [before for before, _ in stretches])
    added = f"{100 * (ratio.value - 1):+.2f} % ({100 * (ratio.low - 1):+.2f} to {100 * (ratio.high - 1):+.2f})"
    return f"| {name} | {target_name} | {1e6 * median(bare):.1f} us | {1e6 * median(ours):.1f} us | {added} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=200)
    chunks = parser.parse_args().chunks
    print(fingerprint(), "\n")
    print("| model | target | bare loop, median | optkit, median | added |\n" + "|---" * 5 + "|")
    with tempfile.TemporaryDirectory() as folder:
        path = models.dense(Path(folder) / "small.onnx")
        for target_name in BARE:
            print(row("0.1 ms", path, target_name, chunks), flush=True)


if __name__ == "__main__":
    main()
