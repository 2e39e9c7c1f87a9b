"""Sizes: every command prints height x width x frames, says so once, and asks for sizes in the same order."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke

from latentrt.cli.command_table import COMMANDS
from latentrt.cli.printing.size_order import size_order
from latentrt.runtime.media.clips.clip_writer import write_clip
from latentrt.runtime.media.latents_file import LatentsFile, write_latents
from latentrt.runtime.media.pictures.picture_file import write_picture

BundleOf = Callable[[str], Path]
ENGINE = ("--backend", "onnxruntime", "--threads", "1")
# Sizes in another order, or as a shape: 24 rows and 40 columns, and clips of 64 rows, 96 columns and 9 frames.
ELSEWHERE = re.compile(r"40x24|96x64|9x64x96|64x96x9x|\b24, 40\b|\b64, 96\b|5x3\b")
CASES = {
    "encode a picture": ("encode", "sd", "p.png", "-o", "z.safetensors", "--tile", "16x24", *ENGINE),
    "decode to a picture": ("decode", "sd", "l.safetensors", "-o", "o.png", *ENGINE),
    "decode in tiles": ("decode", "sd", "l.safetensors", "-o", "o.npy", "--tile", "16x24", *ENGINE),
    "decode to a clip": ("decode", "ltx20", "v.safetensors", "-o", "o.mp4", *ENGINE),
    "plan tiles": ("plan", "sd", "--size", "24x40", "--tile", "16x24", "--backend", "onnxruntime"),
    "plan with memory": ("plan", "sd", "--size", "24x40", "--memory", "4GiB", "--all", "--backend", "onnxruntime"),
    "doctor of a picture": ("doctor", "sd", "--size", "24x40"),
    "doctor of a clip": ("doctor", "ltx20", "--size", "64x96x9"),
    "bench": ("bench", "sd", "--size", "24x40", "--repeats", "1", "--strategy", "whole", *ENGINE),
    "verify tiles": ("verify", "sd", "--tiling", "--tile", "16x24", "--overlap", "8x8", "--samples", "p.png", *ENGINE),
    "calibrate": ("calibrate", "sd", "--backend", "onnxruntime"),
    "demo": ("demo", "demo"),
}
LONG = {"bench", "calibrate", "demo"}
SLOW = {"plan with memory", "verify tiles"}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a picture, a clip and latents of both, as the working directory."""
    random = np.random.default_rng(0)
    write_picture(tmp_path / "p.png", random.integers(0, 256, (24, 40, 3), np.uint8))
    with write_clip(tmp_path / "v.mp4", 24) as clip:
        clip.write(random.integers(0, 256, (9, 64, 96, 3), np.uint8))
    for name, shape in {"l": (1, 4, 3, 5), "v": (1, 16, 2, 2, 3)}.items():
        latents = random.standard_normal(shape).astype(np.float32)
        write_latents(tmp_path / f"{name}.safetensors", LatentsFile(latents, scaled=False))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if name in LONG else pytest.mark.slow if name in SLOW else ())
        for name in CASES
    ],
)
def test_a_command_that_prints_sizes_says_their_order_once(name: str, files: Path, bundle_of: BundleOf) -> None:
    command, *arguments = CASES[name]
    given = [bundle_of(one) if place == 0 and command != "demo" else one for place, one in enumerate(arguments)]
    result = invoke(command, *given)
    assert result.exit_code == 0, result.output
    printed = result.output.replace(str(files), "")
    assert not ELSEWHERE.search(printed), printed
    wanted = 0 if size_order(printed) is None else 1
    assert printed.count("height x width") == wanted, printed
    if not name.startswith("plan"):
        assert wanted == 1, printed
    assert name == "verify tiles" or (size_order(printed) or "") in printed


@pytest.mark.parametrize("command", COMMANDS)
def test_help_asks_for_sizes_in_one_order(command: str) -> None:
    text = invoke(command, "--help").output
    asked = re.findall(r"[A-Za-z]*H[A-Z]*x[A-Z]+\w*", text)
    others = [one for one in asked if "HEIGHTxWIDTH" not in one]
    assert others == (["WIDTHxHEIGHT"] if command == "decode" else []), "only the line of ffmpeg has ffmpeg's order"
    sizes = [one for one in re.findall(r"\b\d+x\d+\b", text) if len(set(one.split("x"))) > 1]
    assert not sizes or "HEIGHTxWIDTH" in text


def test_names_and_shapes_are_no_sizes() -> None:
    assert size_order("tiles of 16x24") == "sizes are height x width"
    assert size_order("64x96x9, in one pass; 24x40") == "sizes are height x width x frames"
    for text in ("whole", "1x4x8x8", "x86_64", "p24x40.png", "a1x2"):
        assert size_order(text) is None
