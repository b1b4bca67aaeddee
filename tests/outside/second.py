"""A package of a third party: a runtime with a quantizer of its own, a stage, a data source and a report.

optkit knows none of it but through the tables that ``test_targets_contract.py`` adds lines to.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from optkit.data.dataset import Batch, Source
from optkit.errors import TargetError
from optkit.formats import opening
from optkit.formats.model import Model
from optkit.formats.operators import Operator, Profile
from optkit.formats.tensors import Arrays, Signature
from optkit.lazy import Library
from optkit.notes import Note
from optkit.progress import Progress, no_progress
from optkit.stages.stage import Context, Outcome, Stage
from optkit.targets.precisions import Maker, Precisions
from optkit.targets.target import Compiled, Session, Target

SECONDS = {"float32": 0.010, "int8": 0.004}
"""An inference by the precision that a file is in, on the session's own clock."""


class Second(Target):
    """Computes ONNX graphs by onnx' reference implementation."""

    name = "second"
    formats = ("onnx",)
    options_model = "second_options:SecondOptions"
    thread_options = ("workers",)
    modules = ("second",)
    extra = "second"
    libraries = (Library("onnx"), Library("ml-dtypes"))
    tells_operators = True
    zeros = "second skips zeros"
    precisions = Precisions(
        makers={"int8": (Maker("second", "static"),), "fp16": (Maker("second", "shorten"),)},
        refused={"int4": "second packs no int4"},
        only_static="second has integers with fixed ranges alone",
    )

    def version(self) -> str:
        return "2.0"

    def parts(self) -> Iterator[tuple[str, str | None, str | None]]:
        yield "SecondCore", None, None
        yield "SecondAccelerator", "is not plugged in", "plug it in"

    def advice(self, here: Any, found: Any) -> Iterator[Any]:
        yield Note(text=f"{here.cores} cores for {found.name}", where=self.name)

    def default_options(self, *, threads: int | None = None) -> dict[str, Any]:
        return {"workers": threads or 1, "turbo": False}

    def parallel_options(self, *, threads: int, sessions: int = 1) -> dict[str, Any]:
        return {"workers": threads}

    def variants(self) -> dict[str, dict[str, Any]]:
        return {"turbo": {"turbo": True}}

    def compile(
        self, model: Model, options: dict[str, Any], workdir: Path, progress: Progress = no_progress
    ) -> Compiled:
        path = shutil.copyfile(model.path, workdir / "model.onnx")
        return Compiled(Path(path), "onnx", options, ("second compiles by copying",))

    def open(self, model: Model, options: dict[str, Any]) -> Session:
        return SecondSession(model, options)

    def profile(self, model: Model, options: dict[str, Any], feeds: Sequence[Arrays], seconds: float) -> Profile:
        session = SecondSession(model, options)
        operator = Operator("product", "MatMul", 0.9 * session.seconds, session.precision, layers=("product",))
        return Profile((operator,), len(feeds), session.seconds)

    def warnings(self, options: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if options["turbo"]:
            yield "hot", "turbo heats the room"


class SecondSession(Session):
    """Real outputs, and a clock that goes on with every run and at no other time."""

    def __init__(self, model: Model, options: dict[str, Any]) -> None:
        import onnx
        from onnx.reference import ReferenceEvaluator

        proto = onnx.load(model.path)
        if any(node.op_type != "MatMul" for node in proto.graph.node):
            raise TargetError(f"second refuses {model.path.name}: it knows MatMul alone")
        self.precision = "int8" if proto.doc_string == "rounded" else "float32"
        self.seconds = SECONDS[self.precision] / (2 if options["turbo"] else 1)
        self.signature = model.signature or opening.open(model.path).signature or Signature(())
        self._evaluator = ReferenceEvaluator(proto)
        self._model, self._options, self._now = model, options, 0.0

    def run(self, feed: Arrays) -> Arrays:
        self._now += self.seconds
        names = [spec.name for spec in self.signature.outputs]
        return dict(zip(names, self._evaluator.run(names, feed), strict=True))

    def facts(self) -> dict[str, Any]:
        return {"threads": self._options["workers"], "precision": self.precision}

    def clock(self) -> float:
        return self._now

    def wait(self, until: float) -> None:
        self._now = max(self._now, until)

    def sibling(self) -> Session:
        return SecondSession(self._model, self._options)


class Polish(Stage):
    """A model with a line of praise in it."""

    name: ClassVar[str] = "polish"
    needs_target: ClassVar[bool] = False

    praise: str = "fine"

    def apply(self, model: Model, context: Context) -> Outcome:
        import onnx

        proto = onnx.load(model.path)
        proto.producer_name = self.praise
        path = context.workdir / "model.onnx"
        onnx.save(proto, path)
        return Outcome(replace(opening.open(path), signature=model.signature), (Note(f"called {self.praise}"),))


class Rows(Source):
    """Lines of numbers, the label last."""

    def __init__(self, spec: Any, inputs: Any) -> None:
        self.path = Path(spec.path)
        self.labelled = True
        self._rows = np.loadtxt(self.path, dtype=np.float32)

    def __len__(self) -> int:
        return len(self._rows)

    def sample(self, index: int) -> Batch:
        row = self._rows[index : index + 1]
        return Batch({"x": row[:, :-1]}, row[:, -1].astype(np.int64), 1)


def report(run: Any) -> str:
    """A report in one line."""
    return f"the choice is {run.chosen}"
