"""The training loop: what it promises about seeds, kills, interruptions, memory and losses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from training_files import INPUT, SMALL, share, weights_of, written

import optkit as package
from optkit.data.dataset import open_dataset
from optkit.errors import DataError, OptkitError, StageError, UsageError
from optkit.formats.tensors import TensorSpec
from optkit.formats.torch import structure
from optkit.options.training import Schedule
from optkit.reports.charts import training as training_charts
from optkit.training import objectives, schedule
from optkit.training.loop import Course, Judge
from optkit.training.objectives import Objective, Weights
from optkit.training.samples import Drawn, Samples

COMMAND = [sys.executable, "-m", "optkit"]


@pytest.fixture(scope="module")
def lesson(samples, tmp_path_factory):
    """The options of a distillation of the committed CNN into a small net."""
    folder = tmp_path_factory.mktemp("lesson")
    small = written(folder, "small.py", SMALL)
    data = share(samples / "evaluation.npz", folder / "data.npz", 400)
    return {
        "teacher": samples / "weights.pth", "code": f"{samples}/net.py:build", "inputs": (INPUT,),
        "student_code": f"{small}:build", "data": data, "epochs": 6, "batch_size": 16, "learning_rate": 3e-3,
        "measure": False,
    }  # fmt: skip


def history(done):
    found = done.stage.facts["training"][-1]
    assert done.stage.trainings[-1].model_dump() == found  # the record names all that training writes
    return found


def test_a_student_learns_from_its_teacher_and_is_compared_with_it(lesson, tmp_path):
    done = package.distill(output=tmp_path / "student.safetensors", **lesson | {"measure": True, "seconds": 0.3})
    epochs = history(done)["epochs"]
    assert epochs[-1]["held_out"] < 0.9 * epochs[0]["held_out"]
    assert history(done)["metric"] == "accuracy"
    before, after = done.comparison.rows
    assert after.quality.metric == "accuracy"
    assert after.model.size_bytes < before.model.size_bytes / 4
    assert done.training.count + done.comparison.data.count == 400


def test_without_labels_outputs_are_enough(lesson, tmp_path):
    with np.load(lesson["data"]) as data:
        np.savez(tmp_path / "unlabelled.npz", x=data["x"])
    done = package.distill(output=tmp_path / "s.safetensors", **lesson | {"data": tmp_path / "unlabelled.npz"})
    epochs = history(done)["epochs"]
    assert history(done)["metric"] == "cosine"
    assert epochs[-1]["metric"] > epochs[0]["metric"]


def test_equal_seeds_give_equal_students(lesson, tmp_path):
    short = lesson | {"epochs": 1}
    one, same, other = (
        package.distill(output=tmp_path / f"{number}.safetensors", seed=seed, **short).stage.result.digest
        for number, seed in enumerate((0, 0, 1))
    )
    assert one == same != other


@pytest.mark.slow
def test_killed_training_goes_on_from_its_checkpoint_to_the_same_student(lesson, tmp_path):
    lesson = lesson | {"epochs": 30}
    undisturbed = package.distill(output=tmp_path / "whole.safetensors", **lesson).stage.result.digest
    cache = tmp_path / "cache"
    process, checkpoint = started(arguments(lesson, tmp_path / "killed.safetensors"), cache)
    wait_for(lambda: checkpoint(), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed.safetensors").exists()
    again = subprocess.run(
        arguments(lesson, tmp_path / "killed.safetensors"), env=environment(cache), capture_output=True
    )
    done = json.loads(again.stdout)
    assert history_of(done)["resumed"] > 0
    assert done["stage"]["result"]["digest"] == undisturbed
    assert not list((cache / "checkpoints").iterdir())


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_so_far(lesson, tmp_path):
    cache, output = tmp_path / "cache", tmp_path / "stopped.safetensors"
    process, checkpoint = started(arguments(lesson | {"epochs": 200}, output), cache)
    wait_for(lambda: checkpoint(), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"the best so far is {output}" in " ".join(errors.split())
    assert "Traceback" not in errors
    assert package.open(output, code=lesson["student_code"]).signature.inputs[0].name == "x"


@pytest.mark.thorough
def test_ctrl_c_in_quantization_aware_training_leaves_integers(lesson, tmp_path):
    cache, output = tmp_path / "cache", tmp_path / "stopped.onnx"
    options = [f"--code={lesson['code']}", f"--input={INPUT}", f"--data={lesson['data']}", f"--output={output}"]
    learning = ["--method=qat", "--epochs=200", "--learning-rate=1e-4", "--no-measure"]
    command = [*COMMAND, "quantize", str(lesson["teacher"]), "--int8", *learning, *options]
    process, checkpoint = started(command, cache)
    wait_for(lambda: checkpoint(), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"the best so far is {output}" in " ".join(errors.split())
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(output).graph.node}


def arguments(lesson, output):
    """The command line of a lesson."""
    named = {
        "code": lesson["code"], "input": INPUT, "student-code": lesson["student_code"], "data": lesson["data"],
        "epochs": lesson["epochs"], "learning-rate": lesson["learning_rate"], "output": output,
        "batch-size": lesson["batch_size"],
    }  # fmt: skip
    options = [f"--{name}={value}" for name, value in named.items()]
    return [*COMMAND, "distill", str(lesson["teacher"]), *options, "--no-measure", "--json"]


def environment(cache):
    return os.environ | {"OPTKIT_CACHE": str(cache)}


def started(command, cache):
    process = subprocess.Popen(
        command, env=environment(cache), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    return process, lambda: list(Path(cache).glob("checkpoints/*/*/checkpoint.pt"))


def wait_for(there, process):
    for _ in range(1200):
        if there():
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    raise AssertionError("no checkpoint was written")


def history_of(done):
    return done["stage"]["facts"]["training"][-1]


@pytest.mark.slow
def test_out_of_memory_says_which_batch_fits(lesson, tmp_path):
    limited = (
        "import resource, sys, torch; from optkit.__main__ import main\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "limit = used + 2_000_000_000\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit)); main()"
    )
    command = [sys.executable, "-c", limited, *arguments(lesson, tmp_path / "s.safetensors")[3:]]
    student = written(
        tmp_path, "wide.py", SMALL.replace("Conv2d(1, 8, 3, 2)", "Conv2d(1, 8, 3, 1), nn.Upsample(scale_factor=16)")
    )
    command = [part.replace(lesson["student_code"], f"{student}:build") for part in command]
    done = subprocess.run([*command, "--batch-size=256"], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "out of memory with a batch of 256" in done.stderr
    assert "--batch-size" in done.stderr


UNEXPORTABLE = (
    SMALL
    + """

def changeable():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = build()

        def forward(self, x):
            return self.body(x) if float(x.sum()) > 0 else -self.body(x)

    return Net()
"""
)


def test_what_cannot_be_exported_is_said_before_the_training(lesson, tmp_path):
    code = written(tmp_path, "net.py", UNEXPORTABLE)
    weights = weights_of(code, "changeable", tmp_path / "weights.pth")
    given = {"code": f"{code}:changeable", "inputs": (INPUT,), "data": lesson["data"], "epochs": 1}
    told = []
    for verb in (
        lambda **more: package.prune(weights, tmp_path / "p.safetensors", sparsity=0.5, **more),
        lambda **more: package.quantize(weights, tmp_path / "q.onnx", method="qat", **more),
    ):
        with pytest.raises(OptkitError, match="export"):
            verb(**given, progress=lambda what, *_: told.append(what))
    assert not [what for what in told if "epoch" in what]


@pytest.fixture
def course(tmp_path):
    """Makes a short training of a linear layer, by the folder of its checkpoint."""
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).standard_normal((40, 2)).astype(np.float32))
    inputs = (TensorSpec("x", "float32", ("batch", 2)),)
    drawn = Samples(open_dataset(tmp_path / "data.npz", inputs), inputs, "cpu")
    judge = Judge("none", lambda _, part: np.zeros(len(part.rows)), lambda _: 0.0)

    def made(folder, deadline=None):
        torch.manual_seed(0)
        student, teacher = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
        objective = Objective(student, teacher, ["x"], Weights(), "output")
        plan = Schedule(epochs=2, batch_size=8, learning_rate=1e-2)
        return Course(objective, drawn, drawn, plan, judge, checkpoints=tmp_path / folder, deadline=deadline)

    return made


def cut_short(path):
    path.write_bytes(path.read_bytes()[:500])


def of_another_module(path):
    content = torch.load(path, weights_only=True)
    torch.save(content | {"student": {"weight": torch.zeros(3, 3)}}, path)


def of_another_version(path):
    torch.save({"step": 3}, path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut_short, "it cannot be read: "),
        (of_another_module, "it does not fit this training: "),
        (of_another_version, "it cannot be read: KeyError: 'history'"),
    ],
)
def test_a_checkpoint_that_is_thrown_away_is_noted_and_changes_nothing(course, tmp_path, damage, reason):
    with pytest.raises(StageError):
        course("late", deadline=time.monotonic() - 1.0).run()
    damage(tmp_path / "late/checkpoint.pt")
    again, undisturbed = course("late"), course("whole")
    history = again.run()
    assert history.resumed is None
    assert history.discarded.startswith(reason)
    noted = [note.text for note in schedule.notes(history) if note.level == "warning"]
    assert any(history.discarded in text and "began anew" in text for text in noted)
    undisturbed.run()
    assert torch.equal(again.objective.student.weight, undisturbed.objective.student.weight)


def test_training_fails_when_its_time_is_up_and_goes_on_where_it_was(course):
    with pytest.raises(StageError, match="the time was up after 0 of 10 steps") as raised:
        course("late", deadline=time.monotonic() - 1.0).run()
    assert "--budget" in raised.value.hint
    again, undisturbed = course("late", deadline=time.monotonic() + 1000.0), course("whole")
    assert again.run().resumed == 0
    assert undisturbed.run().resumed is None
    assert torch.equal(again.objective.student.weight, undisturbed.objective.student.weight)


def test_a_loss_that_is_no_number_ends_in_one_line(lesson, tmp_path):
    with pytest.raises(StageError, match=r"the loss is (nan|inf)") as raised:
        package.distill(output=tmp_path / "s.safetensors", **lesson | {"learning_rate": 1e30})
    assert "--learning-rate" in raised.value.hint


def test_training_stops_where_the_held_out_loss_no_longer_falls(lesson, samples, tmp_path):
    beginning = package.distill(output=tmp_path / "s.safetensors", **lesson)
    worse = lesson | {"student": beginning.output, "learning_rate": 0.3, "epochs": 50, "patience": 1}
    done = package.distill(output=tmp_path / "worse.safetensors", **worse)
    assert history(done)["stopped_early"]
    assert history(done)["best"] == len(history(done)["epochs"]) - 1 or history(done)["best"] == 0
    assert any("stopped early" in note.text for note in done.stage.notes)


def test_what_is_taught_ends_no_worse_than_it_began(lesson, samples, tmp_path):
    beginning = package.distill(output=tmp_path / "s.safetensors", **lesson)
    given = lesson | {"student": beginning.output, "learning_rate": 10.0, "epochs": 1}
    done = package.distill(output=tmp_path / "worse.safetensors", **given)
    assert history(done)["best"] == 0
    assert any("no epoch was better" in note.text and note.level == "warning" for note in done.stage.notes)
    assert "start" in [cell.text for cell in training_charts._row(done.stage, done.stage.trainings[0])]
    before, after = (load_file(each.output) for each in (beginning, done))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, "needs training data"),
        ({"logits": 0.0, "task": 0.0}, "nothing to learn"),
        ({"layers": 2}, "layers is for an automatic student"),
        ({"hidden": 1.0}, "no hidden states to match"),
    ],
)
def test_what_cannot_be_learnt_is_one_line(lesson, changes, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        package.distill(output=tmp_path / "s.safetensors", **lesson | changes)


def test_a_traced_teacher_needs_a_student(samples, lesson, tmp_path):
    given = lesson | {"teacher": samples / "traced.pt", "student_code": None, "code": None}
    with pytest.raises(UsageError, match="torchscript holds none"):
        package.distill(output=tmp_path / "s.safetensors", **given)
    done = package.distill(
        output=tmp_path / "s.safetensors", **lesson | {"teacher": samples / "traced.pt", "code": None, "epochs": 1}
    )
    assert done.stage.result.format == "state-dict"


def test_training_and_evaluation_share_no_sample(lesson, tmp_path):
    with pytest.raises(DataError, match="training and evaluation share 400 of 400"):
        package.distill(output=tmp_path / "s.safetensors", **lesson | {"train_data": lesson["data"]})


def test_soft_targets_are_hintons():
    own, taught = torch.randn(4, 10), torch.randn(4, 10)
    expected = 9 * functional.kl_div((own / 3).log_softmax(1), (taught / 3).softmax(1), reduction="batchmean")
    assert objectives.soft_targets(own, taught, 3.0).item() == pytest.approx(expected.item(), rel=1e-5)
    chances = taught.softmax(1)
    assert objectives.soft_targets(chances, chances, 2.0).item() == pytest.approx(0.0, abs=1e-6)


def test_padding_does_not_count():
    taught = torch.randn(2, 5, 8)
    own = taught.clone()
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])
    own[~mask.bool()] += 100.0
    assert objectives.squared_error(own, taught, mask).item() == 0.0
    assert objectives.squared_error(own, taught).item() > 1.0


def test_one_score_is_learnt_as_two_classes():
    own, taught = torch.zeros(4, 1), torch.tensor([[3.0], [-3.0], [3.0], [-3.0]])
    objective = Objective(
        lambda x: {"y": own}, lambda x: {"y": taught}, ["x"], Weights(temperature=1.0), "y", match="kl"
    )
    expected = functional.binary_cross_entropy_with_logits(own, taught.sigmoid()).item()
    entropy = functional.binary_cross_entropy_with_logits(taught, taught.sigmoid()).item()
    found = objective(Drawn((torch.zeros(4, 2),), None, (0, 1, 2, 3))).parts["logits"].item()
    assert found == pytest.approx(expected - entropy, rel=1e-4)


def test_whole_numbers_may_be_values():
    labels = torch.tensor([57, 3])
    assert objectives.task_loss("age", torch.tensor([[57.0], [4.0]]), labels, values=True).item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        (torch.randn(3, 4), torch.tensor([0, 3, -100]), "cross-entropy"),
        (torch.randn(3, 6, 4), torch.randint(0, 4, (3, 6)), "tokens"),
        (torch.randn(3, 4, 5, 5), torch.randint(0, 4, (3, 5, 5)), "pixels"),
        (torch.randn(3, 1), torch.tensor([0, 1, 1]), "single"),
        (torch.randn(3, 1), torch.tensor([0.5, 1.0, -2.0]), "values"),
    ],
)
def test_labels_are_learnt_by_their_kind(scores, labels, expected):
    loss = objectives.task_loss("logits", scores, labels).item()
    wanted = {
        "cross-entropy": lambda: functional.cross_entropy(scores, labels),
        "tokens": lambda: functional.cross_entropy(scores.flatten(0, 1), labels.flatten()),
        "pixels": lambda: functional.cross_entropy(scores, labels),
        "single": lambda: functional.binary_cross_entropy_with_logits(scores[:, 0], labels.float()),
        "values": lambda: functional.mse_loss(scores[:, 0], labels),
    }[expected]()
    assert loss == pytest.approx(wanted.item(), rel=1e-5)


def test_a_teacher_is_asked_once_for_each_sample():
    asked = []

    class Teacher(torch.nn.Module):
        def forward(self, x):
            asked.append(len(x))
            return x * 2

    objective = Objective(torch.nn.Identity(), Teacher(), ["x"], Weights(), "output")
    drawn = Drawn((torch.randn(4, 3),), None, (1, 2, 3, 4))
    objective.remember([drawn])
    for rows in ((0, 1), (2, 3), (0, 3)):
        objective(Drawn((drawn.inputs[0][list(rows)],), None, tuple(drawn.rows[row] for row in rows)))
    assert asked == [4]


def test_the_learning_rate_rises_and_falls():
    shares = [schedule.share(step, 100) for step in range(100)]
    assert shares[0] < 0.2
    assert max(shares) == pytest.approx(1.0, abs=0.01)
    assert shares.index(max(shares)) <= 11
    assert shares[-1] < 0.01


def test_a_structure_is_composed_of_what_was_left_before():
    first = structure.Structure({"layers": [0, 2, 4, 5]})
    assert first.keeping({"layers": [1, 3]}).layers == {"layers": [2, 5]}
    assert first.keeping({"other": [0]}).layers == {"layers": [0, 2, 4, 5], "other": [0]}
