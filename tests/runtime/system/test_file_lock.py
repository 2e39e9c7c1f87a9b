"""What several processes read, change and write again."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from latentrt.runtime.system.file_lock import locked

ADD = (
    "import sys; from pathlib import Path; from latentrt.runtime.system.file_lock import locked\n"
    "path = Path(sys.argv[1])\n"
    "for _ in range(200):\n"
    "    with locked(path):\n"
    "        path.write_text(str(int(path.read_text()) + 1))\n"
)


def test_nothing_is_lost_between_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))
    count = tmp_path / "count"
    count.write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", ADD, str(count)]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert count.read_text() == "600"
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["count"], "no file beside it"


def test_threads_wait_for_each_other_and_other_names_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))
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


def test_without_a_cache_folder_nobody_is_kept_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "file"))
    with locked(tmp_path / "one"):
        pass
