"""Quantization-aware training: float weights are trained with fake quantization, with the model itself as teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from optkit.errors import StageError
from optkit.formats.model import Model
from optkit.formats.torch import loading
from optkit.formats.torch.saving import save_module
from optkit.formats.torch.structure import Structure
from optkit.notes import Note
from optkit.options.training import Schedule
from optkit.stages.stage import Context, Interrupted, Outcome, stage_class
from optkit.system import fingerprint
from optkit.targets.target import target
from optkit.training import fake_quantization, schedule
from optkit.training.device import choose_device
from optkit.training.lesson import Lesson, runs
from optkit.training.loop import Stopped


def trained(
    model: Model, context: Context, plan: Schedule, *, per_channel: bool
) -> tuple[Model, tuple[Note, ...], dict[str, Any]]:
    """Train the model with fake quantization and export it in float as ONNX; returns it with notes and facts.

    Raises StageError if no layer can be quantized, Interrupted, and the errors of training and export.
    """
    lesson = Lesson(model, context.training_setup(), plan)
    module = loading.load(model).requires_grad_(True).to(choose_device())
    bits = 7 if fingerprint.saturates() else 8
    gives_integers = target(context.target).precisions.rounds_outputs
    layers = fake_quantization.put_into(
        module,
        weight_bits=bits,
        per_channel=per_channel,
        giving_integers=(lambda each: runs(each, lesson.example)) if gives_integers else None,
    )
    if not layers:
        raise StageError(f"{model.path}: no convolution and no linear layer to quantize", hint="--method dynamic")
    fake_quantization.observe(module, lesson.run_some)
    # bfloat16 has as few digits as 8-bit integers: it would round the 256 steps of their range once more.
    course = lesson.course(lesson.objective(module, lesson.weights()), "qat", mixed=False)
    try:
        history = course.run()
    except Stopped:
        raise Interrupted(lambda: _exported(module, model, context).model) from None
    exported = _exported(module, model, context)
    told = Note(f"{layers} layers trained with weights in {bits} bits and inputs in 8; {exported.notes[-1].text}")
    return exported.model, (told, *schedule.notes(history)), {"training": [{"label": "qat"} | history.to_facts()]}


def _exported(module: Any, model: Model, context: Context) -> Outcome:
    """Export the trained module in float as ONNX; activations are clipped to the ranges learnt."""
    changed = Structure(ranges=fake_quantization.ranges(module))
    fake_quantization.take_out(module)
    folder, place = context.workdir / "trained", context.workdir / "float"
    folder.mkdir()
    place.mkdir()
    written = save_module(module, model, folder, changed)
    return stage_class("export")().apply(written, replace(context, workdir=place))
