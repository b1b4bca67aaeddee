"""Verbs as Python functions: plain keywords outside, one model of options inside."""

from __future__ import annotations

import functools
import inspect
import numbers
from collections.abc import Callable
from typing import Any, TypeVar

from optkit.lazy import did_you_mean
from optkit.options.option import Options, options_of
from optkit.options.validation import checked
from optkit.progress import Progress, no_progress

Given = TypeVar("Given", bound=Options)
Answer = TypeVar("Answer")
_WATCHED = inspect.Parameter("progress", inspect.Parameter.KEYWORD_ONLY, default=no_progress, annotation=Progress)


def takes(model: type[Given]) -> Callable[[Callable[[Given, Progress], Answer]], Callable[..., Answer]]:
    """Make a function of (options, progress) one of plain keywords, which ``inspect.unwrap`` undoes.

    The keywords are the fields of ``model``, and ``progress``. The function raises TypeError for an unknown or missing
    keyword, UsageError for a value that is out of range.
    """

    def decorate(carry_out: Callable[[Given, Progress], Answer]) -> Callable[..., Answer]:
        signature = signature_of(model)

        @functools.wraps(carry_out)
        def verb(*arguments: Any, progress: Progress = no_progress, **keywords: Any) -> Answer:
            values = {
                name: _plain(value)
                for name, value in _bound(carry_out.__name__, signature, arguments, keywords).items()
            }
            return carry_out(checked(model, values, named=str, hint=f"help(optkit.{carry_out.__name__})"), progress)

        verb.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*signature.parameters.values(), _WATCHED],
            return_annotation=carry_out.__annotations__.get("return", inspect.Signature.empty),
        )
        return verb

    return decorate


def signature_of(model: type[Options]) -> inspect.Signature:
    """Make the signature of a verb in Python: positional options first, all others by keyword."""
    kinds = {True: inspect.Parameter.POSITIONAL_OR_KEYWORD, False: inspect.Parameter.KEYWORD_ONLY}
    found = [
        inspect.Parameter(
            each.name,
            kinds[each.spelling.argument or each.spelling.positional],
            default=inspect.Parameter.empty
            if each.field.is_required()
            else each.field.get_default(call_default_factory=True, validated_data={}),
            annotation=each.field.annotation,
        )
        for each in options_of(model)
    ]
    return inspect.Signature(sorted(found, key=lambda each: (each.kind, each.default is not inspect.Parameter.empty)))


def _plain(value: Any) -> Any:
    """Make Python's number of another library's (NumPy's), which a strict model refuses."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def _bound(
    name: str, signature: inspect.Signature, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> dict[str, Any]:
    """Assign arguments to options. Raises TypeError as a call of a plain function does, with the nearest keyword."""
    for keyword in keywords:
        if keyword not in signature.parameters:
            hint = did_you_mean(keyword, list(signature.parameters))
            raise TypeError(f"{name}() got an unexpected keyword argument {keyword!r}; {hint}")
    try:
        return signature.bind(*arguments, **keywords).arguments
    except TypeError as error:
        raise TypeError(f"{name}() {error}") from None
