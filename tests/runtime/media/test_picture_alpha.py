"""Transparency: hidden colours never reach a model without alpha, and a model with alpha gets it unchanged."""

import logging
import struct
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import LATENTRT, invoke
from picture_files import chunk, png, tiff
from PIL import Image

from latentrt.runtime.errors import InputError
from latentrt.runtime.media.alpha import background_colour, composite
from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.latents_file import read_latents
from latentrt.runtime.media.pictures import picture_file as pictures
from latentrt.runtime.media.pictures.picture_file import read_picture

BLUE = (0, 64, 255)
EVERY_FORMAT = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF", "GIF")


@pytest.fixture(autouse=True)
def every_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "PICTURE_FORMATS", EVERY_FORMAT)
    monkeypatch.setattr("latentrt.runtime.media.notes._notes.files", Counter())


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def on(colour: tuple[int, int, int], rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + np.array(colour) * (1 - alpha)


def test_the_blend_is_pillows_and_rounds_to_the_nearest() -> None:
    rgba = np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=-1).astype(np.uint8)[..., [0, 0, 0, 1]]
    blended = composite(rgba, BLUE)
    assert np.abs(blended - on(BLUE, rgba)).max() <= 0.5 + 1e-9
    behind = Image.new("RGBA", (256, 256), (*BLUE, 255))
    pillows = np.asarray(Image.alpha_composite(behind, Image.fromarray(rgba)))[..., :3]
    assert np.abs(blended.astype(int) - pillows).max() <= 1
    np.testing.assert_array_equal(composite(rgba[np.newaxis], BLUE)[0], blended)  # frames of a clip too


def save_rgba(path: Path) -> None:
    Image.fromarray(noise(12, 16, 4)).save(path)


def save_gray_alpha(path: Path) -> None:
    Image.fromarray(noise(12, 16, 2)).save(path)


def save_palette(path: Path) -> None:
    palette = Image.fromarray(noise(12, 16, 1)[..., 0] // 64).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 200, 100, 0, 0, 200, 100])
    palette.save(path, transparency=bytes([0, 255, 128, 7]))


def save_one_clear_entry(path: Path) -> None:
    palette = Image.fromarray(noise(12, 16, 1)[..., 0] // 64).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 200, 100, 0, 0, 200, 100])
    palette.save(path, transparency=2)


def save_key_colour(path: Path) -> None:
    pixels = noise(12, 16, 3)
    pixels[3:6] = (9, 8, 7)
    Image.fromarray(pixels).save(path, transparency=(9, 8, 7))


def save_gray_key(path: Path) -> None:
    pixels = noise(12, 16, 1)[..., 0]
    pixels[3:6] = 9
    Image.fromarray(pixels).save(path, transparency=9)


def save_bilevel_key(path: Path) -> None:
    Image.fromarray(noise(12, 16, 1)[..., 0]).convert("1").save(path, transparency=0)


@pytest.mark.parametrize(
    ("save", "ending"),
    [
        (save_rgba, ".png"),
        (save_rgba, ".webp"),
        (save_rgba, ".tif"),
        (save_rgba, ".avif"),
        (save_gray_alpha, ".png"),
        (save_gray_alpha, ".tif"),
        (save_palette, ".png"),
        (save_one_clear_entry, ".png"),
        (save_one_clear_entry, ".gif"),
        (save_key_colour, ".png"),
        (save_gray_key, ".png"),
        (save_bilevel_key, ".png"),
    ],
)
def test_every_kind_of_transparency_shows_the_background(tmp_path: Path, save, ending: str, caplog) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / f"a{ending}"
    save(path)
    with Image.open(path) as image:
        rgba = np.asarray(image.convert("RGBA"))
    assert rgba[..., 3].min() < 255
    for colour in (BLUE, (255, 255, 255)):
        wanted = on(colour, rgba)
        assert np.abs(read_picture(path, background=colour) - wanted).max() <= 1
        luma = wanted @ [0.299, 0.587, 0.114]
        assert np.abs(read_picture(path, 1, background=colour)[..., 0] - luma).max() <= 1.5
    np.testing.assert_array_equal(read_picture(path, 4), rgba)
    np.testing.assert_array_equal(read_picture(path), read_picture(path, background="white"))
    assert "#0040ff" in caplog.text


def test_premultiplied_alpha_is_divided_out(tmp_path: Path) -> None:
    rgba = noise(12, 16, 4)
    rgba[..., 3] |= 128  # so that dividing loses little
    ready = (rgba[..., :3].astype(int) * rgba[..., 3:] + 127) // 255
    stored = np.concatenate([ready, rgba[..., 3:]], axis=2).astype(np.uint8)
    tiff(tmp_path / "a.tif", stored, photometric=2, extra=1)
    assert np.abs(read_picture(tmp_path / "a.tif", background=BLUE) - on(BLUE, rgba)).max() <= 2
    assert np.abs(read_picture(tmp_path / "a.tif", 4).astype(int) - rgba).max() <= 2

    gray = noise(12, 16, 2)
    gray[..., 1] |= 128
    ready = (gray[..., :1].astype(int) * gray[..., 1:] + 127) // 255
    stored = np.concatenate([ready, gray[..., 1:]], axis=2).astype(np.uint8)
    tiff(tmp_path / "b.tif", stored, photometric=1, extra=1)
    assert np.abs(read_picture(tmp_path / "b.tif", background=BLUE) - on(BLUE, gray[..., [0, 0, 0, 1]])).max() <= 2


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_transparency_of_sixteen_bits_is_exact(tmp_path: Path, channels: int) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (12, 16, channels), np.uint16)
    if channels in (2, 4):
        path = png(tmp_path / "a.png", deep)
        rgba = deep[..., [0, 0, 0, 1]] if channels == 2 else deep
    else:  # one colour stands for transparency: all 16 bits of it
        deep[3:6] = deep[0, 0]
        deep[7] = deep[0, 0] ^ 1
        clear = (deep == deep[0, 0]).all(axis=2, keepdims=True)
        path = png(tmp_path / "a.png", deep, chunk(b"tRNS", struct.pack(f">{channels}H", *deep[0, 0])))
        rgba = np.concatenate([np.broadcast_to(deep, (12, 16, 3)), np.where(clear, 0, 65535)], axis=2)
    share = rgba[..., 3:] / 65535
    wanted = 255 * (rgba[..., :3] / 65535 * share) + np.array(BLUE) * (1 - share)
    assert np.abs(read_picture(path, background=BLUE) - wanted).max() <= 1.5
    np.testing.assert_array_equal(read_picture(path, 4), np.rint(rgba / 257))


def test_an_opaque_alpha_channel_changes_no_pixel(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rgba = noise(12, 16, 4)
    rgba[..., 3] = 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png", background=BLUE), rgba[..., :3])
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_folder_of_frames_takes_the_background_too(tmp_path: Path) -> None:
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[..., 0] = 255  # red, and hidden
    for place in range(2):
        Image.fromarray(rgba).save(tmp_path / f"{place}.png")
    for source in (tmp_path, tmp_path / "0.png"):
        with open_clip(source, background=BLUE) as clip:
            for frame in clip:
                np.testing.assert_array_equal(frame, np.broadcast_to(np.array(BLUE, np.uint8), (8, 8, 3)))


def test_backgrounds_are_colours() -> None:
    assert background_colour("white") == background_colour("#fff") == background_colour([255] * 3) == (255, 255, 255)
    assert background_colour("#0040FF") == background_colour("rgb(0, 64, 255)") == BLUE
    for wrong in ("", "nope", "#12345", "#11223344", (1, 2), (1, 2, 3, 4), (256, 0, 0), (-1, 0, 0), (0.5, 0, 0)):
        with pytest.raises(InputError, match="no background colour: give an opaque colour"):
            background_colour(wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_command_line_takes_a_background_and_says_what_it_did(
    tmp_path: Path, bundle_of: Callable[[str], Path]
) -> None:
    rgba = noise(64, 64, 4)
    rgba[..., 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.png")
    command = [*LATENTRT, "encode", str(bundle_of("sd")), str(tmp_path / "a.png"), "-o"]
    done = subprocess.run(
        [*command, str(tmp_path / "a.safetensors"), "--background", "#0040ff"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.count("a.png has transparent pixels: composited on the background #0040ff") == 1
    Image.new("RGB", (64, 64), BLUE).save(tmp_path / "blue.png")
    invoke("encode", bundle_of("sd"), tmp_path / "blue.png", "-o", tmp_path / "blue.safetensors")
    one, other = (read_latents(tmp_path / f"{name}.safetensors").latents for name in ("a", "blue"))
    np.testing.assert_allclose(one, other, atol=1e-5)
    with pytest.raises(InputError, match="no background colour"):
        invoke(*command[3:], tmp_path / "b.safetensors", "--background", "nope")
    assert not (tmp_path / "b.safetensors").exists()
