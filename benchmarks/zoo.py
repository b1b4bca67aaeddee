"""The models that ``rivals.py`` compares optimizers on, as ONNX files, each with its data and the bound on its loss.

Two come from transformers' configurations with random weights: rescaled, layer by layer on real inputs, so that every
layer's outputs have a deviation of one; as they are drawn, activations die out or explode, and integers mean nothing.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sounds
import torch
import yaml
from torch import nn

from optkit.data.dataset import open_dataset
from optkit.formats.tensors import parse_inputs

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "sample_models"
FETCHED = SAMPLES / "fetched"
TEXT_INPUTS = ("input_ids:int64[batch,sequence]", "attention_mask:int64[batch,sequence]")


@dataclass(frozen=True)
class Case:
    """A model, its data, and what it may lose."""

    name: str
    model: Path
    data: Path
    metric: str
    max_drop: float
    calibration: Path | None = None


def cases(folder: Path) -> list[Case]:
    """All six; what is not there yet is exported to ``folder``."""
    return [
        Case(
            "Fashion-MNIST CNN", SAMPLES / "fashion_cnn/model.onnx", SAMPLES / "fashion_cnn/evaluation.npz",
            "accuracy", 0.01, SAMPLES / "fashion_cnn/calibration.npz",
        ),
        Case(
            "EfficientNet-Lite0", _made(folder / "efficientnet_lite0.onnx", _efficientnet_lite0),
            SAMPLES / "efficientnet_lite0/evaluation.yaml", "accuracy", 0.01,
            SAMPLES / "efficientnet_lite0/calibration.yaml",
        ),
        minilm(folder),
        angle_classifier(),
        Case("ResNet-50", _made(folder / "resnet50.onnx", _resnet50), _photos(folder), "cosine", 0.01),
        Case("BERT-base", _made(folder / "bert_base.onnx", _bert_base), _texts(folder), "cosine", 0.01),
    ]  # fmt: skip


def minilm(folder: Path) -> Case:
    """The sentence encoder."""
    return Case("MiniLM", _made(folder / "minilm.onnx", _minilm), SAMPLES / "minilm/texts.yaml", "cosine", 0.01)


def angle_classifier() -> Case:
    """The classifier of text lines."""
    lines = SAMPLES / "angle_classifier/lines.yaml"
    return Case("angle classifier", FETCHED / "angle_classifier/model.onnx", lines, "accuracy", 0.01)


@dataclass(frozen=True)
class Module:
    """What torch itself runs: a file, and what else it takes to open it."""

    path: Path
    code: str | None = None
    inputs: tuple[str, ...] = ()


def module(case: Case, folder: Path) -> Module | None:
    """The torch module that a case was exported from, where there is one."""
    image = ("x:float32[batch,3,224,224]",)
    return {
        "Fashion-MNIST CNN": Module(
            SAMPLES / "fashion_cnn/weights.pth", f"{SAMPLES / 'fashion_cnn/net.py'}:build",
            ("x:float32[batch,1,28,28]",),
        ),
        "EfficientNet-Lite0": Module(
            FETCHED / "efficientnet_lite0/weights.pth", f"{SAMPLES / 'efficientnet_lite0/net.py'}:build", image
        ),
        "MiniLM": Module(
            FETCHED / "minilm/model.safetensors", f"{SAMPLES / 'minilm/net.py'}:build",
            (*TEXT_INPUTS, "token_type_ids:int64[batch,sequence]"),
        ),
        "ResNet-50": Module(folder / "resnet50.pt2"),
        "BERT-base": Module(folder / "bert_base.pt2"),
    }.get(case.name)  # fmt: skip


def listeners(folder: Path) -> list[Case]:
    """The classifiers of sounds, with an STFT of ONNX and as a convolution; not among those that rivals meet."""
    data = {part: folder / f"{part}.npz" for part in ("evaluation", "calibration")}
    if not all(path.exists() for path in data.values()):
        sounds.make(folder)
    return [
        Case(f"sounds, {said}", _made(folder / f"{name}.onnx", _exported), data["evaluation"], "accuracy", 0.01,
             data["calibration"])
        for name, said in (("stft", "STFT"), ("convolved", "convolution"))
    ]  # fmt: skip


def _exported(path: Path) -> None:
    _export(path, str(path.with_suffix(".pt2")))


def _made(path: Path, make: Callable[[Path], None]) -> Path:
    if not path.exists():
        make(path)
    return path


def _export(path: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "optkit", "export", *arguments, "-o", str(path)], check=True)


def _efficientnet_lite0(path: Path) -> None:
    code = ("--code", f"{SAMPLES / 'efficientnet_lite0/net.py'}:build")
    _export(path, str(FETCHED / "efficientnet_lite0/weights.pth"), *code, "--input", "x:float32[batch,3,224,224]")


def _minilm(path: Path) -> None:
    code = ("--code", f"{SAMPLES / 'minilm/net.py'}:build")
    inputs = (*TEXT_INPUTS, "token_type_ids:int64[batch,sequence]")
    _export(
        path, str(FETCHED / "minilm/model.safetensors"), *code, *(part for each in inputs for part in ("--input", each))
    )


class ResNet50(nn.Module):
    """Pictures to logits."""

    def __init__(self) -> None:
        from transformers import ResNetConfig, ResNetForImageClassification

        super().__init__()
        self.net = ResNetForImageClassification(ResNetConfig(num_labels=1000))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x).logits


class BertBase(nn.Module):
    """Tokens to the vector of the whole text: the mean over its tokens."""

    def __init__(self) -> None:
        from transformers import BertConfig, BertModel

        super().__init__()
        self.net = BertModel(BertConfig(attn_implementation="sdpa"), add_pooling_layer=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.net(input_ids, attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        return (states * mask).sum(1) / mask.sum(1)


def _resnet50(path: Path) -> None:
    _random(path, ResNet50(), _photos(path.parent), 8, ("x:float32[batch,3,224,224]",))


def _bert_base(path: Path) -> None:
    _random(path, BertBase(), _texts(path.parent), 4, TEXT_INPUTS)


def _random(path: Path, net: nn.Module, data: Path, count: int, inputs: tuple[str, ...]) -> None:
    """Rescale a net with random weights on some samples, and export it."""
    torch.manual_seed(0)
    batch = next(open_dataset(data, parse_inputs(inputs)).batches(count)).feed
    feed = {name: torch.from_numpy(array) for name, array in batch.items()}
    with torch.no_grad():
        rescale(net.eval(), feed)
    module = path.with_suffix(".pt2")
    dims = {
        name: {0: torch.export.Dim("batch"), **({1: torch.export.Dim("sequence", max=512)} if len(inputs) > 1 else {})}
        for name in feed
    }
    torch.export.save(torch.export.export(net, tuple(feed.values()), dynamic_shapes=dims), module)
    _export(path, str(module))


def rescale(net: nn.Module, feed: dict[str, torch.Tensor]) -> None:
    """Give the outputs of every layer with weights a mean of 0 and a deviation of 1 on ``feed``, the first layer first.

    "All you need is a good init", Mishkin and Matas, 2016. Batch norms take the statistics of ``feed``.
    """

    def settle(layer: nn.Module, given: tuple[torch.Tensor, ...], made: torch.Tensor) -> torch.Tensor:
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.copy_(given[0].mean((0, 2, 3)))
            layer.running_var.copy_(given[0].var((0, 2, 3)))
            return nn.functional.batch_norm(given[0], layer.running_mean, layer.running_var, layer.weight, layer.bias)
        scale = made.std()
        layer.weight /= scale
        return made / scale

    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
    hooks = [each.register_forward_hook(settle) for each in net.modules() if isinstance(each, kinds)]
    net(**feed)
    for hook in hooks:
        hook.remove()


def _photos(folder: Path) -> Path:
    """Views of the fourteen photos to evaluate with, as ResNets take them."""
    images = {"size": 224, "interpolation": "bicubic", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    return _described(folder / "photos.yaml", FETCHED / "efficientnet_lite0/evaluation", {"images": images})


def _texts(folder: Path) -> Path:
    text = {"tokenizer": str(FETCHED / "minilm/tokenizer.json"), "max_length": 128}
    return _described(folder / "texts.yaml", FETCHED / "minilm/texts.jsonl", {"text": text})


def _described(file: Path, path: Path, block: dict) -> Path:
    file.write_text(yaml.safe_dump({"path": str(path), **block}))
    return file
