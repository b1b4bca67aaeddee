"""What disturbs a measurement is seen in the kernel's counters, and told with the option that helps."""

import os
import re
from pathlib import Path

import pytest

from optkit.formats.model import Model
from optkit.measurement import warnings as measurement_warnings
from optkit.measurement.candidate import Candidate
from optkit.measurement.timing import Measurement, Timing
from optkit.measurement.warnings import find_warnings
from optkit.records.record import Interval
from optkit.system import cgroup
from optkit.system.noise import Conditions, Watch

TICKS = os.sysconf("SC_CLK_TCK")
QUIET = Conditions(seconds=10.0, cores_by_others=0.02, cores_stolen=0.0, swapped_bytes=0, megahertz=(3000, 3010))


def kernel(root, *, busy=0, stolen=0, megahertz=3000, swapped=0, throttled=0):
    """The kernel's files at one moment, of this machine's first core; ``busy`` and ``stolen`` in seconds."""
    for folder in ("proc/self", "sys/fs/cgroup"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    core = min(cgroup.cores())
    (root / "proc/stat").write_text(f"cpu 0 0\ncpu{core} {busy * TICKS} 0 0 5 5 0 0 {stolen * TICKS} 0 0\n")
    (root / "proc/cpuinfo").write_text(f"processor : 0\ncpu MHz\t\t: {megahertz:.3f}\n")
    (root / "proc/vmstat").write_text(f"pswpin {swapped}\npswpout 0\n")
    (root / "proc/self/cgroup").write_text("0::/\n")
    (root / "sys/fs/cgroup/cpu.stat").write_text(f"usage_usec 1\nthrottled_usec {throttled}\n")


def test_a_watch_counts_what_happened_since_it_began(tmp_path):
    kernel(tmp_path)
    watch = Watch(tmp_path)
    watch.look()
    kernel(tmp_path, busy=1000, stolen=500, megahertz=2000, swapped=3, throttled=250_000)
    watch.look()
    seen = watch.seen()
    assert seen.cores_by_others * seen.seconds == pytest.approx(1000, abs=10)  # less what this process itself took
    assert seen.cores_stolen * seen.seconds == pytest.approx(500)
    assert seen.megahertz == (2000, 3000)
    assert seen.swapped_bytes == 3 * os.sysconf("SC_PAGE_SIZE")
    assert seen.throttled_seconds == pytest.approx(0.25)


def test_a_watch_sees_the_gpus_where_one_is_measured(tmp_path, nvidia_smi):
    watch = Watch(tmp_path)
    nvidia_smi({"clocks.sm": "1980"}, {"clocks.sm": "210", "clocks_event_reasons.active": "0x1"})
    watch.look(gpu=True)
    nvidia_smi({"clocks.sm": "1200", "clocks_event_reasons.active": "0x44"}, {"clocks.sm": "1980"})
    watch.look(gpu=True)
    seen = watch.seen()
    assert seen.gpu_megahertz == (1200, 1980)
    assert seen.gpu_throttled == ("hw_thermal_slowdown", "sw_power_cap")


def test_a_watch_leaves_the_gpus_alone_where_none_is_measured(tmp_path, nvidia_smi):
    watch = Watch(tmp_path)
    nvidia_smi({"clocks_event_reasons.active": "0x44"})
    watch.look()
    assert (watch.seen().gpu_megahertz, watch.seen().gpu_throttled) == (None, ())


def test_where_the_system_tells_nothing_nothing_is_known(tmp_path):
    seen = Watch(tmp_path).seen()
    assert (seen.cores_by_others, seen.cores_stolen, seen.swapped_bytes, seen.megahertz) == (None, None, None, None)


def timing(*, speedup=None, facts=None, **options):
    candidate = Candidate("new.onnx", Model(Path("new.onnx"), "onnx", ""), "openvino", options)
    return Timing(candidate, speedup=speedup, facts=facts or {})


def found(*timings, conditions=QUIET):
    measurement = Measurement([timing(), *timings], 8, 64, conditions)
    return {note.kind: note for note in find_warnings(measurement, seconds=10, precision=0.01)}


@pytest.mark.parametrize(
    ("conditions", "kind", "says"),
    [
        ({"cores_by_others": 0.98}, "noisy-neighbour", "other programs took 1.0 of"),
        ({"cores_stolen": 0.4}, "stolen-time", "--seconds"),
        ({"throttled_seconds": 1.5}, "quota", "throttled this process for 1.50 s: --threads"),
        ({"megahertz": (2000, 3000)}, "frequency", "between 2000 and 3000 MHz"),
        ({"gpu_throttled": ("sw_thermal_slowdown",)}, "gpu-throttled", "throttled its clock (sw_thermal_slowdown)"),
        ({"gpu_megahertz": (1200, 1980)}, "gpu-frequency", "between 1200 and 1980 MHz"),
        ({"swapped_bytes": 5_000_000}, "swap", "5.00 MB of memory was swapped"),
    ],
)
def test_what_the_machine_did_is_told(conditions, kind, says):
    notes = found(conditions=Conditions(**{"seconds": 10.0} | conditions))
    assert list(notes) == [kind]
    assert says in notes[kind].text
    assert notes[kind].level == "warning"


def test_a_neighbour_is_left_a_core_only_where_there_is_one_to_leave():
    busy = Conditions(seconds=10.0, cores_by_others=1.0)
    assert "--threads 1" in found(timing(facts={"threads": 2}), conditions=busy)["noisy-neighbour"].text
    assert "--threads" not in found(timing(facts={"threads": 1}), conditions=busy)["noisy-neighbour"].text


def test_a_quiet_machine_and_a_narrow_interval_need_no_caution():
    assert found(timing(speedup=Interval(value=2.0, low=1.99, high=2.01))) == {}


def test_a_wide_interval_names_the_time_that_would_do():
    note = found(timing(speedup=Interval(value=1.0, low=0.98, high=1.02)))["spread"]
    assert "±2.0 %" in note.text
    assert "--seconds 40" in note.text


@pytest.mark.parametrize(
    ("facts", "options", "kinds"),
    [
        ({"build": "Debug"}, {}, ["debug-build"]),
        ({"threads": 1000}, {}, ["too-many-threads"]),
        ({"precision": "bf16"}, {}, ["bf16"]),
        ({"precision": "bf16"}, {"INFERENCE_PRECISION_HINT": "bf16"}, []),
        ({"precision": "bf16"}, {"INFERENCE_PRECISION_HINT": "dynamic"}, ["bf16"]),
        ({"precision": "f32", "threads": 1, "build": "Release"}, {}, []),
    ],
)
def test_what_a_session_says_of_itself(facts, options, kinds):
    assert list(found(timing(facts=facts, **options))) == kinds


def test_every_caution_has_a_section_of_documentation():
    page = (Path(__file__).parents[2] / "docs" / "measuring.md").read_text()
    sources = [
        Path(measurement_warnings.__file__),
        *(Path(measurement_warnings.__file__).parents[1] / "targets").rglob("*.py"),
    ]
    kinds = {kind for each in sources for kind in re.findall(r'(?:_warning|yield )\(\s*"([\w-]+)"', each.read_text())}
    assert {"debug-build", "swap", "bf16", "other-provider"} <= kinds
    assert all(f"### {kind}\n" in page for kind in kinds)
