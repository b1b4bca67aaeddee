"""The contract of a report, over the table: a new format is tested by its line there and a reader here."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from optkit.errors import UsageError
from optkit.records.run import Run
from optkit.reports.report import REPORTS, render_report

SAVED = Path(__file__).parents[1] / "saved"
RUNS = sorted(SAVED.glob("*/runs/*/record.json"))
HOSTILE = "bad: <b>a</b> | `x`\\\n# y"
"""A name with a mark of every format in it, and a prefix that once stood for a colour."""


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.texts = set(), []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)

    def handle_data(self, data):
        self.texts.append(data)


def of_html(text):
    page = Page()
    page.feed(text)
    assert "b" not in page.tags
    return page.texts


def of_markdown(text):
    """Cells of tables, whose rows must have as many as their heads; newlines became spaces."""
    plain = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
    assert not re.search(r"<b|^# y", plain, re.MULTILINE)
    cells = []
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]
        assert len({len(row) for row in rows}) == 1
        cells += [re.sub(r"\\(.)", r"\1", cell.strip(" *")).replace("&lt;", "<") for row in rows for cell in row]
    return [cell.replace(" # y", "\n# y") for cell in cells]


def of_json(text):
    texts = []
    json.loads(text, object_hook=lambda found: texts.extend(value for value in found.values() if type(value) is str))
    return texts


def of_junit(text):
    elements = list(ElementTree.fromstring(text).iter())
    return [value for each in elements for value in (*each.attrib.values(), each.text or "")]


def of_csv(text):
    rows = list(csv.reader(io.StringIO(text)))
    assert len({len(row) for row in rows}) == 1
    return [cell for row in rows for cell in row]


READERS = {"html": of_html, "markdown": of_markdown, "json": of_json, "junit": of_junit, "csv": of_csv}
"""The texts of a report by format, read as programs read them."""


@pytest.fixture(params=REPORTS)
def form(request):
    return request.param


@pytest.fixture
def run():
    """A run with a gate; ``test_saved.py`` reports the others."""
    return next(run for run in map(Run.model_validate_json, map(Path.read_bytes, RUNS)) if run.gate)


def renamed(value, names):
    """Put HOSTILE in place of names."""
    if isinstance(value, dict):
        return {key: renamed(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [renamed(each, names) for each in value]
    return HOSTILE if isinstance(value, str) and value in names else value


def test_it_is_a_pure_function_of_the_record_that_ends_its_last_line(run, form):
    before = run.to_json()
    text = render_report(run, form)
    assert text.strip()
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert text == render_report(Run.model_validate_json(before), form)
    assert run.to_json() == before
    assert READERS[form](text)


def test_a_hostile_name_stays_whole_and_is_no_markup(run, form):
    row = run.comparison.rows[-1]
    names = {row.name, run.recipe_path, run.model.path, run.branches[0].bundle}
    hostile = Run.model_validate(renamed(run.model_dump(mode="json"), names))
    texts = READERS[form](render_report(hostile, form))
    assert any(HOSTILE in text for text in texts), texts


def test_a_run_without_a_result_is_reported(run, form):
    branches = [each.model_copy(update={"status": "failed", "reason": HOSTILE}) for each in run.branches]
    changes = {"branches": branches, "comparison": None, "gate": None, "chosen": None, "search": None}
    assert READERS[form](render_report(run.model_copy(update=changes), form))


def test_an_unknown_format_is_refused_with_the_nearest(run, form):
    with pytest.raises(UsageError, match="unknown format of reports") as caught:
        render_report(run, f"{form}s")
    assert f"did you mean '{form}'?" in caught.value.hint
