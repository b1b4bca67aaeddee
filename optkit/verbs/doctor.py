"""``doctor``: what this machine has."""

from __future__ import annotations

import subprocess
import sys

from optkit import machine
from optkit.results import Doctor, LibraryRecord, NoteRecord

_RUNTIMES = {"onnxruntime": None, "openvino": "openvino", "torch": "torch"}
_TIME_LIMIT = 120
_VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}
_BF16 = {"avx512_bf16", "amx_bf16"}


def doctor() -> Doctor:
    """The machine, and each target as it really imports: a broken install is a line with the reason."""
    here = machine.fingerprint()
    targets = [_tried(name, extra) for name, extra in _RUNTIMES.items()]
    return Doctor(machine=here, targets=targets, notes=_notes(set(here.isa), targets))


def _tried(name: str, extra: str | None) -> LibraryRecord:
    version = machine.version(name)
    if version is None:
        return LibraryRecord(name=name, version=None, extra=extra, error="not installed")
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import {name}"], capture_output=True, text=True, timeout=_TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return LibraryRecord(name=name, version=version, extra=extra, error=f"no import within {_TIME_LIMIT} s")
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return LibraryRecord(name=name, version=version, extra=extra, error=lines[-1] if done.returncode else None)


def _notes(isa: set[str], targets: list[LibraryRecord]) -> list[NoteRecord]:
    notes = [
        NoteRecord(text=f"{target.name} is not installed: pip install 'optkit[{target.extra}]'")
        for target in targets
        if target.version is None
    ]
    if "avx2" in isa and not isa & _VNNI:
        text = "this CPU has no VNNI: 8-bit weights can saturate, and INT8 brings less speed"
        notes.append(NoteRecord(text=text, level="warning"))
    if isa & _BF16:
        notes.append(NoteRecord(text="this CPU computes bf16; OpenVINO would choose it unasked, optkit asks for f32"))
    return notes
