"""``optkit optimize``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from optkit.cli import options
from optkit.cli.app import console_of
from optkit.errors import FAILED, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from optkit.cli.console import Block
    from optkit.records.run import Run

_Number = TypeVar("_Number", int, float)


def optimize(
    ctx: typer.Context,
    model: options.ModelPath,
    data: options.RequiredData,
    output: options.RequiredOutput,
    max_drop: options.MaxDrop = None,
    metric: options.Metric = None,
    goal: Annotated[
        Literal["latency", "throughput", "size", "memory"], typer.Option("--goal", help="What to be best at.")
    ] = "latency",
    target: Annotated[
        list[str] | None,
        typer.Option("--target", help="onnxruntime, openvino or tensorrt; by default all that are there."),
    ] = None,
    budget: Annotated[str, typer.Option("--budget", metavar="TIME", help="How long to search, as 10m.")] = "10m",
    max_size: Annotated[
        str | None, typer.Option("--max-size", metavar="SIZE", help="Bytes on disk at most, as 20MB.")
    ] = None,
    max_p99: Annotated[
        str | None, typer.Option("--max-p99", metavar="TIME", help="99 % quantile at most, as 20ms.")
    ] = None,
    train_data: Annotated[
        str | None,
        typer.Option("--train-data", metavar="DATA", help="Try pruning and training, too, on these data."),
    ] = None,
    calibration: options.Calibration = None,
    calibration_samples: Annotated[
        int | None,
        typer.Option(
            "--calibration-samples", min=1, help="How many samples calibrate at most; by default by its size."
        ),
    ] = None,
    threads: options.Threads = None,
    batch: options.Batch = 1,
    seconds: options.Seconds = 10.0,
    inputs: options.Inputs = None,
    code: options.Code = None,
    trust: options.Trust = False,
    seed: options.Seed = 0,
    force: options.Force = False,
) -> None:
    """Search for the best form of a model whose loss stays inside the bound: a bundle, its recipe, the proof.

    The original is the first candidate, and the result where nothing beats it. A search that was killed goes on when it
    is started again.
    """
    from optkit import units
    from optkit.reports import summary
    from optkit.verbs.optimize import optimize as verb

    console = console_of(ctx)
    with console.progress() as progress:
        record = verb(
            model,
            output,
            data=data,
            train_data=train_data,
            calibration=calibration,
            calibration_samples=calibration_samples,
            metric=metric,
            max_drop=max_drop,
            goal=goal,
            max_size=_parsed("max-size", max_size, units.parse_bytes),
            max_p99=_parsed("max-p99", max_p99, units.parse_seconds),
            targets=[name for given in target or () for name in given.split(",")],
            budget=_parsed("budget", budget, units.parse_seconds) or 0.0,
            threads=threads,
            batch=batch,
            seconds=seconds,
            inputs=tuple(inputs or ()),
            code=code,
            trust=trust,
            seed=seed,
            force=force,
            progress=progress,
        )
    console.notes(summary.all_notes(record))
    console.answer(record, lambda: _blocks(record, output))
    if any(note.kind == "limits" for note in record.notes):
        raise typer.Exit(FAILED)


def _parsed(name: str, text: str | None, parse: Callable[[object], _Number]) -> _Number | None:
    if text is None:
        return None
    try:
        found = parse(text)
    except ValueError as error:
        raise UsageError(f"--{name}: {error}") from None
    if found <= 0:
        raise UsageError(f"--{name}: {text} is not above nothing")
    return found


def _blocks(run: Run, output: Path) -> list[Block]:
    from optkit.cli.console import Table, Text
    from optkit.cli.tables.comparison import comparison_blocks
    from optkit.reports import search_summary, summary
    from optkit.search import journal

    blocks: list[Block] = []
    if run.search is not None:
        sheet = search_summary.trials_sheet(run.search)
        blocks += [Table(sheet.columns, sheet.rows, title="tried"), Text(search_summary.ended(run.search))]
    if run.comparison is not None:
        blocks += [Text("on samples that no decision has used:", style="bold"), *comparison_blocks(run.comparison)]
    folder = journal.beside(output)
    places = [f"recipe: {folder / 'recipe.yaml'}", f"report: {folder / 'report.html'}"]
    delivered = [f"bundle: {output}"] if output.exists() else []
    return [*blocks, Text(summary.headline(run), style="bold"), *(Text(line) for line in delivered + places)]
