"""The time of ``optkit --help`` and ``optkit quantize --help``: medians of ten whole processes."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMAND = str(Path(sys.executable).parent / "optkit")


def seconds(*arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run([COMMAND, *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


print("| command | median of ten | slowest |\n|---|---|---|")
for arguments in (("--help",), ("quantize", "--help")):
    seconds(*arguments)
    times = [seconds(*arguments) for _ in range(10)]
    print(f"| `optkit {' '.join(arguments)}` | {statistics.median(times):.3f} s | {max(times):.3f} s |")
