"""What is left of a machine's memory, and of a container's."""

from pathlib import Path

import pytest

from latentrt.runtime.system import available_memory, control_groups
from latentrt.runtime.system.available_memory import available_bytes

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 16 GiB available; its control groups lie in `groups`."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "groups").mkdir()
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {16 * GIB // 1024} kB\n")
    monkeypatch.setattr(available_memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(control_groups, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(control_groups, "_CGROUPS", tmp_path / "groups")
    return tmp_path


def group(folder: Path, limit: str, used: int, cached: int, *, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    (folder / names[0]).write_text(limit)
    (folder / names[1]).write_text(str(used))
    prefix = "" if version == 2 else "total_"
    (folder / "memory.stat").write_text(f"anon 1\n{prefix}inactive_file {cached}\n")


def test_without_limits_it_is_the_machines(machine: Path) -> None:
    assert available_bytes() == 16 * GIB
    (machine / "proc/self/cgroup").write_text("0::/\n")
    assert available_bytes() == 16 * GIB
    group(machine / "groups", "max", GIB, 0)
    assert available_bytes() == 16 * GIB


@pytest.mark.parametrize("version", [1, 2])
def test_a_containers_limit_counts_and_what_is_only_cached_is_free(version: int, machine: Path) -> None:
    kinds, folder = (":cpu,memory:", "groups/memory") if version == 1 else ("::", "groups")
    (machine / "proc/self/cgroup").write_text(f"4{kinds}/outer/inner\n")
    group(machine / folder / "outer/inner", str(6 * GIB), 3 * GIB, 2 * GIB, version=version)
    assert available_bytes() == 5 * GIB
    group(machine / folder / "outer", str(4 * GIB), 3 * GIB, GIB, version=version)
    assert available_bytes() == 2 * GIB, "the group around it has less left"
    group(machine / folder / "outer", str(2 * GIB), 3 * GIB, 0, version=version)
    assert available_bytes() == 0


def test_where_nothing_is_told_the_whole_machine_counts(machine: Path) -> None:
    (machine / "proc/meminfo").unlink()
    assert available_bytes() > 0
