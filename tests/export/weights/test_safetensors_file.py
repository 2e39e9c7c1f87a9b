"""Safetensors files as they occur: padding behind the data, dtypes of other models, and what lies in their place."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from latentrt.export.weights.safetensors_file import SafetensorsFile
from latentrt.runtime.errors import CheckpointError

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file({"a": VALUES, "b": np.ones(4, np.float16)}, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def written(path: Path, entries: dict[str, tuple[str, list[int], int]]) -> Path:
    """A file with entries of (dtype, shape, bytes), filled with ones."""
    header, end = {}, 0
    for name, (dtype, shape, size) in entries.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\1" * end)
    return path


@pytest.mark.parametrize("more", [1, 8, 4096, 1 << 20])
def test_zeros_behind_the_last_tensor_are_padding_and_are_noted(more: int, path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(more))
    opened = SafetensorsFile(path)
    np.testing.assert_array_equal(opened.read("a"), VALUES)
    assert opened.notes == (f"model.safetensors has {more} zero bytes behind its last tensor, which are left out",)


@pytest.mark.parametrize("more", [b"\1", bytes(8) + b"x", bytes((1 << 20) + 1), b"<html>"])
def test_other_bytes_behind_the_last_tensor_are_damage(more: bytes, path: Path) -> None:
    """As a copy in text mode leaves them: the file is longer, and all tensors are altered."""
    with path.open("ab") as file:
        file.write(more)
    with pytest.raises(CheckpointError, match=rf"has {len(more)} bytes behind its last tensor, so it is damaged"):
        SafetensorsFile(path)


def test_a_whole_file_has_no_notes(path: Path) -> None:
    assert SafetensorsFile(path).notes == ()


@pytest.mark.parametrize(
    ("dtype", "shape", "size"), [("F4", [3], 2), ("F6_E3M2", [4], 3), ("F8_E4M3FNUZ", [4], 4), ("U128", [2], 32)]
)
def test_a_tensor_of_an_unknown_dtype_elsewhere_is_no_reason_to_refuse_a_file(
    dtype: str, shape: list[int], size: int, tmp_path: Path
) -> None:
    opened = SafetensorsFile(written(tmp_path / "x.safetensors", {"new": (dtype, shape, size), "a": ("F32", [1], 4)}))
    assert opened.read("a").shape == (1,)
    with pytest.raises(CheckpointError, match=f"tensor 'new' is stored as {dtype}; supported: float32"):
        opened.read("new")


@pytest.mark.parametrize("dtype", ["", "\0", "x" * 33, "F\n4", "é"])
def test_a_dtype_that_is_no_name_is_damage(dtype: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="entry for 'a' is damaged"):
        SafetensorsFile(written(tmp_path / "x.safetensors", {"a": (dtype, [1], 4)}))


def test_a_known_dtype_must_fill_its_bytes(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="entry for 'a' is damaged"):
        SafetensorsFile(written(tmp_path / "x.safetensors", {"a": ("I64", [1], 4)}))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LFS, r"Git LFS pointer, .*git lfs pull"),
        ("<!DOCTYPE html><html>", "web page"),
        ("Entry not found", "error message of a server"),
        ("", "it is an empty file"),
    ],
)
def test_what_lies_in_the_place_of_a_file_is_named(content: str, reason: str, path: Path) -> None:
    path.write_text(content)
    with pytest.raises(CheckpointError, match=reason):
        SafetensorsFile(path)
