"""Claims on the outputs of a folder: one process at a time, and none that outlives its process."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latentrt.runtime.errors import OutputError
from latentrt.runtime.system.outputs import claim
from latentrt.runtime.system.outputs.claim import FolderClaims, is_claim


def test_an_output_is_claimed_by_one_at_a_time(tmp_path: Path) -> None:
    with FolderClaims(tmp_path) as first, FolderClaims(tmp_path) as second:
        with first.claimed("a.png") as mine:
            assert mine
            assert [is_claim(path.name) for path in tmp_path.iterdir()] == [True]
            with second.claimed("a.png") as theirs:
                assert not theirs
            with second.claimed("b.png") as other:
                assert other
        with second.claimed("a.png") as now:
            assert now
    assert list(tmp_path.iterdir()) == []


def test_a_claim_is_given_back_after_an_error(tmp_path: Path) -> None:
    with FolderClaims(tmp_path) as claims, pytest.raises(KeyError), claims.claimed("a.png"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def killed_claim(folder: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from latentrt.runtime.system.outputs.claim import FolderClaims\n"
        "with FolderClaims(Path(sys.argv[1])) as claims, claims.claimed('a.png'): os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    assert len(list(folder.iterdir())) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere such claims end with time")
def test_the_claim_of_a_dead_process_is_taken_over_and_swept(tmp_path: Path) -> None:
    killed_claim(tmp_path)
    claims = FolderClaims(tmp_path)
    with claims.claimed("a.png") as mine:
        assert mine
    killed_claim(tmp_path)
    with FolderClaims(tmp_path):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "- 1", "9" * 5000, "[" * 900, "another pid:[1] 1 1", "a b -1 c"])
def test_a_damaged_claim_is_no_sign_of_a_dead_process(text: str, tmp_path: Path) -> None:
    with FolderClaims(tmp_path) as claims, claims.claimed("a.png"):
        next(tmp_path.iterdir()).write_text(text)
        with FolderClaims(tmp_path) as other, other.claimed("a.png") as mine:
            assert not mine


def test_the_claim_of_another_machine_ends_when_its_time_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "_SILENT_SECONDS", 0.3)
    with FolderClaims(tmp_path) as claims, claims.claimed("a.png"):
        file = next(tmp_path.iterdir())
        file.write_text("another pid:[1] 1 1")
        other = FolderClaims(tmp_path)
        for beat in range(4):
            os.utime(file, ns=(0, time.time_ns() + beat))
            with other.claimed("a.png") as mine:
                assert not mine
            time.sleep(0.15)
        time.sleep(0.3)
        with other.claimed("a.png") as mine:
            assert mine


def test_a_held_claim_shows_that_its_process_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "_BEAT_SECONDS", 0.05)
    with FolderClaims(tmp_path) as claims, claims.claimed("a.png"):
        file = next(tmp_path.iterdir())
        os.utime(file, ns=(0, 0))
        ends = time.monotonic() + 10
        while file.stat().st_mtime_ns == 0:
            assert time.monotonic() < ends
            time.sleep(0.02)


@pytest.mark.skipif(sys.platform == "win32", reason="no permissions")
def test_a_claim_in_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"), FolderClaims(tmp_path / "none").claimed("a.png"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_pipe_or_a_dangling_link_with_the_name_of_a_claim_is_removed(tmp_path: Path) -> None:
    with FolderClaims(tmp_path) as claims, claims.claimed("a.png"):
        name = next(tmp_path.iterdir()).name
    os.mkfifo(tmp_path / name)
    with FolderClaims(tmp_path) as claims, claims.claimed("a.png") as mine:
        assert mine
    (tmp_path / name).symlink_to(tmp_path / "absent")
    claims = FolderClaims(tmp_path)
    with claims.claimed("a.png") as mine:
        assert mine
    assert list(tmp_path.iterdir()) == []
