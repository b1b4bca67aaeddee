"""Distillation: automatic students, matched layers, students of other code, and the chain of stages."""

import pytest
import torch
from training_files import INPUT, TRANSFORMER, share, weights_of, written

import optkit as package
from optkit.errors import StageError
from optkit.system import fingerprint
from optkit.training import features
from optkit.training.pruning import layer_stacks


@pytest.fixture(scope="module")
def transformer(samples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("transformer")
    code = written(folder, "net.py", TRANSFORMER)
    data = share(samples / "evaluation.npz", folder / "data.npz", 300)
    return {
        "teacher": weights_of(code, "build", folder / "weights.pth"), "code": f"{code}:build", "inputs": (INPUT,),
        "data": data, "epochs": 1, "learning_rate": 1e-3, "measure": False,
    }  # fmt: skip


def test_an_automatic_student_keeps_half_of_the_layers(transformer, tmp_path):
    done = package.distill(output=tmp_path / "s.safetensors", **transformer)
    notes = [note.text for note in done.stage.notes]
    assert "the student keeps layers: layers 0, 3 of 4" in notes
    assert any("2 layers are matched: layers.0 to layers.1, layers.1 to layers.3" in text for text in notes)
    assert done.stage.result.size_bytes < 0.65 * done.stage.source.size_bytes
    if not torch.cuda.is_available():
        precision = "bfloat16" if fingerprint.computes_bf16() else "float32"
        assert done.stage.facts["training"][0]["precision"] == precision
    package.export(done.output, tmp_path / "s.onnx", code=transformer["code"])


def test_attention_is_learnt_where_asked(transformer, tmp_path):
    plain, attentive = (
        package.distill(output=tmp_path / f"{weight}.safetensors", attention=weight, layers=3, **transformer)
        for weight in (0.0, 1.0)
    )
    assert any("attention x 1" in note.text for note in attentive.stage.notes)
    assert plain.stage.result.digest != attentive.stage.result.digest


def test_a_student_of_other_code_learns_along_layers_of_the_same_shape(transformer, tmp_path):
    shallow = transformer["code"].replace(":build", ":shallow")
    done = package.distill(output=tmp_path / "s.safetensors", student_code=shallow, **transformer)
    assert any("untrained" in note.text for note in done.stage.notes)
    assert any("2 layers are matched" in note.text for note in done.stage.notes)
    package.export(done.output, tmp_path / "s.onnx", code=shallow)


def test_a_net_without_repeated_layers_needs_a_student(samples, transformer, tmp_path):
    given = transformer | {"teacher": samples / "weights.pth", "code": f"{samples}/net.py:build"}
    with pytest.raises(StageError, match="no repeated layers") as raised:
        package.distill(output=tmp_path / "s.safetensors", **given)
    assert "--student-code" in raised.value.hint


def test_layers_are_chosen_evenly_with_the_first_and_the_last():
    assert layer_stacks.spread(6, 3) == [0, 2, 5]
    assert layer_stacks.spread(12, 6) == [0, 2, 4, 7, 9, 11]
    assert layer_stacks.spread(4, 1) == [3]


def test_layers_are_matched_by_their_share_of_the_depth():
    assert features.pairs(["a", "b"], ["0", "1", "2", "3"]) == [("a", "1"), ("b", "3")]
    assert features.pairs(["a"], ["0", "1", "2"]) == [("a", "2")]


@pytest.mark.slow
def test_the_stages_chain_and_go_on_after_a_change_of_the_last(samples, few, tmp_path, monkeypatch):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{path: {samples}/weights.pth, code: '{samples}/net.py:build', inputs: ['{INPUT}']}}\n"
        f"train: {samples}/calibration.npz\ndata: {few}\ntargets: [onnxruntime, openvino]\nstages:\n"
        "  - prune: {sparsity: 0.3, epochs: 1, steps: 1, learning_rate: 0.001}\n"
        "  - distill: {epochs: 1, learning_rate: 0.001}\n"
        "  - quantize: {precision: int8, method: static}\n"
        "benchmark: {seconds: 0.3, threads: 1}\n"
    )
    done = package.run(recipe, output=tmp_path / "run")
    assert [stage.stage for stage in done.branches[0].stages] == ["prune", "distill", "export", "quantize", "compile"]
    assert all(branch.status == "ok" for branch in done.branches)
    assert [stage.cached for stage in done.branches[1].stages[:3]] == [True, True, True]
    student = done.branches[0].stages[1]
    assert any("the result of the stages before" in note.text for note in student.notes)
    assert done.training.count == 300
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Training: prune" in page
    assert "Training: distill" in page
    assert "## Training" in (tmp_path / "run" / "report.md").read_text()
    again = package.plan(recipe, settings=("stages.2.quantize.method=dynamic",))
    assert [stage.cached for stage in again.branches[0].stages][:3] == [True, True, True]
