"""``evaluate``, ``benchmark`` and ``compare``: records, tables as text, and what users get wrong."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optkit.cli.tables.comparison import comparison_blocks
from optkit.data.dataset import open_dataset
from optkit.errors import DataError, SignatureError, UsageError
from optkit.formats.model import Model
from optkit.formats.tensors import Signature, TensorSpec
from optkit.measurement import comparison
from optkit.measurement.candidate import Candidate
from optkit.records import sentences as wording
from optkit.records.comparison import Comparison, Evaluation
from optkit.reports.sheet import Cell
from optkit.targets.fake.target import Fake
from optkit.verbs.benchmark import benchmark
from optkit.verbs.compare import compare
from optkit.verbs.evaluate import evaluate

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.standard_normal((60, 16)).astype(np.float32)
WEIGHTS = RANDOM.standard_normal((16, 5)).astype(np.float32)


def net(path, weights=WEIGHTS, batch="batch"):
    """A linear classifier."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["logits"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 5])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a model, one that is worse, and data with labels and without."""
    net(tmp_path / "model.onnx")
    net(tmp_path / "worse.onnx", WEIGHTS + RANDOM.standard_normal(WEIGHTS.shape).astype(np.float32))
    np.savez(tmp_path / "data.npz", x=INPUTS, labels=(INPUTS @ WEIGHTS).argmax(axis=1))
    np.savez(tmp_path / "inputs.npz", x=INPUTS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_compare_reports_quality_speed_size_and_memory(here):
    found = compare("model.onnx", ["worse.onnx"], data="data.npz", threads=1, seconds=0.3, max_drop=0.01)
    first, second = found.rows
    assert (first.baseline, second.baseline) == (True, False)
    assert first.quality.value.value == 1.0
    assert second.quality.loss.value > 0.1
    assert wording.beyond(second, found.max_drop)
    for row in found.rows:
        assert row.status == "ok"
        assert row.latency.count > 50
        assert row.memory_bytes > 10_000_000
        assert row.model.size_bytes == (here / row.name).stat().st_size
        assert row.options["intra_op_num_threads"] == 1
        assert row.facts["providers"] == ["CPUExecutionProvider"]
    assert found.data.count == 60
    assert Comparison.model_validate_json(found.to_json()) == found


def test_one_model_on_two_targets_computes_the_same(here):
    found = compare("model.onnx", ["model.onnx@openvino"], data="inputs.npz", threads=1, seconds=0.3)
    assert [row.target for row in found.rows] == ["onnxruntime", "openvino"]
    assert found.rows[1].quality.metric == "cosine"
    assert found.rows[1].quality.value.value == pytest.approx(1.0, abs=1e-5)
    assert found.rows[1].facts["precision"] == "f32"


def test_a_model_against_itself_shows_no_great_difference(here):
    found = compare("model.onnx", ["model.onnx"], data="data.npz", threads=1, seconds=0.5)
    assert [row.name for row in found.rows] == ["model.onnx", "model.onnx (2)"]
    assert found.rows[1].quality.loss.value == 0
    assert 0.5 < found.rows[1].speedup.value < 2.0


def test_without_data_timing_is_on_made_up_inputs_and_says_so(here):
    found = benchmark("model.onnx", threads=1, seconds=0.2)
    assert found.rows[0].quality is None
    assert found.rows[0].speedup is None
    assert found.rows[0].throughput > 0
    (note,) = [each for each in found.notes if each.kind == "made-up-inputs"]
    assert "made-up inputs" in note.text
    assert note.level == "warning"


def test_benchmark_takes_several_batch_sizes(here):
    found = benchmark("model.onnx", batch=[1, 8], threads=1, seconds=0.2, data="data.npz")
    assert [(row.batch, row.baseline) for row in found.rows] == [(1, True), (8, True)]
    assert all(row.quality is None for row in found.rows)


def test_a_fixed_batch_wins_over_the_one_asked_for_and_a_note_says_so(here):
    net(here / "fixed.onnx", batch=4)
    found = compare("fixed.onnx", ["fixed.onnx"], data="data.npz", threads=1, seconds=0.2)
    assert found.batch == 4
    assert "batch 4 instead of 1" in found.notes[0].text
    assert found.rows[0].quality.count == 60


def test_evaluate_gives_quality_alone(here):
    found = evaluate("model.onnx", data="data.npz", batch=16)
    assert found.row.quality.value.value == 1.0
    assert found.row.latency is None
    assert found.reference is None
    assert Evaluation.model_validate_json(found.to_json()) == found


def test_evaluate_against_a_reference_gives_the_loss(here):
    found = evaluate("worse.onnx", reference="model.onnx", data="inputs.npz", metric="agreement")
    assert found.reference.name == "model.onnx"
    assert found.row.quality.loss.value == pytest.approx(1 - found.row.quality.value.value)


def test_equal_file_names_are_told_apart_by_their_paths(here):
    (here / "other").mkdir()
    net(here / "other" / "model.onnx")
    found = compare("model.onnx", ["other/model.onnx"], threads=1, seconds=0.2)
    assert [row.name for row in found.rows] == ["model.onnx", "other/model.onnx"]


# What the terminal shows, with a target whose clock tells the same times everywhere.

SIGNATURE = Signature((TensorSpec("x", "float32", ("batch", 4)),), (TensorSpec("y", "float32", ("batch", 3)),))


def fake(folder, name, size, **options):
    path = folder / name
    path.write_bytes(bytes(size))
    return Candidate(
        name, Model(path, "torchscript", "sha256:0", SIGNATURE), "fake", Fake().default_options() | options
    )


@pytest.fixture
def side_by_side(tmp_path):
    path = tmp_path / "data.npz"
    inputs = RANDOM.standard_normal((200, 4)).astype(np.float32)
    labels = np.sin(1000.0 * inputs.astype(float).mean(axis=1)[:, None] + np.arange(3)).argmax(axis=1)
    np.savez(path, x=inputs, labels=labels)
    candidates = [
        fake(tmp_path, "model.onnx", 4000),
        fake(tmp_path, "model-int8.onnx", 1100, seconds=0.005, memory_bytes=30_000_000),
        fake(tmp_path, "broken.onnx", 1000, fault="refuse"),
        fake(tmp_path, "bad.onnx", 1000, seconds=0.02, error=2.0),
    ]
    dataset = open_dataset(path, SIGNATURE.inputs)
    return comparison.side_by_side(candidates, dataset=dataset, max_drop=0.01, batch=50, seconds=10)


def test_the_tables_are_these(side_by_side):
    speed, quality, *sentences = comparison_blocks(side_by_side)
    assert list(speed.columns) == ["model", "target", "median", "p90", "p99", "rate", "memory", "speed-up (95 %)"]
    assert [list(row) for row in speed.rows] == [
        ["model.onnx", "fake", "10.0 ms", "10.0 ms", "-", "5000/s", "50.0 MB", Cell("baseline")],
        [
            "model-int8.onnx",
            "fake",
            "5.00 ms",
            "5.00 ms",
            "5.00 ms",
            "10000/s",
            "30.0 MB",
            Cell("2.00x (2.00 to 2.00)", "good"),
        ],
        ["broken.onnx", "fake", "-", "-", "-", "-", "-", Cell("failed", "bad")],
        ["bad.onnx", "fake", "20.0 ms", "20.0 ms", "-", "2500/s", "50.0 MB", Cell("0.50x (0.50 to 0.50)", "bad")],
    ]
    assert list(quality.columns) == ["model", "target", "size", "accuracy", "loss (95 %)", "samples"]
    assert quality.rows[0] == ["model.onnx", "fake", "4.00 kB", "1.0000", Cell("-"), "200"]
    assert quality.rows[1][2:4] == ["1.10 kB", "1.0000"]
    assert quality.rows[1][4].text.startswith("0.0000 (-0.0")
    assert quality.rows[3][4].tone == "bad"
    assert sentences[0].text.startswith(
        "model-int8.onnx on fake: 2.00x faster (95 %: 2.00 to 2.00), 27.5 % of the size"
    )
    assert sentences[1].text == (
        "broken.onnx on fake failed: fake refuses broken.onnx: no implementation of the operator Mystery (node_7)"
    )
    assert sentences[2].text.endswith("beyond --max-drop 0.01")


def test_a_table_prints_every_name_whole(side_by_side, tmp_path, capsys):
    from optkit.cli.console import Console

    names = ["bad:x.onnx", "good:[red]x.onnx", "warn:x[/].onnx", "model.onnx"]
    rows = [row.model_copy(update={"name": name}) for row, name in zip(side_by_side.rows, names, strict=True)]
    renamed = side_by_side.model_copy(update={"rows": rows})
    Console().answer(renamed, lambda: comparison_blocks(renamed)[:2])
    printed = capsys.readouterr().out
    assert all(printed.count(name) == 2 for name in names)


def test_the_tables_fit_a_hundred_columns(side_by_side, capsys):
    from optkit.cli.console import Console

    Console().answer(side_by_side, lambda: comparison_blocks(side_by_side)[:2])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


# What users get wrong.


def test_a_candidate_that_the_target_refuses_is_a_row_and_exit_code_1(cli, here):
    graph = helper.make_graph(
        [helper.make_node("Mystery", ["x"], ["logits"], domain="com.acme")],
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), "odd.onnx")
    done = cli("compare", "model.onnx", "odd.onnx", "--data", "data.npz", "--seconds", "0.2", "--threads", "1")
    assert done.exit_code == 1
    assert "odd.onnx on onnxruntime failed: onnxruntime refuses odd.onnx" in done.stdout
    assert "Mystery" in done.stdout


def test_json_is_one_document_on_stdout(cli, here):
    done = cli("compare", "model.onnx", "worse.onnx", "--seconds", "0.2", "--threads", "1", "--json")
    assert json.loads(done.stdout)["schema"] == "optkit.comparison/1"
    assert "made-up inputs" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["compare", "model.onnx", "model.onnx@openvin"], "model.onnx@openvin: unknown target 'openvin'"),
        (["benchmark", "model.onnx", "--batch", "1,none"], "--batch 1,none: not a list of positive sizes"),
        (["evaluate", "model.onnx", "--data", "data.npz", "--metric", "acuracy"], "unknown metric 'acuracy'"),
        (["evaluate", "model.onnx", "--data", "inputs.npz", "--metric", "f1"], "metric 'f1' needs labels"),
        (["evaluate", "model.onnx", "--data", "inputs.npz"], "there is none"),
        (["evaluate", "model.onnx", "--data", "nowhere.npz"], "nowhere.npz: no such file"),
        (["compare", "model.onnx", "worse.onnx", "--metric", "accuracy"], "quality needs data"),
        (["compare", "model.onnx", "worse.onnx", "--target", "openvin"], "unknown target 'openvin'"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(cli, here, arguments, says):
    done = cli(*arguments)
    assert done.exit_code == 2, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert says in line
    assert "hint:" in done.stderr
    assert done.stdout == ""


def test_a_format_that_the_target_does_not_take_is_exit_code_1(cli, here):
    done = cli("benchmark", "model.onnx@torch")
    assert done.exit_code == 1
    assert "torch takes module, state-dict, torchscript, exported-program, not onnx" in done.stderr


def test_data_that_does_not_fit_is_refused_before_anything_is_measured(here):
    np.savez("wide.npz", x=np.zeros((10, 17), np.float32))
    with pytest.raises(SignatureError, match=r"wide\.npz.*size 17 at axis 1, not 16"):
        compare("model.onnx", ["worse.onnx"], data="wide.npz")


def test_too_few_samples_for_a_batch_are_refused(here):
    with pytest.raises(DataError, match="60 samples do not fill a batch of 64"):
        benchmark("model.onnx", data="data.npz", batch=64)


def test_a_bound_without_data_is_refused(here):
    with pytest.raises(UsageError, match="quality needs data"):
        compare("model.onnx", ["worse.onnx"], max_drop=0.01)


def test_a_missing_library_is_exit_code_4_with_the_pip_command(here):
    program = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "openvino":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
sys.argv = ["optkit", "benchmark", {str(here / "model.onnx")!r}, "--target", "openvino"]
from optkit.__main__ import main
main()
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 4, done.stderr
    assert "pip install 'openvino>=2025.2' 'nncf>=2.17'" in done.stderr
