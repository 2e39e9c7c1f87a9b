"""What several processes read, change and write again."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from latentrt.runtime.system import file_lock
from latentrt.runtime.system.file_lock import locked

ADD = (
    "import sys; from pathlib import Path; from latentrt.runtime.system.file_lock import locked\n"
    "path = Path(sys.argv[1])\n"
    "for _ in range(200):\n"
    "    with locked(path):\n"
    "        path.write_text(str(int(path.read_text()) + 1))\n"
)


def test_nothing_is_lost_between_processes_with_caches_of_their_own(tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")
    processes = []
    for index in range(3):  # as containers that share a volume
        environment = os.environ | {"LATENTRT_CACHE": str(tmp_path / f"cache {index}")}
        processes.append(subprocess.Popen([sys.executable, "-c", ADD, str(count)], env=environment))
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert count.read_text() == "600"
    assert [path.name for path in tmp_path.iterdir()] == ["count"], "no file next to it"


def test_threads_wait_for_each_other_and_other_names_do_not(tmp_path: Path) -> None:
    inside = threading.Event()

    def enter() -> None:
        with locked(tmp_path / "one"):
            inside.set()

    thread = threading.Thread(target=enter)
    with locked(tmp_path / "one"):
        with locked(tmp_path / "other"):
            thread.start()
        assert not inside.wait(0.2)
    thread.join(10)
    assert inside.is_set()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_a_killed_process_left_is_free(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from latentrt.runtime.system.file_lock import locked\n"
    code += "with locked(Path(sys.argv[1])):\n    os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "one")], check=False).returncode == 9
    assert len(list(tmp_path.iterdir())) == 1
    with locked(tmp_path / "one"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_a_cache_folder_the_lock_still_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "file"))
    with locked(tmp_path / "one"):
        assert (tmp_path / ".one.lock").exists()


def test_the_lock_of_a_missing_folder_is_in_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))
    with locked(tmp_path / "missing" / "one"):
        assert len(list((tmp_path / "cache" / "locks").iterdir())) == 1


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF])
def test_a_file_system_without_locks_keeps_nothing_from_running(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: object) -> bool:
        raise OSError(code, os.strerror(code))

    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(file_lock, "try_lock", refuse)
    with locked(tmp_path / "one"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.skipif(sys.platform == "win32", reason="makes a pipe and a link")
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_lock_in_a_folder_of_another_person_leads_nowhere(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))
    there = tmp_path / ".one.lock"
    if kind == "link":
        there.symlink_to(tmp_path / "made")
    elif kind == "pipe":
        os.mkfifo(there)
    else:
        there.mkdir()
    with locked(tmp_path / "one"):
        pass
    assert not (tmp_path / "made").exists()
