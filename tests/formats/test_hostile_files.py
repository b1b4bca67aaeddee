"""Hostile torch files: none of them runs anything on opening, and errors name what they asked for."""

from __future__ import annotations

import builtins
import io
import json
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch_files import X, code_in, exported, network, old_layout, save

from optkit.errors import ModelError, UntrustedError
from optkit.formats import opening
from optkit.formats.torch import loading

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


@pytest.fixture
def net() -> nn.Module:
    return network()


@pytest.fixture
def code(tmp_path: Path) -> str:
    return code_in(tmp_path)


@pytest.fixture
def sentinel(tmp_path: Path) -> Path:
    """A file that is there once a hostile file ran."""
    return tmp_path / "executed"


class Hostile:
    """Calls ``function(*args)`` when it is unpickled."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def hostile_values(sentinel: Path) -> dict[str, Any]:
    touch = f"touch {sentinel}"
    python = f"open({str(sentinel)!r}, 'w').close()"
    return {
        "os.system": Hostile(os.system, touch),
        "eval": Hostile(builtins.eval, python),
        "exec": Hostile(builtins.exec, python),
        "subprocess": Hostile(subprocess.check_call, ["touch", str(sentinel)]),
        "open": Hostile(builtins.open, str(sentinel), "w"),
        "torch.save": Hostile(torch.save, torch.ones(1), str(sentinel)),
        "numpy": Hostile(np.save, str(sentinel), np.ones(1)),
        "torch.load": Hostile(torch.hub.download_url_to_file, "file:///etc/hostname", str(sentinel)),
    }


KINDS = ("os.system", "eval", "exec", "subprocess", "open", "torch.save", "numpy", "torch.load")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("place", ["alone", "in a state dict", "in a module", "in a checkpoint"])
def test_a_hostile_pickle_never_runs(
    net: nn.Module, code: str, tmp_path: Path, sentinel: Path, kind: str, legacy: bool, place: str
) -> None:
    value = hostile_values(sentinel)[kind]
    holder: Any = value
    if place == "in a state dict":
        holder = net.state_dict() | {"z": value}
    elif place == "in a checkpoint":
        holder = {"state_dict": net.state_dict(), "args": value}
    elif place == "in a module":
        net.note = value  # type: ignore[assignment]
        holder = net
    path = save(holder, tmp_path / "h.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError):
        loading.load(opening.open(path))
    assert not sentinel.exists()
    with suppress(ModelError):  # with code, only the weights are taken; whether they suffice or not, nothing runs
        loading.load(opening.open(path, code=code))
    assert not sentinel.exists()


def test_the_error_names_what_the_pickle_asks_for_and_both_ways_on(net: nn.Module, tmp_path: Path) -> None:
    path = save({"state_dict": net.state_dict(), "f": Hostile(os.system, "true")}, tmp_path / "h.pt")
    with pytest.raises(UntrustedError, match=r"asks for posix.system") as error:
        opening.open(path)
    assert "--code FILE.py:CALLABLE" in (error.value.hint or "")
    assert "--trust" in (error.value.hint or "")


def raw_module(path: Path, body: bytes) -> Path:
    """A torch file whose pickle is ``body``."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", body)
        archive.writestr("m/version", "3\n")
        archive.writestr("m/byteorder", "little")
    return path


def call(module: str, name: str, text: str) -> bytes:
    argument = text.encode()
    return f"c{module}\n{name}\n".encode() + b"X" + len(argument).to_bytes(4, "little") + argument + b"\x85R."


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch.nn.modules.module", "torch.os.system"),
        ("torch.nn.modules", "module.torch.os.system"),
        ("torch.nn.modules.container", "operator"),
        ("torch.nn.modules.module", "warnings.os.system"),
        ("torch.nn.modules.module", "Module.__init_subclass__"),
        ("torch.nn.functional", "torch.os.system"),
        ("torch", "os.system"),
        ("torch.nn.modules.linear", "math.os.system"),
        ("torch._C", "_jit_set_emit_hooks"),
        ("torch.jit", "load"),
        ("torch.nn.modules.utils", "_pair"),
        ("__builtin__", "eval"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_nested_names_do_not_lead_out_of_torch_nn(
    tmp_path: Path, sentinel: Path, code: str, module: str, name: str, protocol: int
) -> None:
    body = call(module, name, f"touch {sentinel}")
    if protocol == 4:
        names = b"".join(b"\x8c" + bytes([len(each)]) + each.encode() for each in (module, name))
        body = names + b"\x93" + body[len(f"c{module}\n{name}\n") :]
    path = raw_module(tmp_path / "m.pt", b"\x80" + bytes([protocol]) + body)
    for given in (None, code):
        with pytest.raises(ModelError):
            loading.load(opening.open(path, code=given))
    assert not sentinel.exists()


def test_a_dictionary_that_holds_itself_is_refused(net: nn.Module, tmp_path: Path) -> None:
    state: dict[str, Any] = dict(net.state_dict())
    state["model"] = state
    with pytest.raises(ModelError, match="it holds itself"):
        opening.open(save(state, tmp_path / "m.pt"))


def test_a_module_of_a_class_of_ones_own_is_named(tmp_path: Path) -> None:
    path = save(nn.Sequential(Own()), tmp_path / "m.pt")
    with pytest.raises(UntrustedError, match=r"asks for .*test_hostile_files.Own"):
        opening.open(path)


class Own(nn.Module):
    """A user's class."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.register_buffer("scale", torch.tensor(2.0))
        self.register_buffer("cache", torch.zeros(9), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * self.scale


OWN = """
import torch
class Mine(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 2)
        self.register_buffer("scale", torch.tensor(0.0))
    def forward(self, x):
        return self.linear(x) * self.scale
def build():
    return torch.nn.Sequential(Mine())
"""


@pytest.mark.parametrize("wrapped", [False, True])
def test_code_takes_the_weights_out_of_a_module_of_foreign_classes(tmp_path: Path, wrapped: bool) -> None:
    source = nn.Sequential(Own())
    path = save({"model": source, "epoch": 1} if wrapped else source, tmp_path / "m.pt")
    (tmp_path / "own.py").write_text(OWN)
    opened = opening.open(path, code=f"{tmp_path / 'own.py'}:build")
    assert opened.format == "state-dict"
    x = torch.ones(1, 4)
    assert torch.equal(loading.load(opened)(x), source(x))


def test_trust_loads_a_module_of_foreign_classes(tmp_path: Path) -> None:
    path = save(nn.Sequential(Own()), tmp_path / "m.pt")
    assert isinstance(loading.load(opening.open(path, trust=True))[0], Own)


def test_trust_does_run_what_the_file_asks_for(net: nn.Module, tmp_path: Path, sentinel: Path) -> None:
    net.note = Hostile(os.system, f"touch {sentinel}")  # type: ignore[assignment]
    loading.load(opening.open(save(net, tmp_path / "m.pt"), trust=True))
    assert sentinel.exists()


def test_trust_says_which_module_is_missing(tmp_path: Path) -> None:
    path = raw_module(tmp_path / "m.pt", b"\x80\x02cgone_with_the_wind\nNet\n)\x81.")
    with pytest.raises(ModelError, match="'gone_with_the_wind'"):
        loading.load(opening.open(path, trust=True))


def test_a_plain_pickle_is_no_model(tmp_path: Path, sentinel: Path) -> None:
    (tmp_path / "p.pt").write_bytes(pickle.dumps(Hostile(os.system, f"touch {sentinel}")))
    with pytest.raises(ModelError, match=r"a pickle that torch.save did not write"):
        opening.open(tmp_path / "p.pt", trust=True)
    assert not sentinel.exists()


# --- hostile exported programs and TorchScript ------------------------------------------------------------------------


def rewritten(source: Path, path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """``source`` with its entries changed; ``None`` leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = change(name.partition("/")[2] or name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return path


def torch_bytes(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def opens_without_running(path: Path, sentinel: Path) -> None:
    with pytest.raises(ModelError):
        loading.load(opening.open(path)).module()(X)
    assert not sentinel.exists()


@pytest.mark.parametrize("kind", ["os.system", "eval", "torch.save"])
def test_hostile_sample_inputs_never_run(net: nn.Module, tmp_path: Path, sentinel: Path, kind: str) -> None:
    data = torch_bytes(((hostile_values(sentinel)[kind],), {}))
    source = exported(net, tmp_path / "e.pt2")
    path = rewritten(source, tmp_path / "h.pt2", lambda name, old: data if "sample_inputs" in name else old)
    opens_without_running(path, sentinel)


@pytest.mark.parametrize(
    "entry", ["serialized_state_dict.pt", "serialized_constants.pt", "serialized_example_inputs.pt"]
)
def test_hostile_pickles_in_the_older_layout_never_run(
    net: nn.Module, tmp_path: Path, sentinel: Path, entry: str
) -> None:
    data = torch_bytes({"x": hostile_values(sentinel)["os.system"]})
    source = old_layout(torch.export.export(net, (X,)), tmp_path / "e.pt2")
    path = rewritten(source, tmp_path / "h.pt2", lambda name, old: data if name == entry else old)
    opens_without_running(path, sentinel)


def edited(net: nn.Module, folder: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """An exported program whose JSON is edited."""

    def change(name: str, old: bytes) -> bytes:
        if name != "models/model.json":
            return old
        program = json.loads(old)
        edit(program)
        return json.dumps(program).encode()

    source = exported(net, folder / "e.pt2", dynamic_shapes=({0: torch.export.Dim("n")},))
    return rewritten(source, folder / "h.pt2", change)


def hostile_edits(command: str) -> dict[str, Callable[[dict[str, Any]], None]]:
    python = f"__import__('os').system({command!r})"

    def graph(program: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = program["graph_module"]["graph"]
        return found

    def call_system(program: dict[str, Any]) -> None:
        node = graph(program)["nodes"][0]
        node["target"] = "torch.os.system"
        node["inputs"] = [{"name": "command", "arg": {"as_string": command}, "kind": 1}]

    def load_library(program: dict[str, Any]) -> None:
        call_system(program)
        graph(program)["nodes"][0]["target"] = "torch.ops.load_library"

    def expression(program: dict[str, Any]) -> None:
        graph(program)["tensor_values"]["input"]["sizes"][0]["as_expr"]["expr_str"] = python

    def guard(program: dict[str, Any]) -> None:
        program["guards_code"] = [f"{python} == 0"]

    def enumeration(program: dict[str, Any]) -> None:
        call_spec = program["graph_module"]["module_call_graph"][0]["signature"]
        context = json.dumps([{"__enum__": True, "fqn": "antigravity:x", "name": "y"}])
        node = {"type": "builtins.dict", "context": context, "children_spec": []}
        call_spec["out_spec"] = json.dumps([1, node])

    def argument_name(program: dict[str, Any]) -> None:
        text = json.dumps(program).replace('"name": "input"', json.dumps({"name": f"input={python}"})[1:-1])
        program.clear()
        program.update(json.loads(text))

    def output_key(program: dict[str, Any]) -> None:
        spec = program["graph_module"]["module_call_graph"][0]["signature"]
        leaf = {"type": None, "context": None, "children_spec": []}
        context = json.dumps([f"']+{python}+L['"])
        spec["out_spec"] = json.dumps([1, {"type": "builtins.dict", "context": context, "children_spec": [leaf]}])

    return {
        edit.__name__: edit
        for edit in (call_system, load_library, expression, guard, enumeration, argument_name, output_key)
    }


@pytest.mark.parametrize(
    "kind", ["call_system", "load_library", "expression", "guard", "enumeration", "argument_name", "output_key"]
)
def test_python_smuggled_into_a_program_never_runs(net: nn.Module, tmp_path: Path, sentinel: Path, kind: str) -> None:
    path = edited(net, tmp_path, hostile_edits(f"touch {sentinel}")[kind])
    with pytest.raises(UntrustedError, match="could run code"):
        opening.open(path)
    opens_without_running(path, sentinel)


def test_the_attacks_on_programs_are_real(net: nn.Module, tmp_path: Path, sentinel: Path) -> None:
    path = edited(net, tmp_path, hostile_edits(f"touch {sentinel}")["expression"])
    with suppress(ModelError):
        loading.load(opening.open(path, trust=True))
    assert sentinel.exists()


@pytest.mark.parametrize(
    "name", ["data/constants/opaque_obj_0", "data/constants/custom_obj_0", "data/aotinductor/m/m.so"]
)
def test_objects_and_compiled_code_in_a_program_are_refused(net: nn.Module, tmp_path: Path, name: str) -> None:
    path = exported(net, tmp_path / "e.pt2")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"e/{name}", b"\x80\x02.")
    with pytest.raises(UntrustedError):
        opening.open(path)


def test_an_archive_with_two_entries_of_a_name_is_refused(net: nn.Module, tmp_path: Path) -> None:
    path = exported(net, tmp_path / "e.pt2")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("e/models/model.json", b"{}")
    with pytest.raises(ModelError, match="two entries of one name"):
        opening.open(path)


@pytest.mark.parametrize("source", ["torch.save(x, '{0}')", "torch . \\\n from_file('{0}', True, 4)"])
def test_torchscript_that_touches_files_is_refused(tmp_path: Path, sentinel: Path, source: str) -> None:
    torch.jit.trace(nn.Linear(3, 3), torch.ones(1, 3)).save(tmp_path / "t.pt")

    def change(name: str, old: bytes) -> bytes:
        line = f"\n    {source.format(sentinel)}\n    return ".encode()
        return old.replace(b"\n    return ", line, 1) if "linear" in name and name.endswith(".py") else old

    path = rewritten(tmp_path / "t.pt", tmp_path / "h.pt", change)
    with pytest.raises(UntrustedError, match=r"asks for torch.(save|from_file)"):
        opening.open(path)
    assert not sentinel.exists()


@pytest.mark.parametrize("entry", ["data.pkl", "constants.pkl", "traced_inputs.pkl", "extra.pkl"])
def test_hostile_pickles_in_torchscript_never_run(net: nn.Module, tmp_path: Path, sentinel: Path, entry: str) -> None:
    torch.jit.trace(net, X).save(tmp_path / "t.pt")
    data = pickle.dumps(Hostile(os.system, f"touch {sentinel}"), protocol=2)
    path = rewritten(tmp_path / "t.pt", tmp_path / "h.pt", lambda name, old: data if name == entry else old)
    with zipfile.ZipFile(path, "a") as archive:
        if entry == "extra.pkl":
            archive.writestr("t/extra.pkl", data)
    with suppress(ModelError):
        loading.load(opening.open(path))
    assert not sentinel.exists()
