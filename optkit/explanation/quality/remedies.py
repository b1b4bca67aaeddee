"""What to try against a loss of quality: which layers to give back to float, and the command that does it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from optkit.data.dataset import Dataset
from optkit.explanation import commands
from optkit.explanation.quality import causes as quality_causes
from optkit.explanation.quality import layer_order
from optkit.formats.model import Model
from optkit.formats.onnx import graph, nodes
from optkit.formats.openvino import ir
from optkit.formats.operators import plain
from optkit.measurement.candidate import Candidate
from optkit.quantization.selection import weighted_nodes
from optkit.records.comparison import Row
from optkit.records.layers import LayerErrors, LayerRecord, Sensitivity

_REMAINING = 0.1
"""So much of the damage may remain when the worst layers are back in float."""
_MOST = 12
"""So many layers are given back to float at most."""
_ALIKE = 0.25
"""With a smaller part of the candidate's error, what was measured layer by layer is not what it suffers from."""
_ATTENTION = {"MatMul", "Softmax"}


@dataclass(frozen=True)
class Given:
    """The data, and what it is called on the command line; without ``calibrating`` none was given."""

    evaluation: Dataset
    data: str
    calibrating: Dataset | None = None
    calibration: str | None = None


@dataclass(frozen=True)
class Loss:
    """A candidate whose quality was measured, and what is known of its layers; ``quantized`` says how it was made.

    ``slow`` are layers that had better be left in float for their speed.
    """

    baseline: Candidate
    candidate: Candidate
    quantized: str | None
    row: Row
    given: Given
    slow: tuple[str, ...] = ()
    layers: LayerErrors | None = None
    sensitivity: Sensitivity | None = None

    @property
    def method(self) -> str | None:
        return commands.method_of(self.quantized or "")

    @property
    def open_layers(self) -> list[LayerRecord]:
        """The layers that were measured, without those that the candidate has in float already."""
        measured = self.sensitivity.layers if self.sensitivity else []
        return [layer for layer in measured if layer.name not in self.in_float]

    @cached_property
    def in_float(self) -> set[str]:
        return _in_float(self.candidate.model)

    @cached_property
    def rounded_away(self) -> list[str]:
        """The operators of a candidate by NNCF, layers or not, that take what its rounding lost most of."""
        if self.candidate.model.format != "openvino" or self.layers is None or self.misses_scheme:
            return []
        bad = [each for each in self.layers.ranges if quality_causes.vanishes(each) or quality_causes.cut_off(each)]
        bad.sort(key=lambda each: -max(each.vanished, each.outside))
        return list(dict.fromkeys(name for each in bad for name in each.exclude))

    def leaves_some(self, names: set[str]) -> bool:
        """Whether a layer in integers is left without these."""
        return not {layer.name for layer in self.open_layers} <= names

    @property
    def worst(self) -> tuple[list[LayerRecord], float]:
        """The layers to give back to float, and what share of the damage the others do."""
        return layer_order.fewest(self.open_layers, _REMAINING, _MOST)

    @property
    def concentrated(self) -> bool:
        """Whether a few layers do nearly all of the damage."""
        return self.alike and bool(self.worst[0]) and self.worst[1] <= _REMAINING

    @cached_property
    def scheme(self) -> dict[str, str]:
        """What NNCF was called with, where it made the candidate."""
        model = self.candidate.model
        return ir.scheme(ir.read(model.path)) if model.format == "openvino" else {}

    @cached_property
    def misses_scheme(self) -> bool:
        """Whether NNCF quantized a transformer as if it were none: then it rounds what lies between layers as well."""
        return _is_transformer(self.baseline.model) and self.scheme.get("model_type", "transformer") != "transformer"

    @property
    def alike(self) -> bool:
        """Whether quantizing the layers anew does about as much as the candidate suffers, or more."""
        if self.misses_scheme:
            return False
        if self.sensitivity is None or self.layers is None or not self.layers.layers:
            return self.sensitivity is not None
        return self.sensitivity.all_quantized >= _ALIKE * self.layers.layers[-1].error


def keep_in_float(loss: Loss) -> list[str]:
    """The names to exclude: of the layers that INT8 damages most, unless something else costs the quality; and of what
    takes a tensor that lost most of its values.
    """
    damaged = [layer.name for layer in loss.worst[0]] if loss.alike else []
    taking = [name for name in loss.rounded_away if name not in {*loss.in_float, *damaged}]
    return [*damaged, *(taking if loss.leaves_some({*damaged, *taking}) else ())][:_MOST]


def command(loss: Loss) -> str | None:
    """Quantize the baseline again with what helps most; ``None`` where it was not quantized, or there is no lead."""
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
    """What is slow in integers besides; nothing where no layer in integers would be left, or all are made anew by
    another scheme.
    """
    names = keep_in_float(loss)
    more = [name for name in map(plain, loss.slow) if name not in names]
    return more if loss.leaves_some({*names, *more}) and not loss.misses_scheme else []


def _options(loss: Loss) -> list[str]:
    """Options against a loss that no few layers make."""
    if loss.method != "static":
        return []
    if loss.misses_scheme:
        return ["--model-type", "transformer"]
    if loss.candidate.target == "onnxruntime":
        kinds = {each.kind for each in loss.layers.findings} if loss.layers else set()
        return ["--calibrate", "percentile"] if "dead-range" in kinds and not loss.concentrated else []
    accurate = loss.scheme.get("fast_bias_correction") == "False"
    return ["--bias-correction", "accurate"] if accurate or not loss.concentrated else []


def _nodes(model: Model) -> set[str]:
    return {node.name for node in nodes.walk(graph.parse(model.path))} if model.format == "onnx" else set()


def _is_transformer(model: Model) -> bool:
    return model.format == "onnx" and set(nodes.operators(graph.parse(model.path))) >= _ATTENTION


def _in_float(model: Model) -> set[str]:
    """The layers of an ONNX model whose weights are floats; in an IR, what NNCF was told to leave alone."""
    if model.format == "openvino":
        return ir.left_alone(ir.read(model.path))
    return {node.name for node in weighted_nodes(graph.parse(model.path))}
