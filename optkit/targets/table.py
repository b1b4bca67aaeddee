"""The table of targets: a line for each runtime, imported when it is used; light enough for the command line."""

from __future__ import annotations

TARGETS = {
    "onnxruntime": "optkit.targets.onnxruntime.target:OnnxRuntime",
    "openvino": "optkit.targets.openvino.target:OpenVino",
    "tensorrt": "optkit.targets.tensorrt.target:TensorRT",
    "torch": "optkit.targets.torch.target:Torch",
    "fake": "optkit.targets.fake.target:Fake",
}
"""A model whose target nobody named runs on the first that opens its format."""

DEFAULT = "onnxruntime"
"""The target of a stage, a recipe or a command that names none."""
REFERENCE = "onnxruntime"
"""The target that computes ONNX graphs on the CPU where optkit itself needs their values."""
