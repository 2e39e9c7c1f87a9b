"""Orientation: all eight of EXIF's, in every format and at every depth, as Pillow turns the stored picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import chunk, png, tiff
from PIL import Image

from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.pictures import picture_file as pictures
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


@pytest.fixture(autouse=True)
def more_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "PICTURE_FORMATS", ("PNG", "JPEG", "WEBP", "TIFF", "AVIF"))


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
