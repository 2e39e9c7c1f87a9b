"""Numbers in text: all forms that people write are exact, and what takes long to compute is refused first."""

import json
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke
from safetensors.numpy import save_file

from latentrt.runtime.errors import InputError, MediaError
from latentrt.runtime.media.latents_file import read_latents, read_metadata
from latentrt.runtime.system.budget import parse_memory
from latentrt.runtime.system.number_text import parse_fraction, parse_whole_number

HOSTILE = [
    "1e99999999",
    "1e-99999999",
    "9" * 1_000_000,
    "1/" + "9" * 1_000_000,
    "0." + "1" * 1_000_000,
    "1" + " " * 1_000_000,
    "1_000",
    "٣",
    "nan",
    "inf",
    "-1",
    "1/0",
    "0x10",
    "",
    "1/2/3",
]


def test_the_usual_forms_are_exact() -> None:
    for text, value in (
        ("24", Fraction(24)),
        ("29.97", Fraction(2997, 100)),
        ("30000/1001", Fraction(30000, 1001)),
        ("1e3", Fraction(1000)),
        (".5", Fraction(1, 2)),
        ("23.97602397602397602397", Fraction("23.97602397602397602397")),
        (" 24 ", Fraction(24)),
    ):
        assert parse_fraction(text) == value
    assert parse_whole_number("0512") == 512


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:12])
def test_what_is_no_number_or_too_long_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"\A[^\n]{1,120}\Z"):
        parse_fraction(text)
    with pytest.raises(ValueError, match=r"\A[^\n]{1,120}\Z"):
        parse_whole_number(text)
    for key in ("frame_rate", "original_frames", "original_height", "original_width"):
        save_file({"latents": np.zeros((1, 4, 2, 2), np.float32)}, tmp_path / "z.safetensors", {
            "format": "latentrt-latents-1", key: text
        })  # fmt: skip
        with pytest.raises(MediaError, match=key) as caught:
            read_latents(tmp_path / "z.safetensors")
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["1e99999999", "9" * 5000, "1/0"], ids=lambda text: text[:12])
def test_hostile_numbers_on_the_command_line_are_wrong_usage(tmp_path: Path, text: str) -> None:
    result = invoke("decode", tmp_path, tmp_path / "z.safetensors", "-o", tmp_path / "x.mp4", "--fps", text)
    assert result.exit_code == 2
    assert "is not a frame rate" in result.output
    assert len(result.output) < 1000
    assert invoke("plan", tmp_path, "--size", f"{text}x64").exit_code == 2
    with pytest.raises(InputError, match="wanted bytes"):
        parse_memory("9" * 400 + "GiB")


@pytest.mark.slow
@pytest.mark.parametrize("metadata", [True, False])
def test_a_header_of_many_megabytes_is_refused_before_it_is_parsed(
    tmp_path: Path, metadata: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safetensors.safe_open", None)  # whose memory is not Python's
    header: dict[str, object] = {"latents": {"dtype": "F32", "shape": [1, 1, 1, 1], "data_offsets": [0, 4]}}
    if metadata:
        header["__metadata__"] = {str(index): "x" for index in range(600_000)}
    else:
        header |= {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [4, 4]} for i in range(100_000)}
    text = json.dumps(header).encode()
    (tmp_path / "z.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    for read in (read_latents, read_metadata):
        tracemalloc.start()
        with pytest.raises(MediaError, match=r"header of \d+ MB"):
            read(tmp_path / "z.safetensors")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


def test_an_array_that_claims_more_than_the_file_holds_takes_no_memory(tmp_path: Path) -> None:
    for shape in ("(1, 16, 1000000, 1000000)", "(9223372036854775807, 9223372036854775807, 9, 9)", "(1, 4, -2, -2)"):
        head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
        (tmp_path / "z.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(64))
        with pytest.raises(MediaError, match="not a whole"):
            read_latents(tmp_path / "z.npy")
