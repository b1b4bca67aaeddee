"""What a data description says: the ``.yaml`` that ``--data`` takes, and the ``data:`` of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from optkit.errors import DataError
from optkit.lazy import did_you_mean
from optkit.system import yaml_lines
from optkit.system.yaml_lines import Document

Positive = Annotated[int, Field(gt=0)]
Channels = float | list[float]
Encoding = Literal["input_ids", "attention_mask", "token_type_ids"]


class Block(BaseModel):
    """A frozen, strict part of a description: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Images(Block):
    """From an image file to the model's input: resize, then ``(pixel * scale - mean) / std``.

    ``size`` is the height and width that the model takes (one number for a square); left out, it comes from the model.
    ``fit`` says how a picture of another shape gets there: ``crop`` scales its shorter side to ``resize`` (by default
    to ``size``) and cuts the middle out, ``stretch`` ignores the proportions, ``pad`` fills the border with black.
    ``scale`` is 1/255 for float inputs and 1 for integer ones. ``classes`` gives the folders' order; left out, they are
    sorted by name, or by number where all are numbers.
    """

    size: Positive | Annotated[list[Positive], Field(min_length=2, max_length=2)] | None = None
    fit: Literal["crop", "stretch", "pad"] = "crop"
    resize: Positive | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    color: Literal["RGB", "BGR", "L"] = "RGB"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    scale: float | None = None
    mean: Channels = 0.0
    std: Channels = 1.0
    dtype: Literal["float32", "float16", "uint8", "int8"] | None = None
    input: str | None = None
    classes: list[str] | None = None

    @model_validator(mode="after")
    def _channels_fit(self) -> Self:
        channels = 1 if self.color == "L" else 3
        for name, value in (("mean", self.mean), ("std", self.std)):
            if isinstance(value, list) and len(value) != channels:
                raise ValueError(f"{name} has {len(value)} values, {self.color} has {channels} channels")
        if 0 in (self.std if isinstance(self.std, list) else [self.std]):
            raise ValueError("std must not be 0")
        if self.resize is not None and self.fit != "crop":
            raise ValueError("resize is for fit: crop")
        return self


class Text(Block):
    """From lines of text to the model's inputs, by a ``tokenizer.json``.

    ``text``, ``pair`` and ``label`` name columns (of a ``.csv``) or keys (of a ``.jsonl``). ``padding: max_length``
    brings all texts to one length; ``none`` leaves each its own, one text at a time. ``inputs`` renames: ``{ids:
    input_ids}`` feeds the model's input ``ids``.
    """

    tokenizer: str
    text: str = "text"
    pair: str | None = None
    label: str | None = None
    max_length: Positive = 128
    padding: Literal["max_length", "none"] = "max_length"
    inputs: dict[str, Encoding] = Field(default_factory=dict)


class DataSpec(Block):
    """Where data lies and, for images and text, how it becomes the model's inputs."""

    path: str
    images: Images | None = None
    text: Text | None = None

    @model_validator(mode="after")
    def _one_block(self) -> Self:
        if self.images is not None and self.text is not None:
            raise ValueError("give images or text, not both")
        return self

    def beside(self, folder: Path) -> DataSpec:
        """The same description with relative paths taken from ``folder``."""
        text = self.text and self.text.model_copy(update={"tokenizer": str(folder / self.text.tokenizer)})
        return self.model_copy(update={"path": str(folder / self.path), "text": text})


def read(file: Path) -> DataSpec:
    """The description in a ``.yaml``; its relative paths are relative to that file. Raises DataError."""
    document = yaml_lines.read(file, DataError)
    if not isinstance(document.content, dict):
        raise DataError(f"{document.where(())}: a data description is a mapping of keys to values", hint=EXAMPLE)
    try:
        spec = DataSpec.model_validate(document.content)
    except ValidationError as error:
        raise _readable(document, error) from None
    if spec.images is None and spec.text is None:
        raise DataError(f"{file}: needs a block 'images' or 'text'", hint=EXAMPLE)
    return spec.beside(file.parent)


EXAMPLE = "for example: {path: photos, images: {size: 224, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}}"
_BLOCKS: dict[Any, type[Block]] = {"images": Images, "text": Text}


def _readable(document: Document, error: ValidationError) -> DataError:
    """The first mistake with its line, and what was allowed."""
    first = error.errors()[0]
    place = first["loc"]
    where, key = document.where(place), ".".join(str(part) for part in place if not _is_type(part))
    if first["type"] == "extra_forbidden":
        known = (_BLOCKS[place[0]] if len(place) > 1 else DataSpec).model_fields
        return DataError(f"{where}: unknown key {key!r}", hint=did_you_mean(str(place[-1]), list(known)))
    if first["type"] == "missing":
        return DataError(f"{where}: {key!r} is missing", hint=EXAMPLE)
    said = first["msg"].removeprefix("Value error, ")
    got = "" if first["type"] == "value_error" else f", not {first['input']!r}"
    return DataError(f"{where}: {key}: {said}{got}" if key else f"{where}: {said}")


def _is_type(part: int | str) -> bool:
    """Whether a part of a place is the name of one of several types allowed there, which is no key of the file."""
    return isinstance(part, str) and (part in ("float", "int") or "[" in part)
