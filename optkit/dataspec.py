"""What a data description says: the ``.yaml`` that ``--data`` takes, and the ``data:`` of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from optkit.errors import DataError
from optkit.lazy import did_you_mean

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
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not readable as YAML: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{file}: a data description is a mapping with the key 'path'", hint=EXAMPLE)
    try:
        spec = DataSpec.model_validate(content)
    except ValidationError as error:
        raise _readable(file, error) from error
    if spec.images is None and spec.text is None:
        raise DataError(f"{file}: needs a block 'images' or 'text'", hint=EXAMPLE)
    return spec.beside(file.parent)


EXAMPLE = "for example: path: photos, images: {size: 224, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}"
_BLOCKS: dict[Any, type[Block]] = {"images": Images, "text": Text}


def _readable(file: Path, error: ValidationError) -> DataError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the description"
    if first["type"] == "extra_forbidden":
        *block, key = first["loc"]
        known = _BLOCKS.get(block[0], DataSpec).model_fields if block else DataSpec.model_fields
        return DataError(f"{file}: unknown key {where!r}", hint=did_you_mean(str(key), list(known)))
    got = "" if first["type"] in ("missing", "value_error") else f", not {first['input']!r}"
    return DataError(f"{file}: {where}: {first['msg'].removeprefix('Value error, ')}{got}", hint=EXAMPLE)
