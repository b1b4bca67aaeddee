"""Kill a recipe at random moments; the next run must end with the digests of one never disturbed.

Moments are spread over the whole run: stages, bundles, measuring, reports. Store and folder are taken anew for each.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [sys.executable, "-m", "optkit", "run"]
RECIPE = Path(__file__).parent.parent / "recipes" / "fashion-cnn-int8.yaml"
QUICK = ("--set", "benchmark.seconds=0.1", "--set", "calibration_samples=50")
KILLS = 10


def start(folder: Path) -> subprocess.Popen[bytes]:
    """A run in ``folder/run`` through the store in ``folder/store``."""
    environment = os.environ | {"OPTKIT_CACHE": str(folder / "store")}
    command = [*COMMAND, str(RECIPE), *QUICK, "-o", str(folder / "run")]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def digests(folder: Path) -> list[str]:
    """The digests of all stages' results and of all bundles' files."""
    run = json.loads((folder / "run" / "record.json").read_text())
    found = [stage["result"]["digest"] for branch in run["branches"] for stage in branch["stages"]]
    for manifest in sorted((folder / "run" / "bundles").glob("*/manifest.json")):
        found += json.loads(manifest.read_text())["digests"].values()
    return found


def main() -> None:
    generator = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        calm, killed = Path(name) / "calm", Path(name) / "killed"
        started = time.monotonic()
        if start(calm).wait():
            raise SystemExit("the undisturbed run failed")
        whole = time.monotonic() - started
        print(f"An undisturbed run takes {whole:.1f} s.\n\n| killed after | same digests |\n|---|---|")
        for _ in range(KILLS):
            process, moment = start(killed), generator.uniform(0.02, 0.98) * whole
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
            process.wait()
            if not (killed / "run" / "record.json").exists() and start(killed).wait():
                raise SystemExit(f"the run after a kill at {moment:.2f} s failed")
            same = digests(killed) == digests(calm)
            print(f"| {moment:.1f} s | {'yes' if same else 'NO'} |", flush=True)
            shutil.rmtree(killed)


if __name__ == "__main__":
    main()
