"""Data from a folder of images, with a sub-folder per class if they are labelled."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from optkit.data.dataset import PICTURES, Batch, Source
from optkit.data.description import DataSpec, Images
from optkit.errors import DataError, SignatureError
from optkit.formats.tensors import Array, TensorSpec
from optkit.lazy import did_you_mean

_INTERPOLATION = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_RAISE = "raise 'resize', or leave it out"
Size = tuple[int, int]


class ImageFolder(Source):
    """Images in the order of classes, then of file names; decoded on demand."""

    def __init__(self, spec: DataSpec, inputs: Sequence[TensorSpec] | None) -> None:
        self.path = Path(spec.path)
        self._block = spec.images or Images()
        if not self.path.is_dir():
            raise DataError(f"{self.path}: not a folder of images")
        self._input = _input(self._block, inputs)
        self._dtype = np.dtype(self._block.dtype or self._input.dtype)
        self._size = _size(self._block, self._input)
        self._files, self._classes = _listing(self.path, self._block.classes)
        self.labelled = bool(self._classes)
        self.variant = f"{self._block.model_dump_json()} {self._input.name} {self._dtype} {self._size}"

    def __len__(self) -> int:
        return len(self._files)

    def where(self, index: int) -> str:
        return str(self._files[index])

    def content(self, index: int) -> bytes:
        return hashlib.sha256(self._files[index].read_bytes()).digest()

    def label(self, index: int) -> Array | None:
        return np.array([self._classes[index]]) if self._classes else None

    def sample(self, index: int) -> Batch:
        pixels = np.asarray(self._picture(self._files[index]))
        return Batch({self._input.name: self._values(pixels)[None]}, self.label(index), 1)

    def _picture(self, file: Path) -> Image.Image:
        try:
            with Image.open(file) as picture:
                colored = picture.convert("L" if self._block.color == "L" else "RGB")
        except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise DataError(f"{file}: not a readable image: {error}") from error
        return _fitted(file, colored, self._block, self._size)

    def _values(self, pixels: Array) -> Array:
        """Normalize: ``(pixel * scale - mean) / std`` in the model's layout and dtype."""
        block = self._block
        channels = pixels[..., None] if block.color == "L" else pixels
        if block.color == "BGR":
            channels = channels[..., ::-1]
        whole = self._dtype.kind in "iu"
        scale = (1.0 if whole else 1.0 / 255.0) if block.scale is None else block.scale
        mean, std = (np.asarray(value, np.float32) for value in (block.mean, block.std))
        values: Array = (channels * np.float32(scale) - mean) / std
        if whole:
            limits = np.iinfo(self._dtype)
            values = np.clip(np.rint(values), limits.min, limits.max)
        ordered = values.transpose(2, 0, 1) if block.layout == "NCHW" else values
        return np.ascontiguousarray(ordered, dtype=self._dtype)


def _fitted(file: Path, picture: Image.Image, block: Images, size: Size) -> Image.Image:
    """Resize and crop the picture to the model's height and width. Raises DataError if it is too small to crop."""
    height, width = size
    method = _INTERPOLATION[block.interpolation]
    if block.fit == "stretch":
        return picture.resize((width, height), method)
    if block.fit == "pad":
        return ImageOps.pad(picture, (width, height), method, color=0)
    # Equal to torchvision's Resize and CenterCrop, to the pixel: models are trained with these.
    short = min(picture.size)
    wanted = block.resize or max(-(-width * short // picture.width), -(-height * short // picture.height))
    sides = [wanted if side == short else int(wanted * side / short) for side in picture.size]
    resized = picture.resize((sides[0], sides[1]), method)
    if resized.width < width or resized.height < height:
        raise DataError(
            f"{file}: resized to {sides[1]} x {sides[0]}, too small to crop {height} x {width}", hint=_RAISE
        )
    left, top = round((resized.width - width) / 2.0), round((resized.height - height) / 2.0)
    return resized.crop((left, top, left + width, top + height))


def _input(block: Images, inputs: Sequence[TensorSpec] | None) -> TensorSpec:
    """Return the model's input that takes the images. Raises DataError for several inputs, SignatureError for none."""
    if inputs is None:
        return TensorSpec(block.input or "input", "float32", None)
    names = [given.name for given in inputs]
    if block.input is not None and block.input not in names:
        raise SignatureError(f"images: the model has no input {block.input!r}", hint=did_you_mean(block.input, names))
    if len(inputs) != 1:
        raise DataError(
            f"images feed one input, and the model has {len(inputs)}: {', '.join(names)}",
            hint="write the data as .npz, or as FILE.py:CALLABLE",
        )
    return inputs[0]


def _size(block: Images, given: TensorSpec) -> Size:
    if isinstance(block.size, int):
        return block.size, block.size
    if block.size is not None:
        return block.size[0], block.size[1]
    if given.shape is not None and len(given.shape) == 4:
        height, width = given.shape[2:] if block.layout == "NCHW" else given.shape[1:3]
        if isinstance(height, int) and isinstance(width, int):
            return height, width
    raise DataError(f"images: no size is given, and the input {given} has no fixed one", hint="write size: 224")


def _listing(folder: Path, classes: list[str] | None) -> tuple[list[Path], list[int]]:
    """List the images and the class of each; no classes if there are no sub-folders. Raises DataError."""
    folders = [each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")]
    loose = _pictures(folder)
    if not folders:
        return loose, []
    if loose:
        raise DataError(f"{folder}: holds both images ({loose[0].name}) and sub-folders ({min(folders)})")
    numbers = _numbers(folders, classes)
    files = [
        (file, numbers[name]) for name in sorted(folders, key=numbers.__getitem__) for file in _pictures(folder / name)
    ]
    return [file for file, _ in files], [number for _, number in files]


def _numbers(folders: list[str], classes: list[str] | None) -> dict[str, int]:
    if classes is not None:
        for name in sorted(folders):
            if name not in classes:
                raise DataError(
                    f"images: the folder {name!r} is not among the classes", hint=did_you_mean(name, classes)
                )
        return {name: number for number, name in enumerate(classes)}
    if all(name.isdecimal() for name in folders):
        return {name: int(name) for name in folders}
    return {name: number for number, name in enumerate(sorted(folders))}


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES)
