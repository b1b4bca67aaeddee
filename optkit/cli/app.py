"""The command line: one Typer application, one small file per verb, errors turned into a line and an exit code.

Nothing on the path of ``--help`` imports a heavy library or a verb that was not asked for; the verbs import what they
need when they run.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from optkit import errors
from optkit.cli.console import Console
from optkit.cli.verbs import VERBS
from optkit.version import VERSION


def console_of(ctx: typer.Context) -> Console:
    """Return the console of this process's command; made on first use, set up by ``--json``, ``-q`` and ``-v``."""
    root = ctx.find_root()
    if root.obj is None:
        root.obj = Console()
    console: Console = root.obj
    return console


class Verbs(TyperGroup):
    """The group of all verbs. Shows an OptkitError as a line with a hint and ends with its exit code."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands.update((name, Verb(name)) for name in VERBS)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except errors.OptkitError as error:
            console_of(ctx).error(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as stop:
            what = str(stop) or "nothing half-written was left behind"
            console_of(ctx).note(f"interrupted; {what}", level="warning")
            raise typer.Exit(errors.INTERRUPTED) from None
        except OSError as error:
            if error.errno is None or error.filename is None:
                raise
            failure = errors.OutputError(f"{errors.lasting(str(error.filename))}: {os.strerror(error.errno)}")
            console_of(ctx).error(failure)
            raise typer.Exit(failure.exit_code) from None


class Verb(TyperCommand):
    """A verb, whose module is imported when its options are needed; the overview needs its help alone.

    It also takes the options every verb has: ``--json``, ``-q`` and ``-v``.
    """

    def __init__(self, name: str) -> None:
        self._derived: TyperCommand | None = None
        self._params: list[Any] | None = None
        entry = VERBS[name]
        super().__init__(name, help=entry.help, epilog=examples(*entry.examples), rich_markup_mode=None)

    @property
    def params(self) -> list[Any]:
        """The options, derived on first use."""
        if self._params is None:
            self._params = [*self._command().params, *_shared_options()]
        return self._params

    @params.setter
    def params(self, value: list[Any]) -> None:
        """Ignore the empty list that the superclass begins with."""

    @property
    def callback(self) -> Callable[..., Any] | None:
        """The verb's function, as Typer calls it."""
        return self._command().callback

    @callback.setter
    def callback(self, value: Any) -> None:
        """Ignore what the superclass begins with: nothing."""

    def _command(self) -> TyperCommand:
        if self._derived is None:
            module = importlib.import_module(f"optkit.cli.{self.name}")
            self._derived = _command_of(module.__dict__[self.name or ""])
        return self._derived


def _command_of(function: Callable[..., Any]) -> TyperCommand:
    """Make the command of one function by Typer."""
    donor = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    donor.command()(function)
    return cast(TyperCommand, typer.main.get_command(donor))


def _set(name: str) -> Callable[..., Any]:
    def callback(ctx: typer.Context, value: Any) -> Any:
        setattr(console_of(ctx), name, value)
        return value

    return callback


def _flag(*names: str, text: str, sets: str, count: bool = False) -> Any:
    return typer.Option(
        *names,
        help=text,
        callback=_set(sets),
        count=count,
        expose_value=False,
        is_eager=True,
        show_default=False,
    )


def _shared(
    json: Annotated[bool, _flag("--json", text="Print exactly one JSON document on stdout.", sets="json")] = False,
    quiet: Annotated[bool, _flag("-q", "--quiet", text="Print the answer and warnings only.", sets="quiet")] = False,
    verbose: Annotated[
        int, _flag("-v", "--verbose", text="Say more on stderr; -vv says still more.", sets="verbose", count=True)
    ] = 0,
) -> None:
    """Never called: Typer makes the options of every verb out of its parameters."""


def _shared_options() -> list[Any]:
    return [param for param in _command_of(_shared).params if param.name != "help"]


def examples(*lines: str) -> str:
    """Format a verb's examples, a command each, as the epilogue of its help."""
    return "Examples:\n\n\b\n" + "\n".join(f"  {line}" for line in lines)


app = typer.Typer(
    name="optkit",
    cls=Verbs,
    help="Make a trained model small and fast, and prove that it kept its quality.",
    epilog=examples(
        "optkit inspect model.onnx",
        "optkit quantize model.pt --int8 --data data.npz -o small.onnx",
        "optkit compare model.onnx small.onnx --data data.npz",
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"optkit {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Make a trained model small and fast, and prove that it kept its quality."""
