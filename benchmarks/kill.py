"""Kill a recipe at random moments; the next undisturbed run must end with the digests of one never disturbed."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = str(Path(sys.executable).parent / "optkit")
RECIPE = Path(__file__).parent.parent / "recipes" / "fashion-cnn-int8.yaml"
KILLS = 10


def command(folder: Path, store: Path, name: str) -> subprocess.Popen[bytes]:
    arguments = [COMMAND, "run", str(RECIPE), "--set", "benchmark.seconds=0.2", "-o", str(folder / name), "--force"]
    environment = os.environ | {"OPTKIT_CACHE": str(store)}
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def digests(record: Path) -> list[str]:
    run = json.loads(record.read_text())
    return [stage["result"]["digest"] for branch in run["branches"] for stage in branch["stages"]]


def main() -> None:
    generator = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.monotonic()
        if command(folder, folder / "calm", "calm").wait():
            raise SystemExit("the undisturbed run failed")
        whole = time.monotonic() - started
        moments = []
        for number in range(KILLS):
            store = folder / f"store-{number}"
            process = command(folder, store, f"run-{number}")
            moment = generator.uniform(0.1, 0.9) * whole
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
            process.wait()
            again = command(folder, store, f"run-{number}").wait()
            same = not again and digests(folder / f"run-{number}" / "record.json") == digests(
                folder / "calm/record.json"
            )
            moments.append((moment, same))
    print("| killed after | same digests |\n|---|---|")
    for moment, same in moments:
        print(f"| {moment:.2f} s of {whole:.2f} s | {'yes' if same else 'NO'} |")


if __name__ == "__main__":
    main()
