"""Options of ``export``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from optkit.options.data import Data
from optkit.options.option import Options
from optkit.options.source import ModelOption, ModelSource, RequiredResult, Seed


class ExportOptions(Options):
    """The opset, and the tolerance of the parity check: fields of the stage."""

    group: ClassVar[str] = "Export"

    opset: int = Field(18, ge=13, le=23, description="Version of the ONNX operators.")
    rtol: float = Field(1e-3, ge=0, description="Relative difference allowed between outputs.")
    atol: float = Field(1e-4, ge=0, description="Absolute difference allowed, times the largest output.")


class ExportCommand(ModelOption, RequiredResult, ExportOptions, Data, ModelSource, Seed):
    """All options of the verb."""
