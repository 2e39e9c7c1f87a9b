"""Animated pictures: a clip with every frame at its time, or the first picture alone."""

import io
import logging
import struct
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import P3, chunk, rgb_profile
from PIL import Image, ImageCms

from latentrt.runtime.errors import MediaError
from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.pictures import picture_file as pictures
from latentrt.runtime.media.pictures.picture_file import read_picture

SETTINGS: dict[str, dict[str, Any]] = {".webp": {"lossless": True}, ".avif": {"quality": 95, "subsampling": "4:4:4"}}
FORMATS = [".webp", ".png", ".avif"]


@pytest.fixture(autouse=True)
def avif_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "PICTURE_FORMATS", ("PNG", "JPEG", "WEBP", "AVIF", "TIFF"))
    monkeypatch.setattr("latentrt.runtime.media.notes._notes.files", Counter())


def frames(count: int) -> list[np.ndarray]:
    """Flat frames whose red says which one it is."""
    return [np.full((16, 24, 3), (10 + 20 * place, 60, 90), np.uint8) for place in range(count)]


def animation(path: Path, pixels: list[np.ndarray], duration: int | list[int], **options: Any) -> Path:
    first, *others = [Image.fromarray(one) for one in pixels]
    settings = SETTINGS.get(path.suffix, {})
    first.save(path, save_all=True, append_images=others, duration=duration, **settings, **options)
    return path


def with_chunks(content: bytes, name: bytes, change: Any) -> bytes:
    """A PNG whose chunks of that name have a changed content."""
    done, place = content[:8], 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        kind, body = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        done += chunk(kind, change(body) if kind == name else body)
        place += 12 + length
    return done


def places(clip: Any) -> list[int]:
    return [round((float(frame[..., 0].mean()) - 10) / 20) for frame in clip]


@pytest.mark.parametrize("ending", FORMATS)
def test_an_animation_is_a_clip_with_its_rate(tmp_path: Path, ending: str) -> None:
    path = animation(tmp_path / f"a{ending}", frames(6), 40)
    with open_clip(path) as clip:
        assert (clip.frame_rate, clip.frame_count, clip.height, clip.width) == (Fraction(25), 6, 16, 24)
        read = list(clip)
    for back, wanted in zip(read, frames(6), strict=True):
        assert np.abs(back.astype(int) - wanted).max() <= (3 if ending == ".avif" else 0)
        assert back.flags.writeable


def test_the_content_decides_and_not_the_ending(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.webp", frames(3), 100).rename(tmp_path / "a.mp4")
    with open_clip(path) as clip:
        assert (clip.frame_rate, places(clip)) == (Fraction(10), [0, 1, 2])


@pytest.mark.parametrize("ending", FORMATS)
def test_frames_of_different_lengths_keep_their_times(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = animation(tmp_path / f"a{ending}", frames(5), [40, 40, 200, 40, 80])
    with open_clip(path) as clip:
        read = list(clip)
        assert (clip.frame_rate, clip.frame_count) == (Fraction(25), 10)
    assert places(read) == [0, 1, 2, 2, 2, 2, 2, 3, 4, 4]
    read[2][:] = 0  # each frame is the caller's own
    assert read[3].any()
    assert [record.getMessage().count("25 frames per second") for record in caplog.records] == [1]


def test_times_that_are_rounded_are_one_rate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = animation(tmp_path / "a.webp", frames(9), [33, 33, 34] * 3)
    with open_clip(path) as clip:
        assert (clip.frame_rate, places(clip)) == (Fraction(30), list(range(9)))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_frames_without_a_time_are_shown_as_browsers_show_them(tmp_path: Path) -> None:
    with open_clip(animation(tmp_path / "a.webp", frames(4), 0)) as clip:
        assert (clip.frame_rate, clip.frame_count) == (Fraction(10), 4)


def test_the_picture_in_front_of_an_apng_is_no_frame(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.png", frames(4), 50, default_image=True)
    with open_clip(path) as clip:
        assert (clip.frame_rate, places(clip)) == (Fraction(20), [1, 2, 3])
    np.testing.assert_array_equal(read_picture(path), frames(1)[0])


@pytest.mark.parametrize("ending", [*FORMATS, ".tif"])
def test_the_first_picture_is_read_and_it_is_said(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"a{ending}"
    if ending == ".tif":
        first, *others = [Image.fromarray(one) for one in frames(3)]
        first.save(path, save_all=True, append_images=others)
    else:
        animation(path, frames(3), 40)
    assert np.abs(read_picture(path).astype(int) - frames(1)[0]).max() <= (3 if ending == ".avif" else 0)
    said = "several pages" if ending == ".tif" else "holds 3 pictures: the first one is read, 2 left out"
    assert said in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize("ending", [".webp", ".png"])
def test_frames_have_their_colours_and_their_background(tmp_path: Path, ending: str) -> None:
    profile = rgb_profile(P3)
    pixels = [np.dstack([one, np.full((16, 24), 255, np.uint8)]) for one in frames(3)]
    for one in pixels:
        one[:8, :, 3] = 0
    path = animation(tmp_path / f"a{ending}", pixels, 40, icc_profile=profile)
    with Image.open(path) as image:
        assert image.info["icc_profile"] == profile
    with open_clip(path, background=(1, 2, 3)) as clip:
        for back, one in zip(clip, pixels, strict=True):
            wanted = ImageCms.profileToProfile(
                Image.fromarray(one[..., :3]),
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
            )
            np.testing.assert_array_equal(back[:8], np.broadcast_to(np.array([1, 2, 3], np.uint8), (8, 24, 3)))
            assert np.abs(back[8:].astype(int) - np.asarray(wanted)[8:]).max() <= 2
    with open_clip(path, 4) as clip:
        np.testing.assert_array_equal(next(clip)[..., 3], pixels[0][..., 3])


def test_an_animation_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.png", frames(4), 40)
    content = path.read_bytes()
    path.write_bytes(with_chunks(content, b"acTL", lambda body: struct.pack(">I", 1000) + body[4:]))
    with pytest.raises(MediaError, match="damaged or incomplete"):
        open_clip(path)
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(MediaError, match=r"a\.png"):
        open_clip(path)


def test_times_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    for durations, message in (
        ([1, 1, 900_000], "cannot be read as a clip"),
        ([40, 40, 16_000_000], "shows frame 2 for"),
        ([16_000_000] * 3, "shows frame 0 for"),
    ):
        path = animation(tmp_path / "a.webp", frames(3), durations)
        with pytest.raises(MediaError, match=rf"a\.webp {message}"):
            open_clip(path)


def test_an_animation_that_claims_huge_frames_is_refused(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.webp", frames(3), 40)
    content = bytearray(path.read_bytes())
    content[24:30] = (9999).to_bytes(3, "little") * 2  # VP8X: the canvas, less one
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"10000x10000 pixels .*, too large for a clip"):
        open_clip(path)


def test_a_still_picture_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    Image.fromarray(frames(1)[0]).save(tmp_path / "a.webp", lossless=True)
    with open_clip(tmp_path / "a.webp") as clip:
        assert (clip.frame_rate, clip.frame_count, len(list(clip))) == (None, 1, 1)


def test_the_frame_rate_is_exact_in_an_apng(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.png", frames(4), 40)
    rate = struct.pack(">HH", 1001, 30000)
    path.write_bytes(with_chunks(path.read_bytes(), b"fcTL", lambda body: body[:20] + rate + body[24:]))
    with open_clip(path) as clip:
        assert clip.frame_rate == Fraction(30000, 1001)
