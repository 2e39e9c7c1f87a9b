"""The colours of pictures: every named colour space becomes sRGB, as lcms or the standard's formula has it."""

import io
import logging
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from picture_files import ADOBE, P3, chunk, cmyk_profile, gray_profile, png, rgb_profile, tiff
from PIL import Image, ImageCms

from latentrt.runtime.media.colours.matrix_profile import deep_to_srgb
from latentrt.runtime.media.pictures import picture_file as pictures
from latentrt.runtime.media.pictures.picture_file import read_picture, write_picture

# Colours that fill a patch each: corners, grays, skin, and some in between.
COLOURS = np.array(
    [
        *([255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [128, 128, 128], [40, 40, 40]),
        *([224, 172, 140], [200, 30, 40], [30, 160, 90], [60, 80, 200], [250, 240, 20], [10, 5, 30], [180, 90, 220]),
    ],
    np.uint8,
)
PATCHES = np.repeat(np.repeat(COLOURS[np.newaxis], 16, axis=0), 16, axis=1)
GRAYS = np.repeat(np.arange(0, 256, 5, dtype=np.uint8)[np.newaxis, :, np.newaxis], 4, axis=0)
WHITE_D65 = (0.3127, 0.3290)
TO_SRGB = np.array(
    [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
)


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentrt.runtime.media.notes._notes.files", Counter())


def by_lcms(image: Image.Image, profile: bytes) -> np.ndarray:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return np.asarray(converted)


def to_xyz(primaries: tuple[tuple[float, float], ...], white: tuple[float, float]) -> np.ndarray:
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    return columns * np.linalg.solve(columns, (white[0] / white[1], 1, (1 - sum(white)) / white[1]))


def srgb_codes(light: np.ndarray) -> np.ndarray:
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def by_formula(codes: np.ndarray, curve: float | None, primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """sRGB of colours with these primaries and D65; `curve` is a gamma, or None for sRGB's."""
    share = codes / 255
    light = (
        np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4) if curve is None else share**curve
    )
    return srgb_codes(light @ to_xyz(primaries, WHITE_D65).T @ TO_SRGB.T)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference inside the patches, where JPEG's edges do not reach."""
    inside = np.abs(one.astype(float) - other).reshape(16, len(COLOURS), 16, -1)[4:12, :, 4:12]
    return float(inside.mean(axis=(0, 2)).max())


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("profile", [rgb_profile(P3), rgb_profile(ADOBE, 563 / 256)], ids=["p3", "adobe"])
def test_an_rgb_profile_is_applied_in_every_format(
    tmp_path: Path, ending: str, profile: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pictures, "PICTURE_FORMATS", ("PNG", "JPEG", "WEBP", "TIFF", "AVIF"))
    settings: dict[str, dict[str, Any]] = {
        ".webp": {"lossless": True},
        ".jpg": {"quality": 100, "subsampling": 0},
        ".avif": {"quality": 100, "subsampling": "4:4:4"},
    }
    path = tmp_path / f"a{ending}"
    Image.fromarray(PATCHES).save(path, icc_profile=profile, **settings.get(ending, {}))
    with Image.open(path) as stored:  # what the codec left of the colours
        wanted = by_lcms(stored.convert("RGB"), profile)
    assert difference(PATCHES, wanted) > 20
    assert difference(read_picture(path), wanted) <= 2
    assert difference(read_picture(path, 4)[..., :3], wanted) <= 2
    assert difference(read_picture(path, 1), np.asarray(Image.fromarray(wanted).convert("L"))[..., None]) <= 2
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "converted to sRGB from its colour profile 'sRGB" in caplog.text  # the description that lcms writes


@pytest.mark.parametrize("kind", ["BMP", "JPEG2000"])
def test_a_profile_that_pillow_leaves_out_is_applied(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "PICTURE_FORMATS", ("BMP", "JPEG2000"))
    profile, path = rgb_profile(P3), tmp_path / "a.img"
    if kind == "BMP":
        pixels = PATCHES[::-1, :, ::-1].tobytes()
        head = struct.pack("<IiiHHIIiiII", 124, PATCHES.shape[1], 16, 1, 24, 0, len(pixels), 0, 0, 0, 0)
        head = head.ljust(56, b"\0") + b"DEBM" + bytes(52) + struct.pack("<II", 124 + len(pixels), len(profile))
        whole = head.ljust(124, b"\0") + pixels + profile
        path.write_bytes(b"BM" + struct.pack("<IHHI", 14 + len(whole), 0, 0, 14 + 124) + whole)
    else:
        Image.fromarray(PATCHES).save(path, "JPEG2000")
        content = path.read_bytes()
        place, outer = content.index(b"colr") - 4, content.index(b"jp2h") - 4
        box = struct.pack(">I4s3B", 11 + len(profile), b"colr", 2, 0, 0) + profile
        grown = struct.unpack(">I", content[outer : outer + 4])[0] + len(box) - 15
        path.write_bytes(
            content[:outer] + struct.pack(">I", grown) + content[outer + 4 : place] + box + content[place + 15 :]
        )
    assert difference(read_picture(path), by_lcms(Image.fromarray(PATCHES), profile)) <= 2


def test_palette_gray_and_alpha_pictures_have_their_profile_applied(tmp_path: Path) -> None:
    profile = rgb_profile(P3)
    wanted = by_lcms(Image.fromarray(PATCHES), profile)
    palette = Image.fromarray(PATCHES).convert("P", palette=Image.Palette.ADAPTIVE, colors=32)
    palette.save(tmp_path / "palette.png", icc_profile=profile)
    assert difference(read_picture(tmp_path / "palette.png"), wanted) <= 2

    rgba = np.concatenate([PATCHES, np.full((*PATCHES.shape[:2], 1), 255, np.uint8)], axis=2)
    rgba[:, :16, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "rgba.png", icc_profile=profile)
    back = read_picture(tmp_path / "rgba.png", 4)
    assert difference(back[..., :3], wanted) <= 2
    np.testing.assert_array_equal(back[..., 3], rgba[..., 3])
    on_blue = read_picture(tmp_path / "rgba.png", background=(0, 0, 255))  # not converted: the background is sRGB
    np.testing.assert_array_equal(on_blue[:, :16], np.broadcast_to(np.array([0, 0, 255], np.uint8), (16, 16, 3)))

    gray = rgb_profile(ADOBE, 1.4)  # for RGB, on a gray picture
    Image.fromarray(GRAYS[..., 0]).save(tmp_path / "gray.png", icc_profile=gray)
    wanted = by_lcms(Image.fromarray(np.repeat(GRAYS, 3, axis=2)), gray)
    assert np.abs(read_picture(tmp_path / "gray.png").astype(int) - wanted).max() <= 2


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_a_gray_profile_is_applied(tmp_path: Path, ending: str) -> None:
    profile, path = gray_profile(1.8), tmp_path / f"a{ending}"
    quality: dict[str, Any] = {"quality": 100} if ending == ".jpg" else {}
    Image.fromarray(GRAYS[..., 0]).save(path, icc_profile=profile, **quality)
    wanted = srgb_codes((GRAYS / 255) ** 1.8)
    assert np.abs(wanted - GRAYS).max() > 10
    assert np.abs(read_picture(path) - wanted).mean() <= 1
    assert np.abs(read_picture(path, 1) - wanted).mean() <= 1


@pytest.mark.parametrize("ending", [".tif", ".jpg"])
def test_inks_are_converted_by_their_profile(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "PICTURE_FORMATS", ("JPEG", "TIFF"))
    black = np.zeros((*PATCHES.shape[:2], 1), np.uint8)
    black[:, 32:48] = 90
    inks = Image.frombytes("CMYK", PATCHES.shape[1::-1], np.concatenate([PATCHES, black], axis=2).tobytes())
    quality: dict[str, Any] = {"quality": 100, "subsampling": 0} if ending == ".jpg" else {}
    inks.save(tmp_path / f"a{ending}", icc_profile=cmyk_profile(), **quality)
    assert difference(read_picture(tmp_path / f"a{ending}"), by_lcms(inks, cmyk_profile())) <= 2


def test_inks_without_a_profile_are_converted_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "a.jpg", quality=100)
    np.testing.assert_allclose(read_picture(tmp_path / "a.jpg")[8, 8], [0, 255, 255], atol=2)
    assert "CMYK without a usable colour profile" in caplog.text


def test_a_lab_picture_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "PICTURE_FORMATS", ("TIFF",))
    lab = ImageCms.profileToProfile(
        Image.fromarray(PATCHES), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    lab.save(tmp_path / "lab.tif")
    back = ImageCms.profileToProfile(
        lab, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert difference(read_picture(tmp_path / "lab.tif"), np.asarray(back)) <= 1
    values = np.array([[[50, 0, 0], [80, 20, 30], [60, 216, 30]]], np.int64)  # L*, a*, b* in two's complement
    stored = np.concatenate([np.rint(values[..., :1] * 2.55), values[..., 1:]], axis=2).astype(np.uint8)
    tiff(tmp_path / "plain.tif", stored, photometric=8)
    # CIE's formulas, Bradford from D50 to D65 and the sRGB curve.
    np.testing.assert_allclose(
        read_picture(tmp_path / "plain.tif"), [[[119, 119, 119], [247, 184, 143], [74, 162, 88]]], atol=2
    )


def test_a_profile_that_is_srgb_changes_no_pixel(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(noise).save(tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), noise)
    assert not caplog.records


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "inks"])
@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_a_profile_that_cannot_be_used_is_left_out_and_it_is_said(
    tmp_path: Path, damage: str, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    noise = bytes(np.random.default_rng(0).integers(0, 256, 600, np.uint8))
    profile = {"cut": rgb_profile(P3)[:200], "noise": noise, "empty": bytes(200), "inks": cmyk_profile()}[damage]
    Image.fromarray(PATCHES).save(tmp_path / f"a{ending}", icc_profile=profile)
    Image.fromarray(PATCHES).save(tmp_path / f"b{ending}")
    np.testing.assert_array_equal(read_picture(tmp_path / f"a{ending}"), read_picture(tmp_path / f"b{ending}"))
    assert len(caplog.records) == 1
    assert "read without it" in caplog.text


def test_a_profile_that_png_packed_wrongly_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    png(tmp_path / "a.png", PATCHES, chunk(b"iCCP", b"name\0\0" + b"no zlib stream"))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), PATCHES)
    assert "damaged colour profile" in caplog.text


def points(primaries: tuple[tuple[float, float], ...], white: tuple[float, float] = WHITE_D65) -> bytes:
    flat = [number for point in (white, *primaries) for number in point]
    return chunk(b"cHRM", struct.pack(">8I", *[round(number * 100000) for number in flat]))


BT709 = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
WIDE = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))


@pytest.mark.parametrize(
    ("chunks", "curve", "primaries"),
    [
        (chunk(b"gAMA", struct.pack(">I", 100000)), 1.0, BT709),
        (chunk(b"gAMA", struct.pack(">I", 55556)), 1.8, BT709),
        (chunk(b"gAMA", struct.pack(">I", 45455)) + points(WIDE), 2.2, WIDE),
        (points(WIDE), None, WIDE),
        (chunk(b"cICP", bytes([12, 13, 0, 1])), None, WIDE),
        (chunk(b"cICP", bytes([12, 13, 0, 1])) + chunk(b"sRGB", b"\0"), None, WIDE),
        (chunk(b"cICP", bytes([1, 8, 0, 1])), 1.0, BT709),
        (chunk(b"cICP", bytes([9, 4, 0, 1])), 2.2, ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))),
    ],
    ids=["linear", "gamma 1.8", "gamma and primaries", "primaries", "cICP", "cICP first", "cICP linear", "cICP 2020"],
)
def test_the_colour_chunks_of_a_png_are_applied(
    tmp_path: Path, chunks: bytes, curve: float | None, primaries: tuple[tuple[float, float], ...]
) -> None:
    png(tmp_path / "a.png", PATCHES, chunks)
    wanted = by_formula(PATCHES, curve, primaries)
    assert difference(PATCHES, wanted) > 10
    assert difference(read_picture(tmp_path / "a.png"), wanted) <= 2


@pytest.mark.parametrize(
    "chunks",
    [
        chunk(b"gAMA", struct.pack(">I", 45455)),
        chunk(b"gAMA", struct.pack(">I", 45455)) + points(BT709),
        chunk(b"sRGB", b"\0") + chunk(b"gAMA", struct.pack(">I", 55556)) + points(WIDE),
        chunk(b"cICP", bytes([1, 13, 0, 1])),
        chunk(b"gAMA", bytes(4)),
        chunk(b"cHRM", bytes(32)),
        chunk(b"cHRM", b"\xff" * 32),
        points(((0.3, 0.3), (0.3, 0.3), (0.3, 0.3))),
        chunk(b"cICP", bytes([200, 200, 0, 1])),
        chunk(b"cICP", b"\1"),
    ],
)
def test_chunks_that_mean_srgb_or_nothing_change_no_pixel(tmp_path: Path, chunks: bytes) -> None:
    png(tmp_path / "a.png", PATCHES, chunks)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), PATCHES)


def test_a_limited_range_is_expanded(tmp_path: Path) -> None:
    png(tmp_path / "a.png", np.rint(16 + PATCHES * (219 / 255)).astype(np.uint8), chunk(b"cICP", bytes([1, 13, 0, 0])))
    assert difference(read_picture(tmp_path / "a.png"), PATCHES) <= 1


def test_an_avif_without_a_profile_is_converted_by_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "PICTURE_FORMATS", ("AVIF",))
    path = tmp_path / "a.avif"
    Image.fromarray(PATCHES).save(path, quality=100, subsampling="4:4:4")
    content = path.read_bytes()
    assert content.count(b"colrnclx\0\1\0\x0d") == 1
    path.write_bytes(content.replace(b"colrnclx\0\1\0\x0d", b"colrnclx\0\x0c\0\x0d"))  # Display P3
    with Image.open(path) as stored:
        assert difference(read_picture(path), by_formula(np.asarray(stored), None, WIDE)) <= 2


def test_adobe_rgb_that_only_exif_names_is_converted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 0xFFFF
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    Image.fromarray(PATCHES).save(tmp_path / "a.jpg", quality=100, subsampling=0, exif=exif)
    wanted = by_lcms(Image.fromarray(PATCHES), rgb_profile(ADOBE, 563 / 256))
    assert difference(read_picture(tmp_path / "a.jpg"), wanted) <= 2

    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 0xFFFF
    Image.fromarray(PATCHES).save(tmp_path / "b.jpg", quality=100, subsampling=0, exif=exif)
    assert difference(read_picture(tmp_path / "b.jpg"), PATCHES) <= 2
    assert "not in sRGB" in caplog.text


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_an_hdr_png_is_converted(tmp_path: Path, transfer: int, name: str, caplog: pytest.LogCaptureFixture) -> None:
    light = np.random.default_rng(0).uniform(0, 1, (1, 200, 3)) ** 2  # of reference white, in BT.709's primaries
    to_2020 = np.linalg.inv(to_xyz(((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), WHITE_D65)) @ to_xyz(
        BT709, WHITE_D65
    )
    wide = np.clip(light @ to_2020.T, 0, 1)
    if transfer == 16:  # SMPTE ST 2084
        power = (wide * 203 / 10000) ** (2610 / 16384)
        codes = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    else:  # BT.2100: the inverse of the OOTF for 1000 cd/m2, then the OETF
        displayed = wide * 203 / 1000
        luminance = (displayed @ np.array([0.2627, 0.6780, 0.0593]))[..., np.newaxis]
        scene = displayed * np.maximum(luminance, 1e-9) ** (1 / 1.2 - 1)
        codes = np.where(
            scene <= 1 / 12,
            np.sqrt(3 * scene),
            0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073,
        )
    png(tmp_path / "a.png", np.rint(codes * 65535).astype(np.uint16), chunk(b"cICP", bytes([9, transfer, 0, 1])))
    assert np.abs(read_picture(tmp_path / "a.png") - srgb_codes(light)).max() <= 2
    assert f"HDR picture ({name})" in caplog.text


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_what_is_written_is_tagged_as_srgb(tmp_path: Path, ending: str) -> None:
    write_picture(tmp_path / f"a{ending}", PATCHES)
    with Image.open(tmp_path / f"a{ending}") as image:
        image.load()
        if ending == ".png":
            assert image.info["srgb"] == 0
        else:
            np.testing.assert_array_equal(by_lcms(Image.fromarray(PATCHES), image.info["icc_profile"]), PATCHES)
    for other in ("b", "c"):
        write_picture(tmp_path / f"{other}{ending}", PATCHES)
    assert (tmp_path / f"b{ending}").read_bytes() == (tmp_path / f"c{ending}").read_bytes()


def test_a_folder_of_converted_pictures_does_not_flood_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    profile = rgb_profile(P3)
    for place in range(30):
        Image.new("RGB", (8, 8), (200, 30, 40)).save(tmp_path / f"{place}.png", icc_profile=profile)
        read_picture(tmp_path / f"{place}.png")
    assert 1 <= sum(record.levelno >= logging.WARNING for record in caplog.records) <= 10


def test_an_hdr_avif_is_converted_from_all_its_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "PICTURE_FORMATS", ("AVIF",))
    light = np.linspace(0.05, 1, 16) ** 2  # of reference white, grays of 16 columns each
    power = (light * 203 / 10000) ** (2610 / 16384)
    codes = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    with av.open(str(tmp_path / "a.avif"), "w", format="avif") as container:
        stream = container.add_stream("libsvtav1", rate=1, options={"crf": "1", "preset": "10"})
        stream.height, stream.width, stream.pix_fmt = 64, 256, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, 16, 2
        planes = np.full((96, 256), 512, "<u2")
        planes[:64] = np.repeat(np.rint(codes * 1023).astype("<u2"), 16)
        frame = av.VideoFrame(256, 64, "yuv420p10le")
        rows = (planes[:64], planes[64:80], planes[80:])
        for plane, content in zip(frame.planes, rows, strict=True):
            padded = np.zeros((plane.height, plane.line_size // 2), "<u2")
            padded[:, : plane.width] = content.reshape(plane.height, plane.width)
            plane.update(padded.tobytes())
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    back = read_picture(tmp_path / "a.avif").reshape(64, 16, 16, 3)[16:48, :, 4:12].mean(axis=(0, 2))
    assert np.abs(back - srgb_codes(light)[:, np.newaxis]).max() <= 2


BT709_D50 = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
PROPHOTO = ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491))
DEEP = np.rint(np.random.default_rng(8).uniform(0, 1, (4, 200, 3)) ** 3 * 65535).astype(np.uint16)


@pytest.mark.parametrize("columns", [BT709_D50, P3, PROPHOTO], ids=["bt709", "p3", "prophoto"])
@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_profile_is_applied_to_all_sixteen_bits(
    tmp_path: Path, columns: tuple[tuple[float, float, float], ...], gamma: float, channels: int
) -> None:
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(rgb_profile(columns, gamma)))
    codes = DEEP if channels != 1 else np.repeat(DEEP[..., :1], 3, axis=2)
    pixels = np.dstack([codes, np.full((4, 200), 65535, np.uint16)]) if channels == 4 else codes[..., :channels]
    path = png(tmp_path / "a.png", pixels, profile)
    stored_gamma = np.round(gamma * 256) / 256
    light = (codes / 65535) ** stored_gamma @ np.array(columns) @ np.linalg.inv(np.array(BT709_D50))
    assert np.abs(read_picture(path) - srgb_codes(light)).max() <= 1


def test_linear_gray_and_linear_tags_keep_their_dark_levels(tmp_path: Path) -> None:
    wanted = srgb_codes(DEEP / 65535)
    for name, tag in (("gAMA", struct.pack(">I", 100000)), ("cICP", bytes([1, 8, 0, 1]))):
        got = read_picture(png(tmp_path / "a.png", DEEP, chunk(name.encode(), tag)))
        assert np.abs(got - wanted).max() <= 1
    gray = chunk(b"iCCP", b"a\0\0" + zlib.compress(gray_profile(1.0)))
    got = read_picture(png(tmp_path / "b.png", DEEP[..., :1], gray))
    assert np.abs(got - wanted[..., :1]).max() <= 1


def with_curve(curve: bytes) -> bytes:
    """A profile of P3's primaries with this curve for each channel."""
    profile = bytearray(rgb_profile(P3, 2.0))
    for place in range(struct.unpack_from(">I", profile, 128)[0]):
        at = 132 + 12 * place
        if profile[at + 1 : at + 4] == b"TRC":
            profile[at + 4 : at + 12] = struct.pack(">II", len(profile), len(curve))
            profile += curve + bytes(-len(curve) % 4)
    profile[:4] = struct.pack(">I", len(profile))
    return bytes(profile)


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, "table", "identity"])
def test_curves_of_every_kind_are_those_of_lcms(kind: int | str) -> None:
    parameters: dict[int | str, tuple[float, ...]] = {
        0: (1.7,),
        1: (2.0, 1.1, -0.1),
        2: (1.9, 0.9, -0.05, 0.0),
        3: (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
        4: (2.2, 0.9, 0.05, 0.2, 0.1, 0.01, 0.0),
    }
    if isinstance(kind, int):
        values = struct.pack(f">{len(parameters[kind])}i", *(round(value * 65536) for value in parameters[kind]))
        curve = b"para" + struct.pack(">IHH", 0, kind, 0) + values
    else:
        table = np.rint(np.linspace(0, 1, 300) ** 2.1 * 65535) if kind == "table" else np.zeros(0)
        curve = b"curv" + struct.pack(">II", 0, len(table)) + table.astype(">u2").tobytes()
    profile = with_curve(curve)
    levels = np.arange(0, 256, 3, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels[::5], levels[::7]), axis=-1).reshape(len(levels[::5]), -1, 3)
    got = deep_to_srgb(profile, cube.astype(np.uint16) * np.uint16(257))
    assert got is not None
    assert np.abs(got.astype(int) - by_lcms(Image.fromarray(cube), profile)).max() <= 1


@pytest.mark.parametrize("damage", [b"", bytes(200), rgb_profile(P3, 2.0)[:300], cmyk_profile()])
def test_a_profile_that_is_no_matrix_is_left_to_lcms(damage: bytes) -> None:
    assert deep_to_srgb(damage, DEEP) is None


def test_a_profile_whose_black_is_not_black_is_left_to_lcms() -> None:
    raised = b"para" + struct.pack(">IHH4i", 0, 2, 0, 2 << 16, 1 << 16, 0, 2000)
    assert deep_to_srgb(with_curve(raised), DEEP) is None


def test_the_numbers_of_an_hdr_png_count_before_its_profile(tmp_path: Path) -> None:
    numbers = chunk(b"cICP", bytes([9, 16, 0, 1]))
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(rgb_profile(P3, 2.0)))
    wanted = read_picture(png(tmp_path / "a.png", DEEP, numbers))
    assert np.array_equal(read_picture(png(tmp_path / "b.png", DEEP, numbers + profile)), wanted)
