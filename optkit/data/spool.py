"""Records kept on disk in a file that goes with the process: written once in order, read in any."""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array


class Spool:
    """Byte strings by index; in memory is only where each one ends."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  closed with the spool
        self._ends = array("Q", [0])
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, record: bytes) -> None:
        """Keep a record."""
        self._file.write(record)
        self._ends.append(self._ends[-1] + len(record))

    def read(self, index: int) -> bytes:
        """The record that was the ``index``-th to be kept."""
        self._file.flush()
        start, end = self._ends[index : index + 2]
        return os.pread(self._file.fileno(), end - start, start)
