"""``optkit gate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from optkit.cli import options
from optkit.cli.app import console_of
from optkit.cli.tables import gate as verdict

if TYPE_CHECKING:
    from optkit.cli.console import Block
    from optkit.records.gate import Gate


def gate(
    ctx: typer.Context,
    candidate: Annotated[
        str | None, typer.Argument(metavar="CANDIDATE", help="A model, a bundle or MODEL@TARGET; of a record, a row.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="MODEL", help="What it is compared with; of a record, its chosen model."),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", help="Judge a saved run or comparison; measured anew if another machine made it."),
    ] = None,
    data: options.Data = None,
    metric: options.Metric = None,
    max_drop: options.MaxDrop = None,
    min_speedup: Annotated[float | None, typer.Option("--min-speedup", help="Times as fast as the baseline.")] = None,
    max_slowdown: Annotated[
        float | None, typer.Option("--max-slowdown", help="Times as slow as the baseline at most, as 1.05.")
    ] = None,
    max_p99: Annotated[str | None, typer.Option("--max-p99", metavar="TIME", help="99 % quantile, as 20ms.")] = None,
    min_throughput: Annotated[float | None, typer.Option("--min-throughput", help="Samples per second.")] = None,
    max_size_ratio: Annotated[
        float | None, typer.Option("--max-size-ratio", help="Its size as a share of the baseline's, as 0.5.")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", metavar="SIZE", help="Peak resident memory, as 500MB.")
    ] = None,
    inconclusive: Annotated[
        Literal["pass", "fail", "retry"] | None,
        typer.Option("--inconclusive", help="How to end where the data cannot tell; by default with exit code 5."),
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML, a case for each rule.")] = None,
    summary: Annotated[Path | None, typer.Option("--summary", help="Write Markdown for a CI job's page.")] = None,
    target: options.OptionalTarget = None,
    device: options.Device = None,
    threads: options.Threads = None,
    batch: options.Batch = 1,
    seconds: options.Seconds = 10.0,
    precision: options.Precision = 0.01,
    inputs: options.Inputs = None,
    code: options.Code = None,
    trust: options.Trust = False,
    time_limit: options.TimeLimit = 600.0,
    seed: options.Seed = 0,
) -> None:
    """Judge a release: exit 0 where every rule passes, 3 where one fails, 5 where the data cannot tell.

    Without a rule, the candidate must not be worse than the baseline.
    """
    from optkit.reports import gate as gate_report
    from optkit.runs.gating import rules_of
    from optkit.system import atomic
    from optkit.verbs.gate import gate as verb

    rules = rules_of(
        max_drop=max_drop,
        min_speedup=min_speedup,
        max_slowdown=max_slowdown,
        max_p99=max_p99,
        min_throughput=min_throughput,
        max_size_ratio=max_size_ratio,
        max_memory=max_memory,
    )
    for path in (junit, summary):
        if path is not None:
            atomic.claim(path, force=True)
    console = console_of(ctx)
    with console.progress() as progress:
        found = verb(
            candidate,
            baseline=baseline,
            record=record,
            rules=rules,
            retry=inconclusive == "retry",
            data=data,
            metric=metric,
            target=target,
            device=device,
            threads=threads,
            batch=batch,
            seconds=seconds,
            precision=precision,
            inputs=tuple(inputs or ()),
            code=code,
            trust=trust,
            time_limit=time_limit,
            seed=seed,
            progress=progress,
        )
    console.notes(found.notes)
    console.answer(found, lambda: _blocks(found))
    if junit is not None:
        atomic.write_text(junit, gate_report.junit(found), force=True)
    if summary is not None:
        atomic.write_text(summary, gate_report.markdown(found, found.notes), force=True)
    verdict.announce(found, found.notes, console)
    counted = inconclusive if inconclusive in ("pass", "fail") else "inconclusive"
    raise typer.Exit(verdict.exit_code(counted if found.verdict == "inconclusive" else found.verdict))


def _blocks(gate: Gate) -> list[Block]:
    from optkit.cli.tables.comparison import comparison_blocks

    return [*comparison_blocks(gate.comparison), verdict.rules_table(gate), verdict.sentence(gate)]
