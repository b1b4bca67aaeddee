"""The code, descriptions and recipes that a user brings, for ``make.py``."""

NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3), nn.GELU()
        )
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return {"logits": self.head(self.body(x).mean((2, 3)))}


def build():
    return Net(16)


def small():
    return Net(8)
"""
FEEDS = """
import numpy as np


def feeds():
    with np.load("data.npz") as data:
        for row, label in zip(data["x"], data["labels"]):
            yield {"x": row}, label
"""
PHOTOS = """\
path: photos
images:
  size: 8
  resize: 10
  fit: crop
  interpolation: bicubic
  color: L
  layout: NCHW
  scale: 0.01
  mean: 0.5
  std: 1.5
  dtype: float32
  input: x
  classes: [dark, medium, bright]
"""
TEXTS = """\
path: texts.jsonl
text:
  tokenizer: tokenizer.json
  text: sentence
  label: mood
  max_length: 6
  padding: max_length
  inputs: {ids: input_ids, mask: attention_mask}
"""
ALL_KEYS = """\
# Every key of a recipe; of stages that train see trained.yaml.
model:
  path: ../models/weights.pth
  code: ../net.py:build
  inputs: ["x:float32[batch,1,8,8]"]
  trust: false
data: {path: ../data.npz}
calibration: {path: ../calibration.npz}
calibration_samples: 40
seed: 1
metric: accuracy:logits
max_drop: 0.5
targets: [onnxruntime]
stages:
  - export: {opset: 18, rtol: 0.001, atol: 0.0001}
  - fuse
  - quantize:
      precision: int8
      floats: float32
      method: static
      engine: auto
      calibrate: minmax
      per_channel: true
      model_type: auto
      preset: mixed
      bias_correction: fast
      smooth_quant: null
      exclude: [Gemm]
      epochs: 5
      batch_size: 64
      learning_rate: null
      weight_decay: 0.01
      patience: 3
  - compile: {device: null, threads: 1, options: {}, compute_capability: [8.9], shapes: [batch=1/8/32]}
benchmark: {seconds: 0.3, precision: 0.2, threads: 1, batch: 1}
gate:
  max_drop: 0.9
  min_speedup: 0.001
  max_slowdown: 1000
  max_p99: 20s
  min_throughput: 0.001
  max_size_ratio: 100
  max_memory: 500GB
"""
TRAINED = """\
# Every key of the stages that train.
model:
  path: ../models/weights.pth
  code: ../net.py:build
  inputs: ["x:float32[batch,1,8,8]"]
train: ../calibration.npz
data: ../data.npz
max_drop: 0.5
targets: [onnxruntime]
stages:
  - prune:
      sparsity: 0.3
      of: parameters
      target_speedup: null
      drop_layers: 0
      pattern: structured
      importance: l2
      scope: layer
      steps: 1
      round_to: 4
      exclude: [head]
      epochs: 2
      batch_size: 16
      learning_rate: 0.001
      weight_decay: 0.01
      patience: 1
  - distill:
      student: null
      student_code: null
      layers: null
      match: kl
      temperature: 2.0
      logits: 1.0
      hidden: null
      attention: null
      task: 0.5
      epochs: 2
      batch_size: 16
      learning_rate: 0.001
      weight_decay: 0.01
      patience: 1
  - quantize: {method: qat, epochs: 1, batch_size: 16, learning_rate: 0.0001}
benchmark: {seconds: 0.3, threads: 1}
"""
BOTH = """\
# Two targets, one data set, the options of one engine.
model: {path: ../models/model.onnx}
data: ../data.npz
max_drop: 0.5
targets: [openvino, onnxruntime]
stages:
  - quantize: {precision: int8, method: static, exclude: [/body/body.0/Conv]}
  - compile
benchmark: {seconds: 0.3, threads: 1}
gate: {max_drop: 0.9}
"""
NNCF = """\
model: ../models/model.onnx
data: ../data.npz
targets: [openvino]
stages:
  - quantize: {model_type: transformer, preset: performance, bias_correction: accurate, smooth_quant: 0.5}
"""
BY_IMAGES = """\
model: ../models/model.onnx
data:
  path: ../photos
  images: {color: L, size: 8, mean: [0.5], std: [1.5]}
stages:
  - quantize: {precision: int8}
"""
BY_TEXT = """\
model: ../models/text.onnx
data:
  path: ../texts.jsonl
  text:
    {tokenizer: ../tokenizer.json, text: sentence, label: mood, inputs: {ids: input_ids, mask: attention_mask}}
targets: [openvino]
stages: [quantize: {precision: int8, method: weight-only}, compile]
gate:
"""
SHORTEST = "model: ../models/model.onnx\n"
RECIPES = {
    "all-keys": ALL_KEYS, "trained": TRAINED, "both": BOTH, "nncf": NNCF, "images": BY_IMAGES, "text": BY_TEXT,
    "shortest": SHORTEST,
}  # fmt: skip
