"""Rows of arrays in ``.npz`` archives, read by seeking: memory grows neither with the samples nor with the file.

Files are not memory-mapped: a mapped file would count as resident memory. Python objects are refused, never unpickled.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import tokenize
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from optkit.errors import DataError
from optkit.formats.tensors import Array, Arrays
from optkit.system.native import reason

_WRITE = "np.savez(path, NAME=array) writes one"
_LOCAL_HEADER = 30
_CHUNK_BYTES = 1 << 24


class RowReader:
    """An array in a file, read by rows (steps along the first axis)."""

    def __init__(self, file: IO[bytes], offset: int, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
        self.dtype = dtype
        self.shape = shape
        self._file = file
        self._offset = offset
        self._row = dtype.itemsize * math.prod(shape[1:])
        weakref.finalize(self, file.close)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def rows(self, start: int, count: int = 1) -> Array:
        """Read rows ``start`` to ``start + count``, in native byte order. Raises DataError at the end of the file."""
        data = _read(self._file, self._offset + start * self._row, count * self._row)
        array: Array = np.ndarray((count, *self.shape[1:]), self.dtype, data)
        return array.astype(self.dtype.newbyteorder("="), copy=False)


def open_npz(path: Path) -> dict[str, RowReader]:
    """Open the archive's arrays by name. Raises DataError unless it is an archive of plain arrays."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {info.filename.removesuffix(".npy"): _member(path, archive, info) for info in archive.infolist()}
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        # The last two are zipfile's words for an unknown compression and for encryption.
        raise DataError(f"{path}: not a readable .npz archive: {reason(error)}", hint=_WRITE) from error


def read_npz(path: Path) -> Arrays:
    """Read all arrays of a small archive at once. Raises DataError."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, KeyError, tokenize.TokenError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a readable .npz of plain arrays: {reason(error)}", hint=_WRITE) from error


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> RowReader:
    file, start = _stored(path, info) if info.compress_type == zipfile.ZIP_STORED else _unpacked(archive, info)
    with ExitStack() as unless_read:
        unless_read.enter_context(file)
        reader = _reader(file, start, f"{path}, array {info.filename.removesuffix('.npy')!r}")
        unless_read.pop_all()
    return reader


def _stored(path: Path, info: zipfile.ZipInfo) -> tuple[IO[bytes], int]:
    """Open the archive itself; return it and the offset of the member's bytes, which follow its local header."""
    if info.header_offset < 0:
        raise zipfile.BadZipFile("a member begins before the file")
    file = path.open("rb")
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER)
    name_length, extra_length = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    return file, info.header_offset + _LOCAL_HEADER + name_length + extra_length


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[IO[bytes], int]:
    """Decompress the member into a temporary file, deleted when the process ends; return it and offset 0."""
    with ExitStack() as unless_unpacked:
        file = unless_unpacked.enter_context(tempfile.TemporaryFile())
        with archive.open(info) as packed:
            shutil.copyfileobj(packed, file, _CHUNK_BYTES)
        file.flush()
        unless_unpacked.pop_all()  # the reader closes it
    return file, 0


def _reader(file: IO[bytes], start: int, where: str) -> RowReader:
    file.seek(start)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except (ValueError, tokenize.TokenError) as error:
        raise DataError(f"{where}: not an .npy array") from error
    if dtype.hasobject or dtype.names is not None:
        raise DataError(
            f"{where}: holds Python objects (dtype {dtype}), which are never unpickled",
            hint="save it with a plain dtype: array.astype('float32')",
        )
    if not shape:
        raise DataError(f"{where}: is a single value without a sample axis", hint="save an array, one row per sample")
    if min(shape) < 0 or file.tell() + dtype.itemsize * math.prod(shape) > os.fstat(file.fileno()).st_size:
        raise DataError(f"{where}: claims shape {list(shape)}, and the file ends before; it is truncated")
    if fortran and len(shape) > 1 and 0 not in shape:
        return _row_major(file, file.tell(), dtype, shape)
    return RowReader(file, file.tell(), dtype, shape)


def _row_major(file: IO[bytes], start: int, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> RowReader:
    """Rewrite a column-major array row by row in native byte order, a chunk of rows at a time."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115  the reader closes it
    for chunk in _chunks(file, start, dtype, shape):
        copy.write(chunk.tobytes())
    copy.flush()
    file.close()
    return RowReader(copy, 0, dtype.newbyteorder("="), shape)


def _chunks(file: IO[bytes], start: int, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Iterator[Array]:
    total, columns = shape[0], math.prod(shape[1:])
    step = max(1, _CHUNK_BYTES // max(1, dtype.itemsize * columns))
    for first in range(0, total, step):
        count = min(step, total - first)
        offsets = (start + dtype.itemsize * (column * total + first) for column in range(columns))
        parts = [np.ndarray(count, dtype, _read(file, offset, dtype.itemsize * count)) for offset in offsets]
        yield np.stack(parts).reshape(*shape[:0:-1], count).T


def _read(file: IO[bytes], offset: int, length: int) -> bytearray:
    data = bytearray(length)
    done = 0
    while done < length:
        got = os.preadv(file.fileno(), [memoryview(data)[done:]], offset + done)
        if not got:
            raise DataError(f"{file.name}: ends too early; the file is truncated")
        done += got
    return data
