"""Limits of formats and of the disk, met before anything is decoded."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentrt.runtime.autoencoders.autoencoder import Autoencoder
from latentrt.runtime.autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video
from latentrt.runtime.errors import InputError, LatentRTError, MediaError, OutputError
from latentrt.runtime.files.decoded_file import decode_file
from latentrt.runtime.files.encoded_file import encode_file
from latentrt.runtime.media.clips import video_writer
from latentrt.runtime.media.clips.clip_writer import write_clip
from latentrt.runtime.media.latents_file import LatentsFile, write_latents
from latentrt.runtime.media.pictures.picture_file import read_picture, write_picture

Opened = Callable[..., Any]


@pytest.fixture
def nothing_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the decoder ran before the limits were checked")

    monkeypatch.setattr(Autoencoder, "decode", decode)
    monkeypatch.setattr(AutoencoderKLLTX2Video, "decode_frames", decode)


def zeros(path: Path, *shape: int) -> Path:
    write_latents(path, LatentsFile(np.zeros(shape, np.float32), scaled=False))
    return path


@pytest.mark.usefixtures("nothing_decodes")
@pytest.mark.parametrize(
    ("name", "shape", "limit", "cure"),
    [
        ("a.webp", (1, 4, 1, 2048), "16383", "JPEG"),
        ("a.webp", (1, 4, 2048, 1), "16383", "PNG"),
        ("a.jpg", (1, 4, 1, 8188), "65500", "PNG"),
        ("a.jpeg", (1, 4, 8188, 1), "65500", "PNG"),
        ("a.webp", (1, 4, 1, 8188), "16383", "PNG"),
    ],
)
def test_a_picture_that_is_too_long_for_its_format_is_refused_at_once(
    tmp_path: Path, opened: Opened, name: str, shape: tuple[int, ...], limit: str, cure: str
) -> None:
    with pytest.raises(OutputError, match=limit) as raised:
        decode_file(opened("sd"), zeros(tmp_path / "z.safetensors", *shape), tmp_path / name)
    assert cure in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["z.safetensors"]


@pytest.mark.usefixtures("nothing_decodes")
@pytest.mark.parametrize(
    ("name", "shape", "rate", "words"),
    [
        ("a.mp4", (1, 16, 2, 1, 513), 24, "libx264, which takes at most 16384 per side"),
        ("a.mkv", (1, 16, 2, 513, 1), 24, "folder of frames"),
        ("a.webm", (1, 16, 2, 1, 2049), 24, "65536"),
        ("a.gif", (1, 16, 2, 1, 2048), 24, "65535"),
        ("a.gif", (1, 16, 2, 1, 1), 101, "at most 100 frames per second"),
        ("a.gif", (1, 16, 2, 1, 1), Fraction(1, 656), "at most 655 seconds"),
        ("a.mp4", (1, 16, 2, 1, 1), Fraction(1, 10**6), "at most 86400 seconds"),
        ("a.mp4", (1, 16, 2, 1, 1), 1001, "at most 1000 frames per second"),
        ("a.png", (1, 16, 2, 1, 1), 24, "a clip of 9 frames"),
    ],
)
def test_a_clip_that_its_encoder_does_not_take_is_refused_at_once(
    tmp_path: Path, opened: Opened, name: str, shape: tuple[int, ...], rate: Fraction | int, words: str
) -> None:
    source = zeros(tmp_path / "z.safetensors", *shape)
    with pytest.raises((OutputError, InputError), match=words):
        decode_file(opened("ltx20"), source, tmp_path / name, frame_rate=Fraction(rate))
    assert [path.name for path in tmp_path.iterdir()] == ["z.safetensors"]


@pytest.mark.usefixtures("nothing_decodes")
def test_a_missing_encoder_is_found_at_once(tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(video_writer._ENCODERS, ".mp4", (("libnone", {}),))  # noqa: SLF001
    with pytest.raises(MediaError, match="needs the encoder libnone"):
        decode_file(opened("ltx20"), zeros(tmp_path / "z.safetensors", 1, 16, 2, 1, 1), tmp_path / "a.mp4")
    monkeypatch.setattr("PIL.features.check", lambda name: name != "webp")
    with pytest.raises(MediaError, match=r"Pillow cannot write \.webp"):
        decode_file(opened("sd"), zeros(tmp_path / "z.safetensors", 1, 4, 1, 1), tmp_path / "a.webp")


@pytest.mark.usefixtures("nothing_decodes")
def test_an_output_that_the_disk_cannot_hold_is_refused_at_once(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentrt.runtime.system.outputs.free_space.free_bytes", lambda folder: 3000)
    source = zeros(tmp_path / "z.safetensors", 1, 4, 2, 2)  # decodes to 3 x 16 x 16 float32: 3072 bytes
    with pytest.raises(OutputError, match="the disk has"):
        decode_file(opened("sd"), source, tmp_path / "a.npy")
    assert not (tmp_path / "a.npy").exists()


def test_latents_that_the_disk_cannot_hold_are_refused_before_the_encoder_runs(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_picture(tmp_path / "a.png", np.zeros((16, 16, 3), np.uint8))
    with write_clip(tmp_path / "a.mp4", 24) as clip:
        clip.write(np.zeros((9, 64, 64, 3), np.uint8))
    monkeypatch.setattr("latentrt.runtime.system.outputs.free_space.free_bytes", lambda folder: 60)
    monkeypatch.setattr(Autoencoder, "encode", None)
    for name, source, stream in (("sd", "a.png", False), ("ltx20", "a.mp4", False), ("ltx20", "a.mp4", True)):
        with pytest.raises(OutputError, match="the disk has"):
            encode_file(opened(name), tmp_path / source, tmp_path / "z.safetensors", stream=stream)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "a.png"]


def test_the_largest_pictures_of_a_format_are_written(tmp_path: Path) -> None:
    pixels = np.zeros((1, 65500, 3), np.uint8)
    write_picture(tmp_path / "a.jpg", pixels)
    assert read_picture(tmp_path / "a.jpg").shape == pixels.shape
    write_picture(tmp_path / "a.webp", pixels[:, :16383])
    assert read_picture(tmp_path / "a.webp").shape == (1, 16383, 3)
    with pytest.raises(OutputError, match="at most 65500 per side"):
        write_picture(tmp_path / "b.jpg", np.zeros((65501, 1, 3), np.uint8))
    assert not (tmp_path / "b.jpg").exists()


def test_a_clip_that_was_begun_is_the_same_as_one_that_was_not(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), np.uint8)
    for ending in (".mp4", ".gif"):
        files = []
        for begins in (False, True):
            files.append(tmp_path / f"{begins}{ending}")
            with write_clip(files[-1], 24) as clip:
                if begins:
                    clip.begin(32, 48)
                clip.write(frames)
        assert files[0].read_bytes() == files[1].read_bytes()
    with write_clip(tmp_path / "n.mp4", 24) as clip:
        clip.begin(32, 48)
        with pytest.raises(LatentRTError, match="must have the first frame's shape"):
            clip.write(frames[:, :16])
        clip.write(frames)


def test_a_clip_of_one_frame_is_written_as_a_picture(tmp_path: Path, opened: Opened) -> None:
    vae = opened("ltx20")
    rng = np.random.default_rng(0)
    write_latents(
        tmp_path / "z.safetensors", LatentsFile(rng.standard_normal((1, 16, 1, 2, 2)).astype(np.float32), height=50)
    )
    report = decode_file(vae, tmp_path / "z.safetensors", tmp_path / "a.png")
    assert "frame_rate" not in report
    decode_file(vae, tmp_path / "z.safetensors", tmp_path / "frames")
    np.testing.assert_array_equal(
        read_picture(tmp_path / "a.png"), read_picture(tmp_path / "frames" / "frame_00000.png")
    )
    assert read_picture(tmp_path / "a.png").shape == (50, 64, 3)
