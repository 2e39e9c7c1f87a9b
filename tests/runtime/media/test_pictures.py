"""Pictures: what is written comes back, and what cannot be read is one sentence."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentrt.runtime.errors import InputError, MediaError, OutputError
from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.pictures import opened_picture
from latentrt.runtime.media.pictures.picture_file import list_pictures, read_picture, write_picture


def noise(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, channels), np.uint8)


@pytest.mark.parametrize("ending", [".png", ".webp", ".PNG"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_lossless_pictures_come_back(tmp_path: Path, ending: str, channels: int) -> None:
    pixels = noise(channels)
    write_picture(tmp_path / f"a{ending}", pixels)
    back = read_picture(tmp_path / f"a{ending}", channels)
    assert back.flags.writeable
    np.testing.assert_array_equal(back, pixels)
    assert [file.name for file in tmp_path.iterdir()] == [f"a{ending}"]


def test_a_jpeg_comes_back_nearly(tmp_path: Path) -> None:
    ramp = np.repeat(np.tile(np.arange(64, dtype=np.uint8) * 4, (32, 1))[..., None], 3, 2)
    write_picture(tmp_path / "a.jpg", ramp)
    assert np.abs(read_picture(tmp_path / "a.jpg").astype(int) - ramp).mean() < 1


def test_gray_palette_and_alpha_become_what_is_asked(tmp_path: Path) -> None:
    gray = noise(1)
    write_picture(tmp_path / "gray.png", gray)
    np.testing.assert_array_equal(read_picture(tmp_path / "gray.png"), np.repeat(gray, 3, 2))
    assert (read_picture(tmp_path / "gray.png", 4)[..., 3] == 255).all()

    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode=None).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "palette.png", transparency=b"\x80\xff")
    np.testing.assert_array_equal(read_picture(tmp_path / "palette.png", 3), [[[132, 137, 142], [40, 50, 60]]])
    np.testing.assert_array_equal(read_picture(tmp_path / "palette.png", 4)[0, :, 3], [128, 255])


def test_sixteen_bits_are_rounded_and_not_clipped(tmp_path: Path) -> None:
    wide = np.array([[0, 128, 129, 257 * 100, 65535]], np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "wide.png", 1)[0, :, 0], [0, 0, 1, 100, 255])
    assert read_picture(tmp_path / "wide.png", 3).shape == (1, 5, 3)
    np.testing.assert_array_equal(read_picture(tmp_path / "wide.png", 4)[0, 3], [100, 100, 100, 255])


def test_the_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    pixels = noise()
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "turned.png"), np.rot90(pixels, -1))


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.9])
def test_a_truncated_picture_is_one_clear_error(tmp_path: Path, ending: str, share: float) -> None:
    path = tmp_path / f"a{ending}"
    write_picture(path, noise())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(MediaError, match=r": (give another file|replace it)$") as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_is_no_picture_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    for path in (tmp_path / "text.png", tmp_path / "absent.png", tmp_path):
        with pytest.raises(MediaError, match=r": give "):
            read_picture(path)
    with pytest.raises(InputError, match="1, 3 or 4"):
        read_picture(tmp_path / "text.png", 2)


def test_a_picture_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", noise())  # 600 pixels
    with pytest.raises(MediaError, match=r"30 pixels wide and 20 high, too large .* raise max_pixels \(--max-pixels\)"):
        read_picture(tmp_path / "a.png", max_pixels=599)
    with pytest.raises(MediaError, match="too large"), open_clip(tmp_path, max_pixels=599):
        pass
    assert read_picture(tmp_path / "a.png", max_pixels=600).shape == (20, 30, 3)


def large_gray(path: Path, height: int, width: int) -> None:
    """A PNG file of zeros, written row by row: it takes few bytes and claims many pixels."""
    packing = zlib.compressobj(1)
    row = bytes(1 + width)
    rows = b"".join(packing.compress(row) for _ in range(height)) + packing.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        )
    )


def test_a_bomb_is_refused_by_its_size_and_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large_gray(tmp_path / "a.png", 2, 1 << 30)
    with pytest.raises(MediaError, match=r"too large to read unasked: allow it with max_pixels=2147483648"):
        read_picture(tmp_path / "a.png")
    large_gray(tmp_path / "b.png", 2, 100_000_000)
    monkeypatch.setattr(opened_picture, "available_bytes", lambda: 1 << 30)
    with pytest.raises(MediaError, match=r"too large for the memory: .* about 2\.99 GiB, and 1\.00 GiB are available"):
        read_picture(tmp_path / "b.png")
    monkeypatch.setattr(opened_picture, "available_bytes", lambda: 4 << 30)
    with opened_picture.opened_picture(tmp_path / "b.png") as image:
        assert image.size == (100_000_000, 2)
    monkeypatch.setattr(opened_picture, "available_bytes", lambda: 0)
    with opened_picture.opened_picture(tmp_path / "b.png", 200_000_000) as image:
        assert image.size == (100_000_000, 2)


@pytest.mark.slow
def test_a_picture_of_more_than_179_megapixels_is_read(tmp_path: Path) -> None:
    large_gray(tmp_path / "a.png", 13_500, 13_500)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert read_picture(tmp_path / "a.png", 1).shape == (13_500, 13_500, 1)
    assert not seen


def test_the_limit_of_pillow_does_not_matter_and_is_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_picture(tmp_path / "a.png", noise())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 250)
    assert read_picture(tmp_path / "a.png").shape == (20, 30, 3)
    assert Image.MAX_IMAGE_PIXELS == 250


def test_what_cannot_be_written_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="end its name in"):
        write_picture(tmp_path / "a.tga", noise())
    with pytest.raises(OutputError, match="make it first"):
        write_picture(tmp_path / "absent" / "a.png", noise())
    with pytest.raises(InputError, match="channels"):
        write_picture(tmp_path / "a.jpg", noise(4))
    with pytest.raises(InputError, match="uint8"):
        write_picture(tmp_path / "a.png", noise().astype(np.float32))
    with pytest.raises(OutputError, match="cannot write"):
        write_picture(tmp_path / "a.webp", np.zeros((1, 20000, 3), np.uint8))  # wider than the format goes
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_output_error_and_leaves_the_old_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_picture(tmp_path / "a.png", noise())
    old = (tmp_path / "a.png").read_bytes()

    def full(self: object, file: Path, **_: object) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match="the disk is full"):
        write_picture(tmp_path / "a.png", noise())
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [old]


def test_an_existing_picture_is_kept_when_asked(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", noise())
    with pytest.raises(OutputError, match="exists already"):
        write_picture(tmp_path / "a.png", noise(), overwrite=False)


def test_pictures_are_listed_in_natural_order(tmp_path: Path) -> None:
    for name in ("frame10.png", "frame2.PNG", "Frame1.jpg", "notes.txt", ".frame0.png", "a.webp"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [file.name for file in list_pictures(tmp_path)] == ["a.webp", "Frame1.jpg", "frame2.PNG", "frame10.png"]
    with pytest.raises(MediaError, match="not a folder"):
        list_pictures(tmp_path / "absent")
