"""Peak memory of ``optkit quantize --int8`` with 64 and with 6,400 calibration samples, each a process of its own."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

COMMAND = str(Path(sys.executable).parent / "optkit")
MODEL = Path(__file__).parent.parent / "sample_models" / "fashion_cnn" / "model.onnx"


def peak_bytes(*arguments: str) -> int:
    process = subprocess.Popen([COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"optkit {' '.join(arguments)} failed")
    return usage.ru_maxrss * 1024


def main() -> None:
    print("| target | calibrate | 64 samples | 6,400 samples | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in (64, 6400):
            images = np.random.default_rng(count).random((count, 1, 28, 28), dtype=np.float32)
            np.savez(folder / f"{count}.npz", x=images)
        for target, calibrate in (("onnxruntime", "minmax"), ("onnxruntime", "percentile"), ("openvino", "minmax")):
            peaks = [
                peak_bytes(
                    *("quantize", str(MODEL), "--int8", "--no-measure", "--force", "--target", target),
                    *("--calibration", str(folder / f"{count}.npz"), "--calibration-samples", str(count)),
                    *(
                        "--calibrate",
                        calibrate,
                        "-o",
                        str(folder / f"out{'.xml' if target == 'openvino' else '.onnx'}"),
                    ),
                )
                for count in (64, 6400)
            ]
            cells = [f"{peak / 1e6:.0f} MB" for peak in peaks]
            print(f"| {target} | {calibrate} | {' | '.join(cells)} | {peaks[1] / peaks[0]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
