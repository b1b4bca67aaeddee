"""Options of ``prune``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from optkit.options.data import Data, LossOptions, MetricOption, TrainingData
from optkit.options.measuring import Proof, TargetOption
from optkit.options.option import Options, Strings
from optkit.options.source import ModelOption, ModelSource, ResultOption, Seed
from optkit.options.training import Schedule

Of = Literal["macs", "parameters"]
Pattern = Literal["unstructured", "2:4"]
"""Zeros among the weights: anywhere, or two of each four."""
Importance = Literal["l1", "l2", "taylor", "activation"]
Scope = Literal["global", "layer"]


class PruneOptions(Options):
    """The pruning ratio and the criterion: fields of the stage."""

    group: ClassVar[str] = "Pruning"

    sparsity: float | None = Field(None, gt=0, lt=1, description="Share to cut: 0.5 leaves half.")
    of: Of = Field("macs", description="Unit of sparsity: multiply-accumulates or parameters.")
    target_speedup: float | None = Field(
        None, gt=1, description="Cut until the model is faster by this factor, as measured on the target."
    )
    drop_layers: int = Field(0, ge=0, description="Whole layers to remove first, those that matter least.")
    pattern: Literal["structured"] | Pattern = Field(
        "structured", description="Remove units, or set weights to zero: anywhere, or two of each four."
    )
    importance: Importance = Field("taylor", description="Criterion that ranks units.")
    scope: Scope = Field("global", description="Rank units of all layers together, or cut each layer alike.")
    steps: int = Field(3, ge=1, description="Cuts, with an epoch of training between them.")
    round_to: int = Field(8, ge=1, description="Leave a multiple of this number of channels, as kernels like it.")
    exclude: Strings = Field((), description="Layer to leave alone, by name.")


class PruneCommand(
    ModelOption,
    ResultOption,
    PruneOptions,
    TargetOption,
    Data,
    TrainingData,
    MetricOption,
    LossOptions,
    Proof,
    Schedule,
    ModelSource,
    Seed,
):
    """All options of the verb."""
