"""What optkit adds to an engine: static INT8 of MiniLM by ``optkit quantize`` and by a script written by hand.

Both are whole processes over the same model, texts and count of samples, and take turns. The script does what the
engine's manual says, and neither checks nor keeps anything. Needs sample_models/fetch.py.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMAND = str(Path(sys.executable).parent / "optkit")
SAMPLE = ROOT / "sample_models" / "minilm"
FETCHED = ROOT / "sample_models" / "fetched" / "minilm"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
ROUNDS = 5

FEEDS = """
import json, sys
import numpy as np
from tokenizers import Tokenizer
model, texts, tokenizer_file, count, result = sys.argv[1:]
tokenizer = Tokenizer.from_file(tokenizer_file)
tokenizer.enable_truncation(128)
def feeds():
    for line in open(texts).read().splitlines()[: int(count)]:
        encoded = tokenizer.encode(json.loads(line)["text"])
        arrays = (encoded.ids, encoded.attention_mask, encoded.type_ids)
        yield dict(zip(("input_ids", "attention_mask", "token_type_ids"), (np.array([each]) for each in arrays)))
"""
BY_HAND = {
    "onnxruntime": FEEDS
    + """
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
class Reader(CalibrationDataReader):
    def __init__(self):
        self.feeds = feeds()
    def get_next(self):
        return next(self.feeds, None)
quant_pre_process(model, result + ".prepared", skip_symbolic_shape=True)
quantize_static(result + ".prepared", result, Reader(), per_channel=True, op_types_to_quantize=["MatMul", "Gemm"])
""",
    "openvino": FEEDS
    + """
import nncf, openvino
data = nncf.Dataset(list(feeds()))
quantized = nncf.quantize(openvino.Core().read_model(model), data, subset_size=int(count),
    model_type=nncf.ModelType.TRANSFORMER, preset=nncf.QuantizationPreset.MIXED)
openvino.save_model(quantized, result, compress_to_fp16=False)
""",
}


def seconds(*command: str) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def exported(folder: Path) -> Path:
    inputs = [text for name in INPUTS for text in ("--input", f"{name}:int64[batch,sequence]")]
    code = f"{SAMPLE / 'net.py'}:build"
    seconds(
        COMMAND, "export", str(FETCHED / "model.safetensors"), "--code", code, *inputs, "-o", str(folder / "m.onnx")
    )
    return folder / "m.onnx"


def main() -> None:
    samples = len((FETCHED / "texts.jsonl").read_text().splitlines()) // 2
    print(f"{samples} calibration samples, medians of {ROUNDS}\n")
    print("| target | by hand | optkit quantize | added |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = str(exported(folder))
        for target, suffix in (("onnxruntime", "onnx"), ("openvino", "xml")):
            texts, tokenizer = str(FETCHED / "texts.jsonl"), str(FETCHED / "tokenizer.json")
            hand = (
                sys.executable,
                "-c",
                BY_HAND[target],
                model,
                texts,
                tokenizer,
                str(samples),
                f"{folder}/h.{suffix}",
            )
            ours = (COMMAND, "quantize", model, "--int8", "--method", "static", "--target", target, "--no-measure")
            data = ("--data", str(SAMPLE / "texts.yaml"), "-o", f"{folder}/o.{suffix}", "--force")
            pairs = [(seconds(*hand), seconds(*ours, *data)) for _ in range(ROUNDS)]
            by_hand, with_optkit = (statistics.median(each) for each in zip(*pairs, strict=True))
            added = statistics.median(after / before for before, after in pairs) - 1
            print(f"| {target} | {by_hand:.1f} s | {with_optkit:.1f} s | {100 * added:+.0f} % |", flush=True)


if __name__ == "__main__":
    main()
