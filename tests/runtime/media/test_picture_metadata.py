"""Metadata that is not needed: large texts and profiles of PNG files, and files that are no pictures at all."""

import io
import logging
import os
import shutil
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import chunk, png
from PIL import Image, ImageCms, PngImagePlugin

from latentrt.runtime import LatentRTError
from latentrt.runtime.errors import MediaError
from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.media_kind import media_kind
from latentrt.runtime.media.pictures.picture_file import read_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
LARGE = 2 << 20


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_a_png_with_large_texts_is_read(tmp_path: Path, compressed: bool, after: bool) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("workflow", "x" * LARGE, zip=compressed)
    info.add_text("parameters", "y" * LARGE, zip=compressed)
    for index in range(40):
        info.add_text(f"prompt{index}", "z" * LARGE, zip=True)  # more than 64 MiB in all
    Image.fromarray(PIXELS).save(tmp_path / "a.png", pnginfo=info)
    if after:  # as chunks at the end of the file
        content = (tmp_path / "a.png").read_bytes()
        texts, pixels = content[33 : content.index(b"IDAT") - 4], content[content.index(b"IDAT") - 4 : -12]
        (tmp_path / "a.png").write_bytes(content[:33] + pixels + texts + content[-12:])
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), PIXELS)
    with open_clip(tmp_path / "a.png") as clip:
        np.testing.assert_array_equal(next(clip), PIXELS)


def test_a_text_with_a_damaged_checksum_does_not_matter(tmp_path: Path) -> None:
    damaged = bytearray(chunk(b"tEXt", b"Comment\0hello"))
    damaged[-1] ^= 1
    png(tmp_path / "a.png", PIXELS, bytes(damaged))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), PIXELS)


def test_a_large_profile_that_is_damaged_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png", icc_profile=os.urandom(LARGE))
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), PIXELS)
    assert "has a colour profile that cannot be used (it is damaged): read without it" in caplog.text


def padded(profile: bytes, size: int) -> bytes:
    """A profile of at least `size` bytes: unused bytes after its tags."""
    longer = profile + bytes(size - len(profile))
    return len(longer).to_bytes(4, "big") + longer[4:]


def test_a_large_profile_is_used(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    wide = lab.replace(b"sRGB built-in", b"wide built-in")
    # Exchange the red and the green primary, so that the colours change visibly.
    tags = {wide[place : place + 4]: place for place in range(132, 132 + 12 * int.from_bytes(wide[128:132], "big"), 12)}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    exchanged = bytearray(wide)
    exchanged[red : red + 4], exchanged[green : green + 4] = b"gXYZ", b"rXYZ"
    for name, profile in {"small": bytes(exchanged), "large": padded(bytes(exchanged), LARGE)}.items():
        Image.fromarray(PIXELS).save(tmp_path / f"{name}.png", icc_profile=profile)
    small = read_picture(tmp_path / "small.png")
    assert np.abs(small.astype(int) - PIXELS).max() > 50
    np.testing.assert_array_equal(read_picture(tmp_path / "large.png"), small)


def test_a_truncated_png_with_texts_is_still_damaged(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "y" * 1000)
    Image.fromarray(PIXELS).save(tmp_path / "a.png", pnginfo=info)
    whole = (tmp_path / "a.png").read_bytes()
    for share in (0.3, 0.6, 0.9):
        (tmp_path / "a.png").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(MediaError, match="it is damaged or incomplete"):
            read_picture(tmp_path / "a.png")


def test_an_animation_with_texts_keeps_its_frames(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * LARGE, zip=True)
    frames = [np.roll(PIXELS, index, axis=1) for index in range(3)]
    first, *others = map(Image.fromarray, frames)
    first.save(tmp_path / "a.png", save_all=True, append_images=others, duration=100, pnginfo=info)
    with open_clip(tmp_path / "a.png") as clip:
        np.testing.assert_array_equal(list(clip), frames)


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "npy":
        np.save(file, PIXELS)
    else:
        Image.fromarray(PIXELS).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "npy"])
@pytest.mark.parametrize("ending", [".png", ".jpg", ".mp4", ".npy", ".gif", ""])
def test_the_bytes_decide_and_not_the_ending(tmp_path: Path, kind: str, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(encoded(kind))
    assert media_kind(path) == ("array" if kind == "npy" else "picture")
    with open_clip(path) as clip:
        np.testing.assert_array_equal(next(clip), PIXELS)
    if kind != "npy":
        np.testing.assert_array_equal(read_picture(path), PIXELS)


def test_a_clip_with_the_ending_of_a_picture_is_a_clip(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 40, 24, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(PIXELS, format="rgb24")))
        container.mux(stream.encode(None))
    shutil.copy(tmp_path / "a.mp4", tmp_path / "a.png")
    with open_clip(tmp_path / "a.png") as clip:
        assert len(list(clip)) == 3
    with pytest.raises(MediaError, match=r"a\.png is an MP4 or MOV clip: give a picture"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "run `git lfs pull`"),
        (b"<html><body>404</body></html>", "is a web page: download the file itself"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC picture: convert it to JPEG or PNG"),
        (b"\x1f\x8b\x08\0" + bytes(30), "is a gzip archive: decompress it"),
        (b"\0\x05\x16\x07" + bytes(60), r"without the leading \._"),
        (b"", "is empty: give another file"),
    ],
)
@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_a_file_that_is_no_picture_is_named(tmp_path: Path, content: bytes, words: str, ending: str) -> None:
    (tmp_path / f"a{ending}").write_bytes(content)
    for read in (read_picture, open_clip):
        with pytest.raises(MediaError, match=words):
            read(tmp_path / f"a{ending}")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_changed_bytes_give_a_picture_or_our_error(tmp_path: Path, kind: str) -> None:
    random, path, whole = np.random.default_rng(7), tmp_path / "a", encoded(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(60):
            content = bytearray(whole)
            for _ in range(int(random.integers(1, 5))):
                place = int(random.integers(min(len(content), 200 if random.integers(2) else len(content))))
                content[place] = int(random.integers(256))
            if kind == "PNG":  # an altered header keeps its checksum, so that Pillow reads on
                content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
            path.write_bytes(content)
            try:
                read_picture(path, max_pixels=1 << 24)
            except LatentRTError as error:
                assert "\n" not in str(error)  # noqa: PT017 # most cases raise, and some do not
