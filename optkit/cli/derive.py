"""Commands derived from models of options: a parameter of Typer for each field."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from optkit import units
from optkit.errors import UsageError
from optkit.options.option import Option, Options, options_of
from optkit.options.validation import checked

Given = TypeVar("Given", bound=Options)
Values = dict[str, Any]
_PLAIN = (bool, int, float, str, Path)


def derived(
    model: type[Given], *, collect: Callable[[Values], Values] | None = None
) -> Callable[[Callable[[typer.Context, Given], None]], Callable[..., None]]:
    """Make a function of (context, options) a command with an option for each field of ``model``.

    ``collect`` turns the values of the command line into those of the fields, where the two differ.
    """
    fields = {each.name: each for each in options_of(model)}

    def decorate(run: Callable[[typer.Context, Given], None]) -> Callable[..., None]:
        @functools.wraps(run)
        def command(ctx: typer.Context, **given: Any) -> None:
            values = {name: value for name, value in given.items() if value is not None}
            values = values if collect is None else collect(values)
            hint = f"{ctx.command_path} --help"
            run(ctx, checked(model, _parsed(fields, values, hint), named=lambda name: fields[name].flag, hint=hint))

        context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters = [context, *(made for each in fields.values() for made in _parameters(each))]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        del command.__wrapped__  # Typer would look at it
        return command

    return decorate


def _parsed(fields: dict[str, Option], values: Values, hint: str) -> Values:
    """Read the notations that only the command line has. Raises UsageError."""
    found = dict(values)
    for name in values:
        parse = fields[name].spelling.parse
        try:
            found[name] = values[name] if parse is None else parse(values[name])
        except ValueError as error:
            raise UsageError(f"{fields[name].flag} {error}", hint=hint) from None
    return found


def _parameters(option: Option) -> Iterator[inspect.Parameter]:
    """Make one parameter; a flag for each value where the option has flags; none where it is hidden."""
    if option.spelling.hidden:
        return
    for value, text in option.spelling.flags.items():
        yield _parameter(value, bool, False, typer.Option(f"--{value}", help=text, rich_help_panel=option.group))
    if not option.spelling.flags:
        kind, default = _kind(option), _default(option)
        yield _parameter(option.name, kind if default is not None else kind | None, default, _info(option, kind))


def _parameter(name: str, kind: Any, default: Any, info: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def _info(option: Option, kind: Any) -> Any:
    spelling = option.spelling
    said: dict[str, Any] = {"help": option.description, "metavar": spelling.metavar, "rich_help_panel": option.group}
    if kind == list[str] and not spelling.argument:
        said["help"] += " Repeatable."
    if kind in (int, float):
        said |= {"min": option.bound("ge"), "max": option.bound("le")}
        said["help"] += _exclusive(option)
    if spelling.argument:
        return typer.Argument(**said)
    switched_off = option.field.default is True  # Typer makes --x/--no-x of it
    return typer.Option(*(() if switched_off else spelling.names or (option.flag,)), **said)


def _exclusive(option: Option) -> str:
    """Say the bounds that Typer does not know: `` Above 0, below 1.``."""
    found = ((word, option.bound(name)) for word, name in (("above", "gt"), ("below", "lt")))
    told = ", ".join(f"{word} {bound:g}" for word, bound in found if bound is not None)
    return f" {told.capitalize()}." if told else ""


def _default(option: Option) -> Any:
    """Return the default as the help shows it; None where it shows none."""
    if option.field.is_required():
        return inspect.Parameter.empty
    default = option.field.default
    if option.spelling.text and isinstance(default, float):
        return units.duration(default)
    return default if isinstance(default, bool | int | float | str) else None


def _kind(option: Option) -> Any:
    """Choose the type that Typer parses; text where only the field's validator can."""
    kind, arms = option.type, typing.get_args(option.type)
    if option.spelling.text:
        return str
    if typing.get_origin(kind) in (tuple, dict):
        return list[str]
    if kind in _PLAIN or typing.get_origin(kind) is Literal:
        return kind
    if all(typing.get_origin(arm) is Literal for arm in arms):
        return Literal[tuple(value for arm in arms for value in typing.get_args(arm))]
    return str
