"""One of three candidates crashes, hangs, or runs out of memory: the other two are measured, and nothing is left.

The bad candidate is a torch module whose forward really does that; for the last, the command runs in a memory control
group of 2 GB (which takes root), so that the kernel ends the process.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import models
import psutil
from fingerprint import fingerprint

COMMAND = [sys.executable, "-m", "optkit"]
LIMIT = 2_000_000_000
GROUP = Path("/sys/fs/cgroup/memory/optkit-benchmark")
BODIES = {
    "crash": "import ctypes; ctypes.string_at(0)",
    "hang": "while True: pass",
    "out of memory": "self.hoard = [bytearray(b'x' * 50_000_000) for _ in range(200)]",
}
CODE = """
import torch

class Bad(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x):
        {body}
        return self.layer(x)

def build():
    return Bad()
"""
SAVE = "import torch, bad; torch.save(bad.build().state_dict(), 'bad.pth')"


@contextlib.contextmanager
def memory_group(wanted: bool) -> Iterator[Callable[[], None] | None]:
    """What a process does first to be in the group."""
    if not wanted:
        yield None
        return
    GROUP.mkdir(exist_ok=True)
    (GROUP / "memory.limit_in_bytes").write_text(str(LIMIT))
    yield lambda: (GROUP / "cgroup.procs").write_text(str(os.getpid()))
    GROUP.rmdir()


def row(name: str, body: str) -> str:
    with tempfile.TemporaryDirectory() as folder, memory_group(name == "out of memory") as enter:
        (Path(folder) / "bad.py").write_text(CODE.format(body=body))
        subprocess.run([sys.executable, "-c", SAVE], cwd=folder, check=True)
        three = [models.CNN, models.CNN, "bad.pth", f"{models.CNN}@openvino"]
        options = ["--code", "bad.py:build", "--input", "x:float32[batch,1,28,28]", "--time-limit", "20"]
        arguments = ["compare", *map(str, three), *options, "--seconds", "2", "--threads", "1", "--json"]
        done = subprocess.run([*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, preexec_fn=enter)
    ends = [
        "baseline" if each["baseline"] else each["reason"] or f"{each['speedup']['value']:.2f}x"
        for each in json.loads(done.stdout)["rows"]
    ]
    left = [
        each.pid
        for each in psutil.process_iter(["cmdline"])
        if "optkit.measurement.child" in " ".join(each.info["cmdline"] or [])
    ]
    return f"| {name} | {' | '.join(ends)} | {done.returncode} | {len(left)} |"


def main() -> None:
    print(fingerprint(), "\n")
    print("| the third | model | the same again | bad.pth | model on openvino | exit code | processes left |")
    print("|---" * 7 + "|")
    for name, body in BODIES.items():
        print(row(name, body), flush=True)


if __name__ == "__main__":
    main()
