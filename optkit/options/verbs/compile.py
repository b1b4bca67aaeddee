"""Options of ``compile``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from optkit.options.measuring import Device, TargetName
from optkit.options.option import Spelling
from optkit.options.source import ModelOption, ModelSource, RequiredResult, Seed, Shapes


def _capability(given: Any) -> Any:
    """``8.9``, a number in YAML, -> "8.9"."""
    return f"{given:.1f}" if isinstance(given, float) else given


def pairs(texts: Sequence[str]) -> dict[str, Any]:
    """``["a=1", "b=x"]`` -> {"a": 1, "b": "x"}. Raises ValueError for what is no KEY=VALUE."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"{text!r} is not KEY=VALUE, for example INFERENCE_PRECISION_HINT=f32")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
    return found


class CompileOptions(Device, Shapes):
    """Runtime options: fields of the stage."""

    group: ClassVar[str] = "Target"

    options: Annotated[
        dict[str, Any],
        Spelling(("--option",), metavar="KEY=VALUE", parse=pairs),
        BeforeValidator(lambda given: {} if given is None else given),
        Field(strict=False),
    ] = Field(default_factory=dict, description="A runtime option, as the runtime spells it.")
    compute_capability: Annotated[tuple[Annotated[str, BeforeValidator(_capability)], ...], Field(strict=False)] = (
        Field((), description="A GPU that a tensorrt engine is for: 8.9, 12.0.")
    )


class CompileCommand(ModelOption, RequiredResult, CompileOptions, ModelSource, Seed):
    """All options of the verb."""

    target: TargetName
