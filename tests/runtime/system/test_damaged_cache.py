"""A damaged record in the cache folder counts as absent, and is replaced."""

import json
import os
import time
from pathlib import Path

import pytest

from latentrt.runtime.system import file_identity
from latentrt.runtime.system.cache_folder import replace_file
from latentrt.runtime.system.file_identity import FileIdentity, verified_sha256
from latentrt.runtime.system.hashing import sha256_of


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    os.utime(path, (1, 1))
    while not FileIdentity.of(path).is_settled(time.time_ns()):
        time.sleep(0.05)
    return path


@pytest.mark.parametrize(
    "damage",
    ["empty", "zeros", "deep", "list", "wrong kinds", "another hash", "no check", "folder", "full folder"],
)
def test_a_damaged_record_of_a_hash_is_read_anew(
    damage: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = verified_sha256(file)
    (record,) = (tmp_path / "cache" / "verified").iterdir()
    values = json.loads(record.read_text())
    if damage in ("folder", "full folder"):
        record.unlink()
        record.mkdir()
        if damage == "full folder":
            (record / "file").touch()
    else:
        changed = {
            "wrong kinds": {"sha256": 1, "identity": 2},
            "another hash": values | {"sha256": "0" * 64},
            "no check": {key: value for key, value in values.items() if key != "check"},
        }
        plain = {"empty": b"", "zeros": bytes(300), "deep": b"[" * 50_000, "list": b"[]"}
        record.write_bytes(plain[damage] if damage in plain else json.dumps(changed[damage]).encode())
    read = []

    def noted(path: Path) -> str:
        read.append(path)
        return sha256_of(path)

    monkeypatch.setattr(file_identity, "sha256_of", noted)
    assert [verified_sha256(file), verified_sha256(file)] == [right, right]
    assert read == [file], "it was read once, and the record was replaced"


@pytest.mark.parametrize("flush", [False, True])
def test_a_file_of_the_cache_replaces_a_folder_of_its_name_and_leaves_no_other_file(
    flush: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    path.mkdir()
    (path / "file").touch()
    for content in (b"one", b"two"):
        replace_file(path, content, flush=flush)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_the_cache_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        replace_file(tmp_path / "missing" / "a.json", b"")
