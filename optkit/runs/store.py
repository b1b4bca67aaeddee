"""Content-addressed results of stages: nothing is computed twice, and a killed run keeps every finished stage.

An entry is a folder ``entries/KEY`` with the model's files and a ``record.json``. It is written aside, its record last,
and moved into place in one step; an entry that cannot be read, or has another digest than its record, counts as absent.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import Field, ValidationError

from optkit.errors import OutputError, StageError
from optkit.formats import bundle_manifest
from optkit.formats.model import TORCH_FORMATS, Model, files_of
from optkit.measurement import recording
from optkit.records.record import Root
from optkit.records.run import StageRecord
from optkit.stages.stage import Context, Outcome, Stage
from optkit.system import atomic, cgroup, digests, fingerprint
from optkit.targets import libraries
from optkit.targets.target import target
from optkit.version import VERSION

RECORD = "record.json"
_KEY_LENGTH = 64


class Stored(Root):
    """The record of an entry, in its folder. Paths are relative to the folder."""

    schema_: Literal["optkit.store/1"] = Field("optkit.store/1", alias="schema")
    """Kind of the record and version of its format."""
    stage: StageRecord
    """The stage as it was carried out."""
    target: str | None = None
    """The target that the result was compiled for; null where it was not compiled."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Runtime options of a compiled result."""
    code: str | None = None
    """``FILE.py:CALLABLE`` of a state dict; null where it is the source's."""
    files: dict[str, str]
    """SHA-256 of every file, by its path."""


@dataclass(frozen=True)
class Entry:
    """A finished result of a stage: its model and its record."""

    key: str
    folder: Path
    model: Model
    record: StageRecord


@dataclass(frozen=True)
class Listed:
    """An entry as the cache's listing shows it; ``stage`` is ``None`` where its record cannot be read."""

    key: str
    folder: Path
    stage: str | None
    target: str | None
    size_bytes: int
    used: float
    """Seconds since the epoch when it was last written or served."""


def default_root() -> Path:
    """``OPTKIT_CACHE``, else ``optkit`` in the user's cache folder."""
    named = os.environ.get("OPTKIT_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "optkit"


def key(stage: Stage, source: Model, context: Context) -> str:
    """SHA-256 of everything that a stage's result depends on."""
    parts: dict[str, Any] = {
        "stage": stage.name,
        "fields": stage.model_dump(mode="json"),
        "source": [source.digest, source.format, repr(source.signature), source.target, source.options],
        "seed": context.seed,
        "versions": {"optkit": VERSION} | libraries.versions(),
    }
    if stage.needs_calibration:
        parts["calibration"] = context.calibration and context.calibration.digest
    if stage.trains:
        parts["training"] = context.training and context.training.digest
        parts["teacher"] = context.original and context.original.digest
        parts["metric"] = context.metric
        parts["threads"] = context.threads
        parts["files"] = [digests.sha256(file) for file in stage.reads if file.is_file()]
    if stage.needs_target:
        parts["target"] = context.target
        parts["defaults"] = target(context.target).default_options()  # which may follow the GPU
    if stage.needs_target or stage.needs_calibration or stage.trains:
        # Training, calibration and compilation round as this processor does, and compilation counts its cores.
        parts["machine"] = [sorted(fingerprint.isa()), cgroup.cores_allowed()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


class Store:
    """The folder of entries; made on first use. Every write happens inside ``using``."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()
        self._entries = self.root / "entries"
        self._aside = self.root / "tmp"
        self._checkpoints = self.root / "checkpoints"

    @contextmanager
    def using(self) -> Iterator[None]:
        """Lock the store against removals; a run that finds it idle first removes the leftovers of killed ones.

        The lock is freed when the process ends, however it ends.
        """
        with self._lock_file() as file:
            if _locked(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
                self._clear_aside()
            fcntl.flock(file, fcntl.LOCK_SH)
            yield

    def get(self, key: str, source: Model) -> Entry | None:
        """Return entry of ``key``, every file checked against its digest; ``None`` where it is absent or corrupt."""
        folder = self._entries / key
        stored = _read(folder)
        if stored is None or not _intact(folder, stored):
            return None
        os.utime(folder)
        return _entry(key, folder, stored, source)

    @contextmanager
    def workdir(self) -> Iterator[Path]:
        """Yield an empty folder aside, for a stage to write in; gone afterwards unless ``put`` moved it into place."""
        folder = Path(tempfile.mkdtemp(dir=self._aside, prefix="optkit-"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def checkpoints(self, key: str) -> Path:
        """Return the folder in which the stage of this key keeps checkpoints, for a later run to go on from."""
        return self._checkpoints / key

    def put(self, record: StageRecord, outcome: Outcome, folder: Path, source: Model) -> Entry:
        """Move a stage's result, written in the workdir ``folder``, into place under ``record.key``.

        An entry that another run put there meanwhile is kept: it is the same.
        """
        model = _brought_in(outcome.model, folder)
        files = {str(file.relative_to(folder)) for file in files_of(model.path, model.format)}
        _keep_only(folder, files)
        stored = Stored(
            stage=record.model_copy(update={"result": _relative(model, folder)}),
            target=model.target,
            options=model.options,
            code=None if model.code == source.code else model.code,
            files={name: digests.sha256(folder / name) for name in sorted(files)},
        )
        _write_down(folder, stored)
        self._move_into_place(folder, record.key, source)
        shutil.rmtree(self.checkpoints(record.key), ignore_errors=True)
        return _entry(record.key, self._entries / record.key, stored, source)

    def listing(self) -> list[Listed]:
        """Return all entries, the last used first."""
        found = [_listed(folder) for folder in self._folders()]
        return sorted(found, key=lambda entry: entry.used, reverse=True)

    def prune(
        self, *, older_than_days: float | None = None, max_bytes: int | None = None, everything: bool = False
    ) -> list[Listed]:
        """Remove entries unused for so many days, then the longest unused until the rest fits; or everything.

        Checkpoints of as long ago go, too.

        Raises OutputError while a run uses the store.
        """
        with self._lock_file() as file:
            if not _locked(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
                raise OutputError(f"{self.root}: a run is using the cache", hint="wait until it has ended")
            self._clear_aside()
            removed = _superfluous(self.listing(), older_than_days, max_bytes, everything)
            for entry in removed:
                # Renamed first: a removal that is interrupted must not leave half an entry.
                shutil.rmtree(entry.folder.rename(self._aside / entry.key))
            if everything or older_than_days is not None:
                self._clear_checkpoints(time.time() - 86400 * (0.0 if everything else older_than_days or 0.0))
        return removed

    def _clear_checkpoints(self, before: float) -> None:
        for folder in self._checkpoints.iterdir() if self._checkpoints.is_dir() else ():
            if max((file.stat().st_mtime for file in folder.rglob("*")), default=0.0) <= before:
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _lock_file(self) -> Iterator[IO[str]]:
        for folder in (self._entries, self._aside):
            folder.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("a") as file:
            yield file

    def _folders(self) -> list[Path]:
        if not self._entries.is_dir():
            return []
        return sorted(folder for folder in self._entries.iterdir() if len(folder.name) == _KEY_LENGTH)

    def _clear_aside(self) -> None:
        for leftover in self._aside.iterdir():
            shutil.rmtree(leftover, ignore_errors=True)

    def _move_into_place(self, folder: Path, key: str, source: Model) -> None:
        place = self._entries / key
        try:
            folder.rename(place)
        except OSError:
            if self.get(key, source) is not None:
                return
            # The entry that is there is corrupt.
            corrupt = Path(tempfile.mkdtemp(dir=self._aside, prefix="optkit-"))
            place.rename(corrupt / key)
            folder.rename(place)
            shutil.rmtree(corrupt, ignore_errors=True)
        atomic.sync(self._entries)


def _locked(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    return True


def _read(folder: Path) -> Stored | None:
    try:
        return Stored.model_validate_json((folder / RECORD).read_bytes())
    except (OSError, ValidationError):
        return None


def _intact(folder: Path, stored: Stored) -> bool:
    try:
        return all(digests.sha256(folder / name) == digest for name, digest in stored.files.items())
    except OSError:
        return False


def _entry(key: str, folder: Path, stored: Stored, source: Model) -> Entry:
    """Return the entry, its model as if the stage had just written it from ``source``."""
    result = stored.stage.result
    torch_file = result.format in TORCH_FORMATS
    model = Model(
        folder / result.path,
        result.format,  # type: ignore[arg-type]  # a record's format is any text
        result.digest,
        None if result.signature is None else bundle_manifest.signature(result.signature),
        code=(stored.code or source.code) if torch_file else None,
        trusted=source.trusted if torch_file else False,
        target=stored.target,
        options=stored.options,
    )
    record = stored.stage.model_copy(update={"source": recording.of_model(source), "result": recording.of_model(model)})
    return Entry(key, folder, model, record)


def _brought_in(model: Model, folder: Path) -> Model:
    """Return the model, copied into ``folder`` where the stage returned its input unchanged."""
    if model.path.is_relative_to(folder):
        return model
    for file in files_of(model.path, model.format):
        if not file.is_relative_to(model.path.parent):
            raise StageError(f"{file} does not lie beside its model {model.path}")
        copy = folder / file.relative_to(model.path.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return replace(model, path=folder / model.path.name)


def _relative(model: Model, folder: Path) -> Any:
    return recording.of_model(model).model_copy(update={"path": str(model.path.relative_to(folder))})


def _keep_only(folder: Path, files: set[str]) -> None:
    """Remove all files of a stage's work folder but those of its result."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif str(path.relative_to(folder)) not in files:
            path.unlink()


def _write_down(folder: Path, stored: Stored) -> None:
    """Write the record once all files that it lists are on the disk."""
    for name in stored.files:
        atomic.sync(folder / name)
    (folder / RECORD).write_text(stored.to_json(), encoding="utf-8")
    atomic.sync(folder / RECORD)
    atomic.sync(folder)


def _listed(folder: Path) -> Listed:
    stored = _read(folder)
    files = [file.stat() for file in folder.rglob("*") if file.is_file()]
    return Listed(
        key=folder.name,
        folder=folder,
        stage=stored.stage.stage if stored else None,
        target=stored.stage.target if stored else None,
        size_bytes=sum(file.st_size for file in files),
        used=folder.stat().st_mtime,
    )


def _superfluous(
    listing: list[Listed], older_than_days: float | None, max_bytes: int | None, everything: bool
) -> list[Listed]:
    """Return the entries to remove out of ``listing``, which is in order of use."""
    if everything:
        return listing
    oldest = 0.0 if older_than_days is None else time.time() - older_than_days * 86400
    removed, room = [], float("inf") if max_bytes is None else max_bytes
    for entry in listing:
        room -= entry.size_bytes
        if entry.used < oldest or room < 0:
            removed.append(entry)
    return removed
