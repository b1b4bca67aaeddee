"""Export: a torch model to ONNX, dynamic dimensions kept, and proven to compute the same."""

from __future__ import annotations

import contextlib
import io
import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from optkit import checkpoint, graph, lazy, worker
from optkit import model as models
from optkit.errors import ParityError, SignatureError, StageError, UsageError
from optkit.model import TORCH_FORMATS, Model
from optkit.stage import Context, Note, Outcome, Stage
from optkit.tensors import Array, Arrays, Signature, TensorSpec, synthetic_feed
from optkit.worker import Worker

BATCHES = (2, 5)
"""Two sizes, neither one, so that a batch frozen into the graph shows."""


class Export(Stage):
    """A torch model as ONNX.

    ``rtol`` and ``atol`` bound the difference between both models' outputs, element by element, as numpy.allclose
    does. Float32 sums in another order differ by about 1e-5 of their size; a thousand times the rounding unit leaves
    room for deep nets and none for a wrong operator.
    """

    name: ClassVar[str] = "export"
    needs_target: ClassVar[bool] = False

    opset: int = Field(18, ge=13, le=23, description="Version of the ONNX operators.")
    rtol: float = Field(1e-3, ge=0, description="Relative difference allowed between outputs.")
    atol: float = Field(1e-4, ge=0, description="Absolute difference allowed, times the largest output.")

    def check(self, model: Model, context: Context) -> None:
        """Refuse what is no torch model, and one whose inputs nobody told."""
        if model.format == "openvino":
            raise UsageError(f"{model.path}: an OpenVINO model cannot be exported to ONNX", hint="export its source")
        if model.format in TORCH_FORMATS and (model.signature is None or not model.signature.inputs):
            raise SignatureError(
                f"{model.path} does not tell its inputs", hint="give them: --input 'x:float32[batch,3,224,224]'"
            )

    def apply(self, model: Model, context: Context) -> Outcome:
        """Write ``model.onnx``. Raises StageError where torch cannot export, ParityError where it exported wrongly."""
        if model.format == "onnx":
            return Outcome(model, (Note("already ONNX: nothing to export", model.path.name),))
        path = context.workdir / "model.onnx"
        started = time.monotonic()
        loaded = checkpoint.load(model)
        with _one_line(model):
            self._export(loaded, model, path)
        seconds = time.monotonic() - started
        _name_dimensions(path, model)
        exported = models.open(path)
        notes, facts = self._prove(model, exported, context)
        return Outcome(exported, notes, "torch", "torch.onnx.export", seconds, facts)

    def _export(self, loaded: Any, model: Model, path: Path) -> None:
        import torch

        inputs = model.signature.inputs if model.signature else ()
        example = tuple(
            torch.from_numpy(array).to(getattr(torch, spec.dtype))
            for spec, array in zip(inputs, _made_up(inputs, BATCHES[0]).values(), strict=True)
        )
        names = [spec.name for spec in inputs]
        if model.format == "torchscript":
            axes = {spec.name: _dynamic(spec) for spec in inputs}
            outputs = _output_names(loaded(*example), names)
            batch = {name: {0: "batch"} for name in outputs} if any(axes.values()) else {}
            torch.onnx.export(
                loaded,
                example,
                str(path),
                dynamo=False,
                opset_version=min(self.opset, 20),
                input_names=names,
                output_names=outputs,
                dynamic_axes=axes | batch,
            )
            return
        program = loaded if model.format == "exported-program" else _program(loaded, example, inputs)
        outputs = _output_names(program.module()(*example), names)
        exported = torch.onnx.export(
            program, dynamo=True, opset_version=self.opset, input_names=names, output_names=outputs, verbose=False
        )
        graph.save(exported.model_proto, path)

    def _prove(self, source: Model, exported: Model, context: Context) -> tuple[tuple[Note, ...], dict[str, Any]]:
        feeds, origin = _feeds(source, context)
        worst = 0.0
        with (
            Worker(worker.candidate(source)) as expected,
            Worker(worker.candidate(exported)) as actual,
        ):
            for feed in feeds:
                wanted, got = expected.run(feed), actual.run(feed)
                for (name, right), found in zip(got.items(), wanted.values(), strict=False):
                    worst = max(worst, self._difference(name, found, right, feed))
        sizes = " and ".join(str(len(next(iter(feed.values())))) for feed in feeds)
        text = (
            f"computes what {source.path.name} computes: largest difference {worst:.1e} at batch {sizes}, on {origin}"
        )
        return (Note(text),), {"parity": {"max_difference": worst, "batches": sizes, "data": origin}}

    def _difference(self, name: str, wanted: Array, got: Array, feed: Arrays) -> float:
        """The largest difference between unmasked elements. Raises ParityError for one too large."""
        if wanted.shape != got.shape:
            raise ParityError(f"output {name!r}: the export has shape {list(got.shape)}, not {list(wanted.shape)}")
        wanted, got = (_unmasked(array, feed).astype(np.float64) for array in (wanted, got))
        if not wanted.size:
            return 0.0
        difference = np.where(np.isnan(wanted) & np.isnan(got), 0.0, np.abs(wanted - got))
        bound = self.atol * max(1.0, float(np.nanmax(np.abs(wanted)))) + self.rtol * np.abs(wanted)
        largest = float(np.max(difference))
        if not (difference <= bound).all():
            raise ParityError(
                f"output {name!r}: the export differs from the source by {largest:.3g}; allowed is rtol {self.rtol:g}, "
                f"atol {self.atol:g} of the largest output",
                hint="a model that draws random numbers or branches on its data cannot be exported as it stands",
            )
        return largest


def _program(module: Any, example: tuple[Any, ...], inputs: tuple[TensorSpec, ...]) -> Any:
    import torch

    dims: dict[str, Any] = {}
    shapes = tuple(
        {axis: dims.setdefault(dim, torch.export.Dim(dim)) for axis, dim in _dynamic(spec).items()} for spec in inputs
    )
    return torch.export.export(module, example, dynamic_shapes=_nested(module, shapes))


def _nested(module: Any, shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """A forward of ``*args`` nests its inputs' shapes one tuple deeper."""
    import inspect

    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    return (shapes,) if kinds[:1] == [inspect.Parameter.VAR_POSITIONAL] else shapes


def _dynamic(spec: TensorSpec) -> dict[int, str]:
    return {axis: dim for axis, dim in enumerate(spec.shape or ()) if isinstance(dim, str)}


def _made_up(inputs: tuple[TensorSpec, ...], batch: int) -> Arrays:
    return synthetic_feed(inputs, batch=batch, seed=batch)


def _output_names(outputs: Any, inputs: list[str]) -> list[str]:
    """A dict's keys; ``output`` for one, ``output_0`` … for several; apart from the inputs' names."""
    if isinstance(outputs, dict):
        names = [str(name) for name in outputs]
    else:
        count = len(outputs) if isinstance(outputs, list | tuple) else 1
        names = ["output"] if count == 1 else [f"output_{index}" for index in range(count)]
    return [f"{name}_out" if name in inputs else name for name in names]


def _name_dimensions(path: Path, model: Model) -> None:
    """Give dynamic dimensions the names they came with. Raises StageError for one that torch made a number."""
    proto = graph.load(path)
    wanted = {spec.name: spec for spec in (model.signature.inputs if model.signature else ())}
    renamed: dict[str, str] = {}
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        for axis, name in _dynamic(wanted[value.name]).items() if value.name in wanted else ():
            if not dims[axis].dim_param:
                raise StageError(
                    f"{model.path.name}: torch fixed the dynamic dimension {name!r} of input {value.name!r} to "
                    f"{dims[axis].dim_value}",
                    hint="the model's code depends on this size; give it as a number in --input",
                )
            renamed[dims[axis].dim_param] = name
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in renamed:
                dim.dim_param = renamed[dim.dim_param]
    graph.save(proto, path)


def _feeds(source: Model, context: Context) -> tuple[list[Arrays], str]:
    """Feeds at two batch sizes where the batch is dynamic, of real data where there is some."""
    signature = source.signature or Signature(())
    sizes = BATCHES if signature.batch_dim else (signature.fixed_batch or 1,)
    dataset = context.evaluation or context.calibration
    if dataset is None:
        return [_made_up(signature.inputs, size) for size in sizes], "made-up inputs (give --data for real ones)"
    if dataset.source.whole_feeds:
        batches = [batch.feed for batch in dataset.take(len(sizes)).batches(1)]
        return batches, f"real feeds of {dataset.source.path}"
    dataset.check(signature.inputs, samples=max(sizes))
    return [next(dataset.batches(size, pad=True)).feed for size in sizes], f"samples of {dataset.source.path}"


def _unmasked(array: Array, feed: Arrays) -> Array:
    """Only the positions that an ``attention_mask`` keeps, where the output has them."""
    mask = feed.get("attention_mask")
    if mask is None or mask.ndim != 2 or array.shape[:2] != mask.shape:
        return array
    return np.asarray(array[mask.astype(bool)])


@contextlib.contextmanager
def _one_line(model: Model) -> Iterator[None]:
    """Torch's chatter off, and its failures in one line."""
    lazy.require("onnxscript", extra="torch")
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except (StageError, UsageError):
        raise
    except Exception as error:  # noqa: BLE001  torch raises dozens of kinds, all meaning: this cannot be exported
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise StageError(
            f"{model.path}: torch cannot export it: {type(error).__name__}: {reason.strip()[:300]}",
            hint="does --input fit the model? try a fixed size for a name: --input 'x:float32[1,3,224,224]'",
        ) from None
    finally:
        logging.disable(level)
