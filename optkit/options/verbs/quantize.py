"""Options of ``quantize``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from optkit.options.data import CalibrationData, CalibrationSize, Data, LossOptions, MetricOption, TrainingData
from optkit.options.measuring import Proof, TargetOption
from optkit.options.option import Options, Spelling, Strings
from optkit.options.source import ModelOption, ModelSource, ResultOption, Seed
from optkit.options.training import Schedule

Precision = Literal["int8", "fp8", "fp16", "bf16", "int4"]
Floats = Literal["float32", "fp16", "bf16"]
"""The types that operators outside integers may compute in."""
Method = Literal["auto", "dynamic", "static", "weight-only", "qat"]
EngineName = Literal["auto", "onnxruntime", "nncf", "neural-compressor"]
Calibrate = Literal["minmax", "entropy", "percentile", "mean"]
ModelType = Literal["auto", "transformer", "none"]
Preset = Literal["mixed", "performance"]
BiasCorrection = Literal["fast", "accurate", "none"]

_FLAGS = {
    "int8": "8-bit integers, by the method that fits model, target and data.",
    "fp16": "Half precision; with --int8 or --fp8, for tensorrt, of the operators that these leave in float.",
    "fp8": "8-bit floats, on tensorrt from compute capability 8.9 on.",
    "bf16": "bfloat16, where target and machine have it; with --int8 or --fp8 as --fp16.",
    "int4": "4-bit weights, arithmetic in float.",
}


class QuantizeOptions(Options):
    """The method of quantization: fields of the stage."""

    group: ClassVar[str] = "Quantization"

    precision: Annotated[Precision, Spelling(flags=_FLAGS)] = Field(
        "int8", description="Number format: int8, fp8, fp16, bf16, or int4 of weights alone."
    )
    floats: Annotated[Floats, Spelling(hidden=True)] = Field(
        "float32", description="Type of the operators that int8 or fp8 leaves in float, on tensorrt."
    )
    method: Method = Field("auto", description="Method of INT8; auto chooses by model, target and data.")
    engine: EngineName = Field("auto", description="Library that quantizes; auto takes the target's own.")
    calibrate: Calibrate = Field(
        "minmax", description="Calibration method, from the values seen to a range; no engine knows all of them."
    )
    per_channel: bool = Field(True, description="A scale for each output channel of a weight.")
    model_type: ModelType = Field(
        "auto", description="NNCF's scheme for transformers, or none; auto looks at the graph."
    )
    preset: Preset = Field(
        "mixed", description="NNCF's preset: symmetric activations (performance), or asymmetric where useful (mixed)."
    )
    bias_correction: BiasCorrection = Field("fast", description="NNCF's bias correction; none after qat.")
    smooth_quant: float | None = Field(
        None, ge=0, le=1, description="Strength of SmoothQuant in NNCF's scheme for transformers; NNCF takes 0.95."
    )
    exclude: Strings = Field((), description="Node or operator to keep in float, by name.")


class QuantizeCommand(
    ModelOption,
    ResultOption,
    QuantizeOptions,
    TargetOption,
    Data,
    TrainingData,
    CalibrationData,
    CalibrationSize,
    MetricOption,
    LossOptions,
    Proof,
    Schedule,
    ModelSource,
    Seed,
):
    """All options of the verb."""
