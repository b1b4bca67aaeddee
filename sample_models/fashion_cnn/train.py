"""Train the sample network on Fashion-MNIST and write it in every form that optkit opens.

Needs Debian's package ``dataset-fashion-mnist`` (60,000 + 10,000 labelled images, MIT licence):

    apt-get install dataset-fashion-mnist
    python sample_models/fashion_cnn/train.py
"""

import argparse
import gzip
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
from net import build
from torch import nn

HERE = Path(__file__).parent
CALIBRATION_SAMPLES = 300
EVALUATION_SAMPLES = 1500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    train, test = (load(part) for part in ("train", "t10k"))
    module = fit(build(), *train, epochs=options.epochs)
    print(f"accuracy on all {len(test[1])} test images: {accuracy(module, *test):.4f}")
    save_models(module, test[0][:2].clone())  # a view would bring all images into the .pt2
    save_data("calibration.npz", *train, CALIBRATION_SAMPLES, options.seed)
    save_data("evaluation.npz", *test, EVALUATION_SAMPLES, options.seed)


def load(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images as float32 [n, 1, 28, 28] in 0..1 and labels as int64 [n]."""
    listing = subprocess.run(["dpkg", "-L", "dataset-fashion-mnist"], capture_output=True, text=True, check=True)
    files = [Path(line) for line in listing.stdout.splitlines() if Path(line).name.startswith(part)]
    images, labels = (read_idx(next(file for file in files if kind in file.name)) for kind in ("images", "labels"))
    return torch.from_numpy(images).float().div(255).unsqueeze(1), torch.from_numpy(labels).long()


def read_idx(file: Path) -> np.ndarray:
    raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", rank, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape).copy()


def fit(
    module: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    epochs: int,
    batch: int = 128,
    smoothing: float = 0.05,
) -> nn.Module:
    module.to(memory_format=torch.channels_last).train()
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.AdamW(module.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.2)
    started = time.monotonic()
    for epoch in range(epochs):
        for rows in torch.randperm(len(images)).split(batch)[: len(images) // batch]:
            x = images[rows]
            flipped = torch.rand(len(x)) < 0.5
            x[flipped] = x[flipped].flip(3)
            loss = nn.functional.cross_entropy(module(x), labels[rows], label_smoothing=smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}/{epochs}: loss {loss.item():.3f}, {time.monotonic() - started:.0f} s", flush=True)
    return module.to(memory_format=torch.contiguous_format).eval()


@torch.inference_mode()
def accuracy(module: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    hits = sum(int((module(x).argmax(1) == y).sum()) for x, y in zip(images.split(500), labels.split(500), strict=True))
    return hits / len(labels)


def save_models(module: nn.Module, example: torch.Tensor) -> None:
    """The four torch forms and ONNX."""
    torch.save(module.state_dict(), HERE / "weights.pth")
    torch.jit.trace(module, example).save(str(HERE / "traced.pt"))
    dynamic = {"x": {0: torch.export.Dim("batch")}}
    program = torch.export.export(module, (example,), dynamic_shapes=dynamic)
    torch.export.save(program, HERE / "program.pt2")
    torch.save(module, HERE / "module.pt")
    torch.onnx.export(
        module,
        (example,),
        HERE / "model.onnx",
        dynamo=True,
        input_names=["x"],
        output_names=["logits"],
        dynamic_shapes=dynamic,
        external_data=False,
    )


def save_data(name: str, images: torch.Tensor, labels: torch.Tensor, count: int, seed: int) -> None:
    rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count]
    np.savez_compressed(HERE / name, x=images[rows].numpy(), labels=labels[rows].numpy())


if __name__ == "__main__":
    main()
