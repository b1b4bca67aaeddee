"""Options that open a model, and options on the result's place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Protocol, TypeVar, runtime_checkable

from pydantic import Field

from optkit.options.option import Options, Place, Spelling, Strings

Source = TypeVar("Source")
ModelArgument = Annotated[
    Source,
    Spelling(argument=True, metavar="MODEL"),
    Field(description="A torch, ONNX or OpenVINO model, or a bundle."),
]
ModelPaths = Annotated[
    tuple[str | Path, ...],
    Field(strict=False, description="Models, bundles or MODEL@TARGET."),
]
Output = Annotated[Place, Spelling(("-o", "--output"), positional=True), Field(description="Path of the result.")]


class ModelSource(Options):
    """Options that a model file may need: its inputs, its code, and trust in it."""

    group: ClassVar[str] = "Opening the model"

    inputs: Annotated[Strings, Spelling(("--input",), metavar="NAME:DTYPE[DIM,DIM]")] = Field(
        (), description="An input that the file does not describe; a word is a dynamic dimension."
    )
    code: Annotated[str | None, Spelling(metavar="FILE.py:CALLABLE")] = Field(
        None, description="Function that builds the nn.Module of a state dict. This runs that file's code."
    )
    trust: bool = Field(False, description="Let a pickled file that you made yourself run its code.")


@runtime_checkable
class Opened(Protocol):
    """A model that is open already, as ``optkit.open`` returns it."""

    @property
    def format(self) -> str: ...
    @property
    def digest(self) -> str: ...


class ModelOption(Options):
    """The model that a verb works on."""

    model: ModelArgument[str | Path]


class Shapes(Options):
    """Sizes of dynamic dimensions."""

    group: ClassVar[str] = "Target"

    shapes: Annotated[Strings, Spelling(metavar="NAME=MIN/OPT/MAX")] = Field(
        (), description="Sizes of a dynamic dimension, for tensorrt."
    )


class Force(Options):
    """Consent to replace a result."""

    group: ClassVar[str] = "Result"

    force: bool = Field(False, description="Replace an output that exists.")


class ResultOption(Force):
    """The result's path, optional, and consent to replace it."""

    output: Output | None = None


class RequiredResult(Force):
    """The result's path, and consent to replace it."""

    output: Output


class Seed(Options):
    """The seed."""

    group: ClassVar[str] = "Reproducibility"

    seed: int = Field(0, description="Seed of all random choices.")
