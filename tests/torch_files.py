"""A small network in every form that torch writes."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

CODE = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))

def narrow():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3))

def deeper():
    return nn.Sequential(*build(), nn.Linear(3, 2))

def broken():
    raise ValueError("no such width")

def number():
    return 3
"""
X = torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 8, 8)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3)).eval()


def code_in(folder: Path) -> str:
    """``FILE.py:build``, which builds the network without its weights."""
    file = folder / "net.py"
    file.write_text(CODE)
    return f"{file}:build"


def save(value: Any, path: Path, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def exported(net: nn.Module, path: Path, **options: Any) -> Path:
    torch.export.save(torch.export.export(net, (X,), **options), path)
    return path


def old_layout(program: Any, path: Path) -> Path:
    """The layout that torch 2.5 to 2.7 wrote."""
    from torch._export.serde.schema import SCHEMA_VERSION
    from torch._export.serde.serialize import serialize

    artifact = serialize(program)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", ".".join(map(str, SCHEMA_VERSION)))
        archive.writestr("serialized_exported_program.json", artifact.exported_program)
        archive.writestr("serialized_state_dict.pt", artifact.state_dict)
        archive.writestr("serialized_constants.pt", artifact.constants)
        archive.writestr("serialized_example_inputs.pt", artifact.example_inputs)
    return path
