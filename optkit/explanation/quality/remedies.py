"""Remedies for a loss of quality: the layers to keep in float, and the command that quantizes again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from optkit.data.dataset import Dataset
from optkit.explanation import commands
from optkit.explanation.quality import layer_order
from optkit.explanation.quality.causes import clipped, underflows
from optkit.formats.model import Model
from optkit.formats.onnx import graph
from optkit.formats.onnx.nodes import count_operators, walk
from optkit.formats.openvino import ir
from optkit.formats.operators import plain
from optkit.measurement.candidate import Candidate
from optkit.quantization.quantizer import static_quantizer
from optkit.quantization.selection import weighted_nodes
from optkit.records.comparison import Row
from optkit.records.layers import LayerErrors, LayerRecord, Sensitivity
from optkit.targets.target import target

_REMAINING = 0.1
"""Largest share of the damage that may remain with the worst layers in float."""
_MOST = 12
"""Largest number of layers to keep in float."""
_ALIKE = 0.25
"""Share of the candidate's error that all measured layers together must cause to be considered its reason."""
_ATTENTION = {"MatMul", "Softmax"}
"""Operators of attention, by which a transformer is recognized."""


@dataclass(frozen=True)
class Given:
    """Evaluation and calibration data, and their names on the command line."""

    evaluation: Dataset
    data: str
    """The value of ``--data``."""
    calibrating: Dataset | None = None
    """The calibration data, if given."""
    calibration: str | None = None
    """The value of ``--calibration``."""


@dataclass(frozen=True)
class Loss:
    """A candidate whose quality was measured, with the measurements of its layers."""

    baseline: Candidate
    candidate: Candidate
    quantized: str | None
    """Description of the quantization that the candidate's file has."""
    row: Row
    """The candidate's row of the comparison."""
    given: Given
    slow: tuple[str, ...] = ()
    """Layers to keep in float because they are slow in integers."""
    layers: LayerErrors | None = None
    """Errors of the candidate's intermediate tensors."""
    sensitivity: Sensitivity | None = None
    """Damage of each layer of the baseline."""

    @property
    def method(self) -> str | None:
        """The method of ``quantize`` that made the candidate."""
        return commands.method_of(self.quantized or "")

    @property
    def quantized_layers(self) -> list[LayerRecord]:
        """The measured layers without those that the candidate has in float already."""
        measured = self.sensitivity.layers if self.sensitivity else []
        return [layer for layer in measured if layer.name not in self.in_float]

    @cached_property
    def in_float(self) -> set[str]:
        """Names of the layers that the candidate has in float."""
        return _in_float(self.candidate.model)

    @cached_property
    def rounded_away(self) -> list[str]:
        """Operators of a candidate made by NNCF that read a tensor most of whose values its quantization lost."""
        if self.candidate.model.format != "openvino" or self.layers is None or self.misses_scheme:
            return []
        bad = [each for each in self.layers.ranges if underflows(each) or clipped(each)]
        bad.sort(key=lambda each: -max(each.vanished, each.outside))
        return list(dict.fromkeys(name for each in bad for name in each.exclude))

    def leaves_some(self, names: set[str]) -> bool:
        """Return True if integer layers remain when ``names`` are kept in float."""
        return not {layer.name for layer in self.quantized_layers} <= names

    @property
    def worst(self) -> tuple[list[LayerRecord], float]:
        """The layers to keep in float, and the share of the damage that the others cause."""
        return layer_order.fewest(self.quantized_layers, _REMAINING, _MOST)

    @property
    def concentrated(self) -> bool:
        """True if a few layers cause nearly all of the damage."""
        return self.alike and bool(self.worst[0]) and self.worst[1] <= _REMAINING

    @cached_property
    def scheme(self) -> dict[str, str]:
        """Arguments of NNCF, if it made the candidate."""
        model = self.candidate.model
        return ir.scheme(ir.read(model.path)) if model.format == "openvino" else {}

    @cached_property
    def misses_scheme(self) -> bool:
        """True if NNCF quantized a transformer without its scheme for transformers, so between layers as well."""
        return _is_transformer(self.baseline.model) and self.scheme.get("model_type", "transformer") != "transformer"

    @property
    def alike(self) -> bool:
        """True if quantizing all measured layers causes an error about as large as the candidate's, or larger."""
        if self.misses_scheme:
            return False
        if self.sensitivity is None or self.layers is None or not self.layers.layers:
            return self.sensitivity is not None
        return self.sensitivity.all_quantized >= _ALIKE * self.layers.layers[-1].error


def keep_in_float(loss: Loss) -> list[str]:
    """List the names to exclude, at most ``_MOST``.

    These are the most sensitive layers, unless the loss has another reason, and the operators that read a tensor most
    of whose values were lost.
    """
    damaged = [layer.name for layer in loss.worst[0]] if loss.alike else []
    readers = [name for name in loss.rounded_away if name not in {*loss.in_float, *damaged}]
    return [*damaged, *(readers if loss.leaves_some({*damaged, *readers}) else ())][:_MOST]


def command(loss: Loss) -> str | None:
    """Return the command that quantizes the baseline again with the remedies.

    ``None`` if the candidate is not quantized or its layers were not measured.
    """
    if loss.method is None or loss.sensitivity is None:
        return None
    given = loss.given
    unlike = loss.layers is not None and any(each.kind == "out-of-range" for each in loss.layers.findings)
    names = keep_in_float(loss)
    known = {layer.name for layer in loss.sensitivity.layers} | _nodes(loss.baseline.model)
    return commands.quantize(
        loss.baseline.model,
        loss.candidate,
        loss.quantized,
        data=given.data,
        calibration=None if unlike else given.calibration,
        exclude=[*sorted(loss.in_float & known), *names, *slow_too(loss)],
        options=_options(loss),
    )


def slow_too(loss: Loss) -> list[str]:
    """List further layers to exclude because they are slow in integers.

    The list is empty if no integer layer would remain, or if another scheme is to be tried.
    """
    names = keep_in_float(loss)
    more = [name for name in map(plain, loss.slow) if name not in names]
    return more if loss.leaves_some({*names, *more}) and not loss.misses_scheme else []


def _options(loss: Loss) -> list[str]:
    """Return options of ``quantize`` against a loss that is not caused by a few layers."""
    if loss.method != "static":
        return []
    if loss.misses_scheme:
        return ["--model-type", "transformer"]
    engine = target(loss.candidate.target).precisions.engine
    method = static_quantizer(engine) if engine else None
    if method is None or "bias_correction" not in method.options:
        kinds = {each.kind for each in loss.layers.findings} if loss.layers else set()
        return ["--calibrate", "percentile"] if "dead-range" in kinds and not loss.concentrated else []
    accurate = loss.scheme.get("fast_bias_correction") == "False"
    return ["--bias-correction", "accurate"] if accurate or not loss.concentrated else []


def _nodes(model: Model) -> set[str]:
    return {node.name for node in walk(graph.parse(model.path))} if model.format == "onnx" else set()


def _is_transformer(model: Model) -> bool:
    return model.format == "onnx" and set(count_operators(graph.parse(model.path))) >= _ATTENTION


def _in_float(model: Model) -> set[str]:
    """Return the layers of an ONNX model with float weights; of an IR, the names that NNCF was told to ignore."""
    if model.format == "openvino":
        return ir.left_alone(ir.read(model.path))
    return {node.name for node in weighted_nodes(graph.parse(model.path))}
