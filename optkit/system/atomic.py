"""Atomic writing: nothing is replaced unasked, nothing is left half-written, and no two writers meet in one file."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from optkit.errors import OutputError, lasting
from optkit.system.native import FULL

_UNWRITABLE = (*FULL, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)
"""Numbers of the operating system's errors where a file cannot be written."""
ASIDE = ".optkit-"
"""Beginning of the names of temporary folders beside a destination; a killed process leaves its own."""


def claim(path: Path, *, force: bool = False, marker: str | None = None, suffixes: Sequence[str] = ()) -> None:
    """Check that ``path`` can be written, and make its parent folder.

    With a ``marker`` the result is a folder, and a folder that holds a file of this name may be replaced. ``force``
    replaces a file by a file and a marked folder by a folder, nothing else. Raises OutputError for an existing
    destination, a place that cannot be written, and a file whose suffix is none of ``suffixes``.
    """
    if suffixes and path.suffix not in suffixes:
        raise OutputError(
            f"{path}: runtimes tell formats by the suffix, and the result is {' or '.join(suffixes)}",
            hint=f"for example -o {path.with_suffix(suffixes[0])}",
        )
    if path.exists() or path.is_symlink():
        _check_replaceable(path, force=force, marker=marker)
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


def _check_replaceable(path: Path, *, force: bool, marker: str | None) -> None:
    if path.is_dir() and marker is None:
        raise OutputError(f"{path} is a folder, and the result a file", hint=f"for example -o {path / 'model.onnx'}")
    if not force:
        raise OutputError(f"{path} exists already", hint="choose another -o, or replace it with --force")
    if marker is not None and not path.is_dir():
        raise OutputError(f"{path} is a file, and the result a folder", hint="choose another -o")
    if marker is not None and any(path.iterdir()) and not (path / marker).is_file():
        raise OutputError(
            f"{path}: --force replaces only a folder with a {marker}, and this one has none", hint="choose another -o"
        )


@contextmanager
def writing(path: Path, *, force: bool = False, marker: str | None = None) -> Iterator[Path]:
    """Claim ``path`` and yield an empty folder to write in, as ``aside`` does; ``force`` also replaces side files.

    Raises OutputError, also for a full disk and for a side file that is in the way.
    """
    claim(path, force=force, marker=marker)
    with aside(path) as folder:
        yield folder
        for entry in folder.iterdir():
            _check_free(path.parent / entry.name, path, force=force)


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; move its entries beside ``path`` when the body succeeds.

    The folder's name is unique, so two processes may write the same destination, and the last one wins. All bytes are
    on the disk before a name changes. ``path`` is taken away first and moved in last: it never stands beside side files
    of another version. Raises OutputError where the place cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=ASIDE) as name:
            yield Path(name)
            _move(Path(name), path)
    except OSError as error:
        if error.errno not in _UNWRITABLE and path.parent.is_dir():
            raise
        raise OutputError(
            f"{lasting(str(path))}: cannot be written: {os.strerror(error.errno or errno.EIO)}",
            hint="free some space or choose another -o",
        ) from None


def write_text(file: Path, text: str, *, force: bool = False) -> None:
    """Write a text file whole or not at all. Raises OutputError."""
    with writing(file, force=force) as folder:
        (folder / file.name).write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Have the operating system write a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems sync no folders
            raise
    finally:
        os.close(descriptor)


def _check_free(place: Path, path: Path, *, force: bool) -> None:
    """Refuse a side file that would replace a file unasked, or a folder."""
    if place != path and (place.is_dir() or (place.exists() and not force)):
        raise OutputError(f"{place} is in the way of {path.name}", hint="choose another -o, or replace it with --force")


def _move(folder: Path, path: Path) -> None:
    """Move the entries of ``folder`` into place, ``path`` last. Put all back where one cannot be moved."""
    for entry in folder.rglob("*"):
        if not entry.is_symlink():
            sync(entry)
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name == path.name)
    with _alone_in(path.parent), ExitStack() as unless_moved:
        for entry in reversed(entries):
            place = path.parent / entry.name
            if len(entries) > 1 or (place.is_dir() and not place.is_symlink()):  # one file replaces another in a step
                _move_out(place, folder / ".old", unless_moved)
        for entry in entries:
            entry.replace(path.parent / entry.name)
        unless_moved.pop_all()
    sync(path.parent)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process moves files into ``folder``."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems lock no folders
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _move_out(place: Path, old: Path, back: ExitStack) -> None:
    if place.exists() or place.is_symlink():
        old.mkdir(exist_ok=True)
        place.replace(old / place.name)
        back.callback((old / place.name).replace, place)
