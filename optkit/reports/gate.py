"""The gate's record for CI systems: JUnit XML, a Markdown summary, annotations of GitHub Actions."""

from __future__ import annotations

from collections.abc import Iterable

from optkit.notes import Note
from optkit.records.gate import Gate, Judgement
from optkit.reports import junit_xml

_MARKS = {"pass": "✅ pass", "fail": "❌ fail", "inconclusive": "❔ inconclusive"}
_LEVELS = {"fail": "error", "inconclusive": "warning"}


def gate_junit(gate: Gate) -> str:
    """Return a JUnit test suite with a case for each rule."""
    return junit_xml.render("optkit gate", junit_xml.of_rules(gate.candidate, gate.rules), gate.comparison.seconds)


def gate_markdown(judged: Judgement, notes: Iterable[Note] = ()) -> str:
    """Return Markdown for a CI job's summary page."""
    lines = [
        f"### {_MARKS[judged.verdict]}: {_plain(judged.candidate)} against {_plain(judged.baseline)}",
        "",
        "| rule | verdict | found |",
        "|---|---|---|",
        *(f"| {rule.rule} | {_MARKS[rule.verdict]} | {_plain(rule.reason)} |" for rule in judged.rules),
        "",
        *(f"- {_plain(f'{note.where}: {note.text}' if note.where else note.text)}" for note in notes),
    ]
    return "\n".join(lines).rstrip() + "\n"


def github_annotations(judged: Judgement) -> list[str]:
    """Return annotations, workflow commands of GitHub Actions: a line for each rule that did not pass."""
    return [
        f"::{_LEVELS[rule.verdict]} title=optkit gate%3A {rule.rule}::{_escaped(rule.reason)}"
        for rule in judged.rules
        if rule.verdict != "pass"
    ]


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
