"""``optkit quantize``."""

from __future__ import annotations

from typing import Any

import typer

from optkit.cli.derive import derived
from optkit.cli.running import transform
from optkit.errors import UsageError
from optkit.options.verbs.quantize import QuantizeCommand

_EIGHTS = ("int8", "fp8")
_HALVES = ("fp16", "bf16")
_FLAGS = (*_EIGHTS, *_HALVES, "int4")


def _types(given: dict[str, Any]) -> dict[str, Any]:
    """Turn the flags into the precision, and the type of what it leaves in float. Raises UsageError."""
    rest = {name: value for name, value in given.items() if name not in _FLAGS}
    chosen = [name for name in _FLAGS if given.get(name)]
    eights, halves = ([name for name in names if name in chosen] for names in (_EIGHTS, _HALVES))
    if len(chosen) == 1:
        return rest | {"precision": chosen[0]}
    if len(chosen) == 2 and eights and halves:
        return rest | {"precision": eights[0], "floats": halves[0]}
    shown = " and ".join(f"--{name}" for name in chosen) or "none of them"
    raise UsageError(
        f"give one of --int8, --fp8, --fp16, --bf16, --int4; you gave {shown}",
        hint="for tensorrt also --int8 or --fp8 beside --fp16 or --bf16",
    )


@derived(QuantizeCommand, collect=_types)
def quantize(ctx: typer.Context, options: QuantizeCommand) -> None:
    """Quantize, and show the comparison."""
    from optkit.verbs.quantize import quantize as verb

    transform(ctx, verb, options)
