"""Folder and journal of a search: one line per finished trial, so that a killed search goes on where it stopped.

A journal is valid only for the same search: the same model, data, options, versions and machine. Its figures rank
candidates; claims about the result are always measured anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from optkit.errors import OutputError
from optkit.records.layers import Sensitivity
from optkit.records.record import Record
from optkit.records.run import Run
from optkit.records.search import TrialRecord
from optkit.runs import run_folder
from optkit.runs.recipe import Recipe
from optkit.system import atomic

JOURNAL = "trials.jsonl"
"""Name of the journal in the folder of a search."""
SENSITIVITY = "sensitivity"
"""Key of the line that holds the sensitivity of the layers."""


class _Entry(Record):
    """A line: a trial under the key of its candidate, or the sensitivity of all layers."""

    key: str
    """Digest of the candidate's stages and options, or ``sensitivity``."""
    trial: TrialRecord | None = None
    """The candidate's trial; null in the line of the sensitivity."""
    sensitivity: Sensitivity | None = None
    """The sensitivity of all layers; null in the line of a trial."""


class Journal:
    """A journal in the file ``path``, which is begun anew unless it was written with the same ``settings``."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._path = path
        self._head = digest(settings)
        self._entries = _read(path, self._head)
        self._begun = False

    @property
    def resumed(self) -> int:
        """Number of entries left by a killed process."""
        return len(self._entries)

    def trial(self, key: str) -> TrialRecord | None:
        """Return the trial of the candidate with that key."""
        found = self._entries.get(key)
        return None if found is None else found.trial

    def sensitivity(self) -> Sensitivity | None:
        """Return the sensitivity of the layers, if it was measured."""
        found = self._entries.get(SENSITIVITY)
        return None if found is None else found.sensitivity

    def add(self, key: str, *, trial: TrialRecord | None = None, sensitivity: Sensitivity | None = None) -> None:
        """Append a line. A line truncated by a kill is ignored when the journal is read."""
        self._begin()
        line = _Entry(key=key, trial=trial, sensitivity=sensitivity).model_dump_json()
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _begin(self) -> None:
        """Write the file with the valid lines, before the first new one: a search without results leaves no file."""
        if not self._begun:
            lines = [self._head, *(entry.model_dump_json() for entry in self._entries.values())]
            atomic.write_text(self._path, "\n".join(lines) + "\n", force=True)
            self._begun = True


def digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of values that JSON can hold, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _read(path: Path, head: str) -> dict[str, _Entry]:
    """Read the entries up to the first truncated line; none if the file's first line is not ``head``."""
    if not path.is_file():
        return {}
    first, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    if first != head:
        return {}
    entries = {}
    for line in lines:
        try:
            entry = _Entry.model_validate_json(line)
        except ValidationError:
            break
        entries[entry.key] = entry
    return entries


def beside(bundle: Path) -> Path:
    """Return the search folder of a bundle: ``OUT`` -> ``OUT-search``."""
    return bundle.parent / f"{bundle.name}-search"


def prepare(folder: Path, settings: Mapping[str, Any], *, force: bool = False) -> Journal:
    """Prepare ``folder`` for a search, and open its journal: a killed search goes on if it has the same settings.

    Raises OutputError if the folder holds anything else; ``force`` replaces a finished search, and nothing else.
    """
    finished = (folder / run_folder.RECORD).is_file()
    leftovers = folder.is_dir() and all(entry.name.startswith(atomic.ASIDE) for entry in folder.iterdir())
    if folder.exists() and not (finished or (folder / JOURNAL).is_file() or leftovers):
        raise OutputError(
            f"{folder}: not the folder of a search, and the search would write into it", hint="choose another -o"
        )
    if finished and not force:
        raise OutputError(f"{folder}: exists already", hint="choose another -o, or replace it with --force")
    if finished:
        shutil.rmtree(folder)
    atomic.make_writable(folder.parent)
    return Journal(folder / JOURNAL, settings)


def finish(folder: Path, recipe: Recipe, run: Run, reports: Mapping[str, str]) -> None:
    """Write the recipe that reproduces the result, the reports, and last the record; then remove the journal."""
    folder.mkdir(exist_ok=True)
    atomic.write_text(folder / run_folder.RECIPE, run_folder.recipe_text(recipe), force=True)
    run_folder.finish(folder, run, reports)
    (folder / JOURNAL).unlink(missing_ok=True)
