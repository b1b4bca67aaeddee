"""``optimize`` finds what is faster inside the bound, mends what loses too much, hands out nothing worse."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import optkit as package
from optkit.data.dataset import open_dataset
from optkit.decisions import choice
from optkit.decisions.choice import Wish
from optkit.errors import OutputError, UsageError
from optkit.explanation.quality import layer_order
from optkit.formats import opening
from optkit.formats.model import Model
from optkit.formats.tensors import Signature, TensorSpec
from optkit.measurement import worker
from optkit.measurement.candidate import Candidate, resolve_candidate
from optkit.records.comparison import QualityRecord, Row
from optkit.records.layers import LayerRecord, Sensitivity
from optkit.records.model import ModelRecord
from optkit.records.record import Interval
from optkit.records.run import Run
from optkit.records.search import TrialRecord
from optkit.runs.chain import Chain
from optkit.runs.recipe import ModelSpec, Recipe
from optkit.search import journal
from optkit.search.measuring import Comparer, SearchParts
from optkit.search.proposals import FUSED, Proposals, quantize_of
from optkit.search.ranking import Ranking, Trial, best_of_each
from optkit.stages.compile import Compile
from optkit.stages.quantize import Quantize
from optkit.targets.fake.target import Fake

QUICK = {"seconds": 0.3, "threads": 1, "budget": 120.0, "calibration_samples": 32}


def fashion(samples, data):
    return {"data": data, "calibration": samples / "calibration.npz", "max_drop": 0.02}


def row(name, value, *, loss=0.0, size=100, verdict="faster", status="ok"):
    interval = Interval(value=value, low=value * 0.99, high=value * 1.01)
    lost = Interval(value=loss, low=loss, high=loss)
    quality = QualityRecord(metric="cosine", value=lost, count=10, higher_is_better=True, needs_labels=False, loss=lost)
    model = ModelRecord(path="m", format="onnx", digest="d", size_bytes=size)
    return Row(
        name=name, target="fake", model=model, speedup=interval, speed_verdict=verdict, quality=quality, status=status
    )


def collapsing(path, seed=0):
    """A net whose second layer sees one channel of a thousand times the others: integers lose all but that one."""
    generator = np.random.default_rng(seed)
    width, weights, nodes, value = 256, [], [], "x"
    for index in range(10):
        drawn = (generator.standard_normal((width, width)) / np.sqrt(width)).astype(np.float32)
        if index == 0:
            drawn[:, 0] *= 2000
        if index == 1:
            drawn[0] /= 2000
        weights.append(numpy_helper.from_array(drawn, f"w{index}"))
        nodes.append(helper.make_node("MatMul", [value, f"w{index}"], [f"y{index}"], name=f"layer{index}"))
        nodes.append(
            helper.make_node("Tanh" if index else "LeakyRelu", [f"y{index}"], [f"x{index}"], name=f"act{index}")
        )
        value = f"x{index}"
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width])
    result = helper.make_tensor_value_info(value, TensorProto.FLOAT, ["batch", width])
    graph = helper.make_graph(nodes, "net", [given], [result], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_search_finds_proves_and_delivers(samples, few, tmp_path):
    """One search of the committed CNN, for it takes half a minute, and all that it must have left behind."""
    run = package.optimize(samples / "model.onnx", tmp_path / "bundle", **fashion(samples, few), **QUICK)
    best = next(each for each in run.comparison.rows if each.title == run.chosen)
    assert best.baseline or best.speed_verdict in ("faster", "no difference")
    assert choice.inside(best.quality, 0.02)
    with package.load(tmp_path / "bundle") as session:
        assert session.run({"x": np.zeros((2, 1, 28, 28), np.float32)})
    check_samples(run)
    check_candidates(run)
    check_folder(run, tmp_path / "bundle-search")
    with pytest.raises(OutputError, match="exists already"):
        package.optimize(samples / "model.onnx", tmp_path / "bundle", **fashion(samples, few), **QUICK)
    if not best.baseline:
        check_made_again(tmp_path)


def check_samples(run):
    """The final comparison is on samples that no decision has used."""
    assert run.search.selection.part == "selection"
    assert run.comparison.data.part == run.evaluation.part == "evaluation"
    assert run.search.selection.digest != run.evaluation.digest
    assert run.search.selection.count + run.evaluation.count == 300


def check_candidates(run):
    """Each is a row with figures or a reason."""
    assert {trial.row.target for trial in run.search.trials} == {"onnxruntime", "openvino"}
    for trial in run.search.trials:
        assert trial.row.reason if trial.row.status == "failed" else trial.speed
        assert trial.decision


def check_folder(run, beside):
    assert Run.model_validate_json((beside / "record.json").read_bytes()) == run
    assert not (beside / "trials.jsonl").exists()
    assert "Speed-up against loss" in (beside / "report.html").read_text()
    assert "## Candidates" in (beside / "report.md").read_text()


def check_made_again(folder):
    """The recipe makes exactly this bundle."""
    recipe = folder / "bundle-search" / "recipe.yaml"
    again = package.run(recipe, settings=["benchmark.seconds=0.3"], output=folder / "again")
    made = json.loads((folder / "bundle" / "manifest.json").read_text())
    other = json.loads((folder / "again" / again.branches[0].bundle / "manifest.json").read_text())
    assert made["digests"] == other["digests"]
    assert made["options"] == other["options"]


@pytest.mark.slow
def test_layers_are_given_back_to_float_where_all_integers_collapse(tmp_path):
    model = collapsing(tmp_path / "net.onnx")
    data = np.random.default_rng(1).standard_normal((120, 256)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=data)
    run = package.optimize(
        model, tmp_path / "out", data=tmp_path / "data.npz", metric="cosine", max_drop=0.01,
        targets=["onnxruntime"], **QUICK,
    )  # fmt: skip
    plain = next(trial for trial in run.search.trials if trial.row.name == "int8")
    assert plain.row.quality.loss.value > 0.01
    mixed = [trial for trial in run.search.trials if trial.phase == "mixed" and choice.inside(trial.row.quality, 0.01)]
    assert mixed
    assert run.search.sensitivity.layers[0].name in ("layer0", "layer1")


def test_nothing_worse_is_handed_out_where_nothing_helps(tmp_path):
    """One addition: every other form of it only costs."""
    node = helper.make_node("Add", ["x", "x"], ["y"], name="add")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy"]
    graph = helper.make_graph([node], "net", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32))
    run = package.optimize(
        tmp_path / "m.onnx", tmp_path / "out", data=tmp_path / "data.npz", targets=["onnxruntime"], **QUICK
    )
    assert run.chosen == "m.onnx on onnxruntime"
    assert (tmp_path / "out" / "manifest.json").is_file()
    assert all(trial.row.reason for trial in run.search.trials if trial.row.status == "failed")


def test_a_step_that_fails_unexpectedly_is_a_row_and_the_search_goes_on(tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("an engine's\nown surprise")

    monkeypatch.setattr(Quantize, "apply", broken)
    monkeypatch.setenv("OPTKIT_CACHE", str(tmp_path / "cache"))
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy"]
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    graph = helper.make_graph([node], "net", value[:1], value[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32))
    run = package.optimize(
        tmp_path / "m.onnx", tmp_path / "out", data=tmp_path / "data.npz", targets=["onnxruntime"], **QUICK
    )
    assert run.chosen == "m.onnx on onnxruntime"
    reasons = {trial.row.reason for trial in run.search.trials if trial.row.status == "failed"}
    assert reasons == {"failed unexpectedly: RuntimeError: an engine's own surprise"}


def test_a_limit_that_nothing_keeps_is_said_with_exit_code_1(optkit, samples, few, tmp_path):
    done = optkit(
        "optimize", samples / "model.onnx", "--data", few, "--max-size", "1kB", "--seconds",
        "0.2", "--budget", "1s", "-o", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "nothing that was tried keeps the limits" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--budget", "soon"], "error: --budget soon: 'soon' is not a time"),
        (["--target", "tensorflow"], "error: unknown target 'tensorflow'"),
        (["--max-size", "-1"], "error: --max-size -1: should be greater than 0"),
        (["--metric", "acuracy"], "error: unknown metric 'acuracy'"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(optkit, samples, tmp_path, arguments, line):
    done = optkit(
        "optimize", samples / "model.onnx", "--data", samples / "evaluation.npz", "-o", tmp_path / "out", *arguments
    )
    assert done.returncode == 2
    assert done.stderr.startswith(line)
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_folder_is_not_touched(samples, few, tmp_path):
    foreign = tmp_path / "out-search"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="not the folder of a search"):
        package.optimize(samples / "model.onnx", tmp_path / "out", **fashion(samples, few), **QUICK)
    assert (foreign / "thesis.tex").read_text() == "years of work"


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on(samples, few, tmp_path):
    arguments = [
        "optimize", samples / "model.onnx", "--data", few, "--max-drop", "0.02", "--seconds", "0.5",
        "--threads", "1", "--calibration-samples", "32", "--target", "onnxruntime", "-o", tmp_path / "out",
    ]  # fmt: skip
    command = [sys.executable, "-m", "optkit", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    trials = tmp_path / "out-search" / "trials.jsonl"
    for _ in range(1200):
        if trials.exists() and len(trials.read_text().splitlines()) > 2:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    known = len(trials.read_text().splitlines()) - 1
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"goes on after {known} results of a search that was killed" in done.stderr
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_a_model_that_does_not_tell_its_inputs_is_one_line(optkit, samples, tmp_path):
    done = optkit(
        "optimize", samples / "module.pt", "--trust", "--data", samples / "evaluation.npz", "-o", tmp_path / "out"
    )
    assert done.returncode == 2
    assert "module.pt does not tell its inputs" in done.stderr.splitlines()[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_interrupted_search_ends_with_130_and_goes_on(samples, tmp_path):
    arguments = ["--data", samples / "evaluation.npz", "--seconds", "0.3", "--threads", "1", "-o", tmp_path / "out"]
    command = [sys.executable, "-m", "optkit", "optimize", *map(str, (samples / "model.onnx", *arguments))]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for _ in range(1200):
        if (tmp_path / "out-search" / "trials.jsonl").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert output == ""
    assert [path.name for path in tmp_path.iterdir()] == ["out-search"]


def test_a_journal_is_read_up_to_what_a_kill_cut_off(tmp_path):
    path, trial = tmp_path / "trials.jsonl", TrialRecord(phase="broad", stages=[], row=row("a", 1.5), seconds=1.0)
    journal.Journal(path, {"model": 1}).add("a", trial=trial)
    with path.open("a") as file:
        file.write('{"key": "b", "tri')
    again = journal.Journal(path, {"model": 1})
    assert again.trial("a") == trial
    assert again.trial("b") is None
    again.add("c", trial=trial)
    assert journal.Journal(path, {"model": 1}).resumed == 2
    assert journal.Journal(path, {"model": 2}).resumed == 0


def test_layers_go_back_to_float_by_damage_for_their_work():
    layers = [
        LayerRecord(
            name=name, operator="Conv", depth=0, parameters=1, operations=operations, damage=damage, local_error=0.0
        )
        for name, operations, damage in (("cheap", 10, 6.0), ("costly", 1000, 3.0), ("harmless", 10, 1.0))
    ]
    found = Sensitivity(layers=layers, all_quantized=10.0, samples=1, calibration_samples=1, weight_bits=8, seconds=0.0)
    order = layer_order.order_layers(found)
    assert [layer.name for layer in order] == ["cheap", "harmless", "costly"]
    assert list(layer_order.counts(order)) == [1, 2]


def test_layers_beside_one_that_ruins_everything_go_back_to_float_too():
    layers = [
        LayerRecord(name=name, operator="Conv", depth=0, parameters=1, operations=1, damage=damage, local_error=0.0)
        for name, damage in (("ruin", 2.0), ("bad", 0.004), ("fair", 1e-4), ("good", 1e-7))
    ]
    found = Sensitivity(layers=layers, all_quantized=2.0, samples=1, calibration_samples=1, weight_bits=8, seconds=0.0)
    assert list(layer_order.counts(layer_order.order_layers(found))) == [1, 2, 3]


def test_the_goal_decides_what_is_best():
    fast, small = row("fast", 2.0, size=90), row("small", 1.2, size=10)
    baseline = row("baseline", 1.0, size=100)
    assert Wish("latency").best([fast, small], baseline) is fast
    assert Wish("size").best([fast, small], baseline) is small
    assert not Wish("size").beats(row("slow", 0.5, size=1, verdict="slower"), baseline)
    assert not Wish("latency", max_size=50).allows(fast)
    assert Wish("latency", max_size=50).beats(row("slow", 0.5, size=1, verdict="slower"), baseline)


@pytest.mark.parametrize(("speed", "helps"), [(1.01, False), (1.2, True)])
def test_fusing_must_help_clearly_before_all_else_builds_on_it(speed, helps):
    screened = TrialRecord(phase="float", stages=[], row=row(FUSED, speed), seconds=1.0)
    ranking = Ranking(Wish(), None, 100, [Trial(Chain(FUSED, "onnxruntime", ()), screened)])
    assert ranking.clearly_faster(FUSED, "onnxruntime") is helps


@pytest.mark.parametrize(("budget", "count"), [(200.0, 20), (20.0, 16), (9000.0, 60)])
def test_a_slow_model_is_proved_on_as_many_samples_as_the_budget_holds(budget, count, tmp_path):
    signature = Signature((TensorSpec("x", "float32", ("batch", 4)),), (TensorSpec("y", "float32", ("batch", 3)),))
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32))
    samples = open_dataset(tmp_path / "data.npz", signature.inputs)
    options = Fake().default_options() | {"seconds": 0.5}
    slow = Candidate("slow", Model(tmp_path / "data.npz", "torchscript", "", signature), "fake", options)
    recipe = Recipe(model=ModelSpec(path="m"), metric="cosine", benchmark={"seconds": 1.0})
    comparer = Comparer(recipe, slow, SearchParts(None, samples, samples), budget, lambda _: None)
    assert comparer.final([slow]).data.count == count
    assert comparer.final_seconds() == pytest.approx(4 * (1.5 + 0.5 * count))


def test_what_loses_least_is_mended_first():
    def trial(target, method, loss, speed):
        chain = Chain("int8", target, (Quantize(method=method),))
        return Trial(chain, TrialRecord(phase="broad", stages=[], row=row("int8", speed, loss=loss), seconds=1.0))

    far, near, nearest = trial("a", "static", 0.9, 3.0), trial("b", "static", 0.2, 2.0), trial("b", "static", 0.1, 1.9)
    assert best_of_each([far, near, nearest], proposals_for().kind) == [nearest, far]


def proposals_for(*operators):
    return Proposals(Recipe(model=ModelSpec(path="m")), None, "fake", Wish(), frozenset(operators), calibrated=True)


def test_transformers_are_tried_in_both_of_nncfs_schemes_and_other_ranges_come_last():
    chain = Chain("int8", "openvino", (Quantize(method="static"),))
    proposals = proposals_for("MatMul", "Softmax")
    assert [each.name for each in proposals.repairs(chain)] == ["int8 none"]  # NNCF takes it for a transformer itself
    with_convolutions = proposals_for("MatMul", "Softmax", "Conv").repairs(chain)
    assert [each.name for each in with_convolutions] == ["int8 transformer"]
    refined = proposals.refinements(chain)
    assert [each.name for each in refined] == ["int8 SmoothQuant 0.5", "int8 SmoothQuant 0.75", "int8 accurate bias"]
    schemes = [(each.stages[0].model_type, each.stages[0].smooth_quant) for each in refined]
    assert schemes == [("transformer", 0.5), ("transformer", 0.75), ("auto", None)]
    without = proposals.refinements(replace(chain, stages=(Quantize(method="static", model_type="none"),)))
    assert [each.name for each in without] == ["int8 accurate bias"]
    refined = proposals.refinements(replace(chain, target="onnxruntime"))
    assert [each.stages[0].calibrate for each in refined] == ["percentile", "entropy"]
    assert proposals.refinements(Chain("int8 dynamic", "onnxruntime", (Quantize(method="dynamic"),))) == []


def test_on_tensorrt_narrow_floats_are_tried_and_threads_are_not(samples):
    recipe = Recipe(model=ModelSpec(path="m"), targets=["tensorrt"])
    proposals = replace(proposals_for("Conv"), recipe=recipe, model=opening.open(samples / "model.onnx"))
    chains = proposals.broad(fused=())
    assert [each.name for each in chains] == ["fp16", "bf16", "int8", "int8, fp16 between"]
    assert [quantize_of(each).floats for each in chains[2:]] == ["float32", "fp16"]
    assert {each.target for each in chains} == {"tensorrt"}
    assert [each.name for each in proposals.options(chains[0])] == ["fp16, CUDA graph"]


@pytest.mark.parametrize(("target", "trained"), [("openvino", "int8 trained"), ("tensorrt", None)])
def test_training_is_proposed_for_targets_that_it_makes_integers_for(samples, target, trained):
    recipe = Recipe(model=ModelSpec(path="m"), targets=[target])
    module = replace(opening.open(samples / "model.onnx"), format="module")
    found = replace(proposals_for("Conv"), recipe=recipe, model=module).recovered(
        Chain("int8", target, (Quantize(method="static"),))
    )
    assert (found and found.name) == trained


@pytest.mark.parametrize(("target", "method"), [("openvino", "static"), ("onnxruntime", "dynamic")])
def test_what_is_recurrent_goes_back_to_float_as_a_whole(target, method):
    chain = Chain("int8", target, (Quantize(method=method),))
    (found,) = proposals_for("LSTM", "Gemm").repairs(chain)
    assert found.stages[0].exclude == ("LSTM",)


@pytest.mark.parametrize(
    ("cores", "asked", "tried"), [(8, None, [1, 4]), (2, None, [1]), (1, None, []), (0.5, None, []), (8, 2, [])]
)
def test_fewer_threads_are_tried_where_nobody_said_how_many(cores, asked, tried, monkeypatch):
    monkeypatch.setattr("optkit.system.cgroup.cores_allowed", lambda: cores)
    proposals = proposals_for("Conv")
    proposals = replace(proposals, recipe=Recipe(model=ModelSpec(path="m"), benchmark={"threads": asked}))
    found = proposals.options(Chain("int8", "onnxruntime", (Quantize(method="static"), Compile())))
    numbers = [each.stages[-1].options.get("intra_op_num_threads") for each in found]
    assert [number for number in numbers if number] == tried
    assert [each.name for each in found if each.name.startswith("int8, threads")] == [
        f"int8, threads {number}" for number in tried
    ]


@pytest.mark.thorough
def test_for_throughput_the_bundle_has_the_sessions_that_do_most(samples, few, tmp_path):
    given = fashion(samples, few) | QUICK | {"targets": ["openvino"], "seconds": 1.0}
    run = package.optimize(samples / "model.onnx", tmp_path / "out", goal="throughput", **given)
    prefix = "all sessions at work, "
    told = [note.text.removeprefix(prefix) for note in run.notes if note.text.startswith(prefix)]
    assert [text.partition(": ")[0] for text in told] == ["model.onnx on onnxruntime", run.chosen]
    sessions = int(told[1].partition("with batch 1, ")[2].partition(" session")[0])
    options = package.open(tmp_path / "out").options
    assert options["NUM_STREAMS"] == sessions
    stages = run.recipe["stages"]
    assert stages[-1]["compile"]["options"]["NUM_STREAMS"] == sessions


def test_what_nncf_rounds_between_layers_goes_back_to_float_as_a_whole():
    static = (Quantize(method="static"),)
    found = {
        each.name: each
        for each in proposals_for("Conv", "Div", "Relu", "Mul").repairs(Chain("int8", "openvino", static))
    }
    assert found["int8 of layers alone"].stages[0].exclude == ("Div", "Mul")
    assert list(found) == ["int8 of layers alone"]
    plain = Chain("int8", "openvino", static)
    assert proposals_for("Div", "Mul").kind(plain) == ("openvino", "static", "mixed", False)
    assert proposals_for("Div", "Mul").kind(found["int8 of layers alone"]) == ("openvino", "static", "mixed", True)
    again = proposals_for("Conv", "Div", "Mul").mixed(found["int8 of layers alone"], ["conv_1"])
    assert again.name == "int8 of layers alone, 1 in float"
    assert "int8 of layers alone" not in [
        each.name for each in proposals_for("Conv", "Relu").repairs(Chain("int8", "openvino", static))
    ]


def test_a_chain_with_more_layers_in_float_says_how_many_once():
    proposals = proposals_for()
    once = proposals.mixed(Chain("int8", "fake", (Quantize(method="static"),)), ["a", "b"])
    again = proposals.mixed(once, ["a", "c"])
    assert once.name == "int8, 2 in float"
    assert again.name == "int8, 3 in float"
    assert again.stages[0].exclude == ("a", "b", "c")


def test_layers_are_given_back_to_bf16_where_that_pays(monkeypatch):
    monkeypatch.setattr("optkit.system.fingerprint.computes_bf16", lambda: True)
    proposals = replace(proposals_for("Conv", "Add"), halved=frozenset(["openvino"]))
    chain = Chain("int8", "openvino", (Quantize(method="static"), Compile(options={"NUM_STREAMS": 1})))
    half, alone = {"NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "bf16"}, {"NUM_STREAMS": 1}
    mixed = proposals.mixed(proposals.mixed(chain, ["a"]), ["b"])
    assert (mixed.name, mixed.stages[-1].options) == ("int8, 2 in bf16", half)
    assert proposals.trimmed(chain, ["a"]).stages[-1].options == half
    assert proposals.repairs(chain)[0].stages[-1].options == half
    assert proposals.refinements(chain)[0].stages[-1].options == alone  # which keep nothing from integers
    between = next(each for each in proposals.options(chain) if each.name == "int8, bf16 between")
    assert between.stages[-1].options == half
    elsewhere = proposals.mixed(replace(chain, target="onnxruntime"), ["a"])
    assert (elsewhere.name, elsewhere.stages[-1].options) == ("int8, 1 in float", alone)
    bf16 = Chain("bf16", "openvino", (Quantize(precision="bf16"), Compile()))
    assert not any("between" in each.name for each in proposals.options(bf16))


@pytest.mark.parametrize(
    ("speed", "loss", "low", "pays"),
    [(2.0, 0.0, 0.0, True), (1.31, 0.0, 0.0, False), (2.0, 0.02, 0.0, True), (2.0, 0.02, 0.01, False)],
)
def test_bf16_pays_where_it_is_clearly_faster_and_may_keep_the_bound(speed, loss, low, pays):
    def trial(name, stages, found):
        return Trial(Chain(name, "openvino", stages), TrialRecord(phase="float", stages=[], row=found, seconds=1.0))

    found = row("bf16", speed, loss=loss)
    lost = Interval(value=loss, low=low, high=loss + 0.02)
    found = found.model_copy(update={"quality": found.quality.model_copy(update={"loss": lost})})
    trials = [trial("bf16", (Quantize(precision="bf16"),), found), trial("float", (), row("float", 1.3, loss=0.0))]
    ranking = Ranking(Wish(), 0.01, 100, trials)
    assert ranking.halved() == (frozenset(["openvino"]) if pays else frozenset())
    mixed = trial("int8, 2 in bf16", (Quantize(method="static"),), row("mixed", 2.2, loss=0.02))
    assert ranking.as_little_as_half(mixed) == (pays and loss == 0.02)


def test_what_few_samples_flatter_is_joined_by_what_is_surer():
    def trial(name, phase, speed, loss, high, *, quantized=True):
        stages = (Quantize(method="static"),) if quantized else ()
        found = row(name, speed, loss=loss)
        lost = Interval(value=loss, low=loss, high=high)
        found = found.model_copy(update={"quality": found.quality.model_copy(update={"loss": lost})})
        return Trial(Chain(name, "fake", stages), TrialRecord(phase=phase, stages=[], row=found, seconds=1.0))

    lucky, surer = trial("lucky", "broad", 2.0, 0.0, 0.2), trial("surer", "mixed", 1.5, 0.0, 0.1)
    lossy, kept = trial("lossy", "broad", 3.0, 0.5, 0.6), trial("float", "float", 1.1, 0.0, 0.05, quantized=False)
    ranking = Ranking(Wish(), 0.01, 100, [lucky, surer, lossy, kept])
    assert ranking.finalists() == [lucky, surer, kept]
    assert ranking.worth_mending("broad") == [lossy]
    assert ranking.worth_assuring("broad", "mixed") == [lossy, lucky, surer]
    certain = trial("certain", "broad", 2.1, 0.0, 0.05)  # as sure as float: the samples tell no better
    assert Ranking(Wish(), 0.01, 100, [certain, surer, kept]).finalists() == [certain, kept]


def test_what_loses_too_much_perhaps_by_chance_is_judged_on_the_samples_of_both_looks():
    def looked(name, speed, loss, low, *, count=100):
        found = row(name, speed, loss=loss)
        lost = Interval(value=loss, low=low, high=loss + 0.03)
        quality = found.quality.model_copy(update={"loss": lost, "count": count})
        return found.model_copy(update={"quality": quality, "target": "fake"})

    def trial(found):
        chain = Chain(found.name, "fake", (Quantize(method="static"),))
        return Trial(chain, TrialRecord(phase="broad", stages=[], row=found, seconds=1.0))

    unlucky, lossy, slow = (
        looked("unlucky", 2.0, 0.02, -0.01),
        looked("lossy", 3.0, 0.05, 0.01),
        looked("slow", 1.2, 0, 0),
    )
    ranking = Ranking(Wish(), 0.01, 100, [trial(each) for each in (unlucky, lossy, slow)])
    assert [each.row.name for each in ranking.undecided()] == ["unlucky"]
    assert [each.row.name for each in ranking.finalists()] == ["unlucky", "slow"]
    better, no_better = looked("unlucky", 2.0, -0.01, -0.04), looked("unlucky", 2.0, 0.005, -0.02)
    assert ranking.refused([better]) == []  # 0.02 and -0.01 on as many samples are 0.005
    assert ranking.refused([no_better, slow]) == [no_better]


def test_optimize_needs_a_target_that_is_there(samples, few, tmp_path):
    with pytest.raises(UsageError, match="unknown target"):
        package.optimize(samples / "model.onnx", tmp_path / "out", **fashion(samples, few), targets=["abacus"], **QUICK)


def test_nothing_is_quantized_twice(samples, few, tmp_path):
    small = tmp_path / "small.onnx"
    package.quantize(samples / "model.onnx", small, calibration=samples / "calibration.npz", measure=False)
    run = package.optimize(small, tmp_path / "out", **fashion(samples, few), **QUICK)
    assert {trial.row.name.partition(",")[0] for trial in run.search.trials} <= {
        "float",
        "bf16",
    }  # where the CPU has it
    assert any("already quantized" in note.text for note in run.notes)


@pytest.mark.thorough
def test_a_torch_model_that_nothing_beats_stays_as_it_is(samples, few, tmp_path):
    run = package.optimize(
        samples / "program.pt2",
        tmp_path / "out",
        **fashion(samples, few),
        targets=["onnxruntime"],
        **QUICK | {"budget": 1.0},
    )
    assert run.chosen == "program.pt2 on torch"
    assert run.branches[0].bundle is None
    assert not (tmp_path / "out").exists()
    assert any("a torch file makes no bundle" in note.text for note in run.notes)


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_torch_compile_computes_the_same(samples):
    eager = resolve_candidate(samples / "program.pt2", threads=1)
    (chain,) = replace(proposals_for(), model=eager.model, native="torch").baselines()
    feed = {"x": np.random.default_rng(0).random((2, 1, 28, 28), np.float32)}
    with worker.Worker(eager) as first, worker.Worker(replace(eager, options=eager.options | chain.options)) as second:
        (expected,), (found,) = first.run(feed).values(), second.run(feed).values()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_torch_compile_is_a_further_baseline_and_no_candidate(samples):
    model = Model(samples / "traced.pt", "torchscript", "")
    assert replace(proposals_for(), model=model, native="torch").baselines() == []
    screened = TrialRecord(phase="float", stages=[], row=row("torch.compile", 3.0), seconds=1.0)
    trial = Trial(Chain("torch.compile", "torch", (), {"compile": True}), screened)
    ranking = Ranking(Wish(), None, 100, [trial])
    assert ranking.finalists() == []
    assert ranking.decision(trial) == "another baseline"
