"""Latents on disk: all fields come back, files from elsewhere are read, and damage is one sentence."""

import os
import stat
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from safetensors.numpy import save_file

from latentrt.runtime.errors import InputError, MediaError, OutputError
from latentrt.runtime.media.latents_file import LatentsFile, read_latents, write_latents

LATENTS: Any = np.random.default_rng(0).standard_normal((1, 4, 3, 5, 6)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_every_field_comes_back(tmp_path: Path, dtype: type) -> None:
    content = LatentsFile(LATENTS.astype(dtype), "AutoencoderKLLTX2Video", 512, 768, 17, Fraction(30000, 1001), True)
    write_latents(tmp_path / "a.safetensors", content)
    back = read_latents(tmp_path / "a.safetensors")
    assert back.latents.dtype == dtype
    assert back.latents.flags.writeable
    np.testing.assert_array_equal(back.latents, content.latents)
    assert (back.family, back.height, back.width, back.frames) == ("AutoencoderKLLTX2Video", 512, 768, 17)
    assert (back.frame_rate, back.scaled) == (Fraction(30000, 1001), True)
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_metadata_is_what_other_tools_are_told(tmp_path: Path) -> None:
    write_latents(tmp_path / "a.safetensors", LatentsFile(LATENTS, "x", 8, 9, None, Fraction(24), False))
    with safetensors.safe_open(tmp_path / "a.safetensors", framework="np") as file:
        assert file.metadata() == {
            "format": "latentrt-latents-1",
            "family": "x",
            "original_height": "8",
            "original_width": "9",
            "frame_rate": "24",
            "scaled": "false",
        }


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_who_may_read_the_file_follows_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        for _ in range(2):  # over an existing file too
            write_latents(tmp_path / "a.safetensors", LatentsFile(LATENTS))
            assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == mode
    finally:
        os.umask(before)


def test_strided_latents_are_written_as_they_look(tmp_path: Path) -> None:
    write_latents(tmp_path / "a.safetensors", LatentsFile(LATENTS[..., ::2].swapaxes(0, 1)))
    np.testing.assert_array_equal(read_latents(tmp_path / "a.safetensors").latents, LATENTS[..., ::2].swapaxes(0, 1))


def test_a_file_without_our_metadata_reads_too(tmp_path: Path) -> None:
    save_file({"sample": LATENTS}, tmp_path / "a.safetensors", {"format": "pt"})
    np.save(tmp_path / "a.npy", LATENTS.astype(np.float64))
    for name in ("a.safetensors", "a.npy"):
        back = read_latents(tmp_path / name)
        assert back.latents.dtype == np.float32
        np.testing.assert_array_equal(back.latents, LATENTS)
        assert (back.family, back.height, back.frame_rate, back.scaled) == (None, None, None, None)


def test_bfloat16_is_widened_exactly(tmp_path: Path) -> None:
    bits = (LATENTS.view(np.uint32) >> 16).astype("<u2")
    header = '{"other":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"latents":{"dtype":"BF16","shape":[1,4,3,5,6],'
    header += f'"data_offsets":[4,{4 + bits.nbytes}]}}}}'
    content = len(header).to_bytes(8, "little") + header.encode() + bytes(4) + bits.tobytes()
    (tmp_path / "a.safetensors").write_bytes(content)
    back = read_latents(tmp_path / "a.safetensors").latents
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back.view(np.uint32), LATENTS.view(np.uint32) & 0xFFFF0000)


@pytest.mark.parametrize("name", ["a.safetensors", "a.npy"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_one_clear_error(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    if name.endswith("npy"):
        np.save(path, LATENTS)
    else:
        write_latents(path, LatentsFile(LATENTS))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(MediaError, match="not a whole") as caught:
        read_latents(path)
    assert "\n" not in str(caught.value)


def test_what_holds_no_latents_is_one_clear_error(tmp_path: Path) -> None:
    cases = {
        "two": ({"a": LATENTS, "b": LATENTS}, None, "none named latents"),
        "rank": ({"latents": LATENTS[0, 0, 0]}, None, "shape"),
        "int": ({"latents": LATENTS.astype(np.int32)}, None, "I32"),
        "newer": ({"latents": LATENTS}, {"format": "latentrt-latents-2"}, "update latentrt"),
        "field": ({"latents": LATENTS}, {"format": "latentrt-latents-1", "original_height": "-8"}, "original_height"),
        "rate": ({"latents": LATENTS}, {"format": "latentrt-latents-1", "frame_rate": "1/0"}, "frame_rate"),
        "aspect": (
            {"latents": LATENTS},
            {"format": "latentrt-latents-1", "sample_aspect_ratio": "1/0"},
            "sample_aspect_ratio",
        ),
    }
    for name, (tensors, metadata, message) in cases.items():
        save_file(tensors, tmp_path / f"{name}.safetensors", metadata)
        with pytest.raises(MediaError, match=message):
            read_latents(tmp_path / f"{name}.safetensors")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    np.save(tmp_path / "ints.npy", np.zeros((1, 1, 1, 1), np.int64))
    for name in ("objects.npy", "ints.npy", "absent.safetensors"):
        with pytest.raises(MediaError):
            read_latents(tmp_path / name)


@pytest.mark.parametrize(("text", "value"), [("4/3", Fraction(4, 3)), ("2", Fraction(2)), ("1/1", None)])
def test_square_pixels_are_no_aspect_ratio(text: str, value: Fraction | None, tmp_path: Path) -> None:
    metadata = {"format": "latentrt-latents-1", "sample_aspect_ratio": text}
    save_file({"latents": LATENTS}, tmp_path / "a.safetensors", metadata)
    assert read_latents(tmp_path / "a.safetensors").sample_aspect_ratio == value


def test_a_damaged_array_header_is_one_clear_error(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", LATENTS)
    content = (tmp_path / "a.npy").read_bytes()
    for old, new in ((b"}", b" "), (b"'descr'", b"descr'!"), (b"shape", b"shap\xff")):
        (tmp_path / "a.npy").write_bytes(content.replace(old, new, 1))
        with pytest.raises(MediaError, match="not a whole"):
            read_latents(tmp_path / "a.npy")


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    for bad in (LATENTS[0, 0], LATENTS.astype(np.float64), LATENTS[:0]):
        with pytest.raises(InputError, match="latents must be"):
            write_latents(tmp_path / "a.safetensors", LatentsFile(bad))
    with pytest.raises(OutputError, match="make it first"):
        write_latents(tmp_path / "absent" / "a.safetensors", LatentsFile(LATENTS))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_full_disk_is_an_output_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_latents(path, LatentsFile(LATENTS))
    old = path.read_bytes()
    code = (
        "import resource, sys, numpy as np\n"
        "from latentrt.runtime.errors import OutputError\n"
        "from latentrt.runtime.media.latents_file import LatentsFile, write_latents\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: write_latents(sys.argv[1], LatentsFile(np.zeros((1, 4, 64, 64), np.float32)))\n"
        "except OutputError as error: sys.exit(str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"cannot write {path}")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [old]


def test_no_framework_is_imported(tmp_path: Path) -> None:
    write_latents(tmp_path / "a.safetensors", LatentsFile(LATENTS))
    code = (
        "import sys; from latentrt.runtime.media.latents_file import read_latents; read_latents(sys.argv[1])\n"
        "sys.exit(bool({'torch', 'PIL', 'av', 'jax'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.safetensors")], check=True)
