"""Latents and pictures through pipes: standard input, standard output, named pipes, and ffmpeg behind them."""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from command_line import LATENTRT, invoke

from latentrt.cli.main import cli
from latentrt.runtime.errors import InputError, MediaError
from latentrt.runtime.media.latents_file import LatentsFile, write_latents
from latentrt.runtime.media.pictures.picture_file import write_picture

BundleOf = Callable[[str], Path]


def piped(content: bytes, *arguments: object) -> bytes:
    """Run a command with this standard input, and give its standard output."""
    result = CliRunner().invoke(cli, [str(one) for one in arguments], input=content, catch_exceptions=False)
    return result.stdout_bytes


@pytest.fixture
def latents(tmp_path: Path) -> Path:
    z = np.random.default_rng(0).standard_normal((1, 4, 2, 3)).astype(np.float32)
    write_latents(tmp_path / "z.safetensors", LatentsFile(z, height=15, scaled=False))
    np.save(tmp_path / "z.npy", z)
    return tmp_path / "z.safetensors"


def test_latents_come_from_standard_input(tmp_path: Path, latents: Path, bundle_of: BundleOf) -> None:
    bundle = bundle_of("sd")
    for file in (latents, latents.with_suffix(".npy")):
        invoke("decode", bundle, file, "-o", tmp_path / "file.png")
        piped(file.read_bytes(), "decode", bundle, "-", "-o", tmp_path / "pipe.png")
        assert (tmp_path / "file.png").read_bytes() == (tmp_path / "pipe.png").read_bytes()
        (tmp_path / "file.png").unlink()
        (tmp_path / "pipe.png").unlink()


def test_a_picture_goes_through_both_pipes(tmp_path: Path, bundle_of: BundleOf) -> None:
    bundle = bundle_of("sd")
    write_picture(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (15, 20, 3), np.uint8))
    through = piped((tmp_path / "a.png").read_bytes(), "encode", bundle, "-", "-o", "-")
    piped(through, "decode", bundle, "-", "-o", tmp_path / "pipe.png")
    invoke("encode", bundle, tmp_path / "a.png", "-o", tmp_path / "a.safetensors")
    invoke("decode", bundle, tmp_path / "a.safetensors", "-o", tmp_path / "file.png")
    assert (tmp_path / "file.png").read_bytes() == (tmp_path / "pipe.png").read_bytes()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "standard input is empty"),
        (b"hello", "standard input is a text file"),
        (b"\x93NUMPY", "standard input is not"),
    ],
)
def test_a_bad_standard_input_is_named(tmp_path: Path, bundle_of: BundleOf, content: bytes, words: str) -> None:
    with pytest.raises(MediaError, match=words) as raised:
        piped(content, "decode", bundle_of("sd"), "-", "-o", tmp_path / "a.png")
    assert "latentrt-" not in str(raised.value), "the temporary file is not named"
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_and_a_closed_standard_input_are_refused(
    tmp_path: Path, bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentrt.runtime.files.standard_input import STANDARD_INPUT, readable_file

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, words in ((Terminal(), "terminal"), (None, "closed")):
        monkeypatch.setattr(sys, "stdin", stream)
        with pytest.raises(InputError, match=words), readable_file(STANDARD_INPUT, ".safetensors"):
            pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_latents_come_from_a_named_pipe(tmp_path: Path, latents: Path, bundle_of: BundleOf) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(latents.read_bytes()))
    writer.start()
    invoke("decode", bundle_of("sd"), tmp_path / "pipe", "-o", tmp_path / "a.png")
    writer.join()
    assert (tmp_path / "a.png").is_file()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_the_ffmpeg_line_of_the_help_makes_a_file_that_browsers_play(tmp_path: Path, bundle_of: BundleOf) -> None:
    z = np.random.default_rng(0).standard_normal((1, 16, 2, 2, 3)).astype(np.float32)
    write_latents(tmp_path / "z.safetensors", LatentsFile(z, scaled=False))
    text = invoke("decode", "--help").stdout
    found = re.search(r"ffmpeg (-f rawvideo.*?clip\.mp4)", text, re.DOTALL)
    assert found is not None
    options = shlex.split(found[1].replace("\\\n", " ").replace("WIDTHxHEIGHT", "96x64"))
    command = [*LATENTRT, "decode", str(bundle_of("ltx20")), str(tmp_path / "z.safetensors"), "-o", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as decode:
        subprocess.run(["ffmpeg", "-v", "error", *options], stdin=decode.stdout, cwd=tmp_path, check=True, timeout=120)
    assert decode.returncode == 0
    # ffmpeg without an output prints the streams, and ends with 1.
    probe = subprocess.run(["ffmpeg", "-hide_banner", "-i", "clip.mp4"], cwd=tmp_path, capture_output=True, text=True)
    stream = next(line for line in probe.stderr.splitlines() if "Video:" in line)
    assert "h264" in stream
    assert re.search(r"yuv420p\(tv, bt709", stream)
    content = (tmp_path / "clip.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "a browser plays it while it loads"
