"""Writing results: nothing is replaced unasked, nothing is left half-written."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from optkit.errors import OutputError
from optkit.formats import bundle_manifest

_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)
"""What an operating system says when a file cannot be written there."""


def claim(path: Path, *, force: bool = False, folder: bool = False, suffixes: Sequence[str] = ()) -> None:
    """Make sure that ``path`` can be written; the folder it lies in is made if need be.

    ``folder`` says that the result is one: a bundle. Raises OutputError where something is there already (``force``
    replaces a file by a file and a bundle by a bundle, nothing else), where nothing can be written, and for a file
    whose suffix is none of ``suffixes``.
    """
    if suffixes and path.suffix not in suffixes:
        raise OutputError(
            f"{path}: runtimes tell formats by the suffix, and the result is {' or '.join(suffixes)}",
            hint=f"for example -o {path.with_suffix(suffixes[0])}",
        )
    if path.exists() or path.is_symlink():
        _check_replaceable(path, force=force, folder=folder)
    make_writable(path.parent)


def make_writable(folder: Path) -> None:
    """Make the folder if need be, and prove that files can be written in it. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written: {os.strerror(error.errno or errno.EIO)}",
            hint="choose another -o, or mend the folder's permissions",
        ) from None


def _check_replaceable(path: Path, *, force: bool, folder: bool) -> None:
    if path.is_dir() and not folder:
        raise OutputError(f"{path} is a folder, and the result a file", hint=f"for example -o {path / 'model.onnx'}")
    if not force:
        raise OutputError(f"{path} exists already", hint="choose another -o, or replace it with --force")
    if folder and not path.is_dir():
        raise OutputError(f"{path} is a file, and the result a folder", hint="choose another -o")
    if folder and any(path.iterdir()) and not (path / bundle_manifest.FILE_NAME).is_file():
        raise OutputError(f"{path}: --force replaces bundles only, and this folder is none", hint="choose another -o")


@contextmanager
def writing(path: Path, *, force: bool = False, folder: bool = False) -> Iterator[Path]:
    """An empty folder beside ``path`` to write into; gone afterwards, however that ends.

    What the body leaves there is moved into place when it succeeds, side files first. Raises OutputError, also for a
    full disk and for a side file that is in the way.
    """
    claim(path, force=force, folder=folder)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".optkit-") as name:
            aside = Path(name)
            yield aside
            entries = sorted(aside.iterdir(), key=lambda entry: entry.name == path.name)
            for entry in entries:
                _check_free(path.parent / entry.name, path, force=force)
            old = aside / ".old"
            old.mkdir()
            for entry in entries:
                _replace(entry, path.parent / entry.name, old)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        raise OutputError(
            f"{path}: {os.strerror(error.errno)}; nothing was written", hint="free some space or choose another -o"
        ) from None


def write_text(file: Path, text: str, *, force: bool = False) -> None:
    """Write a text file whole or not at all. Raises OutputError."""
    with writing(file, force=force) as aside:
        (aside / file.name).write_text(text, encoding="utf-8")


def _check_free(place: Path, path: Path, *, force: bool) -> None:
    """A side file takes nobody's place unasked, and never a folder's."""
    if place != path and (place.is_dir() or (place.exists() and not force)):
        raise OutputError(f"{place} is in the way of {path.name}", hint="choose another -o, or replace it with --force")


def _replace(source: Path, destination: Path, old: Path) -> None:
    """Move into place; a bundle that was there is moved out first, as no call replaces a folder that is not empty."""
    if destination.is_dir() and not destination.is_symlink():
        destination.replace(old / destination.name)
    source.replace(destination)
