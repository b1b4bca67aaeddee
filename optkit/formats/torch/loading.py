"""Loader of torch's files that runs none of their code: pickled modules, state dicts, TorchScript, exported programs.

The globals of a file are read first, without torch (``optkit.formats.torch.archive``); then torch's restricted
unpickler loads it with nothing allowed but ``torch.nn``'s own modules. Only ``--trust`` and ``--code`` run anything
else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optkit import lazy, units
from optkit.errors import ModelError, UntrustedError
from optkit.formats.torch import archive as archive_module
from optkit.formats.torch import exported_program, pickles, structure
from optkit.formats.torch.archive import (
    file_operators,
    is_legacy,
    is_safetensors,
    nested_keys,
    open_archive,
    read_pickle,
    root_folder,
)
from optkit.system import native, user_code

if TYPE_CHECKING:
    from optkit.formats.model import Format, Model

_FUNCTIONS = ("torch.nn.functional.relu", "torch.nn.functional.gelu", "torch._C._nn.gelu")
"""Functions that modules of ``torch.nn`` hold as attributes: a transformer layer's activation."""
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
_FOREIGN_HINT = "--code FILE.py:CALLABLE takes only its weights; or --trust, if you made this file yourself"
_LEGACY_HINT = "save it again with today's torch, or its state dict; or --trust, if you made this file yourself"
_CODE_HINT = "give the code that builds the module: --code FILE.py:CALLABLE"


def sniff(path: Path) -> Format:
    """Detect the torch format of the file. Raises ModelError for a damaged file and one of another library."""
    found = archive_module.sniff(path)
    if found is None:
        raise ModelError(f"{path}: not a torch file")
    return found


def check(path: Path, format: str, *, code: str | None) -> Format:
    """Check that loading ``path`` runs no code, and return the format to load it as. Raises UntrustedError.

    With ``code``, a pickled module of foreign classes is loaded as a state dict.
    """
    if format == "exported-program":
        exported_program.check(path)
        return "exported-program"
    if format == "torchscript":
        _refuse(path, file_operators(path), "--trust, if you made this file yourself")
        return "torchscript"
    if is_safetensors(path):
        return "state-dict"
    if format == "module" and is_legacy(path):
        # Pickles of this age carry the classes' source; torch's restricted unpickler takes none of them.
        _refuse(path, ["a module in the format of torch before 1.6"], _LEGACY_HINT)
    foreign = _foreign(path, format)
    if not foreign:
        return "module" if format == "module" else "state-dict"
    if code is None:
        _refuse(path, foreign, _FOREIGN_HINT)
    return "state-dict"


def _foreign(path: Path, format: str) -> list[str]:
    """List the pickle's globals other than tensors and, in a pickled module, torch.nn's modules."""
    names = sorted(name for name in read_pickle(path).globals if not pickles.is_plain(name))
    if format != "module":
        return names
    return [name for name in names if _torch_class(name) is None]


def _refuse(path: Path, names: list[str], hint: str) -> None:
    if names:
        raise UntrustedError(f"{path}: loading it would run code; it asks for {units.listed(names)}", hint=hint)


def load(model: Model) -> Any:
    """Load the model on the CPU: a module in eval mode, a ScriptModule or an ExportedProgram.

    Runs the file's code only for a trusted model, and the user's code only if ``model.code`` names it. Raises
    ModelError, UntrustedError.
    """
    _library()
    if not model.trusted:
        check(model.path, model.format, code=model.code)
    with native.silent(of=r"torch\..*", stdout=False), _one_line(model.path):
        if model.format == "torchscript":
            return _load_script(model)
        if model.format == "exported-program":
            return _load_exported(model)
        if model.format == "module":
            return _load_module(model).eval()
        return _load_state_dict(model).eval()


def _load_script(model: Model) -> Any:
    if not model.trusted:
        _same_to_torch(model.path, ".py")
    return _library().jit.load(str(model.path), map_location="cpu").eval()


def _load_exported(model: Model) -> Any:
    import torch.export

    with model.path.open("rb") as stream:
        if model.trusted:
            return torch.export.load(stream)
        _same_to_torch(model.path, ".json")
        with _only_weights():
            return torch.export.load(stream)


def _load_module(model: Model) -> Any:
    torch = _library()
    if model.trusted:
        with user_code.folder_importable(Path.cwd()), user_code.folder_importable(model.path.parent):
            module = _found_module(torch.load(model.path, map_location="cpu", weights_only=False))
    else:
        names = [name for name in read_pickle(model.path).globals if not pickles.is_plain(name)]
        with torch.serialization.safe_globals([(_torch_class(name), name) for name in names]):
            module = torch.load(model.path, map_location="cpu", weights_only=True)
    if not isinstance(module, torch.nn.Module):
        raise ModelError(f"{model.path}: it holds a {type(module).__name__}, not a module", hint=_CODE_HINT)
    return module


def _found_module(value: Any) -> Any:
    """Return the module itself, or the one that a trusted checkpoint keeps under a usual key."""
    held = [value[key] for key in ("model", "module", "net", "ema") if key in value] if isinstance(value, dict) else []
    modules = [item for item in held if isinstance(item, _library().nn.Module)]
    return modules[0] if modules else value


def _load_state_dict(model: Model) -> Any:
    if model.code is None:
        raise ModelError(f"{model.path}: a state dict holds weights, but no module to put them in", hint=_CODE_HINT)
    with user_code.running(model.code, ModelError) as build:
        module = build()
        if not isinstance(module, _library().nn.Module):
            raise ModelError(f"{model.code} returns a {type(module).__name__}, not an nn.Module")
        state, changed = state_dict(model), structure.read(model.path)
        if changed is not None:
            structure.rebuild(module, changed, state)
        fill(module, state, where=f"{model.path} with {model.code}")
    return module


def build(model: Model) -> Any:
    """Build the module by the model's code, in eval mode, without loading weights. Raises ModelError."""
    with user_code.running(model.code or "", ModelError) as made:
        return made().eval()


def state_dict(model: Model) -> dict[str, Any]:
    """Load the tensors by name of a state dict, a checkpoint or a pickled module; foreign classes stay inert."""
    if is_safetensors(model.path):
        found: dict[str, Any] = lazy.require("safetensors.torch", extra="torch").load_file(str(model.path))
        return found
    torch = _library()
    if model.trusted:
        with user_code.folder_importable(Path.cwd()), user_code.folder_importable(model.path.parent):
            held = torch.load(model.path, map_location="cpu", weights_only=False)
    else:
        names = [name for name in read_pickle(model.path).globals if not pickles.is_plain(name)]
        with torch.serialization.safe_globals([(_Inert, name) for name in names]):
            held = torch.load(model.path, map_location="cpu", weights_only=True)
    for key in nested_keys(held, _tensors):
        held = held[key]
    return _tensors(held)


class _Inert:
    """Inert stand-in for an object of an untrusted class: it keeps its state and runs nothing."""

    def __new__(cls, *_: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        self.state: Mapping[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.__dict__["state"] = state if isinstance(state, Mapping) else {}


def _tensors(held: Any) -> dict[str, Any]:
    """Return the tensors of a mapping, of a module, or of an inert stand-in for one."""
    torch = _library()
    if isinstance(held, Mapping):
        return {str(key): value for key, value in held.items() if isinstance(value, torch.Tensor)}
    if isinstance(held, torch.nn.Module):
        return dict(held.state_dict())
    found: dict[str, Any] = {}
    for name, state in _states(held):
        transient = state.get("_non_persistent_buffers_set") or ()
        for kind in ("_parameters", "_buffers"):
            tensors = _tensors(state.get(kind) or {})
            found |= {f"{name}{key}": value for key, value in tensors.items() if key not in transient}
    return found


def _states(held: Any, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the prefix and state of an inert module and of each module in it."""
    state = held.__dict__.get("state", held.__dict__) if hasattr(held, "__dict__") else {}
    children = state.get("_modules")
    if not isinstance(children, Mapping):
        return
    yield prefix, state
    for name, child in children.items():
        yield from _states(child, f"{prefix}{name}.")


def fill(module: Any, state: dict[str, Any], *, where: str) -> None:
    """Load ``state`` into ``module``, strictly. Raises ModelError that names the first keys that differ."""
    expected = module.state_dict()
    state = _without_prefix(state, set(expected))
    wrong = [
        f"{key} is {list(state[key].shape)} in the file, {list(expected[key].shape)} in the module"
        for key in expected
        if key in state and hasattr(expected[key], "shape") and state[key].shape != expected[key].shape
    ]
    if wrong:
        raise ModelError(f"{where}: other shapes: {units.listed(wrong)}", hint="build the module as it was trained")
    missing, unexpected = module.load_state_dict(state, strict=False)
    parts = [
        f"{label}: {units.listed(keys)}" for label, keys in (("missing", missing), ("unexpected", unexpected)) if keys
    ]
    if parts:
        raise ModelError(f"{where}: the weights do not fit the module; {'; '.join(parts)}", hint="is it the same code?")


def _without_prefix(state: dict[str, Any], expected: set[str]) -> dict[str, Any]:
    """Remove prefixes of wrappers (data parallel, compile) from the state's keys where more keys then match."""
    for prefix in _PREFIXES:
        shorter = {key.removeprefix(prefix): value for key, value in state.items()}
        if all(key.startswith(prefix) for key in state) and len(expected & set(shorter)) > len(expected & set(state)):
            return _without_prefix(shorter, expected)
    for prefix in _PREFIXES[:2]:
        shorter = {key.removeprefix(prefix): value for key, value in state.items()}
        if state and all(key.startswith(prefix) for key in state):
            return _without_prefix(shorter, expected)
    return state


def _torch_class(name: str) -> Any:
    """Return the torch.nn module class (or one of a few functions) called ``name``; ``None`` for anything else."""
    torch = _library()
    module, _, attribute = name.rpartition(".")
    found = getattr(sys.modules.get(module), attribute, None)
    if name in _FUNCTIONS:
        return found
    own = module.startswith("torch.nn.modules.") and isinstance(found, type) and issubclass(found, torch.nn.Module)
    return found if own and found.__module__ == module else None


def _same_to_torch(path: Path, suffix: str) -> None:
    """Check that torch's zip reader sees the entries that were checked. Raises UntrustedError.

    A zip archive can be made so that two readers see different contents.
    """
    with open_archive(path) as archive:
        base = root_folder(archive)
        checked = {name.removeprefix(base): archive.read(name) for name in archive.namelist() if name.endswith(suffix)}
    if "serialized_exported_program.json" in checked:
        return  # torch opens this older layout with the same reader as we do
    reader = _library()._C.PyTorchFileReader(str(path))
    names = [name for name in reader.get_all_records() if name.endswith(suffix)]
    if {name: reader.get_record(name) for name in names} != checked:
        raise UntrustedError(f"{path}: a zip archive that shows different contents to different readers")


@contextmanager
def _only_weights() -> Iterator[None]:
    """Make torch unpickle nothing but tensors, also where torch itself would allow more."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn torch's errors on a damaged file into a ModelError, and on a forbidden global into an UntrustedError."""
    import pickle

    with native.foreign(f"{path}: torch cannot load it", ModelError, hint="is it whole, and of this torch?"):
        try:
            yield
        except pickle.UnpicklingError as error:
            told = str(error).partition("WeightsUnpickler error: ")[2].partition(" Please use")[0] or str(error)
            raise UntrustedError(
                f"{path}: torch's restricted unpickler refuses it: {native.readable(told)}",
                hint="--trust, if you made this file yourself",
            ) from None
        except ModuleNotFoundError as error:
            raise ModelError(
                f"{path}: it needs the module {error.name!r}, which is not importable", hint=_CODE_HINT
            ) from None


def _library() -> Any:
    return lazy.require("torch", extra="torch")
