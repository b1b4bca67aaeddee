"""Opening torch files: every form loads, and none of the hostile ones runs anything."""

from __future__ import annotations

import builtins
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from optkit import checkpoint, model
from optkit.errors import ModelError, UntrustedError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

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


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3)).eval()


@pytest.fixture
def code(tmp_path: Path) -> str:
    file = tmp_path / "net.py"
    file.write_text(CODE)
    return f"{file}:build"


@pytest.fixture
def sentinel(tmp_path: Path) -> Path:
    return tmp_path / "executed"


X = torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 8, 8)


def save(value: Any, path: Path, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def exported(net: nn.Module, path: Path, **options: Any) -> Path:
    torch.export.save(torch.export.export(net, (X,), **options), path)
    return path


def same(loaded: Any, net: nn.Module) -> bool:
    with torch.no_grad():
        return bool(torch.equal(loaded(X), net(X)))


# --- the forms that open ----------------------------------------------------------------------------------------------


def test_a_module_of_torch_layers_opens_in_eval_mode(net: nn.Module, tmp_path: Path) -> None:
    opened = model.open(save(net.train(), tmp_path / "m.pt"))
    loaded = checkpoint.load(opened)
    assert opened.format == "module"
    assert not loaded.training
    assert same(loaded, net.eval())


def test_a_transformer_layer_with_its_activation_opens(tmp_path: Path) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, activation="gelu")
    assert isinstance(checkpoint.load(model.open(save(layer, tmp_path / "m.pt"))), nn.TransformerEncoderLayer)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".onnx", ""])
def test_a_state_dict_opens_whatever_its_name(net: nn.Module, code: str, tmp_path: Path, suffix: str) -> None:
    opened = model.open(save(net.state_dict(), tmp_path / f"weights{suffix}"), code=code)
    assert opened.format == "state-dict"
    assert same(checkpoint.load(opened), net)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model_state": state, "optimizer": {"state": {}, "param_groups": []}},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"weights of mine": state, "accuracy": 0.9},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}},
    ],
)
def test_checkpoints_are_unwrapped(
    net: nn.Module, code: str, tmp_path: Path, wrap: Callable[[dict[str, Any]], Any]
) -> None:
    path = save(wrap(net.state_dict()), tmp_path / "c.pth")
    assert same(checkpoint.load(model.open(path, code=code)), net)


def test_a_state_dict_of_torch_before_1_6_opens(net: nn.Module, code: str, tmp_path: Path) -> None:
    path = save(net.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(checkpoint.load(model.open(path, code=code)), net)


def test_safetensors_open_with_code(net: nn.Module, code: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(net.state_dict(), tmp_path / "w.safetensors")
    assert same(checkpoint.load(model.open(tmp_path / "w.safetensors", code=code)), net)


def test_torchscript_tells_the_inputs_of_its_trace(net: nn.Module, tmp_path: Path) -> None:
    torch.jit.trace(net, X).save(tmp_path / "t.pt")
    opened = model.open(tmp_path / "t.pt")
    assert opened.format == "torchscript"
    assert opened.signature is not None
    assert [str(spec) for spec in opened.signature.inputs] == ["input:float32[batch,1,8,8]"]
    assert same(checkpoint.load(opened), net)


def test_scripted_torchscript_has_no_signature(net: nn.Module, tmp_path: Path) -> None:
    torch.jit.script(net).save(tmp_path / "s.pt")
    assert model.open(tmp_path / "s.pt").signature is None
    given = model.open(tmp_path / "s.pt", inputs=("x:float32[batch,1,8,8]",)).signature
    assert given is not None
    assert given.batch_dim == "batch"


class Two(nn.Module):
    """Two inputs that share two dynamic dimensions, two named outputs."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": (ids * mask).sum(1), "both": ids + mask}


def test_an_exported_program_tells_its_dynamic_dimensions(tmp_path: Path) -> None:
    shapes = {0: torch.export.Dim("n"), 1: torch.export.Dim("length", max=512)}
    feed = (torch.ones(2, 5, dtype=torch.int64), torch.ones(2, 5, dtype=torch.int64))
    program = torch.export.export(Two(), feed, dynamic_shapes={"ids": shapes, "mask": shapes})
    torch.export.save(program, tmp_path / "two.pt2")
    opened = model.open(tmp_path / "two.pt2")
    assert opened.format == "exported-program"
    assert opened.signature is not None
    ids, mask = opened.signature.inputs
    assert (ids.name, mask.name, ids.dtype) == ("ids", "mask", "int64")
    assert ids.shape is not None
    assert ids.shape[0] == "batch"
    assert isinstance(ids.shape[1], str)
    assert ids.shape == mask.shape
    assert checkpoint.load(opened).module()(*feed)["sum"].tolist() == [5, 5]


def test_an_exported_program_of_torch_2_7_opens(net: nn.Module, tmp_path: Path) -> None:
    program = torch.export.export(net, (X,), dynamic_shapes=({0: torch.export.Dim("n")},))
    opened = model.open(old_layout(program, tmp_path / "old.pt2"))
    assert opened.format == "exported-program"
    assert opened.signature is not None
    assert opened.signature.batch_dim == "batch"


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


# --- what a user gets wrong -------------------------------------------------------------------------------------------


def test_a_state_dict_without_code_says_how_to_give_it(net: nn.Module, tmp_path: Path) -> None:
    opened = model.open(save(net.state_dict(), tmp_path / "w.pth"))
    with pytest.raises(ModelError, match="no module to put them in") as error:
        checkpoint.load(opened)
    assert "--code FILE.py:CALLABLE" in (error.value.hint or "")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("narrow", r"other shapes: 0.weight is \[4, 1, 3, 3\] in the file, \[2, 1, 3, 3\] in the module.* and 4 more"),
        ("deeper", r"missing: 4.weight, 4.bias"),
        ("broken", r"ValueError: no such width \(net.py:15\)"),
        ("number", r"returns a int, not an nn.Module"),
    ],
)
def test_code_that_does_not_fit_is_told_in_one_line(
    net: nn.Module, code: str, tmp_path: Path, function: str, message: str
) -> None:
    path = save(net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=message):
        checkpoint.load(model.open(path, code=code.replace("build", function)))


def test_weights_that_the_module_does_not_have_are_named(net: nn.Module, code: str, tmp_path: Path) -> None:
    path = save(net.state_dict() | {"extra.weight": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"unexpected: extra.weight"):
        checkpoint.load(model.open(path, code=code))


@pytest.mark.parametrize("spelling", ["net.py", "nowhere.py:build", "net:build", "net.py:", "net.py:a b"])
def test_code_that_is_spelled_wrong_is_refused_on_opening(net: nn.Module, tmp_path: Path, spelling: str) -> None:
    path = save(net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(UsageError):
        model.open(path, code=spelling)


def test_an_unknown_callable_is_answered_with_the_nearest(net: nn.Module, code: str, tmp_path: Path) -> None:
    path = save(net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(UsageError, match="has no callable 'biuld'") as error:
        checkpoint.load(model.open(path, code=code.replace("build", "biuld")))
    assert "'build'" in (error.value.hint or "")


def test_a_change_of_the_code_is_a_change_of_the_digest(net: nn.Module, code: str, tmp_path: Path) -> None:
    path = save(net.state_dict(), tmp_path / "w.pth")
    before = model.open(path, code=code).digest
    Path(code.rpartition(":")[0]).write_text(CODE + "\n# wider\n")
    assert model.open(path, code=code).digest != before


def test_code_finds_the_modules_beside_it(net: nn.Module, tmp_path: Path) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "layers_of_mine.py").write_text(CODE)
    (folder / "net.py").write_text("from layers_of_mine import build\n")
    path = save(net.state_dict(), tmp_path / "w.pth")
    before = list(sys.path)
    assert same(checkpoint.load(model.open(path, code=f"{folder / 'net.py'}:build")), net)
    assert sys.path == before


@pytest.mark.parametrize("value", [torch.ones(3), {"epoch": 3}, [1, 2], {"loss": 0.5, "name": "x"}])
def test_a_torch_file_that_holds_no_model_says_what_it_holds(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ModelError, match="not a model: it holds"):
        model.open(save(value, tmp_path / "v.pt"))


@pytest.mark.parametrize("form", ["module", "state", "legacy", "script", "exported", "safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.97])
def test_a_truncated_file_is_one_line(net: nn.Module, code: str, tmp_path: Path, form: str, share: float) -> None:
    path = forms(net, tmp_path)[form]
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError) as error:
        checkpoint.load(model.open(path, code=code))
    assert "\n" not in error.value.message


def forms(net: nn.Module, folder: Path) -> dict[str, Path]:
    from safetensors.torch import save_file

    save_file(net.state_dict(), folder / "w.safetensors")
    torch.jit.trace(net, X).save(folder / "s.pt")
    return {
        "module": save(net, folder / "m.pt"),
        "state": save(net.state_dict(), folder / "w.pth"),
        "legacy": save(net.state_dict(), folder / "l.pth", _use_new_zipfile_serialization=False),
        "script": folder / "s.pt",
        "exported": exported(net, folder / "e.pt2"),
        "safetensors": folder / "w.safetensors",
    }


# --- what must not run ------------------------------------------------------------------------------------------------


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
        checkpoint.load(model.open(path))
    assert not sentinel.exists()
    with suppress(ModelError):  # with code, only the weights are taken; whether they suffice or not, nothing runs
        checkpoint.load(model.open(path, code=code))
    assert not sentinel.exists()


def test_the_error_names_what_the_pickle_asks_for_and_both_ways_on(net: nn.Module, tmp_path: Path) -> None:
    path = save({"state_dict": net.state_dict(), "f": Hostile(os.system, "true")}, tmp_path / "h.pt")
    with pytest.raises(UntrustedError, match=r"asks for posix.system") as error:
        model.open(path)
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
            checkpoint.load(model.open(path, code=given))
    assert not sentinel.exists()


def test_a_module_of_a_class_of_ones_own_is_named(tmp_path: Path) -> None:
    path = save(nn.Sequential(Own()), tmp_path / "m.pt")
    with pytest.raises(UntrustedError, match=r"asks for .*test_checkpoint.Own"):
        model.open(path)


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
    opened = model.open(path, code=f"{tmp_path / 'own.py'}:build")
    assert opened.format == "state-dict"
    x = torch.ones(1, 4)
    assert torch.equal(checkpoint.load(opened)(x), source(x))


def test_trust_loads_a_module_of_foreign_classes(tmp_path: Path) -> None:
    path = save(nn.Sequential(Own()), tmp_path / "m.pt")
    assert isinstance(checkpoint.load(model.open(path, trust=True))[0], Own)


def test_trust_does_run_what_the_file_asks_for(net: nn.Module, tmp_path: Path, sentinel: Path) -> None:
    net.note = Hostile(os.system, f"touch {sentinel}")  # type: ignore[assignment]
    checkpoint.load(model.open(save(net, tmp_path / "m.pt"), trust=True))
    assert sentinel.exists()


def test_trust_says_which_module_is_missing(tmp_path: Path) -> None:
    path = raw_module(tmp_path / "m.pt", b"\x80\x02cgone_with_the_wind\nNet\n)\x81.")
    with pytest.raises(ModelError, match="'gone_with_the_wind'"):
        checkpoint.load(model.open(path, trust=True))


def test_a_plain_pickle_is_no_model(tmp_path: Path, sentinel: Path) -> None:
    (tmp_path / "p.pt").write_bytes(pickle.dumps(Hostile(os.system, f"touch {sentinel}")))
    with pytest.raises(ModelError, match=r"a pickle that torch.save did not write"):
        model.open(tmp_path / "p.pt", trust=True)
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
        checkpoint.load(model.open(path)).module()(X)
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
        model.open(path)
    opens_without_running(path, sentinel)


def test_the_attacks_on_programs_are_real(net: nn.Module, tmp_path: Path, sentinel: Path) -> None:
    path = edited(net, tmp_path, hostile_edits(f"touch {sentinel}")["expression"])
    with suppress(ModelError):
        checkpoint.load(model.open(path, trust=True))
    assert sentinel.exists()


@pytest.mark.parametrize(
    "name", ["data/constants/opaque_obj_0", "data/constants/custom_obj_0", "data/aotinductor/m/m.so"]
)
def test_objects_and_compiled_code_in_a_program_are_refused(net: nn.Module, tmp_path: Path, name: str) -> None:
    path = exported(net, tmp_path / "e.pt2")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"e/{name}", b"\x80\x02.")
    with pytest.raises(UntrustedError):
        model.open(path)


def test_an_archive_with_two_entries_of_a_name_is_refused(net: nn.Module, tmp_path: Path) -> None:
    path = exported(net, tmp_path / "e.pt2")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("e/models/model.json", b"{}")
    with pytest.raises(ModelError, match="two entries of one name"):
        model.open(path)


@pytest.mark.parametrize("source", ["torch.save(x, '{0}')", "torch . \\\n from_file('{0}', True, 4)"])
def test_torchscript_that_touches_files_is_refused(tmp_path: Path, sentinel: Path, source: str) -> None:
    torch.jit.trace(nn.Linear(3, 3), torch.ones(1, 3)).save(tmp_path / "t.pt")

    def change(name: str, old: bytes) -> bytes:
        line = f"\n    {source.format(sentinel)}\n    return ".encode()
        return old.replace(b"\n    return ", line, 1) if "linear" in name and name.endswith(".py") else old

    path = rewritten(tmp_path / "t.pt", tmp_path / "h.pt", change)
    with pytest.raises(UntrustedError, match=r"asks for torch.(save|from_file)"):
        model.open(path)
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
        checkpoint.load(model.open(path))
    assert not sentinel.exists()
