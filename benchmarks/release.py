"""The gate on a sample release: a good model, shuffled weights, debug work left in, too small an evaluation set."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import models
import numpy as np
import onnx
from fingerprint import fingerprint
from junitparser import JUnitXml
from onnx import TensorProto, helper, numpy_helper

COMMAND = [sys.executable, "-m", "optkit"]
DATA = models.CNN.parent / "evaluation.npz"
RULES = ("--max-drop", "0.02", "--max-slowdown", "1.1", "--max-size-ratio", "1.5")


def shuffled(path: Path) -> Path:
    """The classes' weights in another order."""
    proto = onnx.load(models.CNN)
    gemm = next(node for node in proto.graph.node if node.op_type == "Gemm")
    tensor = next(each for each in proto.graph.initializer if each.name == gemm.input[1])
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.roll(values, 1, axis=int(np.argmin(values.shape))), tensor.name))
    onnx.save(proto, path)
    return path


def with_debug_work(path: Path) -> Path:
    """A sum over large products of the input, left in as a second output."""
    proto = onnx.load(models.CNN)
    size = numpy_helper.from_array(np.array([28, 4096], np.int64), "debug_size")
    shape = numpy_helper.from_array(np.array([-1, 28], np.int64), "debug_shape")
    value = numpy_helper.from_array(np.array([1e-3], np.float32))
    proto.graph.initializer.extend([size, shape])
    given = proto.graph.input[0].name
    proto.graph.node.extend(
        [
            helper.make_node("ConstantOfShape", ["debug_size"], ["debug_weights"], value=value),
            helper.make_node("Reshape", [given, "debug_shape"], ["debug_rows"]),
            helper.make_node("MatMul", ["debug_rows", "debug_weights"], ["debug_products"]),
            helper.make_node("ReduceSum", ["debug_products"], ["debug_sum"], keepdims=0),
        ]
    )
    proto.graph.output.append(helper.make_tensor_value_info("debug_sum", TensorProto.FLOAT, []))
    onnx.save(proto, path)
    return path


def few(path: Path) -> Path:
    """Twenty samples."""
    data = np.load(DATA)
    np.savez(path, **{name: data[name][:20] for name in data.files})
    return path


def judge(name: str, candidate: Path, data: Path, folder: Path, page: Path) -> str:
    junit = folder / "gate.xml"
    arguments = ["gate", str(candidate), "--baseline", str(models.CNN), "--data", str(data), *RULES]
    environment = os.environ | {"GITHUB_STEP_SUMMARY": str(page)}
    done = subprocess.run(
        [*COMMAND, *arguments, "--threads", "1", "--junit", str(junit), "--json"],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    verdict = json.loads(done.stdout)["verdict"]
    ends = {
        case.name: next((type(each).__name__.lower() for each in case.result), "passed")
        for suite in JUnitXml.fromfile(str(junit))
        for case in suite
    }
    found = ", ".join(f"{rule}: {end}" for rule, end in ends.items())
    return f"| {name} | {verdict} | {done.returncode} | {found} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=Path("runs/gate-summary.md"), help="where the summary page goes")
    page = parser.parse_args().page
    page.parent.mkdir(exist_ok=True)
    page.unlink(missing_ok=True)
    print(fingerprint(), "\n")
    print("| release | verdict | exit code | JUnit, as junitparser reads it |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = folder / "good.onnx"
        good.write_bytes(models.CNN.read_bytes())
        print(judge("good", good, DATA, folder, page), flush=True)
        print(judge("shuffled weights", shuffled(folder / "shuffled.onnx"), DATA, folder, page), flush=True)
        print(judge("debug work left in", with_debug_work(folder / "debug.onnx"), DATA, folder, page), flush=True)
        print(judge("good, 20 samples", good, few(folder / "few.npz"), folder, page), flush=True)


if __name__ == "__main__":
    main()
