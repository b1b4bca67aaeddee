"""A run as text: headline, figures, tables. The terminal and all reports show the same words."""

from __future__ import annotations

from dataclasses import dataclass, replace

from optkit import units
from optkit.notes import Note
from optkit.records import sentences
from optkit.records.comparison import Comparison, Row
from optkit.records.gate import GateVerdict, Judgement
from optkit.records.machine import Machine
from optkit.records.model import DatasetRecord
from optkit.records.run import Branch, PlannedStage, Run, StageRecord
from optkit.reports.sheet import Cell, Sheet, Tone

VERDICT_TONES: dict[GateVerdict, Tone] = {"pass": "good", "fail": "bad", "inconclusive": "warn"}


@dataclass(frozen=True)
class Figure:
    """One figure of the result."""

    label: str
    """The figure's name: ``speed``, ``size``, ``memory``, or the metric."""
    value: str
    """The value with its unit."""
    detail: str
    """The interval, the baseline's value, or the number of samples."""
    tone: Tone = ""
    """``good`` or ``bad`` news; empty for a plain figure."""


def chosen(run: Run) -> Row | None:
    """Return the row that is the run's result; ``None`` where there is none."""
    rows = run.comparison.rows if run.comparison else []
    return next((row for row in rows if row.title == run.chosen), None)


def headline(run: Run) -> str:
    """Summarize the run's result in a line."""
    row = chosen(run)
    if row is None or run.comparison is None:
        reasons = [f"{branch.target}: {branch.reason}" for branch in run.branches if branch.reason]
        return "The run ended without a result. " + " ".join(reasons)
    if row.baseline:
        return f"Nothing beat {row.title}, so it stays as it is: never ship worse."
    values = [figure.value for figure in figures(run) if figure.label == "speed"]
    smaller = [f"{figure.value} of the size" for figure in figures(run) if figure.label == "size"]
    return f"{row.title}: {', '.join(values + smaller)}"


def figures(run: Run) -> list[Figure]:
    """Return the result's figures against the baseline: speed, size, quality, memory."""
    row = chosen(run)
    if row is None or run.comparison is None:
        return []
    baseline = run.comparison.rows[0]
    found = [
        _speed(row, baseline),
        _size(row, baseline),
        _quality(row, baseline, run.comparison),
        _memory(row, baseline),
    ]
    return [figure for figure in found if figure is not None]


def comparison_sheet(comparison: Comparison, marked: str | None = None) -> Sheet:
    """Return every row with its measured figures; ``marked`` is the title of the row that stands out."""
    assessed = next((row.quality for row in comparison.rows if row.quality), None)
    columns = ["model", "target", "size", "median", "p99", "speed-up (95 %)", "memory"]
    columns += [assessed.metric, "loss (95 %)"] if assessed else []
    rows = [_cells(row, comparison.max_drop)[: len(columns)] for row in comparison.rows]
    titles = [row.title for row in comparison.rows]
    return Sheet(columns, rows, titles.index(marked) if marked in titles else None)


def verdicts(comparison: Comparison) -> list[str]:
    """Return a sentence for each candidate."""
    return [sentences.verdict(row, comparison) for row in comparison.rows if not row.baseline]


def gate_line(judged: Judgement) -> str:
    """Summarize a judgement: ``int8 on openvino against model.onnx on onnxruntime: pass``."""
    other = "itself" if judged.candidate == judged.baseline else judged.baseline
    return f"{judged.candidate} against {other}: {judged.verdict}"


def gate_sheet(judged: Judgement) -> Sheet:
    """Return every rule with its verdict and the reason."""
    rows = [
        [Cell(rule.rule), Cell(rule.verdict, VERDICT_TONES[rule.verdict]), Cell(rule.reason)] for rule in judged.rules
    ]
    return Sheet(["rule", "verdict", "found"], rows)


def stages_sheet(branch: Branch) -> Sheet:
    """Return the stages of one target, a row each."""
    columns = ["stage", "by", "size before", "size after", "time"]
    return Sheet(columns, [[Cell(text) for text in stage_line(stage)] for stage in branch.stages])


def stage_line(stage: StageRecord) -> list[str]:
    """Return the cells of a stage: ``quantize int8 | onnxruntime, static | 1.24 MB | 338 kB | 1.90 s``."""
    by = ", ".join(text for text in (stage.engine, stage.method) if text) or units.UNKNOWN
    time = f"{units.seconds(stage.seconds)}, from the store" if stage.cached else units.seconds(stage.seconds)
    before, after = units.size(stage.source.size_bytes), units.size(stage.result.size_bytes)
    return [stage_title(stage), by, before, after, time]


def stage_title(stage: StageRecord | PlannedStage) -> str:
    """Name a stage with its precision, if it has one: ``quantize int8``."""
    precision = stage.fields.get("precision")
    return f"{stage.stage} {precision}" if isinstance(precision, str) else stage.stage


def notes(run: Run) -> list[str]:
    """Return all notes as text, each with its place, none twice."""
    return [_note(note) for note in all_notes(run)]


def all_notes(run: Run) -> list[Note]:
    """Collect the notes of the run, its stages and its rows; those of a stage or a row name it as their place."""
    found = list(run.notes)
    for branch in run.branches:
        for stage in branch.stages:
            name = f"{stage.stage} for {stage.target}" if stage.target else stage.stage
            found += [_placed(note, name) for note in stage.notes]
    if run.comparison:
        found += run.comparison.notes
        found += [_placed(note, row.title) for row in run.comparison.rows for note in row.notes]
    return list({_note(note): note for note in found}.values())


def data_sheet(run: Run) -> Sheet | None:
    """Return the samples of each part of the data; ``None`` without data."""
    used = [record for record in (run.training, run.calibration, run.evaluation) if record is not None]
    if not used:
        return None
    return Sheet(["part", "samples", "labels", "file", "SHA-256"], [_data_cells(record) for record in used])


def machine_facts(machine: Machine) -> list[tuple[str, str]]:
    """Return names and texts of the machine's features that figures depend on; empty ones are left out."""
    cores = f"{machine.cores_allowed:g} of {machine.cores} cores"
    memory = f"{units.size(machine.memory_allowed_bytes)} of {units.size(machine.memory_bytes)} memory"
    libraries = [f"{library.name} {library.version}" for library in machine.libraries if library.version]
    facts = [
        ("processor", f"{machine.cpu}, {cores}, {memory}"),
        ("instructions", ", ".join(machine.isa) or units.UNKNOWN),
        ("GPU", ", ".join(gpu.name for gpu in machine.gpus)),
        ("system", f"{machine.system}, Python {machine.python}"),
        ("libraries", ", ".join(libraries)),
        ("noise", "; ".join(machine.noise)),
    ]
    return [(name, text) for name, text in facts if text]


def measured(comparison: Comparison) -> str:
    """Describe the measurement in a sentence."""
    threads = (
        f"{comparison.threads} thread{'s' if comparison.threads != 1 else ''}" if comparison.threads else "all cores"
    )
    return (
        f"Each model ran in a process of its own with {threads}, batch {comparison.batch}, taking turns over "
        f"{units.count(comparison.rounds)} rounds in {units.count(comparison.launches)} launches of new processes; "
        "ratios are paired round by round, and their intervals are over the launches."
    )


def recipe_text(run: Run) -> str:
    """Return the recipe as YAML, every default made explicit."""
    import yaml

    return yaml.safe_dump(run.recipe, sort_keys=False, allow_unicode=True).strip()


def _speed(row: Row, baseline: Row) -> Figure | None:
    if row.latency is None or baseline.latency is None:
        return None
    after, before = units.seconds(row.latency.median), units.seconds(baseline.latency.median)
    if row.speedup is None:
        return Figure("speed", after, "median inference, the baseline's own")
    low_to_high = units.interval(row.speedup.low, row.speedup.high)
    tones: dict[str, Tone] = {"faster": "good", "slower": "bad"}
    value = f"{units.ratio(row.speedup.value)} {row.speed_verdict}"
    return Figure(
        "speed", value, f"95 %: {low_to_high}; median {before} → {after}", tones.get(row.speed_verdict or "", "")
    )


def _size(row: Row, baseline: Row) -> Figure | None:
    if row.model is None or baseline.model is None:
        return None
    after, before = row.model.size_bytes, baseline.model.size_bytes
    if row.baseline or not before:
        return Figure("size", units.size(after), "on disk")
    tone: Tone = "good" if after < before else "bad" if after > before else ""
    return Figure("size", units.percent(after / before), f"{units.size(before)} → {units.size(after)}", tone)


def _quality(row: Row, baseline: Row, comparison: Comparison) -> Figure | None:
    quality = row.quality
    if quality is None:
        return None
    value, samples = units.quality(quality.value.value), f"{units.count(quality.count)} samples"
    if quality.loss is None:
        return Figure(quality.metric, value, samples)
    loss = f"loss {units.quality_interval(quality.loss.value, quality.loss.low, quality.loss.high)}, {samples}"
    if baseline.quality and quality.needs_labels:
        loss = f"was {units.quality(baseline.quality.value.value)}; {loss}"
    return Figure(quality.metric, value, loss, "bad" if sentences.beyond(row, comparison.max_drop) else "")


def _memory(row: Row, baseline: Row) -> Figure | None:
    if row.memory_bytes is None:
        return None
    detail = (
        "peak of its process" if row.baseline else f"peak of its process; baseline {units.size(baseline.memory_bytes)}"
    )
    return Figure("memory", units.size(row.memory_bytes), detail)


def _cells(row: Row, max_drop: float | None) -> list[Cell]:
    latency, quality = row.latency, row.quality
    loss = quality.loss if quality else None
    return [
        Cell(row.name),
        Cell(row.target),
        Cell(units.size(row.model.size_bytes if row.model else None)),
        Cell(units.seconds(latency.median if latency else None)),
        Cell(units.seconds(latency.p99 if latency else None)),
        _speed_cell(row),
        Cell(units.size(row.memory_bytes)),
        Cell(units.quality(quality.value.value if quality else None)),
        Cell(
            units.quality_interval(loss.value, loss.low, loss.high) if loss else units.UNKNOWN,
            "bad" if sentences.beyond(row, max_drop) else "",
        ),
    ]


def _speed_cell(row: Row) -> Cell:
    if row.status == "failed":
        return Cell("failed", "bad")
    if row.speedup is None:
        return Cell("baseline" if row.baseline else units.UNKNOWN)
    tones: dict[str | None, Tone] = {"faster": "good", "slower": "bad", "inconclusive": "warn"}
    text = units.ratio_interval(row.speedup.value, row.speedup.low, row.speedup.high)
    return Cell(text, tones.get(row.speed_verdict, ""))


def _data_cells(record: DatasetRecord) -> list[Cell]:
    labels = "yes" if record.labelled else "no"
    texts = [record.part, units.count(record.count), labels, record.path, record.digest[:16]]
    return [Cell(text) for text in texts]


def _placed(note: Note, name: str) -> Note:
    return replace(note, where=f"{name}: {note.where}" if note.where else name)


def _note(note: Note) -> str:
    return f"{note.where}: {note.text}" if note.where else note.text
