"""Opening torch files: every form loads, and mistakes are answered in a line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch_files import CODE, X, code_in, exported, network, old_layout, save

from optkit.errors import ModelError, UsageError
from optkit.formats import opening
from optkit.formats.torch import loading

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


@pytest.fixture
def net() -> nn.Module:
    return network()


@pytest.fixture
def code(tmp_path: Path) -> str:
    return code_in(tmp_path)


def same(loaded: Any, net: nn.Module) -> bool:
    with torch.no_grad():
        return bool(torch.equal(loaded(X), net(X)))


def test_a_module_of_torch_layers_opens_in_eval_mode(net: nn.Module, tmp_path: Path) -> None:
    opened = opening.open(save(net.train(), tmp_path / "m.pt"))
    loaded = loading.load(opened)
    assert opened.format == "module"
    assert not loaded.training
    assert same(loaded, net.eval())


def test_a_transformer_layer_with_its_activation_opens(tmp_path: Path) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, activation="gelu")
    assert isinstance(loading.load(opening.open(save(layer, tmp_path / "m.pt"))), nn.TransformerEncoderLayer)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".onnx", ""])
def test_a_state_dict_opens_whatever_its_name(net: nn.Module, code: str, tmp_path: Path, suffix: str) -> None:
    opened = opening.open(save(net.state_dict(), tmp_path / f"weights{suffix}"), code=code)
    assert opened.format == "state-dict"
    assert same(loading.load(opened), net)


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
    assert same(loading.load(opening.open(path, code=code)), net)


def test_a_state_dict_of_torch_before_1_6_opens(net: nn.Module, code: str, tmp_path: Path) -> None:
    path = save(net.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(loading.load(opening.open(path, code=code)), net)


def test_safetensors_open_with_code(net: nn.Module, code: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(net.state_dict(), tmp_path / "w.safetensors")
    assert same(loading.load(opening.open(tmp_path / "w.safetensors", code=code)), net)


def test_torchscript_tells_the_inputs_of_its_trace(net: nn.Module, tmp_path: Path) -> None:
    torch.jit.trace(net, X).save(tmp_path / "t.pt")
    opened = opening.open(tmp_path / "t.pt")
    assert opened.format == "torchscript"
    assert opened.signature is not None
    assert [str(spec) for spec in opened.signature.inputs] == ["input:float32[batch,1,8,8]"]
    assert same(loading.load(opened), net)


def test_scripted_torchscript_has_no_signature(net: nn.Module, tmp_path: Path) -> None:
    torch.jit.script(net).save(tmp_path / "s.pt")
    assert opening.open(tmp_path / "s.pt").signature is None
    given = opening.open(tmp_path / "s.pt", inputs=("x:float32[batch,1,8,8]",)).signature
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
    opened = opening.open(tmp_path / "two.pt2")
    assert opened.format == "exported-program"
    assert opened.signature is not None
    ids, mask = opened.signature.inputs
    assert (ids.name, mask.name, ids.dtype) == ("ids", "mask", "int64")
    assert ids.shape == mask.shape == ("batch", "ids_1")
    assert loading.load(opened).module()(*feed)["sum"].tolist() == [5, 5]


def test_an_exported_program_of_torch_2_7_opens(net: nn.Module, tmp_path: Path) -> None:
    program = torch.export.export(net, (X,), dynamic_shapes=({0: torch.export.Dim("n")},))
    opened = opening.open(old_layout(program, tmp_path / "old.pt2"))
    assert opened.format == "exported-program"
    assert opened.signature is not None
    assert opened.signature.batch_dim == "batch"


# --- what a user gets wrong -------------------------------------------------------------------------------------------


def test_a_state_dict_without_code_says_how_to_give_it(net: nn.Module, tmp_path: Path) -> None:
    opened = opening.open(save(net.state_dict(), tmp_path / "w.pth"))
    with pytest.raises(ModelError, match="no module to put them in") as error:
        loading.load(opened)
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
        loading.load(opening.open(path, code=code.replace("build", function)))


def test_weights_that_the_module_does_not_have_are_named(net: nn.Module, code: str, tmp_path: Path) -> None:
    path = save(net.state_dict() | {"extra.weight": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"unexpected: extra.weight"):
        loading.load(opening.open(path, code=code))


@pytest.mark.parametrize("spelling", ["net.py", "nowhere.py:build", "net:build", "net.py:", "net.py:a b"])
def test_code_that_is_spelled_wrong_is_refused_on_opening(net: nn.Module, tmp_path: Path, spelling: str) -> None:
    path = save(net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(UsageError):
        opening.open(path, code=spelling)


def test_an_unknown_callable_is_answered_with_the_nearest(net: nn.Module, code: str, tmp_path: Path) -> None:
    path = save(net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(UsageError, match="has no callable 'biuld'") as error:
        loading.load(opening.open(path, code=code.replace("build", "biuld")))
    assert "'build'" in (error.value.hint or "")


def test_a_change_of_the_code_is_a_change_of_the_digest(net: nn.Module, code: str, tmp_path: Path) -> None:
    path = save(net.state_dict(), tmp_path / "w.pth")
    before = opening.open(path, code=code).digest
    Path(code.rpartition(":")[0]).write_text(CODE + "\n# wider\n")
    assert opening.open(path, code=code).digest != before


def test_code_finds_the_modules_beside_it(net: nn.Module, tmp_path: Path) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "layers_of_mine.py").write_text(CODE)
    (folder / "net.py").write_text("from layers_of_mine import build\n")
    path = save(net.state_dict(), tmp_path / "w.pth")
    before = list(sys.path)
    assert same(loading.load(opening.open(path, code=f"{folder / 'net.py'}:build")), net)
    assert sys.path == before


@pytest.mark.parametrize("value", [torch.ones(3), {"epoch": 3}, [1, 2], {"loss": 0.5, "name": "x"}])
def test_a_torch_file_that_holds_no_model_says_what_it_holds(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ModelError, match="not a model: it holds"):
        opening.open(save(value, tmp_path / "v.pt"))


@pytest.mark.parametrize("form", ["module", "state", "legacy", "script", "exported", "safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.97])
def test_a_truncated_file_is_one_line(net: nn.Module, code: str, tmp_path: Path, form: str, share: float) -> None:
    path = forms(net, tmp_path)[form]
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError) as error:
        loading.load(opening.open(path, code=code))
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
