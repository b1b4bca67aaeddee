"""The fingerprint, read from trees of files as the kernel writes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from optkit.records.machine import GpuState
from optkit.system import cgroup, fingerprint
from optkit.targets import libraries

XEON = """processor\t: 0
model name\t: Intel(R) Xeon(R) Processor
flags\t\t: fpu sse2 fma avx2 avx512f avx512_vnni hypervisor amx_int8

processor\t: 1
model name\t: another
flags\t\t: fpu
"""
GRAVITON = """processor\t: 0
Features\t: fp asimd asimddp sve i8mm bf16
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""


@pytest.fixture(autouse=True)
def without_gpus(tmp_path, monkeypatch):
    """What this machine's own ``nvidia-smi`` would say is none of the tests' business."""
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))


def tree(root: Path, **files: str) -> Path:
    """Files of the kernel's below ``root``; two underscores in a name stand for a slash."""
    for name, text in files.items():
        write(root, name.replace("__", "/"), text)
    return root


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_this_machine_has_a_fingerprint():
    found = libraries.fingerprint()
    assert found.cpu
    assert 0 < found.cores_allowed <= found.cores
    assert 0 < found.memory_allowed_bytes <= found.memory_bytes
    assert {library.name: library.version for library in found.libraries}["onnxruntime"]


def test_the_cpu_is_the_first_core_with_the_instructions_that_matter(tmp_path):
    found = fingerprint.fingerprint(tree(tmp_path, proc__cpuinfo=XEON))
    assert found.cpu == "Intel(R) Xeon(R) Processor"
    assert found.isa == ["amx_int8", "avx2", "avx512_vnni", "avx512f", "fma"]


def test_an_arm_cpu_is_named_by_its_numbers(tmp_path):
    found = fingerprint.fingerprint(tree(tmp_path, proc__cpuinfo=GRAVITON))
    assert found.cpu.endswith("implementer 0x41 part 0xd40")
    assert found.isa == ["asimddp", "bf16", "i8mm", "neon", "sve"]


def test_the_tightest_limit_of_nested_groups_holds(tmp_path):
    write(tmp_path, "proc/self/cgroup", "0::/user/job\n")
    for group, cpu, memory in (
        ("", "max 100000", "max"),
        ("user/", "150000 100000", "max"),
        ("user/job/", "max 1", "7"),
    ):
        write(tmp_path, f"sys/fs/cgroup/{group}cpu.max", cpu)
        write(tmp_path, f"sys/fs/cgroup/{group}memory.max", memory)
    assert cgroup.limits(tmp_path) == cgroup.Limits(1.5, 7)


def test_version_1_groups_are_read_in_each_controllers_own_tree(tmp_path):
    write(tmp_path, "proc/self/cgroup", "5:memory:/job\n4:cpu,cpuacct:/docker/abc\n3:pids:/\n")
    write(tmp_path, "sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1000")
    # In a container the path is the host's, and the mount begins at the group itself.
    write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000")
    write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000")
    assert cgroup.limits(tmp_path) == cgroup.Limits(0.5, 1000)


@pytest.mark.parametrize("groups", [None, "0::/\n", "4:cpu:/\n5:memory:/gone\n"])
def test_without_limits_there_are_none(tmp_path, groups):
    if groups is not None:
        write(tmp_path, "proc/self/cgroup", groups)
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    assert cgroup.limits(tmp_path) == cgroup.Limits(None, None)
    assert cgroup.cores_allowed(tmp_path) == len(os.sched_getaffinity(0))


def test_all_that_makes_a_machine_noisy_is_said(tmp_path):
    tree(
        tmp_path,
        proc__cpuinfo=XEON,
        proc__loadavg="3.20 1.00 0.50 2/100 77",
        sys__devices__system__cpu__smt__active="1",
    )
    write(tmp_path, "proc/meminfo", "MemTotal: 2000 kB\nSwapTotal: 500 kB\nSwapFree: 400 kB\n")
    write(tmp_path, "proc/self/cgroup", "0::/\n")
    write(tmp_path, "sys/fs/cgroup/cpu.max", "50000 100000")
    write(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave")
    found = fingerprint.fingerprint(tmp_path)
    assert [line.split(":")[0] for line in found.noise] == [
        "other work is running",
        "a cgroup quota of 0.5 cores",
        "a virtual machine",
        "SMT is on",
        "the CPU's frequency moves",
        "memory has been swapped out",
    ]
    assert (found.cores_allowed, found.memory_bytes) == (0.5, 2000 * 1024)


def test_a_quiet_machine_has_nothing_to_say(tmp_path):
    assert fingerprint.fingerprint(tree(tmp_path, proc__loadavg="0.01 0.02 0.03 1/9 7")).noise == []


def test_a_library_that_is_not_installed_has_no_version():
    assert fingerprint.version("there-is-no-such-library-of-ours") is None


def test_a_gpu_is_told_with_its_state(nvidia_smi):
    nvidia_smi({})
    (gpu,) = fingerprint.fingerprint().gpus
    assert (gpu.name, gpu.memory_bytes, gpu.compute_capability) == ("NVIDIA H100", 81559 << 20, "9.0")
    assert (gpu.power_limit_watts, gpu.persistence_mode, gpu.mig_mode) == (700.0, True, False)
    assert gpu.state == GpuState(
        sm_megahertz=1980,
        memory_megahertz=2619,
        power_watts=97.31,
        performance_state="P0",
        celsius=34,
        utilization=0.0,
        clock_reasons=["applications_clocks_setting"],
    )


def test_what_a_gpu_does_not_tell_is_unknown(nvidia_smi):
    untold = dict.fromkeys(["memory.total", "power.limit", "mig.mode.current", "pstate"], "[N/A]")
    nvidia_smi({**untold, "clocks.sm": "[Unknown Error]", "clocks_event_reasons.active": "[Not Supported]"})
    found = fingerprint.fingerprint()
    (gpu,) = found.gpus
    assert (gpu.memory_bytes, gpu.power_limit_watts, gpu.mig_mode) == (None, None, None)
    assert (gpu.state.sm_megahertz, gpu.state.performance_state, gpu.state.clock_reasons) == (None, None, None)
    assert not any("NVIDIA" in line for line in found.noise)


def test_an_older_drivers_name_of_the_reasons_will_do(nvidia_smi):
    old = {"clocks_event_reasons.active": None, "clocks_throttle_reasons.active": "0x0000000000000001"}
    nvidia_smi(old)
    (gpu,) = fingerprint.fingerprint().gpus
    assert gpu.state.clock_reasons == ["gpu_idle"]


def test_a_driver_that_does_not_know_a_field_tells_the_rest(nvidia_smi):
    nvidia_smi({"mig.mode.current": None}, {"mig.mode.current": None, "name": "NVIDIA L4"})
    found = fingerprint.fingerprint().gpus
    assert [gpu.name for gpu in found] == ["NVIDIA H100", "NVIDIA L4"]
    assert [gpu.state for gpu in found] == [None, None]


def test_an_nvidia_smi_that_fails_tells_of_no_gpu(nvidia_smi):
    nvidia_smi({"name": None})
    assert fingerprint.fingerprint().gpus == []


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        ({"clocks_event_reasons.active": "0x24"}, ["is throttled: sw_power_cap, sw_thermal_slowdown", "is locked"]),
        ({"utilization.gpu": "37"}, ["work is running on NVIDIA H100: busy 37.0 % of the last second"]),
        ({"clocks_event_reasons.active": "0x0", "clocks.sm": "210"}, ["is locked (210 of 1980 MHz now)"]),
    ],
)
def test_what_makes_a_gpu_noisy_is_said(nvidia_smi, changes, lines):
    nvidia_smi(changes)
    found = [line for line in fingerprint.fingerprint().noise if "NVIDIA" in line]
    assert len(found) == len(lines)
    assert all(words in line for words, line in zip(lines, found, strict=True))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"name": "NVIDIA L4"}, "GPU: NVIDIA H100 there, NVIDIA L4 here"),
        ({"driver_version": "570.1"}, "NVIDIA H100, driver: 580.82.07 there, 570.1 here"),
        ({"power.limit": "350.00"}, "NVIDIA H100, power limit: 700 W there, 350 W here"),
    ],
)
def test_another_gpu_driver_or_power_limit_is_another_machine(nvidia_smi, changes, line):
    nvidia_smi({})
    there = fingerprint.fingerprint()
    nvidia_smi(changes)
    assert fingerprint.differences(there, fingerprint.fingerprint()) == [line]


def test_the_state_of_the_moment_makes_no_other_machine(nvidia_smi):
    nvidia_smi({})
    there = fingerprint.fingerprint()
    nvidia_smi({"clocks.sm": "210", "pstate": "P8", "power.limit": "[N/A]", "temperature.gpu": "80"})
    assert fingerprint.differences(there, fingerprint.fingerprint()) == []


def test_a_machine_without_a_gpu_is_another_than_one_with(nvidia_smi):
    without = fingerprint.fingerprint()
    nvidia_smi({})
    assert fingerprint.differences(without, fingerprint.fingerprint()) == ["GPU: none there, NVIDIA H100 here"]


def test_the_fingerprint_imports_no_runtime():
    code = "import sys; from optkit.targets import libraries; libraries.fingerprint(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "onnxruntime", "openvino", "onnx", "tensorrt"} & set(loaded)


def test_what_a_killed_search_goes_on_by_holds_no_state_of_the_moment(nvidia_smi):
    nvidia_smi({})
    before = fingerprint.settled(fingerprint.fingerprint())
    nvidia_smi({"clocks.sm": "210", "utilization.gpu": "50"})
    assert fingerprint.settled(fingerprint.fingerprint()) == before
    nvidia_smi({"power.limit": "350.00"})
    assert fingerprint.settled(fingerprint.fingerprint()) != before
