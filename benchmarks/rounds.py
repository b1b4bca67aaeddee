"""Comparisons of which the true ratio is known, as lines of a file: what intervals and verdicts are checked against."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from optkit.measurement import comparison
from optkit.measurement.candidate import Candidate, resolve_candidate

FILE = Path("runs") / "rounds.jsonl"
"""Where the comparisons of ``same_model.py`` and ``power.py`` are kept for ``coverage.py``; not committed."""


@dataclass(frozen=True)
class Known:
    """One comparison: what was compared, the ratio that it should have found, and what it found."""

    experiment: str
    model: str
    threads: int
    noisy: bool
    truth: float
    verdict: str
    value: float
    low: float
    high: float
    seconds: float
    ratios: list[list[float]]

    @property
    def cell(self) -> tuple[str, str, int, bool]:
        return self.experiment, self.model, self.threads, self.noisy

    @property
    def holds(self) -> bool:
        return self.low <= self.truth <= self.high


def compare(
    pair: tuple[Candidate, Candidate], experiment: str, model: str, noisy: bool, truth: float, seed: int, seconds: float
) -> Known:
    """Compare two candidates of known ratio, and keep what came of it."""
    found = comparison.side_by_side(list(pair), dataset=None, seconds=seconds, seed=seed)
    row = found.rows[1]
    threads = pair[0].options["intra_op_num_threads"]
    ends = (row.speedup.value, row.speedup.low, row.speedup.high)
    known = Known(experiment, model, threads, noisy, truth, row.speed_verdict, *ends, found.seconds, row.ratios)
    FILE.parent.mkdir(exist_ok=True)
    with FILE.open("a") as stream:
        stream.write(json.dumps(asdict(known)) + "\n")
    return known


def same(path: Path, threads: int) -> tuple[Candidate, Candidate]:
    """A model and itself."""
    both = resolve_candidate(path, threads=threads)
    return both, both


def read() -> Iterator[Known]:
    """All comparisons that were kept."""
    for line in FILE.read_text().splitlines():
        yield Known(**json.loads(line))
