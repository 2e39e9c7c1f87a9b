"""Outputs are whole or absent, also if their process is killed."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from latentrt.runtime.errors import OutputError
from latentrt.runtime.system.outputs import partial_output as module
from latentrt.runtime.system.outputs.leftovers import remove_own_leftovers
from latentrt.runtime.system.outputs.partial_names import PartialName
from latentrt.runtime.system.outputs.partial_output import (
    is_partial,
    output_ending,
    output_error,
    partial_output,
    require_file,
    require_free,
)

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")

START = "import errno, fcntl, os, signal, sys, time; from pathlib import Path\n"
START += "from latentrt.runtime.system.outputs.partial_output import partial_output\n"
WRITE = (
    "with partial_output(Path(sys.argv[1])) as partial:\n    partial.write_text('half'); print('writing', flush=True)\n"
)
KILL = "    os.kill(os.getpid(), signal.SIGKILL)\n"
WAIT = "    sys.stdin.read()\n"
NO_LOCKS = "def refuse(*_): raise OSError(errno.ENOLCK, 'No locks available')\nfcntl.flock = refuse\n"
FILL = "with partial_output(Path(sys.argv[1]), overwrite=True) as partial:\n    partial.mkdir()\n"
FILL += "    for name in ('b', 'c', 'd', 'last'): (partial / name).write_text('new')\n"


@pytest.fixture(autouse=True)
def listed_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is listed again at once, also on a slow machine."""
    monkeypatch.setattr("latentrt.runtime.system.outputs.leftovers._LISTING_SHARE", 0)


def run(code: str, output: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START + code, str(output)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@posix
@pytest.mark.parametrize("prefix", ["", NO_LOCKS], ids=["locks", "no locks"])
@pytest.mark.parametrize("name", ["a.npy", "a" * 250 + ".png", "\u6f22" * 80 + ".png"], ids=["short", "long", "wide"])
def test_what_a_killed_process_left_is_gone_at_the_next_start(prefix: str, name: str, tmp_path: Path) -> None:
    output = tmp_path / name
    run(prefix + WRITE + KILL, output)
    assert len(names(tmp_path)) == 2
    assert all(map(is_partial, tmp_path.iterdir()))
    other = tmp_path / "b.npy"
    with partial_output(other) as partial:
        partial.touch()
    assert len(names(tmp_path)) == 3, "another output's leftovers are not ours to remove"
    require_free(output)
    assert names(tmp_path) == ["b.npy"]


@posix
@pytest.mark.parametrize("prefix", ["", NO_LOCKS], ids=["locks", "no locks"])
def test_the_file_of_a_live_writer_stays(prefix: str, tmp_path: Path) -> None:
    output = tmp_path / "a.npy"
    command = [sys.executable, "-c", START + prefix + WRITE + WAIT, str(output)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        before = names(tmp_path)
        with partial_output(output) as partial:
            partial.write_text("whole")
        assert output.read_text() == "whole"
        assert names(tmp_path) == sorted([*before, "a.npy"])
        output.unlink()
    assert (process.returncode, names(tmp_path), output.read_text()) == (0, ["a.npy"], "half")


@posix
def test_leftovers_of_another_machine_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "a.npy"
    run(
        "import latentrt.runtime.system.outputs.partial_names as p; p.host_mark = lambda: 'ffffff'\n" + WRITE + KILL,
        output,
    )
    left = names(tmp_path)
    require_free(output)
    assert names(tmp_path) == left, "its locks may not reach here"


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs namespaces of Linux")
def test_leftovers_of_another_container_are_removed_when_it_has_ended(tmp_path: Path) -> None:
    output = tmp_path / "a.npy"
    container = ["unshare", "-r", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*container, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets no user make namespaces")
    command = [*container, sys.executable, "-c", START + WRITE + WAIT, str(output)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        before = names(tmp_path)
        require_free(output)
        assert names(tmp_path) == before, "its writer has the number 1, and lives"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
    require_free(output)
    assert names(tmp_path) == []


def test_a_mark_that_its_writer_has_not_filled_yet_stays_where_there_are_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: object) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("latentrt.runtime.system.outputs.writer_mark.try_lock", refuse)
    mark = tmp_path / PartialName.fresh(tmp_path / "a").mark
    mark.touch()
    require_free(tmp_path / "a")
    assert mark.exists()
    os.utime(mark, (0, 0))
    time.sleep(0.01)
    require_free(tmp_path / "a")
    assert not mark.exists()


@posix
@pytest.mark.parametrize("moved", [0, 1, 2, 4, 6])
def test_a_folder_whose_filling_was_killed_gets_its_entries_back(moved: int, tmp_path: Path) -> None:
    folder = tmp_path / "frames.v1"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text("old")
    count = (
        f"moves = [0]; rename = Path.rename\ndef counted(*a):\n    if moves[0] == {moved}: os.kill(os.getpid(), 9)\n"
    )
    count += "    moves[0] += 1; return rename(*a)\nPath.rename = counted\nrmdir = Path.rmdir\n"
    count += f"Path.rmdir = lambda p: os.kill(os.getpid(), 9) if {moved} == 6 else rmdir(p)\n"
    run(count + FILL, folder)
    with pytest.raises(OutputError, match="exists already"):
        require_free(folder)
    if moved < 6:
        assert names(folder) == ["a", "b"]
        assert [(folder / name).read_text() for name in ("a", "b")] == ["old", "old"]
    assert names(tmp_path) == ["frames.v1"]
    assert not any(map(is_partial, folder.iterdir()))


def test_a_filling_that_fails_gives_the_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rename = tmp_path / "frames", Path.rename
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text("old")

    def refuse_last(source: Path, target: Path) -> Path:
        if target == folder / "last":
            raise OSError(errno.EIO, "Input/output error")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", refuse_last)

    def write() -> None:
        with partial_output(folder, overwrite=True) as partial:
            partial.mkdir()
            for name in ("b", "last", "c"):
                (partial / name).write_text("new")

    with pytest.raises(OutputError, match=r"cannot write .*frames \(Input/output error\)"):
        write()
    assert {name: (folder / name).read_text() for name in names(folder)} == {"a": "old", "b": "old"}


def test_the_named_entry_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bundle").mkdir()
    moved, rename = [], Path.rename

    def noted(source: Path, target: Path) -> Path:
        moved.append(source.name)
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", noted)
    with partial_output(tmp_path / "bundle", last_name="b") as partial:
        partial.mkdir()
        for name in "abc":
            (partial / name).touch()
    assert moved == ["a", "c", "b"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mounts of Linux")
def test_a_mount_point_is_filled(tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    folder.mkdir()
    code = START + "with partial_output(Path(sys.argv[1])) as partial:\n    partial.mkdir(); (partial / 'a').touch()\n"
    code += "print(os.path.ismount(sys.argv[1]), sorted(os.listdir(sys.argv[1])))"
    script = 'mount -t tmpfs tmpfs "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(folder), sys.executable, code]
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this system lets no user mount")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "True ['a']\n", done.stderr


@pytest.mark.parametrize("bytes_", [230, 240, 255])
@pytest.mark.parametrize("sign", ["a", "\u00e9", "\u6f22"])
def test_a_name_may_have_255_bytes(bytes_: int, sign: str, tmp_path: Path) -> None:
    stem = (sign * 255).encode()[: bytes_ - 4].decode(errors="ignore")
    for output in (tmp_path / f"{stem}.png", tmp_path / stem):
        with partial_output(output) as partial:
            assert partial.suffix == (output.suffix or ".partial")
            assert len(os.fsencode(partial.name)) < 143, "some file systems take 143 bytes"
            partial.touch()
    assert len(names(tmp_path)) == 2


def test_two_long_names_with_the_same_beginning_have_names_of_their_own(tmp_path: Path) -> None:
    one, other = tmp_path / ("a" * 200 + "1.png"), tmp_path / ("a" * 200 + "2.png")
    name = PartialName.fresh(one)
    assert PartialName.of_mark(name.mark) == name
    assert name.belongs_to(one)
    assert not name.belongs_to(other)
    assert not name.belongs_to(one.with_suffix(".jpg"))


def test_a_path_that_is_too_long_is_one_sentence(tmp_path: Path) -> None:
    deep = tmp_path
    while len(os.fsencode(deep)) < 4000:
        deep /= "d" * 200
    with pytest.raises(OutputError, match="cannot write"), partial_output(deep / ("d" * 90)) as partial:
        partial.touch()


def test_the_content_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(module, "flush_tree", full)
    with pytest.raises(OutputError, match="the disk is full"), partial_output(tmp_path / "a") as partial:
        partial.touch()
    assert names(tmp_path) == []


@posix
def test_only_files_and_folders_are_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="it is no ordinary file"):
        require_file(tmp_path / "pipe")
    with pytest.raises(OutputError, match="it is a folder"):
        require_file(tmp_path / "folder")
    with pytest.raises(OutputError, match="it is a folder"), partial_output(tmp_path / "folder") as partial:
        partial.touch()
    assert names(tmp_path / "folder") == []


def test_a_slash_or_an_existing_folder_means_a_folder(tmp_path: Path) -> None:
    (tmp_path / "there.v2").mkdir()
    endings = [output_ending(tmp_path / "there.v2"), output_ending("frames.d/"), output_ending("frames.d")]
    assert [*endings, output_ending(Path("A.PNG")), output_ending("frames")] == ["", "", ".d", ".png", ""]


def test_the_work_for_many_outputs_of_a_folder_does_not_grow_with_the_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, scandir = [], os.scandir

    def slow(path: Path) -> object:
        listed.append(path)
        time.sleep(0.05)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", slow)
    monkeypatch.setattr("latentrt.runtime.system.outputs.leftovers._LISTING_SHARE", 100)
    for index in range(20):
        require_free(tmp_path / f"{index}.npy")
    assert listed.count(tmp_path) == 1


@pytest.mark.parametrize("exists", [False, True])
def test_an_error_within_a_folder_names_the_file_that_the_user_knows(exists: bool, tmp_path: Path) -> None:
    folder = tmp_path / "frames.d"
    if exists:
        folder.mkdir()
    with partial_output(folder) as partial:
        partial.mkdir()
        message = str(output_error(partial / "frame_00000.png", OSError(errno.ENOSPC, "No space left on device")))
    assert message.startswith(f"cannot write {folder / 'frame_00000.png'}: the disk is full")


def test_the_errors_of_safetensors_are_those_of_the_system(tmp_path: Path) -> None:
    error = ValueError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert "the disk is full" in str(output_error(tmp_path, error))


def fill(output: Path, entries: int, *, overwrite: bool, meanwhile: str | None = None) -> None:
    with partial_output(output, overwrite=overwrite) as partial:
        partial.mkdir()
        for number in range(entries):
            (partial / f"{number:05d}.png").write_text("new")
        if meanwhile is not None:
            (output / meanwhile).write_text("mine")


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_entry_that_came_while_a_folder_was_made_is_not_replaced(overwrite: bool, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    if overwrite:
        (output / "00000.png").write_text("old")
    with pytest.raises(OutputError, match=r"exists already|got the entry notes\.txt meanwhile"):
        fill(output, 2, overwrite=overwrite, meanwhile="notes.txt")
    assert names(output) == (["00000.png", "notes.txt"] if overwrite else ["notes.txt"])
    assert {path.read_text() for path in output.iterdir()} <= {"mine", "old"}


def test_an_undo_that_is_interrupted_keeps_the_earlier_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out"
    output.mkdir()
    for number in range(4):
        (output / f"{number:05d}.png").write_text("old")
    rename: Callable[[Path, Path], Path] = Path.rename
    renamed: list[Path] = []

    def fails(self: Path, target: Path) -> Path:
        renamed.append(target)
        if len(renamed) in (6, 7):  # while the new entries come, and at once in the undo
            raise OSError(errno.EIO, "a disk that fails")
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fails)
        with pytest.raises(OutputError):
            fill(output, 2, overwrite=True)
    remove_own_leftovers()
    assert [path.read_text() for path in sorted(output.iterdir())] == ["old"] * 4


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files to other users")
def test_a_mark_of_another_user_moves_and_removes_nothing(tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(FILL + KILL, _made(output))
    mark = next(path for path in output.iterdir() if path.name.endswith(".mark"))
    mark.write_text('\n{"new": ["mine.txt"], "old": []}')
    os.chown(mark, 12345, 12345)
    (output / "mine.txt").write_text("mine")
    require_free(output, overwrite=True)
    assert (output / "mine.txt").read_text() == "mine"


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
