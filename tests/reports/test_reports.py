"""Reports of a run: what they say, and that they say nothing else."""

import csv
import io
import math
import random
import re
from xml.etree import ElementTree

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped

from optkit.metrics import statistics
from optkit.notes import Note
from optkit.records.comparison import Comparison, LatencyRecord, QualityRecord, Row
from optkit.records.gate import Judgement, RuleRecord
from optkit.records.machine import LibraryRecord, Machine
from optkit.records.model import DatasetRecord, ModelRecord
from optkit.records.record import Interval
from optkit.records.run import Branch, Run, StageRecord
from optkit.reports.report import render_report

MACHINE = Machine(
    system="Linux 6.1",
    python="3.11.9",
    cpu="Example CPU 9000",
    isa=["avx2", "avx512_vnni"],
    cores=8,
    cores_allowed=2,
    memory_bytes=16_000_000_000,
    memory_allowed_bytes=8_000_000_000,
    libraries=[
        LibraryRecord(name="onnxruntime", version="1.32.0"),
        LibraryRecord(name="openvino", version="2026.4.1", extra="openvino"),
        LibraryRecord(name="torch", version=None, extra="torch"),
    ],
    noise=["other processes use 35 % of the processor"],
)
FLOAT = ModelRecord(path="model.onnx", format="onnx", digest="a" * 64, size_bytes=1_240_000)


def model(path, size, format="onnx"):
    return ModelRecord(path=path, format=format, digest=path[0] * 64, size_bytes=size)


def latency(median, seed):
    draw = random.Random(seed)
    samples = [median * math.exp(draw.gauss(0, 0.06)) + median * 0.5 * (draw.random() < 0.03) for _ in range(900)]
    edges, counts = statistics.histogram(samples)
    return LatencyRecord(
        count=900,
        mean=median * 1.02,
        median=median,
        p90=median * 1.08,
        p95=median * 1.1,
        p99=median * 1.5,
        histogram_edges=edges,
        histogram_counts=counts,
    )


def quality(value, loss=None):
    around = None if loss is None else Interval(value=loss, low=loss - 0.008, high=loss + 0.009)
    interval = Interval(value=value, low=value - 0.014, high=value + 0.012)
    told = {} if loss is None else {"test": "mcnemar", "p_value": 0.0004, "detectable": 0.007}
    return QualityRecord(
        metric="accuracy", value=interval, count=1000, higher_is_better=True, needs_labels=True, loss=around, **told
    )


def row(name, target, size, median, seed, *, speedup=None, loss=None, **more):
    ratio = None if speedup is None else Interval(value=speedup, low=speedup * 0.97, high=speedup * 1.02)
    verdict = None if ratio is None else "faster" if ratio.low > 1 else "slower" if ratio.high < 1 else "no difference"
    return Row(
        name=name,
        target=target,
        model=model(f"{name}.onnx", size),
        batch=1,
        latency=latency(median, seed),
        throughput=1 / median,
        speedup=ratio,
        speed_verdict=verdict,
        memory_bytes=92_000_000,
        quality=quality(0.931 - (loss or 0), loss),
        **more,
    )


def stage(name, before, after, *, target=None, engine=None, method=None, cached=False, notes=()):
    return StageRecord(
        stage=name,
        fields={"precision": "int8"} if name == "quantize" else {},
        target=target,
        key=f"{name} for {target}",
        cached=cached,
        engine=engine,
        method=method,
        seconds=1.9,
        source=before,
        result=after,
        notes=list(notes),
    )


def branch(target, status="ok", reason=None):
    small, ready = model("quantized.onnx", 338_000), model("compiled.onnx", 341_000)
    left = Note(where="Conv_0", text="kept in float: the first layer, sensitivity 0.41", level="info")
    steps = [stage("quantize", FLOAT, small, target=target, engine="onnxruntime", method="static", notes=[left])]
    if status == "ok":
        steps.append(stage("compile", small, ready, target=target, engine=target, cached=True))
    bundle = f"bundles/{target}" if status == "ok" else None
    return Branch(target=target, stages=steps, bundle=bundle, status=status, reason=reason)


def sample(**changes):
    rows = [
        row("model.onnx", "onnxruntime", 1_240_000, 0.00213, 1, baseline=True),
        row("fp32", "openvino", 1_250_000, 0.00171, 2, speedup=1.25, loss=0.0),
        row("int8", "onnxruntime", 341_000, 0.00243, 3, speedup=0.88, loss=0.016),
        row("int8", "openvino", 352_000, 0.00092, 4, speedup=2.31, loss=0.003),
    ]
    evaluation = DatasetRecord(path="data.npz", part="evaluation", count=1000, digest="e" * 64, labelled=True)
    comparison = Comparison(
        rows=rows, data=evaluation, batch=1, threads=1, rounds=84, max_drop=0.01, machine=MACHINE, seconds=41.3
    )
    run = Run(
        recipe={"model": {"path": "model.onnx"}, "stages": [{"quantize": {"precision": "int8"}}]},
        recipe_path="recipes/cnn.yaml",
        optkit="0.1.0",
        started="2026-01-02T03:04:05Z",
        seconds=64.2,
        model=FLOAT,
        calibration=DatasetRecord(path="data.npz", part="calibration", count=300, digest="c" * 64, labelled=True),
        evaluation=evaluation,
        branches=[branch("onnxruntime"), branch("openvino")],
        comparison=comparison,
        chosen="int8 on openvino",
        machine=MACHINE,
        notes=[Note(text="compile was added to the stages, so that there is a bundle")],
    )
    return run.model_copy(update=changes)


class TestEveryFormat:
    @pytest.fixture(params=["markdown", "html", "json", "csv", "junit"])
    def text(self, request):
        return render_report(sample(), request.param)

    def test_names_the_models_and_targets(self, text):
        for word in ("model.onnx", "int8", "fp32", "openvino", "onnxruntime"):
            assert word in text

    @pytest.mark.parametrize("format", ["markdown", "html", "json", "csv", "junit"])
    def test_is_a_pure_function_of_the_record(self, format):
        assert render_report(sample(), format) == render_report(sample(), format)

    @pytest.mark.parametrize("format", ["markdown", "html", "json", "csv", "junit"])
    def test_says_why_a_run_without_a_comparison_has_none(self, format):
        failed = branch("openvino", status="failed", reason="operator 'Loop' is not supported")
        text = render_report(sample(branches=[failed], comparison=None, chosen=None), format)
        assert format == "csv" or "Loop" in text


def test_json_reads_back_equal():
    assert Run.model_validate_json(render_report(sample(), "json")) == sample()


def test_csv_holds_plain_numbers():
    lines = list(csv.DictReader(io.StringIO(render_report(sample(), "csv"))))
    assert [line["chosen"] for line in lines] == ["False", "False", "False", "True"]
    assert float(lines[3]["speedup"]) == 2.31
    assert int(lines[3]["size_bytes"]) == 352_000
    assert lines[0]["speedup"] == ""
    assert (lines[3]["test"], float(lines[3]["detectable"])) == ("mcnemar", 0.007)


def test_markdown_marks_the_chosen_row_and_says_all_verdicts():
    text = render_report(sample(), "markdown")
    assert text.startswith("# recipes/cnn.yaml\n\nint8 on openvino: 2.31x faster, 28.4 % of the size\n")
    assert "| **int8** | **openvino** | **352 kB** |" in text
    assert "- int8 on onnxruntime: 1.14x slower (95 %: 1.11 to 1.17), 27.5 % of the size" in text
    assert "0.0250), McNemar p &lt; 0.001, losses from 0.0070 on would show: beyond --max-drop 0.01" in text
    assert "- quantize for openvino: Conv_0: kept in float: the first layer, sensitivity 0.41" in text
    assert "\n\n\n" not in text


def test_markdown_keeps_its_tables_whole_whatever_a_name_holds():
    rows = [each.model_copy(update={"name": "a|b<i>"}) for each in sample().comparison.rows]
    comparison = sample().comparison.model_copy(update={"rows": rows})
    assert "| a\\|b&lt;i> |" in render_report(sample(comparison=comparison), "markdown")


def judged(verdict="fail"):
    rules = [
        RuleRecord(rule="max-drop", verdict="pass", reason="accuracy lost 0.0030 on 1,000 samples; at most 0.01"),
        RuleRecord(rule="min-speedup", verdict=verdict, reason="2.31x (2.24 to 2.36) as fast; at least 3.00x"),
    ]
    baseline = "model.onnx on onnxruntime"
    return Judgement(candidate="int8 on openvino", baseline=baseline, verdict=verdict, rules=rules)


def test_a_gate_is_shown_with_its_rules():
    text = render_report(sample(gate=judged()), "markdown")
    assert "## Gate\n\nint8 on openvino against model.onnx on onnxruntime: fail\n" in text
    assert "| min-speedup | fail | 2.31x (2.24 to 2.36) as fast; at least 3.00x |" in text
    assert "\n\n\n" not in text
    page = render_report(sample(gate=judged()), "html")
    assert '<td class="bad">fail</td><td>2.31x (2.24 to 2.36) as fast; at least 3.00x</td>' in page
    assert "<h2>Gate</h2>" not in render_report(sample(), "html")


class TestJUnit:
    def suite(self, **changes):
        (suite,) = JUnitXml.fromstring(render_report(sample(**changes), "junit").encode())
        return suite

    def endings(self, suite):
        return {case.name: [type(each) for each in case.result] for case in suite}

    @pytest.mark.parametrize(("verdict", "ending"), [("fail", Failure), ("inconclusive", Skipped)])
    def test_of_a_gate_has_a_case_for_each_rule(self, verdict, ending):
        suite = self.suite(gate=judged(verdict))
        assert self.endings(suite) == {"max-drop": [], "min-speedup": [ending]}
        assert suite.tests == 2
        assert suite.failures + suite.skipped == 1

    def test_without_a_gate_has_a_case_for_each_row(self):
        first, *_, last = sample().comparison.rows
        failed = Row(
            name="int8", target="onnxruntime", batch=1, status="failed", reason="crashed \x1b[31m(SIGSEGV)\x00"
        )
        comparison = sample().comparison.model_copy(update={"rows": [first, failed, last]})
        suite = self.suite(comparison=comparison)
        assert self.endings(suite) == {first.title: [], failed.title: [Error], last.title: []}
        assert (suite.tests, suite.errors, suite.failures) == (3, 1, 0)
        broken = next(case for case in suite if case.name == failed.title)
        assert broken.result[0].message == "int8 on onnxruntime failed: crashed \ufffd[31m(SIGSEGV)\ufffd"

    def test_without_a_comparison_has_a_case_for_each_branch(self):
        branches = [branch("onnxruntime"), branch("openvino", status="failed", reason="'Loop' is not supported")]
        suite = self.suite(branches=branches, comparison=None, chosen=None)
        assert self.endings(suite) == {"onnxruntime": [], "openvino": [Error]}


def test_a_baseline_that_nothing_beat_stays():
    text = render_report(sample(chosen="model.onnx on onnxruntime"), "markdown")
    assert "Nothing beat model.onnx on onnxruntime, so it stays as it is: never ship worse." in text


def test_a_failed_row_says_so_in_table_and_sentence():
    first, *_, last = sample().comparison.rows
    failed = Row(name="int8", target="openvino", batch=1, status="failed", reason="crashed (SIGSEGV)", model=last.model)
    comparison = sample().comparison.model_copy(update={"rows": [first, failed]})
    for format in ("markdown", "html"):
        text = render_report(sample(comparison=comparison, chosen=first.title), format)
        assert re.search(r"int8 on openvino:? failed: crashed \(SIGSEGV\)", text)


class TestThePage:
    page = property(lambda self: render_report(sample(), "html"))

    def test_asks_for_nothing_from_outside(self):
        found = re.findall(r"""(?:src|href|action|data)\s*=\s*["']([^"']*)""", self.page)
        assert all(link.startswith("#") for link in found)
        assert not re.search(r"@import|url\((?!#)|<script|<link|<img|<iframe", self.page)

    def test_escapes_whatever_the_record_holds(self):
        rows = [each.model_copy(update={"name": "<script>alert(1)</script>"}) for each in sample().comparison.rows]
        comparison = sample().comparison.model_copy(update={"rows": rows})
        page = render_report(sample(comparison=comparison, recipe_path="<b>x</b>"), "html")
        assert "<script>" not in page
        assert "<b>x" not in page
        assert "&lt;script&gt;" in page

    def test_has_pictures_that_say_what_they_show(self):
        pictures = re.findall(r"<svg.*?</svg>", self.page, re.DOTALL)
        assert len(pictures) == 4
        for picture in pictures:
            root = ElementTree.fromstring(picture)
            label = root.attrib["aria-labelledby"].split()
            named = {child.attrib["id"]: child.text for child in root if "id" in child.attrib}
            assert root.attrib["role"] == "img"
            assert all(named[each] for each in label)
        assert "int8 on openvino: 2.31x faster (95 %: 2.24 to 2.36)" in pictures[0]

    def test_has_no_id_twice_and_no_reference_to_none(self):
        ids = re.findall(r'\bid="([^"]*)"', self.page)
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'(?:href="|url\()#([^")]*)', self.page)) <= set(ids)

    def test_draws_in_the_colours_of_the_page(self):
        svg = "".join(re.findall(r"<svg.*?</svg>", self.page, re.DOTALL))
        assert "var(--good)" in svg
        assert "var(--bad)" in svg
        assert not re.search(r"#0[1-8]0\d0\d", svg)

    def test_draws_a_run_that_measured_almost_nothing(self):
        bare = [Row(name="model.onnx", target="onnxruntime", baseline=True)]
        comparison = sample().comparison.model_copy(update={"rows": bare})
        page = render_report(sample(comparison=comparison, chosen=bare[0].title, branches=[]), "html")
        assert "<svg" not in page


def test_a_metric_that_falls_when_better_has_its_bound_above():
    rows = []
    for each in sample().comparison.rows:
        judged = each.quality.model_copy(update={"metric": "mae", "higher_is_better": False})
        rows.append(each.model_copy(update={"quality": judged}))
    comparison = sample().comparison.model_copy(update={"rows": rows})
    assert "mae over 1,000 samples, lower is better" in render_report(sample(comparison=comparison), "html")
