"""Data from lines of text in a ``.jsonl`` or ``.csv``, encoded as token ids by a ``tokenizer.json``."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from optkit import lazy
from optkit.data.dataset import Batch, Source
from optkit.data.description import DataSpec, TextSpec
from optkit.data.spool import Spool
from optkit.errors import DataError
from optkit.formats.tensors import Array, Arrays, TensorSpec
from optkit.system import native

_FIELDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""Usual names of model inputs, mapped to the fields of an encoding of the tokenizer."""


class TextFile(Source):
    """Rows in the file's order; the columns in use are kept on disk for random access."""

    def __init__(self, spec: DataSpec, inputs: Sequence[TensorSpec] | None) -> None:
        if spec.text is None:
            raise DataError(f"{spec.path}: text needs a block 'text' with a tokenizer")
        self.path = Path(spec.path)
        self._block = spec.text
        self._tokenizer = _tokenizer(self._block)
        self._inputs = _inputs(self._block, inputs)
        self.labelled = self._block.label is not None
        self.whole_feeds = self._block.padding == "none"
        self.variant = self._block.model_dump_json(exclude={"tokenizer"}) + self._tokenizer.to_str()
        self._rows = Spool()
        self._fill()

    def __len__(self) -> int:
        return len(self._rows)

    def content(self, index: int) -> bytes:
        return hashlib.sha256(json.dumps(self._row(index)[:2]).encode()).digest()

    def label(self, index: int) -> Array | None:
        if not self.labelled:
            return None
        label = self._row(index)[2]
        return np.array([self._classes[label] if isinstance(label, str) else self._kind(label)])

    def sample(self, index: int) -> Batch:
        text, pair, _ = self._row(index)
        encoding = self._tokenizer.encode(text, pair)
        feed: Arrays = {name: np.array([getattr(encoding, field)], dtype) for name, field, dtype in self._inputs}
        return Batch(feed, self.label(index), 1)

    def _row(self, index: int) -> list[Any]:
        row: list[Any] = json.loads(self._rows.read(index))
        return row

    def _fill(self) -> None:
        """Keep all rows and find the kind of their labels. Words become classes, numbered in alphabetical order.

        Raises DataError for labels that are words in some rows and numbers in others.
        """
        labels: dict[type, set[Any]] = {int: set(), float: set(), str: set()}
        for number, line in enumerate(_lines(self.path), start=1):
            where = f"{self.path}, row {number}"
            text, pair = (_text(line, name, where) for name in (self._block.text, self._block.pair))
            label = _label(line, self._block.label, where)
            if isinstance(label, str):
                labels[str].add(label)
            elif label is not None and not labels[type(label)]:
                labels[type(label)].add(label)
            self._rows.append(json.dumps([text, pair, label]).encode())
        if labels[str] and (labels[int] or labels[float]):
            word, value = min(labels[str]), next(iter(labels[int] | labels[float]))
            raise DataError(f"{self.path}: labels are words in some rows ({word!r}) and numbers in others ({value})")
        self._classes = {word: index for index, word in enumerate(sorted(labels[str]))}
        self._kind: type[int] | type[float] = float if labels[float] else int


def _tokenizer(block: TextSpec) -> Any:
    """Load the tokenizer with truncation and padding as described, not as its file has them. Raises DataError."""
    library = lazy.require("tokenizers", extra="text")
    if not Path(block.tokenizer).is_file():
        raise DataError(f"{block.tokenizer}: no such tokenizer file", hint="text: tokenizer: path/to/tokenizer.json")
    with native.foreign(f"{block.tokenizer}: not a tokenizer.json", DataError):
        tokenizer = library.Tokenizer.from_file(block.tokenizer)
    padding = tokenizer.padding or {}
    tokenizer.enable_truncation(block.max_length)
    tokenizer.no_padding()
    if block.padding == "max_length":
        kept = {key: padding[key] for key in ("direction", "pad_id", "pad_type_id", "pad_token") if key in padding}
        tokenizer.enable_padding(length=block.max_length, **(kept or _padding(tokenizer)))
    return tokenizer


def _padding(tokenizer: Any) -> dict[str, Any]:
    """Find the padding token by its usual names; without one, id 0 is used, which the attention mask hides."""
    for token in ("[PAD]", "<pad>", "<|endoftext|>"):
        number = tokenizer.token_to_id(token)
        if number is not None:
            return {"pad_id": number, "pad_token": token}
    return {}


def _inputs(block: TextSpec, inputs: Sequence[TensorSpec] | None) -> list[tuple[str, str, str]]:
    """Return the model's inputs: name, field of the tokenizer's encoding, dtype. Raises DataError."""
    if inputs is None:
        return [(name, _FIELDS[name], "int64") for name in ("input_ids", "attention_mask")]
    for name in block.inputs:
        if name not in [given.name for given in inputs]:
            raise DataError(
                f"text: the model has no input {name!r}", hint=lazy.did_you_mean(name, [given.name for given in inputs])
            )
    return [(given.name, _FIELDS[_encoding(block, given)], given.dtype) for given in inputs]


def _encoding(block: TextSpec, given: TensorSpec) -> str:
    encoding: str = block.inputs.get(given.name, given.name)
    if encoding not in _FIELDS:
        raise DataError(
            f"text: the tokenizer has no output {given.name!r} for the model's input of that name",
            hint=f"map it to one: inputs: {{{given.name}: input_ids}}; the outputs are {', '.join(_FIELDS)}",
        )
    return encoding


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix not in (".csv", ".jsonl"):
        raise DataError(f"{path}: text is a .jsonl or a .csv file, not {path.suffix or 'this'}")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file) if path.suffix == ".csv" else _objects(file, path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable {path.suffix} file: {error}") from error


def _objects(lines: Iterable[str], path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not a line of JSON: {error}") from error
        if not isinstance(content, dict):
            raise DataError(f"{path}:{number}: not an object with keys", hint='{"text": "...", "label": 1}')
        yield content


def _text(line: dict[str, Any], name: str | None, where: str) -> str | None:
    if name is None:
        return None
    value = _cell(line, name, where)
    if not isinstance(value, str):
        raise DataError(f"{where}: {name!r} is {value!r}, not text")
    return value


def _label(line: dict[str, Any], name: str | None, where: str) -> int | float | str | None:
    """Parse a label: a class number, a real number or a word. A .csv holds text only, so numbers are tried first."""
    if name is None:
        return None
    value = _cell(line, name, where)
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float):
        return value
    if not isinstance(value, str):
        raise DataError(f"{where}: {name!r} is {value!r}, not a label: a number or a word")
    for kind in (int, float):
        with suppress(ValueError):
            return kind(value)
    return value


def _cell(line: dict[str, Any], name: str, where: str) -> Any:
    value = line.get(name)
    if value is None:
        raise DataError(f"{where}: has no {name!r}", hint=lazy.did_you_mean(name, [str(key) for key in line]))
    return value
