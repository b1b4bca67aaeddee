"""Writer of a module that training changed, in the format of its source, so that the same options open it."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from optkit import lazy
from optkit.formats import opening
from optkit.formats.model import Model
from optkit.formats.torch import loading, structure
from optkit.formats.torch.archive import NOTES
from optkit.formats.torch.structure import Structure


def save_module(module: Any, source: Model, folder: Path, layers: Structure | None = None) -> Model:
    """Write ``module``, derived from ``source``, to ``folder``.

    ``layers`` holds the source's layers that are left, and the ranges to clip to.

    A pickled module stays one. A state dict becomes a ``.safetensors`` whose metadata hold the module's inputs and its
    differences from the module that its code builds.
    """
    torch = lazy.require("torch", extra="torch")
    module = copy.deepcopy(module).eval().to("cpu")  # what comes in may be on its way, on a GPU
    if source.format == "module":
        structure.clip(module, layers.ranges if layers else {})
        path = folder / "model.pt"
        torch.save(module, path)
        written = opening.open(path, trust=source.trusted)
        return replace(written, signature=source.signature)
    path = folder / "model.safetensors"
    changed = _changed(module, source, layers or Structure())
    inputs = [str(spec) for spec in (source.signature.inputs if source.signature else ())]
    # One key: the library writes several in no certain order, and equal models are to have equal digests.
    notes = {NOTES: json.dumps({"inputs": inputs, "structure": asdict(changed)}, sort_keys=True)}
    # Tied weights are written twice: the format has no word for them, and building the module ties them again.
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in module.state_dict().items()}
    lazy.require("safetensors.torch", extra="torch").save_file(tensors, str(path), metadata=notes)
    return replace(opening.open(path, code=source.code, trust=source.trusted), signature=source.signature)


def _changed(module: Any, source: Model, layers: Structure) -> Structure:
    before = structure.read(source.path) or Structure()
    left = replace(before.keeping(layers.layers), ranges=layers.ranges)
    return structure.differing(module, loading.build(source), left)
