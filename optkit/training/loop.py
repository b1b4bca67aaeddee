"""The training loop: AdamW, a learning rate that warms up and falls, the best weights on held-out data, checkpoints.

The same seed, data and machine give the same weights, also if training was killed and resumed.
"""

from __future__ import annotations

import copy
import math
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optkit import units
from optkit.errors import StageError
from optkit.formats.tensors import Array
from optkit.options.training import Schedule
from optkit.progress import Progress, no_progress
from optkit.system import native
from optkit.training.checkpoint import Best, Checkpoint
from optkit.training.device import (
    autocast,
    choose_precision,
    out_of_memory,
    prepare_device,
    random_state,
    seed_everything,
    set_random_state,
)
from optkit.training.objectives import Losses, Objective
from optkit.training.samples import Drawn, Samples
from optkit.training.schedule import Epoch, History, share

RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
"""Learning rates that are tried if none is given."""
_TRIED_STEPS = 25
"""Steps for which each of them is tried."""
_LARGEST_GRADIENT = 1.0
_CHECKPOINT_SECONDS = 15.0
"""Seconds of work that are lost at most when training is killed."""


@dataclass(frozen=True)
class Judge:
    """A metric of a module: ``observe(outputs, drawn)`` returns a batch's rows, ``aggregate`` their value."""

    name: str
    observe: Callable[[dict[str, Any], Drawn], Array]
    aggregate: Callable[[list[Array]], float]


class Stopped(KeyboardInterrupt):
    """Training was interrupted; the module has its best weights so far."""


@dataclass
class Course:
    """One training of ``objective.student`` on ``train``; it ends no worse on ``held_out``, the holdout set.

    ``checkpoints`` is a folder that survives a kill, or ``None``. ``constrain`` is called after each step: masks of a
    sparse model. ``label`` names the training in its progress; at the ``deadline``, in seconds of the monotonic clock,
    it fails. Without ``mixed`` precision it computes in float32 everywhere.
    """

    objective: Objective
    train: Samples
    held_out: Samples
    schedule: Schedule
    judge: Judge
    seed: int = 0
    checkpoints: Path | None = None
    constrain: Callable[[], None] | None = None
    label: str = "training"
    progress: Progress = no_progress
    deadline: float | None = None
    mixed: bool = True

    def run(self) -> History:
        """Train; the student ends with its best weights. Raises Stopped; StageError when memory or time runs out."""
        return _Run(self).to_end()


class _Run:
    """A course under way."""

    def __init__(self, course: Course) -> None:
        self.course = course
        self.student = course.objective.student
        self.size = course.schedule.batch_size
        self.steps = course.train.steps(self.size)
        self.total = self.steps * course.schedule.epochs
        self.history = History(course.judge.name, device=course.train.device)
        self.best = Best()
        self.step = 0
        self.sum = 0.0
        self.started = self.saved = time.monotonic()
        prepare_device(course.train.device)
        self.precision, self.scaler = choose_precision(course.train.device, mixed=course.mixed)
        self.history.precision = self.precision
        self.optimizer = self._optimizer(rate=0.0)

    def to_end(self) -> History:
        self._ask_teacher()
        if not self._resume():
            self.history.learning_rate = self.course.schedule.learning_rate or self._best_rate()
            self._start(self.history.learning_rate)
            self._note_start()
        try:
            while self.step < self.total and not self.history.stopped_early:
                self._epoch()
        except KeyboardInterrupt:  # perhaps in the middle of a step: the last checkpoint is whole, this is not
            if self.history.epochs:  # else what a student has learnt so far is more than what it began with
                self._take_best()
            self.student.eval()
            raise Stopped from None
        self._take_best()
        return self.history

    def _ask_teacher(self) -> None:
        for samples in (self.course.train, self.course.held_out):
            total = samples.steps(self.size)
            for number, drawn in enumerate(samples.in_order(self.size)):
                self.course.progress(f"{self.course.label} · asking the teacher", number, total)
                with self._fitting(drawn):
                    self.course.objective.remember([drawn])

    def _start(self, rate: float) -> None:
        seed_everything(self.course.seed)
        self.optimizer = self._optimizer(rate)

    def _optimizer(self, rate: float) -> Any:
        import torch

        parameters = [each for each in self.student.parameters() if each.requires_grad]
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=self.course.schedule.weight_decay)

    def _note_start(self) -> None:
        loss = self._held_out()[0]
        if math.isfinite(loss):
            self.best = Best(loss, 0, copy.deepcopy(self.student.state_dict()))

    def _epoch(self) -> None:
        """Train on the rest of the epoch that ``step`` lies in, and end it."""
        number, done = divmod(self.step, self.steps)
        self.student.train()
        for drawn in self.course.train.epoch(self.size, seed=self.course.seed, epoch=number, start=done):
            self._tell(number)
            self._heed_deadline()
            self._set_rate(self.history.learning_rate * share(self.step, self.total))
            self.sum += self._learn(drawn)
            self.step += 1
            if time.monotonic() - self.saved > _CHECKPOINT_SECONDS and self.step % self.steps:
                self._save()
        self._end(number + 1)
        self._save()

    def _heed_deadline(self) -> None:
        deadline = self.course.deadline
        if deadline is not None and time.monotonic() > deadline:
            self._save()
            raise StageError(
                f"{self.course.label}: the time was up after {self.step:,} of {self.total:,} steps",
                hint="a longer --budget goes on from there",
            )

    def _learn(self, drawn: Drawn) -> float:
        with self._fitting(drawn):
            loss = float(self._losses(drawn, learn=True).total.detach())
        if not math.isfinite(loss):
            raise StageError(
                f"{self.course.label}: the loss is {loss} at step {self.step + 1}",
                hint="a lower --learning-rate; or does the data hold values that the model never saw?",
            )
        return loss

    def _losses(self, drawn: Drawn, *, learn: bool) -> Losses:
        import torch

        with autocast(drawn.inputs[0].device.type, self.precision):
            losses = self.course.objective(drawn)
        if not learn:
            return losses
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses.total).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), _LARGEST_GRADIENT)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.course.constrain is not None:
            self.course.constrain()
        return losses

    def _end(self, number: int) -> None:
        """Evaluate the epoch on held-out data; stop early after ``patience`` epochs without improvement."""
        loss, metric = self._held_out(self.course.judge)
        seconds = time.monotonic() - self.started
        rate = self.history.learning_rate * share(self.step, self.total)
        self.history.epochs.append(Epoch(number, self.sum / self.steps, loss, metric, rate, seconds))
        self.history.steps, self.sum = self.step, 0.0
        if loss < self.best.loss:
            self.best = Best(loss, number, copy.deepcopy(self.student.state_dict()))
            self.history.best = number
        lowest = min(self.history.epochs, key=lambda each: each.held_out).epoch
        self.history.stopped_early = number - lowest >= self.course.schedule.patience and self.step < self.total

    def _held_out(self, judge: Judge | None = None) -> tuple[float, float | None]:
        import torch

        self.student.eval()
        total, count = 0.0, 0
        rows: list[Array] = []
        with torch.no_grad():
            for drawn in self.course.held_out.in_order(self.size):
                with self._fitting(drawn):
                    losses = self._losses(drawn, learn=False)
                total += float(losses.total) * len(drawn.rows)
                count += len(drawn.rows)
                if judge is not None:
                    rows.append(judge.observe(losses.outputs, drawn))
        return total / count, None if judge is None else judge.aggregate(rows)

    def _best_rate(self) -> float:
        """Find the learning rate that lowers the held-out loss most in a short training from here (after Smith, 2017).

        Each trial decays the rate as the long training will: rates that are rough first and good in the end win, too.
        """
        before, found = copy.deepcopy(self.student.state_dict()), {}
        for number, rate in enumerate(RATES):
            self.course.progress(f"{self.course.label} · trying learning rates", number, len(RATES))
            self._start(rate)
            self.student.train()
            for step, drawn in enumerate(self._few()):
                self._set_rate(rate * share(step, _TRIED_STEPS))
                with self._fitting(drawn):
                    self._losses(drawn, learn=True)
            found[rate] = self._held_out()[0]
            self.student.load_state_dict(before)
        finite = {rate: loss for rate, loss in found.items() if math.isfinite(loss)}
        return min(finite, key=lambda rate: finite[rate]) if finite else RATES[0]

    def _few(self) -> Iterator[Drawn]:
        drawn = self.course.train.epoch(self.size, seed=self.course.seed, epoch=0)
        return (each for _, each in zip(range(_TRIED_STEPS), drawn, strict=False))

    def _set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _tell(self, number: int) -> None:
        parts = [f"{self.course.label} · epoch {number + 1}/{self.course.schedule.epochs}"]
        done = self.step % self.steps
        if done:
            parts.append(f"loss {self.sum / done:.4g}")
        if self.history.epochs:
            last = self.history.epochs[-1]
            parts.append(f"held-out {last.held_out:.4g}")
            if last.metric is not None:
                parts.append(f"{self.history.metric} {units.quality(last.metric)}")
        self.course.progress(", ".join(parts), self.step, self.total)

    def _take_best(self) -> None:
        if self.best.weights:
            self.student.load_state_dict(self.best.weights)
        self.student.eval()

    def _save(self) -> None:
        """Write a checkpoint."""
        if self.course.checkpoints is None:
            return
        Checkpoint(
            step=self.step,
            sum=self.sum,
            student=self.student.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
            random=random_state(),
            best=self.best,
            history=self.history,
        ).save(self.course.checkpoints)
        self.saved = time.monotonic()

    def _resume(self) -> bool:
        """Go on from the checkpoint; one that is damaged or does not fit is noted in the history. True if it does."""
        if self.course.checkpoints is None:
            return False
        before = copy.deepcopy(self.student.state_dict())
        try:
            found = Checkpoint.load(self.course.checkpoints, self.course.train.device)
            if found is None:
                return False
            with native.foreign("it does not fit this training"):
                self._restore(found)
        except StageError as error:
            self.student.load_state_dict(before)
            self.history.discarded = error.message
            return False
        return True

    def _restore(self, found: Checkpoint) -> None:
        self._start(found.history.learning_rate)
        self.student.load_state_dict(found.student)
        self.optimizer.load_state_dict(found.optimizer)
        self.scaler.load_state_dict(found.scaler)
        set_random_state(found.random)
        self.step, self.sum, self.best = found.step, found.sum, found.best
        self.history = replace(found.history, resumed=found.step)

    @contextmanager
    def _fitting(self, drawn: Drawn) -> Iterator[None]:
        """Turn out-of-memory into an error with the largest batch size that fits, any other failure into one line."""
        with native.foreign(
            f"{self.course.label}: the model fails in training",
            hint="do the data fit it, and --batch-size: batch norms want more than one sample",
            told=native.named,
        ):
            try:
                yield
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                traceback.clear_frames(error.__traceback__)  # they hold the batch's memory
                raise self._too_large(drawn) from None

    def _too_large(self, drawn: Drawn) -> StageError:
        fits = self._largest_fitting(drawn)
        hint = f"--batch-size {fits} fits" if fits else "not even one sample fits: a smaller model, or more memory"
        return StageError(f"{self.course.label}: out of memory with a batch of {len(drawn.rows)}", hint=hint)

    def _largest_fitting(self, drawn: Drawn) -> int | None:
        """Find the largest of a half, a quarter, … of the batch that fits in memory; ``None`` if no sample does."""
        size = len(drawn.rows) // 2
        while size and not self.course.train.whole_feeds:
            part = Drawn(
                tuple(each[:size] for each in drawn.inputs),
                None if drawn.labels is None else drawn.labels[:size],
                drawn.rows[:size],
            )
            try:
                self._losses(part, learn=True)
                return size
            except (MemoryError, RuntimeError):  # whatever it is called, once memory has run out
                size //= 2
        return None
