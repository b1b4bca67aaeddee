"""Writing results: nothing is replaced unasked, nothing is left half-written."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optkit.errors import OutputError


def claim(path: Path, *, force: bool = False) -> None:
    """Make sure that ``path`` can be written; its folder is made if need be.

    Raises OutputError where it exists (without ``force``) or its folder cannot be written.
    """
    if path.exists() and not force:
        raise OutputError(f"{path} exists already", hint="choose another -o, or replace it with --force")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(
            f"{path.parent}: cannot be written: {os.strerror(error.errno or errno.EIO)}",
            hint="choose another -o, or mend the folder's permissions",
        ) from None


@contextmanager
def writing(path: Path, *, force: bool = False) -> Iterator[Path]:
    """An empty folder beside ``path`` to write into; gone afterwards, however that ends.

    What the body leaves there under ``path``'s own name is moved into place when it succeeds, side files first.
    Raises OutputError, also for a full disk.
    """
    claim(path, force=force)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".optkit-") as name:
            folder = Path(name)
            yield folder
            for entry in sorted(folder.iterdir(), key=lambda entry: entry.name == path.name):
                _replace(entry, path.parent / entry.name)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        raise OutputError(
            f"{path}: {os.strerror(error.errno)}; nothing was written", hint="free some space or choose another -o"
        ) from None


def _replace(source: Path, destination: Path) -> None:
    if destination.is_dir() and not destination.is_symlink():
        shutil.rmtree(destination)
    source.replace(destination)
