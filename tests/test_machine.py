"""The fingerprint, read from trees of files as the kernel writes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from optkit import cgroup, machine

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


def tree(root: Path, **files: str) -> Path:
    """Files of the kernel's below ``root``; two underscores in a name stand for a slash."""
    for name, text in files.items():
        write(root, name.replace("__", "/"), text)
    return root


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_this_machine_has_a_fingerprint():
    found = machine.fingerprint()
    assert found.cpu
    assert 0 < found.cores_allowed <= found.cores
    assert 0 < found.memory_allowed_bytes <= found.memory_bytes
    assert {library.name: library.version for library in found.libraries}["onnxruntime"]


def test_the_cpu_is_the_first_core_with_the_instructions_that_matter(tmp_path):
    found = machine.fingerprint(tree(tmp_path, proc__cpuinfo=XEON))
    assert found.cpu == "Intel(R) Xeon(R) Processor"
    assert found.isa == ["amx_int8", "avx2", "avx512_vnni", "avx512f", "fma"]


def test_an_arm_cpu_is_named_by_its_numbers(tmp_path):
    found = machine.fingerprint(tree(tmp_path, proc__cpuinfo=GRAVITON))
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
    found = machine.fingerprint(tmp_path)
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
    assert machine.fingerprint(tree(tmp_path, proc__loadavg="0.01 0.02 0.03 1/9 7")).noise == []


def test_a_library_that_is_not_installed_has_no_version():
    assert machine.version("there-is-no-such-library-of-ours") is None


def test_a_gpu_that_shares_its_memory_has_no_size_of_it():
    found = machine._gpu("NVIDIA GB10, [N/A], 12.1, 580.95")
    assert (found.memory_bytes, found.compute_capability) == (None, "12.1")
    assert machine._gpu("NVIDIA H200, 143771, 9.0, 570.1").memory_bytes == 143771 << 20


def test_the_fingerprint_imports_no_runtime():
    code = "import sys; from optkit import machine; machine.fingerprint(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "onnxruntime", "openvino", "onnx", "tensorrt"} & set(loaded)
