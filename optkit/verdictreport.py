"""The gate's record as other tools read it: JUnit XML, a Markdown summary, annotations of GitHub Actions."""

from __future__ import annotations

from xml.etree import ElementTree

from optkit.verdicts import Gate, RuleRecord

_MARKS = {"pass": "✅ pass", "fail": "❌ fail", "inconclusive": "❔ inconclusive"}
_LEVELS = {"fail": "error", "inconclusive": "warning"}


def junit(gate: Gate) -> str:
    """A test suite with a case for each rule; an inconclusive one is skipped, as the format knows no third end."""
    counts = {
        "tests": str(len(gate.rules)),
        "failures": str(sum(rule.verdict == "fail" for rule in gate.rules)),
        "errors": "0",
        "skipped": str(sum(rule.verdict == "inconclusive" for rule in gate.rules)),
    }
    seconds = f"{gate.comparison.seconds:.3f}"
    root = ElementTree.Element("testsuites", counts | {"time": seconds})
    suite = ElementTree.SubElement(root, "testsuite", counts | {"name": "optkit gate", "time": seconds})
    for rule in gate.rules:
        case = ElementTree.SubElement(suite, "testcase", {"classname": gate.candidate, "name": rule.rule, "time": "0"})
        _ending(case, rule)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _ending(case: ElementTree.Element, rule: RuleRecord) -> None:
    if rule.verdict == "fail":
        ElementTree.SubElement(case, "failure", {"message": rule.reason, "type": rule.rule}).text = rule.reason
    elif rule.verdict == "inconclusive":
        ElementTree.SubElement(case, "skipped", {"message": f"inconclusive: {rule.reason}"})
    else:
        ElementTree.SubElement(case, "system-out").text = rule.reason


def markdown(gate: Gate) -> str:
    """For a CI job's summary page."""
    lines = [
        f"### {_MARKS[gate.verdict]}: {_plain(gate.candidate)} against {_plain(gate.baseline)}",
        "",
        "| rule | verdict | found |",
        "|---|---|---|",
        *(f"| {rule.rule} | {_MARKS[rule.verdict]} | {_plain(rule.reason)} |" for rule in gate.rules),
        "",
        *(f"- {_plain(note.text)}" for note in gate.notes),
    ]
    return "\n".join(lines).rstrip() + "\n"


def github(gate: Gate) -> list[str]:
    """Annotations: workflow commands of GitHub Actions: a line for each rule that did not pass."""
    return [
        f"::{_LEVELS[rule.verdict]} title=optkit gate%3A {rule.rule}::{_escaped(rule.reason)}"
        for rule in gate.rules
        if rule.verdict != "pass"
    ]


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
