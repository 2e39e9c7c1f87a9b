"""Pictures of more than 8 bits: every sample is rounded to the nearest of 255, and unknown ranges are refused."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from picture_files import png, tiff
from PIL import Image

from latentrt.runtime.errors import MediaError
from latentrt.runtime.media.pictures import picture_file as pictures
from latentrt.runtime.media.pictures.picture_file import read_picture


@pytest.fixture(autouse=True)
def tiffs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "PICTURE_FORMATS", ("PNG", "JPEG", "WEBP", "TIFF"))


def samples(channels: int) -> np.ndarray:
    """Every 16-bit value in each channel, uint16 (256, 256, C)."""
    order = np.random.default_rng(0)
    return np.stack([order.permutation(65536).reshape(256, 256) for _ in range(channels)], axis=-1).astype(np.uint16)


def rounded(deep: np.ndarray, most: int = 65535) -> np.ndarray:
    return np.rint(deep.astype(np.float64) * 255 / most)


def test_a_png_of_sixteen_bits_is_rounded(tmp_path: Path) -> None:
    for channels in (1, 2, 3, 4):
        deep = samples(channels)
        picture = read_picture(png(tmp_path / "a.png", deep), 4)
        shown = deep if channels >= 3 else deep[..., [0, 0, 0, *range(1, channels)]]
        np.testing.assert_array_equal(picture[..., : shown.shape[2]], rounded(shown))
        assert picture.flags.writeable


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
def test_a_tiff_of_sixteen_bits_is_rounded(tmp_path: Path, order: Literal["<", ">"], deflate: bool) -> None:
    deep = samples(3)
    tiff(tmp_path / "rgb.tif", deep, order=order, deflate=deflate, photometric=2)
    np.testing.assert_array_equal(read_picture(tmp_path / "rgb.tif"), rounded(deep))
    deep = samples(4)
    tiff(tmp_path / "rgba.tif", deep, order=order, deflate=deflate, photometric=2, extra=2)
    np.testing.assert_array_equal(read_picture(tmp_path / "rgba.tif", 4), rounded(deep))
    deep = samples(1)
    tiff(tmp_path / "gray.tif", deep, order=order, deflate=deflate, photometric=1)
    np.testing.assert_array_equal(read_picture(tmp_path / "gray.tif", 1), rounded(deep))

    deep[..., 0] |= 32768
    straight = np.concatenate([samples(3), deep], axis=2)
    ready = (straight[..., :3].astype(np.int64) * straight[..., 3:] + 32767) // 65535
    stored = np.concatenate([ready, straight[..., 3:]], axis=2).astype(np.uint16)
    tiff(tmp_path / "ready.tif", stored, order=order, deflate=deflate, photometric=2, extra=1)
    back = read_picture(tmp_path / "ready.tif", 4).astype(int)
    assert np.abs(back - straight / 257).max() <= 0.51
    # CMYK by the plain formula.
    tiff(tmp_path / "cmyk.tif", samples(4), order=order, deflate=deflate, photometric=5)
    inks = Image.frombytes("CMYK", (256, 256), rounded(samples(4)).astype(np.uint8).tobytes())
    np.testing.assert_array_equal(read_picture(tmp_path / "cmyk.tif"), np.asarray(inks.convert("RGB")))


def test_gray_whose_zero_is_white_is_inverted(tmp_path: Path) -> None:
    deep = samples(1)
    tiff(tmp_path / "deep.tif", deep, photometric=0)
    np.testing.assert_array_equal(read_picture(tmp_path / "deep.tif", 1), rounded(65535 - deep))
    shallow = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    tiff(tmp_path / "shallow.tif", shallow, photometric=0)
    np.testing.assert_array_equal(read_picture(tmp_path / "shallow.tif", 1), 255 - shallow)


def test_twelve_bits_fill_the_range(tmp_path: Path) -> None:
    values = np.arange(4096).reshape(64, 32, 2)
    packed = np.stack(
        [values[..., 0] >> 4, (values[..., 0] & 15) << 4 | values[..., 1] >> 8, values[..., 1] & 255], axis=-1
    ).astype(np.uint8)
    path = tiff(tmp_path / "a.tif", packed.reshape(64, 96, 1), photometric=1, bits=12)
    content = bytearray(path.read_bytes())
    place = content.index((256).to_bytes(2, "little") + (4).to_bytes(2, "little"))
    content[place + 8 : place + 12] = (64).to_bytes(4, "little")  # its width, in samples of 12 bits
    path.write_bytes(content)
    np.testing.assert_array_equal(read_picture(path, 1)[..., 0], rounded(values.reshape(64, 64), 4095))


@pytest.mark.parametrize("kind", ["float", "signed", "wide", "planes"])
def test_samples_whose_white_or_place_is_unknown_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tif"
    match kind:
        case "float":
            tiff(path, np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8, 1), photometric=1, format=3)
        case "signed":
            tiff(path, samples(1)[:8].astype(np.int16), photometric=1, format=2)
        case "wide":
            tiff(path, samples(1)[:8].astype(np.uint32), photometric=1, format=1)
        case "planes":
            tiff(path, samples(3), photometric=2, planes=2)
    with pytest.raises(MediaError, match=r"a\.tif cannot be read: its .*(8 or 16 bits|interleaved)$"):
        read_picture(path)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_deep_picture_that_is_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = png(tmp_path / "a.png", samples(3))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(MediaError, match="damaged or incomplete"):
        read_picture(path)
