"""``optkit benchmark``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from optkit.cli import options
from optkit.cli.app import console_of
from optkit.errors import FAILED, UsageError

Kind = Annotated[
    Literal["single-stream", "multi-stream", "offline", "server"],
    typer.Option(
        "--scenario",
        help="single-stream: one inference after the other. multi-stream: 8 samples together. offline: the highest "
        "throughput over batches and sessions. server: queries arriving at random, at --rate or at the highest rate "
        "that keeps --max-p99.",
    ),
]
Batches = Annotated[
    str | None,
    typer.Option(
        "--batch", metavar="N,N", help="Samples per inference; one size or several. By default 1, 8, or tried."
    ),
]
Sessions = Annotated[
    int | None, typer.Option("--sessions", min=1, help="Sessions that run at once (offline, server); else tried.")
]
Rate = Annotated[float | None, typer.Option("--rate", min=0.001, help="Queries per second that arrive (server).")]
MaxP99 = Annotated[
    str | None, typer.Option("--max-p99", metavar="TIME", help="Find the highest rate that keeps it, as 20ms (server).")
]


def benchmark(
    ctx: typer.Context,
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Models, bundles or MODEL@TARGET.")],
    scenario: Kind = "single-stream",
    batch: Batches = None,
    sessions: Sessions = None,
    threads: options.Threads = None,
    rate: Rate = None,
    max_p99: MaxP99 = None,
    seconds: options.Seconds = 10.0,
    precision: options.Precision = 0.01,
    data: options.Data = None,
    target: options.OptionalTarget = None,
    device: options.Device = None,
    inputs: options.Inputs = None,
    code: options.Code = None,
    trust: options.Trust = False,
    time_limit: options.TimeLimit = 600.0,
    seed: options.Seed = 0,
) -> None:
    """Time models: latency percentiles, throughput, peak memory.

    A model that fails, except the first, is a row with its reason; the others are timed, and the command ends with exit
    code 1.
    """
    sizes = _sizes(batch)
    limit = None if max_p99 is None else _seconds(max_p99)
    from optkit.cli.tables.comparison import benchmark_blocks
    from optkit.verbs.benchmark import benchmark as verb

    console = console_of(ctx)
    with console.progress() as progress:
        comparison = verb(
            models,
            scenario=scenario,
            batch=sizes,
            sessions=sessions,
            threads=threads,
            rate=rate,
            max_p99=limit,
            seconds=seconds,
            precision=precision,
            data=data,
            target=target,
            device=device,
            inputs=tuple(inputs or ()),
            code=code,
            trust=trust,
            time_limit=time_limit,
            seed=seed,
            progress=progress,
        )
    console.notes(comparison.notes)
    console.answer(comparison, lambda: benchmark_blocks(comparison))
    if any(row.status == "failed" for row in comparison.rows):
        raise typer.Exit(FAILED)


def _sizes(text: str | None) -> list[int] | None:
    """``1,8`` -> [1, 8]."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--batch {text!r} is not a list of positive sizes", hint="for example --batch 1,8")
    return [int(part) for part in parts]


def _seconds(text: str) -> float:
    """``20ms`` -> 0.02."""
    from optkit import units

    try:
        found = units.parse_seconds(text)
    except ValueError as error:
        raise UsageError(f"--max-p99 {error}") from None
    if found <= 0:
        raise UsageError(f"--max-p99 {text}: a time is above zero")
    return found
