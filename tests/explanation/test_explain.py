"""``explain``: layers on both sides, findings, and what users get wrong."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from onnx import helper
from onnx_files import nodes_of, save

from optkit.cli.tables.speed_explanation import explanation_blocks
from optkit.errors import StageError, UsageError
from optkit.explanation.quality import explain as quality_explanation
from optkit.explanation.quality import remedies as quality_remedies
from optkit.explanation.speed import alignment, integer_regions
from optkit.explanation.speed import case as speed_case
from optkit.explanation.speed import causes as speed_causes
from optkit.explanation.speed import explain as speed_explanation
from optkit.explanation.speed import remedies as speed_remedies
from optkit.explanation.speed.causes import find_speed_causes
from optkit.explanation.speed.explain import explain_speed
from optkit.formats.layers import Layer, Layers, read_layers
from optkit.formats.model import Model
from optkit.formats.operators import Operator, Profile
from optkit.formats.tensors import Signature, TensorSpec
from optkit.measurement import comparison
from optkit.measurement.candidate import Candidate
from optkit.progress import no_progress
from optkit.records import sentences
from optkit.records.comparison import QualityRecord, Row
from optkit.records.explanation import Explanation, SpeedExplanation
from optkit.records.layers import LayerErrorRecord, LayerErrors, LayerRecord, LossFindingRecord, Sensitivity
from optkit.records.record import Interval
from optkit.reports.sheet import Cell
from optkit.targets.fake.target import Fake
from optkit.verbs.explain import explain
from optkit.verbs.quantize import quantize

# Layers on both sides.


def test_what_was_fused_belongs_to_the_layer_it_was_fused_into():
    baseline = Profile((Operator("f", "FusedConv", 3.0, "float32", layers=("conv", "relu"), tensors=("c", "r")),), 1, 3)
    candidate = Profile(
        (
            Operator("q", "QuantizeLinear", 1.0, "float32 to int8", layers=("x_q",)),
            Operator("conv_quant", "QLinearConv", 1.0, "int8", layers=("conv_quant",), tensors=("cq",)),
            Operator("r", "Relu", 0.5, "float32", layers=("other_name",), tensors=("r",)),
        ),
        1,
        3,
    )
    pairs = {pair.layer: pair for pair in alignment.pairs(baseline, candidate)}
    assert set(pairs) == {"conv", "QuantizeLinear"}
    assert [each.kind for each in pairs["conv"].candidate] == ["QLinearConv", "Relu"]
    assert (pairs["conv"].before, pairs["conv"].after, pairs["conv"].integer) == (3.0, 1.5, True)
    assert not pairs["QuantizeLinear"].matched


def test_layers_are_found_again_on_another_runtime(samples):
    found = explain(
        f"{samples / 'model.onnx'}@onnxruntime", f"{samples / 'model.onnx'}@openvino", threads=1, seconds=0.3
    )
    both = {
        each.layer
        for each in found.speed.layers
        if each.matched and each.baseline_seconds is not None and each.candidate_seconds is not None
    }
    assert nodes_of(samples / "model.onnx", "Conv") <= both


# The verb.


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_the_parts_add_up_to_an_inference(target, samples, small, few):
    found = explain(
        samples / "model.onnx",
        small,
        data=few,
        target=target,
        threads=1,
        seconds=0.5,
    )
    speed = found.speed
    for side, profile in (("baseline", speed.baseline), ("candidate", speed.candidate)):
        parts = sum(getattr(each, f"{side}_seconds") for each in speed.families)
        assert parts == pytest.approx(profile.seconds)
        layers = sum(getattr(each, f"{side}_seconds") or 0.0 for each in speed.layers)
        assert layers + profile.outside_seconds == pytest.approx(profile.seconds)
        assert 0.5 < profile.scale <= 1
    convolutions = [each for each in speed.layers if each.matched and each.family == "convolution"]
    assert {each.candidate_precision for each in convolutions} == {"int8"}
    assert {each.baseline_precision for each in convolutions} == {"float32"}
    assert 1 <= len(speed.conclusion) <= 4
    assert "an inference" in speed.conclusion[0]
    assert Explanation.model_validate_json(found.to_json()) == found


def test_a_pair_that_no_kernel_takes_in_is_found(tmp_path):
    """ONNX Runtime has no integer Elu, so it computes in float between two conversions."""
    shape = [1, 64, 64, 64]
    save(tmp_path / "model.onnx", [helper.make_node("Elu", ["x"], ["y"], "elu")], {"x": shape}, {"y": shape})
    constants = {"s": np.float32(0.05), "z": np.uint8(128)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], "q1"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"], "d1"),
        helper.make_node("Elu", ["xd"], ["e"], "elu"),
        helper.make_node("QuantizeLinear", ["e", "s", "z"], ["eq"], "q2"),
        helper.make_node("DequantizeLinear", ["eq", "s", "z"], ["y"], "d2"),
    ]
    save(tmp_path / "pairs.onnx", nodes, {"x": shape}, {"y": shape}, {key: np.array(v) for key, v in constants.items()})
    found = explain(tmp_path / "model.onnx", tmp_path / "pairs.onnx", threads=1, seconds=0.3)
    (finding,) = [each for each in found.speed.findings if each.kind == "unfused-pairs"]
    assert finding.layers == ["elu"]
    assert finding.seconds > 0
    assert "conversion +" in found.speed.conclusion[1]


# What is said, with a target that takes what it is told.

SIGNATURE = Signature((TensorSpec("x", "float32", ("batch", 4)),), (TensorSpec("y", "float32", ("batch", 3)),))
FLOATS = [
    {"name": "a", "kind": "Conv", "seconds": 0.004, "precision": "float32", "layers": ["a"]},
    {"name": "b", "kind": "Conv", "seconds": 0.004, "precision": "float32", "layers": ["b"], "sources": ["a"]},
    {"name": "c", "kind": "Sigmoid", "seconds": 0.001, "precision": "float32", "layers": ["c"], "sources": ["b"]},
]
INTEGERS = [
    {"name": "q", "kind": "QuantizeLinear", "seconds": 0.003, "precision": "float32 to int8"},
    {"name": "a", "kind": "QLinearConv", "seconds": 0.006, "precision": "int8", "layers": ["a"], "sources": ["q"]},
    {"name": "b", "kind": "QLinearConv", "seconds": 0.002, "precision": "int8", "layers": ["b"], "sources": ["a"]},
    {"name": "d", "kind": "DequantizeLinear", "seconds": 0.002, "precision": "int8 to float32", "sources": ["b"]},
    {"name": "c", "kind": "Sigmoid", "seconds": 0.001, "precision": "float32", "layers": ["c"], "sources": ["d"]},
]


def fake(folder, name, **options):
    path = folder / name
    path.write_bytes(bytes(1000))
    model = Model(path, "torchscript", "sha256:0", SIGNATURE)
    return Candidate(name, model, "fake", Fake().default_options() | options)


def told(*candidates):
    compared = comparison.side_by_side(candidates, dataset=None, with_quality=False, seconds=0.3)
    return explain_speed(*candidates, compared, [{"x": np.zeros((1, 4), np.float32)}])


def test_the_conclusion_is_this(tmp_path, monkeypatch):
    monkeypatch.setattr("optkit.system.fingerprint.isa", lambda *_: frozenset({"avx2"}))
    speed = told(
        fake(tmp_path, "model", seconds=0.010, operators=FLOATS),
        fake(tmp_path, "small", seconds=0.016, operators=INTEGERS),
    )
    assert speed.conclusion == [
        "small on fake: 1.60x slower (95 %: 1.60 to 1.60): 16.0 ms an inference, 10.0 ms in the baseline.",
        "Of the difference of +6.00 ms: conversion +5.00 ms (83.3 %), outside operators +1.00 ms (16.7 %).",
        "Why: 2 conversions (QuantizeLinear, DequantizeLinear) take 5.00 ms, the baseline has none; integer "
        "layers save nothing; 1 of 2 integer layers are slower than in float, by 2.00 ms together.",
        "Integers do not pay off for this model on this machine; keep it in float.",
    ]
    assert {each.kind: each.seconds for each in speed.findings} == {
        "conversions": pytest.approx(0.005),
        "slower-integer-layers": pytest.approx(0.002),
        "faster-integer-layers": pytest.approx(-0.002),
        "no-vnni": None,
    }
    found = Explanation(speed=speed, machine=speed.comparison.machine, seconds=1.0)
    families, layers, *_ = explanation_blocks(found)
    assert families.rows[0] == ["conversion", "0.00 us", "5.00 ms", Cell("+5.00 ms", "bad")]
    assert families.rows[-1] == ["an inference", "10.0 ms", "16.0 ms", Cell("+6.00 ms", "bad")]
    assert layers.rows[0] == ["all QuantizeLinear", "-", "", "3.00 ms", "float32 to int8", Cell("+3.00 ms", "bad")]


@pytest.mark.parametrize(("seconds", "reason"), [(0.0002, "the model is so small"), (0.1, "does not tell what takes")])
def test_time_outside_operators_is_only_put_down_to_calls_where_it_may_be(seconds, reason, tmp_path):
    operators = [{"name": "a", "kind": "Conv", "seconds": seconds / 2, "precision": "float32", "layers": ["a"]}]
    speed = told(*(fake(tmp_path, name, seconds=seconds, operators=operators) for name in ("model", "small")))
    (overhead,) = [each for each in speed.findings if each.kind == "overhead"]
    assert reason in overhead.text


def test_a_machine_with_dot_products_is_not_blamed(tmp_path, monkeypatch):
    monkeypatch.setattr("optkit.system.fingerprint.isa", lambda *_: frozenset({"avx2", "avx512_vnni"}))
    speed = told(fake(tmp_path, "model", operators=FLOATS), fake(tmp_path, "small", operators=INTEGERS))
    assert "no-vnni" not in {each.kind for each in speed.findings}


def case(target="onnxruntime", isa=("avx2",), quicker=0.0):
    """Two integer regions, a and b, with conversions between them; ``quicker`` is what integers save in b."""
    floats = (
        Operator("a", "Conv", 0.004, "float32", layers=("a",)),
        Operator("s", "Sigmoid", 0.001, "float32", layers=("s",), sources=("a",)),
        Operator("b", "Conv", 0.008, "float32", layers=("b",), sources=("s",)),
    )
    integers = (
        Operator("q1", "QuantizeLinear", 0.001, "float32 to int8"),
        Operator("a_8", "QLinearConv", 0.005, "int8", layers=("a",), sources=("q1",)),
        Operator("d1", "DequantizeLinear", 0.001, "int8 to float32", sources=("a_8",)),
        Operator("s", "Sigmoid", 0.001, "float32", layers=("s",), sources=("d1",)),
        Operator("q2", "QuantizeLinear", 0.001, "float32 to int8", sources=("s",)),
        Operator("b_8", "QLinearConv", 0.008 - quicker, "int8", layers=("b",), sources=("q2",)),
    )
    sides = []
    for name, operators, quantized in (("model", floats, None), ("small", integers, "QDQ int8 static")):
        found = {each: Layer(each, "Conv", True, False, bool(quantized)) for each in ("a", "b")}
        entry = Candidate(name, Model(Path(f"{name}.onnx"), "onnx", "sha256:0", SIGNATURE), target)
        profile = Profile(operators, 1, 0.02)
        sides.append(speed_case.Side(entry, Layers(quantized, found), profile, alignment.total(operators)))
    pairs = alignment.pairs(sides[0].profile, sides[1].profile)
    return speed_case.Case(*sides, pairs, integer_regions.integer_regions(sides[1].profile, pairs), frozenset(isa))


def test_layers_that_do_not_pay_for_their_conversions_are_left_out():
    seen = case(quicker=0.006)
    assert [(region.operators[0].name, pytest.approx(region.saved)) for region in seen.regions] == [
        ("a_8", -0.003),
        ("b_8", 0.005),
    ]
    commands = {each.command for each in speed_remedies.with_commands(seen, find_speed_causes(seen), "data.npz")}
    assert commands - {None} == {
        "optkit quantize model.onnx --int8 --method static --data data.npz --exclude a -o small-mixed.onnx"
    }


def test_what_was_excluded_before_is_not_forgotten():
    seen = case(quicker=0.006)
    kept = Layer("c", "Conv", True, False, False)
    sides = [replace(side, layers=Layers(side.layers.quantized, side.layers.by_name | {"c": kept}))
             for side in (seen.baseline, seen.candidate)]  # fmt: skip
    seen = replace(seen, baseline=sides[0], candidate=sides[1])
    (command,) = {each.command for each in speed_remedies.with_commands(seen, find_speed_causes(seen), None)} - {None}
    assert "--exclude c --exclude a -o" in command


def test_a_layer_with_float_weights_is_in_float_whatever_comes_in(tmp_path):
    """What lies behind a layer in integers and was excluded takes what a DequantizeLinear gives."""
    nodes = [
        helper.make_node("DequantizeLinear", ["x8", "s"], ["x"], "d"),
        helper.make_node("DequantizeLinear", ["w8", "s"], ["w"], "dw"),
        helper.make_node("MatMul", ["x", "w"], ["h"], "in_integers"),
        helper.make_node("QuantizeLinear", ["h", "s", "z"], ["h8"], "q"),
        helper.make_node("DequantizeLinear", ["h8", "s", "z"], ["hd"], "dh"),
        helper.make_node("MatMul", ["hd", "v"], ["y"], "in_float"),
    ]
    constants = {"x8": np.eye(4, dtype=np.int8), "w8": np.eye(4, dtype=np.int8), "v": np.eye(4, dtype=np.float32)}
    save(
        tmp_path / "m.onnx",
        nodes,
        {},
        {"y": [4, 4]},
        constants | {"s": np.array(1, np.float32), "z": np.array(0, np.int8)},
    )
    found = read_layers(Model(tmp_path / "m.onnx", "onnx", "")).by_name
    assert (found["in_integers"].quantized, found["in_float"].quantized) == (True, False)


@pytest.mark.parametrize("isa", [("avx2",), ("avx512_vnni",)])
def test_where_integers_pay_nowhere_float_is_tried_on_both_runtimes(isa):
    seen = case(isa=isa)
    assert speed_remedies.hopeless(seen)
    command = "optkit compare model.onnx@onnxruntime model.onnx@openvino"
    assert command in {each.command for each in speed_remedies.with_commands(seen, find_speed_causes(seen), None)}


def test_no_layers_are_left_out_where_none_would_be_left_in_integers():
    seen = case(quicker=-0.001)
    assert all(region.saved < 0 for region in seen.regions)
    assert speed_remedies.losing_layers(seen) == []


def test_a_runtime_that_refuses_the_model_is_not_recommended(samples, tmp_path):
    seen = replace(case(), elsewhere=False)
    assert {each.command for each in speed_remedies.with_commands(seen, find_speed_causes(seen), None)} == {None}
    options = Fake().default_options()
    opened = Candidate("model", Model(samples / "model.onnx", "onnx", ""), "onnxruntime", options)
    assert speed_explanation._opens_elsewhere(opened)
    (tmp_path / "odd.onnx").write_bytes(b"no model")
    assert not speed_explanation._opens_elsewhere(replace(opened, model=Model(tmp_path / "odd.onnx", "onnx", "")))


def test_operators_slower_than_their_inference_are_scaled_to_it(tmp_path):
    speed = told(fake(tmp_path, "model", seconds=0.003, operators=FLOATS), fake(tmp_path, "small", seconds=0.003))
    assert speed.baseline.scale == pytest.approx(1 / 3)
    assert sum(each.seconds for each in speed.baseline.operators) == pytest.approx(0.003)
    assert speed.baseline.outside_seconds == pytest.approx(0)


# What users get wrong.


def test_a_candidate_that_crashes_is_exit_code_1_with_its_reason(cli, tmp_path, samples):
    speed = told(fake(tmp_path, "model"), fake(tmp_path, "small", fault="crash"))
    assert speed.candidate is None
    assert speed.conclusion == ["small on fake failed: crashed (SIGSEGV)."]
    (tmp_path / "odd.onnx").unlink(missing_ok=True)
    save(
        tmp_path / "odd.onnx",
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        {"x": ["batch", 1, 28, 28]},
        {"y": None},
        {"shape": np.array([7, 11])},
    )
    done = cli("explain", samples / "model.onnx", tmp_path / "odd.onnx", "--seconds", "0.2", "--threads", "1")
    assert done.exit_code == 1, done.output
    assert "odd.onnx on onnxruntime failed" in done.stdout


def test_torch_tells_no_operators(samples):
    with pytest.raises(UsageError, match="torch does not report the time of each operator"):
        explain(samples / "traced.pt", samples / "model.onnx", inputs=("x:float32[batch,1,28,28]",))


def test_a_missing_file_is_a_line_with_a_hint(cli, samples):
    done = cli("explain", samples / "model.onnx", samples / "modle.onnx")
    assert done.exit_code == 2
    assert "no such file" in done.stderr
    assert "did you mean" in done.stderr


def test_json_is_one_document(cli, samples):
    done = cli(
        "explain", samples / "model.onnx", samples / "model.onnx", "--seconds", "0.2", "--threads", "1", "--json"
    )
    document = json.loads(done.stdout)
    assert document["schema"] == "optkit.explanation/1"
    assert document["speed"]["comparison"]["rows"][1]["name"] == "model.onnx (2)"


def test_every_cause_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "explain.md").read_text()
    source = Path(speed_causes.__file__).read_text()
    kinds = {line.split('"')[1] for line in source.splitlines() if 'kind="' in line}
    assert kinds
    kinds |= set(get_args(LossFindingRecord.model_fields["kind"].annotation))
    assert all(f"`{kind}`" in page for kind in kinds)


# Where the quality went.

WIDTH = 16


@pytest.fixture(scope="module")
def outlier(tmp_path_factory):
    """Three products; a channel of what goes into the second is a thousand times larger, and its weights as small."""
    folder = tmp_path_factory.mktemp("outlier")
    random = np.random.default_rng(0)
    weights = [random.normal(0, 0.3, (WIDTH, WIDTH)).astype(np.float32) for _ in range(4)]
    weights[1][:, 5] *= 1000
    weights[2][5] /= 1000
    names = ("before", "first", "second", "after")
    nodes, source = [], "x"
    for number, name in enumerate(names):
        nodes.append(helper.make_node("MatMul", [source, f"w{number}"], [f"{name}_out"], name))
        source = f"{name}_out"
    shape = ["batch", WIDTH]
    save(
        folder / "model.onnx",
        nodes,
        {"x": shape},
        {source: shape},
        {f"w{number}": weight for number, weight in enumerate(weights)},
    )
    x = random.normal(0, 1, (400, WIDTH)).astype(np.float32)
    np.savez(folder / "calibration.npz", x=x[:100])
    np.savez(folder / "evaluation.npz", x=x[100:])
    return folder


def lost_by(folder, candidate, **options):
    return explain(
        folder / "model.onnx",
        candidate,
        data=folder / "evaluation.npz",
        calibration=folder / "calibration.npz",
        metric="cosine",
        threads=1,
        seconds=0.3,
        **options,
    )


def loss_of(found):
    return found.speed.comparison.rows[1].quality.loss.value


@pytest.mark.parametrize(("target", "suffix"), [("onnxruntime", ".onnx"), ("openvino", ".xml")])
def test_the_layer_that_costs_the_quality_is_named_and_giving_it_back_helps(
    cli, target, suffix, outlier, tmp_path, monkeypatch
):
    path = tmp_path / f"small{suffix}"
    quantize(
        outlier / "model.onnx",
        path,
        calibration=outlier / "calibration.npz",
        method="static",
        target=target,
        measure=False,
    )
    found = lost_by(outlier, path, target=target)
    said, command = " ".join(found.quality.conclusion[:3]), found.quality.command
    assert "second" in found.quality.keep_in_float
    assert "of the damage: " in said
    assert "channel 5 of first_out is" in said
    assert found.quality.conclusion[-1].lower().endswith(f"try: {command}".lower())
    assert "--exclude second" in command
    assert "after" not in found.quality.keep_in_float
    monkeypatch.chdir(tmp_path)
    done = cli(*shlex.split(command)[1:], "--no-measure")
    assert done.exit_code == 0, done.output
    after = lost_by(outlier, tmp_path / command.split()[-1], target=target)
    assert loss_of(after) < loss_of(found) / 2
    assert Explanation.model_validate_json(found.to_json()) == found


def test_a_model_that_lost_nothing_gets_one_sentence(samples, small, few):
    found = explain(
        samples / "model.onnx", small, data=few, calibration=samples / "calibration.npz",
        threads=1, seconds=0.3,
    )  # fmt: skip
    (sentence,) = found.quality.conclusion
    assert sentence.endswith("no loss shows on these samples.")
    assert found.quality.command is None
    assert len(found.quality.layers.layers) == len(found.quality.sensitivity.layers) == 10


def known(folder, *, damages=(0.2, 0.01), error=0.2, kinds=(), calibration=None, slow=()):
    """A loss on onnxruntime of which so much is known."""
    nodes, weights, source = [], {}, "x"
    for number in range(len(damages)):
        nodes.append(helper.make_node("MatMul", [source, f"w{number}"], [f"t{number}"], f"l{number}"))
        weights[f"w{number}"] = np.eye(4, dtype=np.float32)
        source = f"t{number}"
    path = save(folder / "model.onnx", nodes, {"x": [1, 4]}, {source: [1, 4]}, weights)
    save(folder / "small.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 4]}, {"y": [1, 4]})
    sides = [
        Candidate(each, Model(folder / each, "onnx", "", SIGNATURE), "onnxruntime")
        for each in (path.name, "small.onnx")
    ]
    measured = [
        LayerRecord(
            name=f"l{number}", operator="MatMul", depth=number, parameters=1, operations=1, damage=damage, local_error=0
        )
        for number, damage in enumerate(damages)
    ]
    last = LayerErrorRecord(
        exclude="l0", operator="MatMul", tensor="t0", depth=0, error=error, cosine=1, introduced=error, share=1
    )
    findings = [LossFindingRecord(kind=kind, text=f"there is a {kind}", exclude=["l0"]) for kind in kinds]
    interval = Interval(value=0.1, low=0.05, high=0.15, confidence=0.95)
    quality = QualityRecord(
        metric="accuracy", value=interval, count=9, higher_is_better=True, needs_labels=True, loss=interval
    )
    return quality_remedies.Loss(
        *sides,
        "QDQ int8 static",
        Row(name="small", target="onnxruntime", status="ok", quality=quality),
        quality_remedies.Given(None, "data.npz", None, calibration),
        slow,
        LayerErrors(layers=[last], ranges=[], findings=findings, samples=1, disturbed=0, unmatched=0, seconds=0),
        Sensitivity(
            layers=measured, all_quantized=sum(damages), samples=1, calibration_samples=1, weight_bits=8, seconds=0
        ),
    )


@pytest.mark.parametrize(
    ("facts", "said", "options"),
    [
        ({}, "1 of 2 layers causes 95.2 % of the damage: l0.", "--data data.npz --calibration c.npz --exclude l0"),
        (
            {"damages": [0.1] * 20, "kinds": ["dead-range"]},
            "everywhere: the worst 12 of 20 layers cause only 60.0 % of the damage.",
            "--calibrate percentile",
        ),
        (
            {"damages": (0.002, 0.001), "kinds": ["out-of-range"]},
            "not in single layers: quantizing them with ranges from the data causes an error of 0.3 % of the signal, "
            "the candidate's error is 20 %.",
            "--data data.npz -o small-again.onnx",
        ),
    ],
)
def test_what_costs_the_quality_decides_what_is_tried(facts, said, options, tmp_path):
    loss = known(tmp_path, calibration="c.npz", **facts)
    command = quality_remedies.command(loss)
    assert options in command
    assert quality_explanation._conclusion(loss, True, command, None)[1] == f"Where: {said}"


def test_one_command_is_for_speed_and_quality(tmp_path):
    loss = known(tmp_path, damages=(0.2, 0.01, 0.01), slow=("l1_quant", "l0"))
    command = quality_remedies.command(loss)
    assert shlex.split(command)[6:] == [
        "--data", "data.npz", "--exclude", "l0", "--exclude", "l1", "-o", "small-mixed.onnx",
    ]  # fmt: skip
    assert quality_explanation._conclusion(loss, True, command, None)[-1] == f"For speed and quality, try: {command}"
    everything = known(tmp_path, damages=(0.2, 0.01), slow=("l0", "l1"))
    assert "--exclude l0 -o" in quality_remedies.command(everything)
    other = replace(loss, candidate=replace(loss.candidate, model=replace(loss.candidate.model, format="openvino")))
    vars(other).update(misses_scheme=True, in_float=set())
    assert quality_remedies.slow_too(other) == []


@pytest.mark.parametrize("verdict", ["slower", "faster"])
def test_where_quality_was_lost_the_speed_half_has_no_other_layers_to_exclude(verdict, outlier, tmp_path, monkeypatch):
    side_by_side, speed = comparison.side_by_side, explain_speed

    def judged(*arguments, **options):
        compared = side_by_side(*arguments, **options)
        rows = [compared.rows[0], compared.rows[1].model_copy(update={"speed_verdict": verdict})]
        return compared.model_copy(update={"rows": rows})

    def slow(*arguments, **options):
        assert options["calibration"] == str(outlier / "calibration.npz")
        found = speed(*arguments, **options)
        return found.model_copy(
            update={"command": "slow", "leave_out": ["after"], "conclusion": ["It is.", "Try: slow"]}
        )

    monkeypatch.setattr(comparison, "side_by_side", judged)
    monkeypatch.setattr("optkit.verbs.explain.explain_speed", slow)
    small = tmp_path / "small.onnx"
    quantize(outlier / "model.onnx", small, calibration=outlier / "calibration.npz", method="static", measure=False)
    found = lost_by(outlier, small)
    assert (found.speed.command, found.speed.conclusion) == (None, ["It is."])
    assert ("--exclude after" in found.quality.command) == (verdict == "slower")


def test_another_way_for_speed_and_integers_for_quality_are_told_apart(tmp_path):
    beside = SpeedExplanation.model_construct(integers_pay=False)
    said = quality_explanation._conclusion(known(tmp_path), True, "optkit quantize", None, beside)
    assert said[-1] == "To keep INT8 and the quality, try: optkit quantize"


def test_a_sentence_names_three_layers_at_most(tmp_path):
    loss = known(tmp_path, damages=(0.1, 0.1, 0.1, 0.1, 0.001))
    assert quality_explanation._conclusion(loss, True, None, None)[1].endswith("of the damage: l0, l1, l2 and 1 more.")
    assert sentences.cause("4 layers are slower", list("abcd")) == "4 layers are slower; above all a, b, c and 1 more"
    assert sentences.cause("a fact", []) == "a fact"


def test_what_cannot_be_looked_into_is_a_note(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise StageError("no layer's tensor is in it", hint="compare what quantize wrote")

    monkeypatch.setattr("optkit.explanation.quality.layer_errors.layer_errors", refused)
    monkeypatch.setattr("optkit.explanation.quality.sensitivity.sensitivity", refused)
    loss, notes = quality_explanation._analyze(known(tmp_path), None, no_progress)
    assert [note.text for note in notes] == [
        "layers are not compared: no layer's tensor is in it (compare what quantize wrote)",
        "layers are not measured one by one: no layer's tensor is in it (compare what quantize wrote)",
    ]
    assert quality_remedies.command(loss) is None
    assert len(quality_explanation._conclusion(loss, True, None, 0.05)) == 1


def test_the_fewest_layers_are_given_back_and_never_all(tmp_path):
    assert quality_remedies.keep_in_float(known(tmp_path, damages=(0.01, 0.3, 0.3, 0.01))) == ["l1", "l2"]
    assert quality_remedies.keep_in_float(known(tmp_path, damages=(0.3, 0.3))) == ["l0"]
    assert len(quality_remedies.keep_in_float(known(tmp_path, damages=[0.1] * 40))) == 12


@pytest.mark.parametrize(
    ("value", "low", "high", "p_value", "wanted"),
    [
        (0.1, 0.05, 0.15, 0.001, True),
        (0.1, -0.05, 0.15, None, None),
        (0.1, 0.05, 0.15, 0.2, None),
        (-0.1, -0.2, -0.05, None, False),
        (1e-6, 1e-7, 1e-5, None, None),
    ],
)
def test_a_loss_is_one_where_the_samples_show_it(value, low, high, p_value, wanted):
    quality = QualityRecord(
        metric="accuracy",
        value=Interval(value=1, low=1, high=1, confidence=0.95),
        count=9,
        higher_is_better=True,
        needs_labels=True,
        loss=Interval(value=value, low=low, high=high, confidence=0.95),
        p_value=p_value,
    )
    assert quality_explanation.lost(quality) is wanted


# Facts of the machine, on profiles written by hand: not every CPU shows them.


def between(before, after):
    """The findings by kind where the baseline's operators are ``before`` and the candidate's ``after``, on openvino."""
    sides = []
    for name, operators in (("model", before), ("small", after)):
        entry = Candidate(name, Model(Path(f"{name}.xml"), "openvino", "sha256:0", SIGNATURE), "openvino")
        profile = Profile(tuple(operators), 1, 0.01)
        sides.append(speed_case.Side(entry, Layers(None, {}), profile, alignment.total(operators)))
    pairs = alignment.pairs(sides[0].profile, sides[1].profile)
    seen = speed_case.Case(
        *sides, pairs, integer_regions.integer_regions(sides[1].profile, pairs), frozenset({"avx512_bf16"})
    )
    return {each.kind: each for each in find_speed_causes(seen)}


def executed(precision="float32", kernel="jit_avx512", seconds=0.004):
    """A convolution and a logarithm of the given precision, the latter by the given kernel; a reorder before both."""
    return [
        Operator("r", "Reorder", 0.0001, f"float32 to {precision}", "jit_uni"),
        Operator("c", "Convolution", 0.004, precision, "brgconv_avx512", layers=("c",), sources=("r",)),
        Operator("l", "Eltwise", seconds, precision, kernel, layers=("l",), sources=("c",)),
    ]


@pytest.mark.parametrize(("dtype", "other"), [("bfloat16", "float16"), ("float16", "bfloat16")])
def test_half_precision_on_one_side_only_is_told_with_whose_it_is(dtype, other):
    found = between(executed(), executed(dtype))
    assert found[dtype].text == f"2 operators of the candidate compute in {dtype}, none of the other model's"
    assert found[dtype].seconds is None
    assert other not in found
    assert between(executed(dtype), executed())[dtype].text.startswith("2 operators of the baseline compute")
    assert dtype not in between(executed(dtype), executed(dtype))
    assert dtype not in between(executed(), executed())


def test_reference_kernels_are_told_with_what_they_cost_more_than_in_the_baseline():
    found = between(executed(), executed(kernel="ref_any_f32", seconds=0.006))["reference-kernels"]
    assert found.text == "1 operators run on plain reference kernels and take 6.00 ms"
    assert found.foremost == ["l (Eltwise)"]
    assert (found.seconds, found.layers) == (pytest.approx(0.006), ["l"])
    both = between(executed(kernel="ref_any_f32"), executed(kernel="ref_any_f32"))
    assert "reference-kernels" not in both
    assert "reference-kernels" not in between(executed(), executed(kernel="ref_any_f32", seconds=0.00001))
    assert "reference-kernels" not in between(executed(), executed(kernel="jit_avx2", seconds=0.006))
