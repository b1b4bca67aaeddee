"""JUnit XML: a suite of cases, as CI systems read it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from optkit.records.gate import RuleRecord

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold even escaped, such as terminal colours in a runtime's message."""


@dataclass(frozen=True)
class JUnitCase:
    """One test case."""

    group: str
    """The name that CI systems group cases by: a target, or the candidate."""
    name: str
    """The case's name: a rule, or a row."""
    ending: Literal["passed", "failure", "error", "skipped"]
    """``failure`` is judged and not good enough; ``error`` did not run."""
    text: str
    """The message of the case."""


def of_rules(candidate: str, rules: Sequence[RuleRecord]) -> list[JUnitCase]:
    """Return a case for each rule; an inconclusive rule is skipped, as JUnit has no third outcome."""
    return [_of_rule(candidate, rule) for rule in rules]


def render(suite: str, cases: Sequence[JUnitCase], seconds: float) -> str:
    """Return the suite as an XML document; ``seconds`` is the time of all cases."""
    endings = [case.ending for case in cases]
    totals = {
        "tests": str(len(cases)),
        "failures": str(endings.count("failure")),
        "errors": str(endings.count("error")),
        "skipped": str(endings.count("skipped")),
        "time": f"{seconds:.3f}",
    }
    root = ElementTree.Element("testsuites", totals)
    element = ElementTree.SubElement(root, "testsuite", {"name": suite} | totals)
    for case in cases:
        _add(element, case)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _of_rule(candidate: str, rule: RuleRecord) -> JUnitCase:
    if rule.verdict == "inconclusive":
        return JUnitCase(candidate, rule.rule, "skipped", f"inconclusive: {rule.reason}")
    return JUnitCase(candidate, rule.rule, "failure" if rule.verdict == "fail" else "passed", rule.reason)


def _add(suite: ElementTree.Element, case: JUnitCase) -> None:
    name, group, text = (_FORBIDDEN.sub("\ufffd", each) for each in (case.name, case.group, case.text))
    element = ElementTree.SubElement(suite, "testcase", {"classname": group, "name": name, "time": "0"})
    if case.ending == "passed":
        ElementTree.SubElement(element, "system-out").text = text
    else:
        ending = ElementTree.SubElement(element, case.ending, {"message": text, "type": name})
        ending.text = None if case.ending == "skipped" else text
