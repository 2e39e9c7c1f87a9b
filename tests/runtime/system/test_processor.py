"""What Linux tells of the CPU, and what there is where nothing tells."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from latentrt.export.benchmark.machine import describe_machine
from latentrt.runtime.system import control_groups
from latentrt.runtime.system import processor as module
from latentrt.runtime.system.processor import engine_threads, processor, usable_cores

TWO_CORES = """\
processor\t: 0
model name\t: Some CPU @ 2.00GHz
flags\t\t: fpu avx2 avx512f amx_bf16

processor\t: 1
model name\t: Another CPU
flags\t\t: fpu
"""


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    processor.cache_clear()
    yield
    processor.cache_clear()


def test_name_and_instructions_are_the_first_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(TWO_CORES, encoding="utf-8")
    monkeypatch.setattr(module, "_CPUINFO", file)
    assert processor().name == "Some CPU @ 2.00GHz"
    assert processor().instructions == {"fpu", "avx2", "avx512f", "amx_bf16"}
    assert describe_machine()["cpu"] == "Some CPU @ 2.00GHz (avx2, avx512f, amx_bf16)"


@pytest.mark.parametrize("text", [None, "processor\t: 0\nFeatures\t: asimd bf16\n"])
def test_where_nothing_tells_the_name_is_pythons(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another system, or Linux on ARM."""
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    monkeypatch.setattr(module, "_CPUINFO", file)
    monkeypatch.setattr(platform, "processor", lambda: "a processor")
    assert processor() == module.Processor("a processor", frozenset())
    processor.cache_clear()
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert describe_machine()["cpu"] == "unknown CPU"


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 cores, all of them allowed; its control groups lie in `groups`."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "groups").mkdir()
    monkeypatch.setattr(control_groups, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(control_groups, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    return tmp_path


def quota(folder: Path, version: int, micros: int | None, period: int = 100_000) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if version == 2:
        (folder / "cpu.max").write_text(f"{'max' if micros is None else micros} {period}\n")
    else:
        (folder / "cpu.cfs_quota_us").write_text(f"{-1 if micros is None else micros}\n")
        (folder / "cpu.cfs_period_us").write_text(f"{period}\n")


def test_without_limits_engines_take_their_own_number_of_threads(groups: Path) -> None:
    assert (usable_cores(), engine_threads(None), engine_threads(3)) == (8, None, 3)


@pytest.mark.parametrize(("version", "mount"), [(1, "cpu"), (1, "cpu,cpuacct"), (2, "")])
@pytest.mark.parametrize(("micros", "cores"), [(50_000, 1), (100_000, 1), (250_000, 3), (None, 8), (1_600_000, 8)])
def test_a_quota_counts_in_whole_cores(version: int, mount: str, micros: int | None, cores: int, groups: Path) -> None:
    kinds = ":cpu,cpuacct:" if version == 1 else "::"
    (groups / "proc/self/cgroup").write_text(f"12:memory:/other\n4{kinds}/outer/inner\n")
    quota(groups / "groups" / mount / "outer/inner", version, micros)
    assert usable_cores() == cores
    assert engine_threads(None) == (None if cores == 8 else cores)
    quota(groups / "groups" / mount / "outer", version, 200_000)
    assert usable_cores() == min(cores, 2), "the group around it has less"


def test_an_affinity_mask_counts(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5}, raising=False)
    assert (usable_cores(), engine_threads(None)) == (2, 2)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cores() == 8


def test_damaged_limits_are_no_limits(groups: Path) -> None:
    (groups / "proc/self/cgroup").write_text("0::/\n")
    for text in ("", "100", "x y", "0 0", "5 0"):
        (groups / "groups/cpu.max").write_text(text)
        assert usable_cores() == 8
