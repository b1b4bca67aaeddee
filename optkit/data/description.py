"""The data description: the ``.yaml`` that ``--data`` takes, and the ``data:`` of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from optkit.errors import DataError
from optkit.lazy import did_you_mean
from optkit.options import validation
from optkit.system import yaml_lines
from optkit.system.yaml_lines import Document

Positive = Annotated[int, Field(gt=0)]
Channels = float | list[float]
Encoding = Literal["input_ids", "attention_mask", "token_type_ids"]


class Block(BaseModel):
    """A frozen, strict part of a description: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Images(Block):
    """Preprocessing from an image file to the model's input: resize, then ``(pixel * scale - mean) / std``."""

    size: Positive | Annotated[list[Positive], Field(min_length=2, max_length=2)] | None = None
    """Height and width of the model's input in pixels, one number for a square; by default the model's own."""
    fit: Literal["crop", "stretch", "pad"] = "crop"
    """The way to bring a picture of another shape to ``size``: ``crop`` scales its shorter side to ``resize`` and cuts
    the middle out, ``stretch`` ignores the proportions, ``pad`` fills the border with black.
    """
    resize: Positive | None = None
    """Pixels of the shorter side before ``fit: crop`` cuts; by default just enough to fill ``size``."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    """Resampling filter for resizing."""
    color: Literal["RGB", "BGR", "L"] = "RGB"
    """Order of the channels; ``L`` is one channel of grey."""
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    """Order of the axes: channels before or behind height and width."""
    scale: float | None = None
    """Factor on pixels, which are 0 to 255; by default 1/255 for float inputs and 1 for integer inputs."""
    mean: Channels = 0.0
    """Mean to subtract after scaling, one number or one for each channel."""
    std: Channels = 1.0
    """Standard deviation to divide by, one number or one for each channel; not 0."""
    dtype: Literal["float32", "float16", "uint8", "int8"] | None = None
    """Dtype of the input; by default the model's own."""
    input: str | None = None
    """Name that the model's input must have; left out, any. Images are for models with one input."""
    classes: list[str] | None = None
    """Names of the folders in the order of the class numbers; by default sorted by name, or by number where all are
    numbers.
    """

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


class TextSpec(Block):
    """Preprocessing from lines of text to the model's inputs, by a ``tokenizer.json``."""

    tokenizer: str
    """File of the tokenizer, ``tokenizer.json``."""
    text: str = "text"
    """Column (``.csv``) or key (``.jsonl``) of the text."""
    pair: str | None = None
    """Column or key of the second text of a pair; left out, there is one text."""
    label: str | None = None
    """Column or key of the label, a number or a word; left out, the data has no labels."""
    max_length: Positive = 128
    """Number of tokens that a text is cut to."""
    padding: Literal["max_length", "none"] = "max_length"
    """``max_length`` pads all texts to one length; ``none`` leaves each its own length, one text at a time."""
    inputs: dict[str, Encoding] = Field(default_factory=dict)
    """The tokenizer's output for an input of another name: ``{ids: input_ids}`` feeds the model's input ``ids``."""


class DataSpec(Block):
    """The place of the data and, for images and text, the preprocessing."""

    path: str
    """File or folder of the data, or ``FILE.py:CALLABLE``."""
    images: Images | None = None
    """Preprocessing of a folder of images."""
    text: TextSpec | None = None
    """Preprocessing of a file of texts."""

    @model_validator(mode="after")
    def _one_block(self) -> Self:
        if self.images is not None and self.text is not None:
            raise ValueError("give images or text, not both")
        return self

    def beside(self, folder: Path) -> DataSpec:
        """Return the description with relative paths taken from ``folder``."""
        text = self.text and self.text.model_copy(update={"tokenizer": str(folder / self.text.tokenizer)})
        return self.model_copy(update={"path": str(folder / self.path), "text": text})


def read_description(file: Path) -> DataSpec:
    """Read the description in a ``.yaml``; its relative paths are relative to that file. Raises DataError."""
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
_BLOCKS: dict[Any, type[Block]] = {"images": Images, "text": TextSpec}


def _readable(document: Document, error: ValidationError) -> DataError:
    """Turn the first mistake into an error with its line and the allowed values."""
    found = validation.complaint(error)
    key = validation.dotted(tuple(part for part in found.place if not _is_type(part)))
    hint = EXAMPLE if found.kind == "missing" else None
    if found.kind == "extra_forbidden":
        known = (_BLOCKS[found.place[0]] if len(found.place) > 1 else DataSpec).model_fields
        hint = did_you_mean(str(found.place[-1]), list(known))
    return DataError(f"{document.where(found.place)}: {found.line(key)}", hint=hint)


def _is_type(part: int | str) -> bool:
    """True if pydantic put ``part`` into a place for one of several allowed types; the file has no such key."""
    return isinstance(part, str) and (part in ("float", "int") or "[" in part)
