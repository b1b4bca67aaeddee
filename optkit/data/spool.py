"""An append-only temporary file of records with random access, deleted when the process ends."""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array


class Spool:
    """Byte strings by index, on disk; only their ends are kept in memory."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  closed with the spool
        self._ends = array("Q", [0])
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, record: bytes) -> None:
        """Append a record."""
        self._file.write(record)
        self._ends.append(self._ends[-1] + len(record))

    def read(self, index: int) -> bytes:
        """Read the record at ``index``, counted from 0 in the order of appending."""
        self._file.flush()
        start, end = self._ends[index : index + 2]
        return os.pread(self._file.fileno(), end - start, start)
