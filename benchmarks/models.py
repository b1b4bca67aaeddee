"""Models of known size, made here: random weights that keep activations healthy, nothing fetched."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CNN = Path(__file__).parent.parent / "sample_models" / "fashion_cnn" / "model.onnx"


def dense(path: Path, width: int = 256, layers: int = 12) -> Path:
    """Matrices and Relu: about 0.1 ms."""
    shapes = [(width, width)] * layers
    return _chain(path, "MatMul", shapes, ["batch", width], {})


def convolutions(path: Path, channels: int = 64, size: int = 112, layers: int = 6) -> Path:
    """Convolutions and Relu over an image: about 50 ms."""
    shapes = [(channels, 3 if index == 0 else channels, 3, 3) for index in range(layers)]
    return _chain(path, "Conv", shapes, ["batch", 3, size, size], {"pads": [1, 1, 1, 1]})


def three_sizes(folder: Path) -> dict[str, Path]:
    """Models from 0.1 ms to 50 ms, by name."""
    small, large = dense(folder / "small.onnx"), convolutions(folder / "large.onnx")
    return {"0.1 ms": small, "0.5 ms": CNN, "50 ms": large}


def _chain(path: Path, kind: str, shapes: list[tuple[int, ...]], shape: list[object], attributes: dict) -> Path:
    generator = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for index, each in enumerate(shapes):
        inputs = int(np.prod(each[1:])) if kind == "Conv" else each[0]
        drawn = generator.standard_normal(each) * np.sqrt(2 / inputs)
        weights.append(numpy_helper.from_array(drawn.astype(np.float32), f"w{index}"))
        nodes.append(helper.make_node(kind, [value, f"w{index}"], [f"y{index}"], **attributes))
        nodes.append(helper.make_node("Relu", [f"y{index}"], [f"x{index}"]))
        value = f"x{index}"
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    result = helper.make_tensor_value_info(value, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "chain", [given], [result], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(proto), path)
    return path
