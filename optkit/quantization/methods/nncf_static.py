"""Static INT8 with NNCF for OpenVINO: ranges from calibration data, with a scheme of its own for transformers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from optkit import lazy
from optkit.errors import StageError
from optkit.formats.openvino import stable_names
from optkit.formats.tensors import Arrays
from optkit.notes import Note
from optkit.quantization import openvino_nodes
from optkit.quantization.quantizer import Quantized, Request, excluding_nothing, quantizing
from optkit.system import fingerprint, native

_WEIGHTED = (
    "Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul",
    "LSTMSequence", "GRUSequence", "RNNSequence", "LSTMCell", "GRUCell", "RNNCell",
)  # fmt: skip
_ESTIMATORS = {"minmax": "MINMAX", "mean": "MEAN_MINMAX", "percentile": "MEAN_QUANTILE"}
"""Calibration method -> NNCF's name of it. Left alone NNCF takes the mean, which cuts the strongest samples off: that
cost a deep narrow net four points of accuracy, and won transformers nothing that counts.
"""
_MOST_SAMPLES = 1000
"""NNCF may keep statistics of every sample until the end, as for averages; these settle long before."""


@quantizing(
    calibrations=("minmax", "mean", "percentile"), options=("model_type", "preset", "bias_correction", "smooth_quant")
)
def quantize(request: Request) -> Quantized:
    """Quantize the OpenVINO graph. Raises StageError where NNCF fails."""
    request, notes = _bounded(request)
    with native.silent():
        graph = stable_names.read(request.model.path)
        transformer = (
            _is_transformer(graph)
            if request.options.model_type == "auto"
            else request.options.model_type == "transformer"
        )
        meant = openvino_nodes.operations(request.options.exclude, request.model, graph, request.workdir)
        fuse_silu(graph)
        ignored = sorted({operation for found in meant.values() for operation in found})
        quantized, failed = _quantized(graph, request, ignored, transformer=transformer)
    path = request.workdir / "model.xml"
    stable_names.save(quantized, path)
    pairs = sum(operation.get_type_name() == "FakeQuantize" for operation in quantized.get_ops())
    if not pairs:
        raise StageError(
            f"{request.model.path}: nncf found nothing to quantize", hint="optkit inspect shows the model's operators"
        )
    unknown = excluding_nothing(name for name, found in meant.items() if not found)
    told = _of_scheme(request, transformer=transformer)
    return Quantized(
        path,
        notes=(told[0], *notes, *failed, *told[1:], *unknown, *_kept_in_float(quantized)),
        facts={"quantizers": pairs, "transformer": transformer, "calibrate": request.options.calibrate},
    )


def _quantized(graph: Any, request: Request, ignored: list[str], *, transformer: bool) -> tuple[Any, tuple[Note, ...]]:
    """Return the quantized graph; a note where it is without bias correction, which failed."""
    nncf = lazy.require("nncf", extra="openvino")

    def applied(*, corrects_biases: bool) -> Any:
        with request.engine.running():
            return nncf.quantize(
                graph,
                nncf.Dataset(_Feeds(request)),
                subset_size=len(request.calibration or ()),
                model_type=nncf.ModelType.TRANSFORMER if transformer else None,
                # Asymmetric activations keep the inputs of a GELU or a hard swish; MIXED picks them there only,
                # PERFORMANCE nowhere, and kernels that need no zero points may be faster.
                preset=nncf.QuantizationPreset[request.options.preset.upper()],
                fast_bias_correction=request.options.bias_correction != "accurate",
                ignored_scope=nncf.IgnoredScope(names=ignored, validate=False),
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    # Left alone, NNCF keeps sums from saturating in the first layer only.
                    overflow_fix=nncf.OverflowFix.ENABLE if fingerprint.saturates() else nncf.OverflowFix.FIRST_LAYER,
                    smooth_quant_alphas=_alphas(request),
                    activations_range_estimator_params=_estimator(request),
                    disable_bias_correction=not corrects_biases,
                ),
            )

    try:
        return applied(corrects_biases=request.options.bias_correction != "none"), ()
    except StageError as error:
        # It takes any constant that is added behind a product for a bias, and fails where that is one number.
        note = Note(f"no bias correction: {error.message}", level="warning")
        return applied(corrects_biases=False), (note,)


def _of_scheme(request: Request, *, transformer: bool) -> list[Note]:
    """Return notes on the scheme, and warnings about its limits."""
    why = ": the graph has Softmax between MatMuls" if request.options.model_type == "auto" else ", as asked for"
    notes = [Note(f"nncf's scheme for transformers{why}" if transformer else f"{request.options.preset} preset")]
    if request.options.smooth_quant is not None and not transformer:
        notes.append(Note("no SmoothQuant: nncf has it in its scheme for transformers only", level="warning"))
    if fingerprint.saturates():
        notes.append(Note("weights in 7 bits: this CPU has no VNNI, and 8 would saturate", level="warning"))
    return notes


def _estimator(request: Request) -> Any:
    """NNCF's parameters of the calibration method."""
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    return getattr(RangeEstimatorParametersSet, _ESTIMATORS[request.options.calibrate])


def _alphas(request: Request) -> Any:
    """Return strength of SmoothQuant (Xiao et al., 2023): the share of the activations' range moved into weights."""
    from nncf.quantization.advanced_parameters import AdvancedSmoothQuantParameters

    strength = request.options.smooth_quant
    return AdvancedSmoothQuantParameters() if strength is None else AdvancedSmoothQuantParameters(matmul=strength)


class _Feeds:
    """Calibration feeds that can be gone through again: some of NNCF's algorithms take a pass of their own."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def __iter__(self) -> Iterator[Arrays]:
        return self._request.feeds()


def _bounded(request: Request) -> tuple[Request, tuple[Note, ...]]:
    """Return the request with no more samples than NNCF has memory for."""
    given = request.calibration
    if given is None or len(given) <= _MOST_SAMPLES:
        return request, ()
    note = Note(f"{_MOST_SAMPLES:,} of {len(given):,} calibration samples used, evenly spread: more tell nncf nothing")
    return replace(request, calibration=given.take(_MOST_SAMPLES)), (note,)


def _kept_in_float(graph: Any) -> tuple[Note, ...]:
    """Return notes on operators of weight that got no integers."""
    left = Counter(
        operation.get_type_name()
        for operation in graph.get_ops()
        if operation.get_type_name() in _WEIGHTED and not _takes_integers(operation)
    )
    return tuple(Note(f"{number} x {kind} kept in float by nncf") for kind, number in sorted(left.items()))


def _takes_integers(operation: Any) -> bool:
    source = operation.input_value(0).get_node()
    while source.get_type_name() in ("Reshape", "Transpose", "Squeeze", "Unsqueeze"):
        source = source.input_value(0).get_node()
    return bool(source.get_type_name() == "FakeQuantize")


def _is_transformer(graph: Any) -> bool:
    kinds = [operation.get_type_name() for operation in graph.get_ordered_ops()]
    fused = "ScaledDotProductAttention" in kinds
    return fused or ("Softmax" in kinds and "Convolution" not in kinds and kinds.count("MatMul") > 3)


def fuse_silu(graph: Any) -> None:
    """Fuse each product of a value and its sigmoid into one Swish, in place; it keeps the product's name.

    OpenVINO does the same when it loads a model. Before that, NNCF would quantize between sigmoid and product, which
    prevents the fusion: INT8 models with SiLU were up to four times slower than necessary, and less accurate.
    """
    from openvino import opset13
    from openvino.utils import replace_node

    for node in graph.get_ordered_ops():
        if node.get_type_name() != "Multiply":
            continue
        first, second = (node.input_value(index) for index in (0, 1))
        for value, other in ((first, second), (second, first)):
            maker = other.get_node()
            if maker.get_type_name() == "Sigmoid" and _same(maker.input_value(0), value):
                swish = opset13.swish(value)
                names = node.output(0).get_names()
                swish.set_friendly_name(node.get_friendly_name())
                replace_node(node, swish)
                swish.output(0).set_names(names)
                break


def _same(one: Any, other: Any) -> bool:
    return bool(one.get_index() == other.get_index() and one.get_node() == other.get_node())
