"""Atomic writing: whole or not at all, nothing replaced unasked, and no two writers in one file."""

import errno
import subprocess
import sys

import pytest

from optkit.errors import OutputError
from optkit.system import atomic

WRITER = """
import sys
from pathlib import Path
from optkit.system import atomic as output

destination, letter = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for _ in range(40):
    with output.aside(destination) as folder:
        (folder / f"{destination.name}.data").write_text(letter * 200_000)
        with (folder / destination.name).open("w") as file:
            for _ in range(20):
                file.write(letter * 10_000)
                file.flush()
"""


def test_two_processes_that_write_one_destination_do_not_meet(tmp_path):
    destination = tmp_path / "timing.cache"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, destination, letter],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for letter in "ab"
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if destination.exists():
            seen.add(frozenset(text)) if (text := read(destination)) is not None else None
    for writer in writers:
        assert writer.communicate()[0] == ""
        assert writer.returncode == 0
    assert {len(letters) for letters in seen} == {1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["timing.cache", "timing.cache.data"]
    assert destination.read_text() == (tmp_path / "timing.cache.data").read_text()


def read(path):
    """The whole text, ``None`` where the file is just being replaced with its side file."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    assert len(text) == 200_000
    return text


def test_nothing_is_left_of_a_body_that_fails(tmp_path):
    (tmp_path / "out.txt").write_text("before")
    with pytest.raises(TypeError), atomic.aside(tmp_path / "out.txt") as folder:
        (folder / "out.txt").write_text(b"half")
    assert (tmp_path / "out.txt").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


def test_all_is_put_back_where_one_entry_cannot_be_moved(tmp_path, monkeypatch):
    for name in ("m.onnx", "m.onnx.data"):
        (tmp_path / name).write_text("before")
    replace = atomic.Path.replace

    def refusing(self, target):
        if self.name == "m.onnx" and self.read_text() == "after":
            raise OSError(errno.EACCES, "no")
        return replace(self, target)

    monkeypatch.setattr(atomic.Path, "replace", refusing)
    with pytest.raises(OutputError, match=r"m\.onnx: cannot be written: Permission denied"):
        write_both(tmp_path / "m.onnx")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"m.onnx": "before", "m.onnx.data": "before"}


def write_both(path):
    with atomic.aside(path) as folder:
        for name in (path.name, f"{path.name}.data"):
            (folder / name).write_text("after")


def test_a_full_disk_names_the_place_that_a_user_knows(tmp_path):
    inner = tmp_path / "optkit-invos7h0" / "model.onnx"
    inner.parent.mkdir()
    with pytest.raises(OutputError) as caught, atomic.aside(inner):
        raise OSError(errno.ENOSPC, "full")
    assert caught.value.message == f"{tmp_path}: cannot be written: No space left on device"


def test_the_caller_says_what_marks_a_folder_that_may_be_replaced(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.onnx").write_text("")
    with pytest.raises(OutputError, match=r"replaces only a folder with a manifest\.json"):
        atomic.claim(folder, force=True, marker="manifest.json")
    (folder / "manifest.json").write_text("{}")
    atomic.claim(folder, force=True, marker="manifest.json")
    with pytest.raises(OutputError, match="is a folder, and the result a file"):
        atomic.claim(folder, force=True)
