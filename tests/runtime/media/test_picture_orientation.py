"""Orientation: all eight of EXIF's, in every format and at every depth, as Pillow turns the stored picture."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import chunk, png, tiff
from PIL import Image

from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.pictures.picture_file import PICTURE_ENDINGS, read_picture

# The four corners and the middle, so that every turn and every mirror image differs.
PIXELS = np.repeat(
    np.repeat(np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]], np.uint8), 16, axis=0), 32, axis=1
)
# Where EXIF says the stored row 0 and column 0 are seen: CIPA DC-008, table "Orientation".
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,  # top, left
    2: lambda stored: stored[:, ::-1],  # top, right
    3: lambda stored: stored[::-1, ::-1],  # bottom, right
    4: lambda stored: stored[::-1],  # bottom, left
    5: lambda stored: stored.swapaxes(0, 1),  # left, top
    6: lambda stored: np.rot90(stored, -1),  # right, top
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),  # right, bottom
    8: lambda stored: np.rot90(stored),  # left, bottom
}
SETTINGS: dict[str, dict[str, Any]] = {
    ".jpg": {"quality": 95, "subsampling": 0},
    ".webp": {"lossless": True},
    ".avif": {"quality": 95, "subsampling": "4:4:4"},
}


def assert_upright(back: np.ndarray, orientation: int) -> None:
    wanted = UPRIGHT[orientation](PIXELS)
    assert back.shape == wanted.shape
    assert np.abs(back.astype(int) - wanted).mean() <= 3


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_turns_a_picture_upright(tmp_path: Path, ending: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{ending}"
    Image.fromarray(PIXELS).save(path, exif=exif, **SETTINGS.get(ending, {}))
    assert_upright(read_picture(path), orientation)
    with open_clip(path) as clip:
        assert_upright(next(clip), orientation)
        assert clip.frame_count == 1
    if ending in PICTURE_ENDINGS:
        with open_clip(tmp_path) as clip:  # as the frame of a folder
            assert_upright(next(clip), orientation)


@pytest.mark.parametrize("attribute", [True, False])
@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("orientation", [3, 5, 6])
def test_xmp_alone_turns_a_picture_upright(tmp_path: Path, ending: str, orientation: int, attribute: bool) -> None:
    start = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description '
    xmp = (
        start + f"tiff:Orientation='{orientation}'/>".encode()
        if attribute
        else start + f"><tiff:Orientation>{orientation}</tiff:Orientation></rdf:Description>".encode()
    ) + b"</rdf:RDF></x:xmpmeta>"
    path = tmp_path / f"a{ending}"
    if ending == ".png":
        png(path, PIXELS, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    else:
        Image.fromarray(PIXELS).save(path, xmp=xmp, **SETTINGS[ending])
    assert_upright(read_picture(path), orientation)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_deep_and_transparent_pictures_are_turned_too(tmp_path: Path, orientation: int) -> None:
    deep = np.concatenate([PIXELS, np.full((*PIXELS.shape[:2], 1), 255, np.uint8)], axis=2).astype(np.uint16) * 257
    deep[:16, :32, 3] = 0  # the red corner
    exif = Image.Exif()
    exif[0x0112] = orientation
    png(tmp_path / "a.png", deep, chunk(b"eXIf", exif.tobytes()[6:]))
    tiff(tmp_path / "a.tif", deep, photometric=2, extra=2, orientation=orientation)
    for path in (tmp_path / "a.png", tmp_path / "a.tif"):
        np.testing.assert_array_equal(read_picture(path, 4), UPRIGHT[orientation](deep // 257))


@pytest.mark.parametrize("content", [b"\0", b"MM\0*\0\0\0\x08\xff\xff", b"nonsense" * 20])
def test_damaged_exif_does_not_lose_a_picture(tmp_path: Path, content: bytes) -> None:
    png(tmp_path / "a.png", PIXELS, chunk(b"eXIf", content))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), PIXELS)


def exif_of(*entries: tuple[int, int, int, bytes], order: str = "<") -> bytes:
    """EXIF data of one directory: tag, type, count and value, of up to 4 bytes, of each entry."""
    body = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3].ljust(4, b"\0") for entry in entries)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(f"{order}IH", 8, len(entries)) + body + bytes(4)


TURN = (0x0112, 3, 1, b"\6\0")
ODD_EXIF = {
    "a rational with 0 below": exif_of(TURN, (0x9204, 10, 1, struct.pack("<I", 8))),
    "a number as text": exif_of((0x011A, 1, 1, b"H"), TURN),
    "a text as a rational": exif_of((0x010E, 5, 1, struct.pack("<I", 8)), TURN),
    "a value beyond the end": exif_of((0x010E, 2, 1 << 30, struct.pack("<I", 1 << 31)), TURN),
    "an unknown type": exif_of((0x010E, 99, 7, b"abcd"), TURN),
    "an entry of no values": exif_of((0x010E, 3, 0, b""), TURN),
    "a directory that is itself": exif_of(TURN, (0x8769, 4, 1, struct.pack("<I", 8))),
    "a directory beyond the end": exif_of(TURN, (0x8769, 4, 1, struct.pack("<I", 1 << 30))),
    "a number of four bytes": exif_of((0x0112, 4, 1, struct.pack("<I", 6))),
    "the other byte order": exif_of((0x0112, 3, 1, b"\0\6"), order=">"),
    "more entries than there are": exif_of(TURN).replace(b"\1\0\x12\1", b"\xff\xff\x12\1", 1),
    "no end": exif_of(TURN)[:-4],
    "an orientation twice": exif_of(TURN, (0x0112, 3, 1, b"\1\0")),
}


@pytest.mark.parametrize("name", ODD_EXIF)
@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_odd_exif_still_turns_a_picture(tmp_path: Path, ending: str, name: str) -> None:
    path, exif = tmp_path / f"a{ending}", ODD_EXIF[name]
    if ending == ".png":
        png(path, PIXELS, chunk(b"eXIf", exif))
    else:
        Image.fromarray(PIXELS).save(path, exif=b"Exif\0\0" + exif, **SETTINGS[ending])
    assert_upright(read_picture(path), 6)


@pytest.mark.parametrize("ending", [".jpg", ".webp", ".png"])
def test_any_exif_leaves_the_pixels(tmp_path: Path, ending: str) -> None:
    random, path = np.random.default_rng(5), tmp_path / f"a{ending}"
    whole = exif_of(TURN, (0x8769, 4, 1, struct.pack("<I", 8)), (0xA005, 4, 1, struct.pack("<I", 8)))
    for _ in range(40):
        exif = bytearray(whole)
        for _ in range(int(random.integers(1, 5))):
            exif[int(random.integers(len(exif)))] = int(random.integers(256))
        if ending == ".png":
            png(path, PIXELS, chunk(b"eXIf", bytes(exif)))
        else:
            Image.fromarray(PIXELS).save(path, exif=b"Exif\0\0" + bytes(exif), **SETTINGS[ending])
        assert sorted(read_picture(path).shape) == sorted(PIXELS.shape)


def test_exif_in_a_text_of_a_png_turns_the_picture(tmp_path: Path) -> None:
    digits = (b"Exif\0\0" + exif_of(TURN)).hex()
    text = f"\nexif\n      {len(digits) // 2}\n{digits}\n".encode()
    png(tmp_path / "a.png", PIXELS, chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))
    assert_upright(read_picture(tmp_path / "a.png"), 6)
