"""Colours of clips: HDR, wide gamut, depth, alpha and missing tags, against the formulas of the standards."""

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from latentrt.runtime.errors import InputError, MediaError
from latentrt.runtime.media.alpha import composite
from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.clips.frame_conversion import FrameConverter
from latentrt.runtime.media.colours.spaces import ColourSpace

PQ, HLG, LINEAR, BT709, BT2020, P3 = 16, 18, 8, 1, 9, 12
PATCH = 16  # pixels a flat colour is wide
COLOURS = np.concatenate(
    [np.linspace(0, 1, 12)[:, None].repeat(3, 1), np.eye(3) * 0.5, np.random.default_rng(4).uniform(0.05, 0.6, (17, 3))]
)
# Code values in 1/65535 as FFmpeg 5.1 with zimg 3.0 converts them:
# ffmpeg -f rawvideo -pix_fmt gbrp16le -s 24x4 -i - -vf
# zscale=pin=PRIMARIES:tin=TRANSFER:min=gbr:rin=pc:t=bt709:p=bt709:m=gbr:r=pc:npl=203:agamma=0
# -f rawvideo -pix_fmt gbrp16le -   (agamma=0: HLG's OOTF as BT.2100 has it, not an approximation)
SAMPLES = np.array(
    [[0.5, 0.5, 0.5], [0.25, 0.25, 0.25], [0.5, 0.3, 0.2], [0.2, 0.45, 0.3], [0.3, 0.3, 0.5], [0.1, 0.05, 0.4]]
)
ZSCALE: dict[tuple[str, str], list[list[int]]] = {
    ("2020", "smpte2084"): [
        [47180, 47180, 47180],
        [14183, 14183, 14183],
        [57306, 0, 1744],
        [0, 40069, 14700],
        [12824, 18178, 49199],
        [0, 0, 31983],
    ],
    ("2020", "arib-std-b67"): [
        [36765, 36765, 36765],
        [18382, 18382, 18382],
        [40471, 20530, 14611],
        [0, 33695, 21906],
        [20994, 22105, 35102],
        [4867, 1627, 25103],
    ],
    ("smpte170m", "709"): [
        [32768, 32768, 32768],
        [16384, 16384, 16384],
        [32151, 19924, 12996],
        [14706, 29176, 19609],
        [19861, 19981, 32826],
        [7157, 5507, 26278],
    ],
    ("bt470m", "709"): [
        [32768, 32768, 32768],
        [16384, 16384, 16384],
        [37231, 18775, 11358],
        [0, 29210, 19196],
        [17925, 20998, 33446],
        [0, 8990, 26964],
    ],
    ("smpte431", "709"): [
        [32768, 32768, 32768],
        [16384, 16384, 16384],
        [34247, 18838, 11470],
        [4214, 29954, 18657],
        [19610, 19580, 33682],
        [6707, 1772, 27229],
    ],
    ("709", "log100"): [
        [25108, 25108, 25108],
        [15541, 15541, 15541],
        [25108, 17105, 14119],
        [14119, 22811, 17105],
        [17105, 17105, 25108],
        [11654, 10588, 20724],
    ],
    ("709", "bt470m"): [
        [34716, 34716, 34716],
        [18390, 18390, 18390],
        [34716, 21735, 14988],
        [14988, 31520, 21735],
        [21735, 21735, 34716],
        [7940, 4206, 28294],
    ],
    ("film", "linear"): [
        [49096, 49096, 49096],
        [36781, 36781, 36781],
        [51849, 39261, 32616],
        [26565, 47618, 39293],
        [39606, 39476, 49769],
        [26601, 17333, 46014],
    ],
}


def flat(colours: np.ndarray) -> np.ndarray:
    """Patches side by side: (N, 3) becomes (PATCH, N * PATCH, 3)."""
    return np.repeat(np.repeat(colours[None], PATCH, 0), PATCH, 1)


def middles(pixels: np.ndarray) -> np.ndarray:
    return pixels[PATCH // 2, PATCH // 2 :: PATCH].astype(float)


def written(
    path: Path,
    colours: np.ndarray,
    *,
    primaries: int = 2,
    transfer: int = 2,
    pixel_format: str = "yuv444p10le",
    tags: tuple[int, int] = (9, 1),
    height: int = PATCH,
    options: dict[str, str] | None = None,
) -> tuple[Path, np.ndarray]:
    """Flat RGB colours in [0, 1] in a lossless file, and the RGB that its rounded YUV stands for, in [0, 1]."""
    bits = 10 if "10" in pixel_format else 12 if "12" in pixel_format else 8
    red_weight, blue_weight = {9: (0.2627, 0.0593), 1: (0.2126, 0.0722)}.get(tags[0], (0.299, 0.114))
    green_weight = 1 - red_weight - blue_weight
    step, most = 1 << (bits - 8), (1 << bits) - 1
    scale, offset = (most, 0) if tags[1] == 2 else (219 * step, 16 * step)
    chroma = most if tags[1] == 2 else 224 * step
    luma = colours @ [red_weight, green_weight, blue_weight]
    blue = np.rint((colours[:, 2] - luma) / 2 / (1 - blue_weight) * chroma + 128 * step)
    red = np.rint((colours[:, 0] - luma) / 2 / (1 - red_weight) * chroma + 128 * step)
    planes = [np.rint(luma * scale + offset).clip(0, most), blue.clip(0, most), red.clip(0, most)]
    y, u, v = (planes[0] - offset) / scale, (planes[1] - 128 * step) / chroma, (planes[2] - 128 * step) / chroma
    r, b = y + 2 * (1 - red_weight) * v, y + 2 * (1 - blue_weight) * u
    meant = np.stack([r, (y - red_weight * r - blue_weight * b) / green_weight, b], 1).clip(0, 1)
    frame = av.VideoFrame(PATCH * len(colours), height, pixel_format)
    for place, plane in enumerate(frame.planes):
        kind = np.uint8 if bits == 8 else np.uint16
        rows = np.zeros((plane.height, plane.line_size // kind().itemsize), kind)
        rows[:, : plane.width] = np.repeat(planes[place], PATCH * plane.width // frame.width)
        plane.update(rows.tobytes())
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = frame.width, height, pixel_format
        context = stream.codec_context
        context.colorspace, context.color_range = tags
        context.color_primaries, context.color_trc = primaries, transfer
        frame.colorspace, frame.color_range = tags
        frame.pts, frame.time_base = 0, Fraction(1, 24)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path, meant


def light_of(colours: np.ndarray, transfer: int) -> np.ndarray:
    """Display light in cd/m2 where white is 203, written out anew from the standards."""
    if transfer == LINEAR:
        return colours * 203
    if transfer == PQ:  # SMPTE ST 2084
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        root = colours ** (1 / m2)
        return 10000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    if transfer == HLG:  # BT.2100, OOTF for 1000 cd/m2
        a, b, c = 0.17883277, 1 - 4 * 0.17883277, 0.5 - 0.17883277 * np.log(4 * 0.17883277)
        scene = np.where(colours <= 0.5, colours**2 / 3, (np.exp((colours - c) / a) + b) / 12)
        return 1000 * (scene @ [[0.2627], [0.6780], [0.0593]]) ** 0.2 * scene
    return 203 * colours**2.4


# To BT.709 from: BT.2020 by BT.2407, Display P3 by the CSS Color 4 specification.
MATRICES = {
    BT709: np.eye(3),
    BT2020: np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]),
    P3: np.array([[1.22494, -0.22494, 0], [-0.04206, 1.04206, 0], [-0.01964, -0.07864, 1.09828]]),
}


@pytest.mark.parametrize(
    ("primaries", "transfer"),
    [(BT2020, PQ), (BT2020, HLG), (2, PQ), (P3, PQ), (BT2020, 14), (P3, BT709), (BT2020, LINEAR), (BT709, LINEAR)],
)
@pytest.mark.parametrize("pixel_format", ["yuv444p10le", "yuv420p10le", "yuv444p12le"])
def test_hdr_and_wide_gamut_become_bt709(tmp_path: Path, primaries: int, transfer: int, pixel_format: str) -> None:
    path, meant = written(
        tmp_path / "a.mkv", COLOURS, primaries=primaries, transfer=transfer, pixel_format=pixel_format
    )
    light = light_of(meant, transfer) / 203
    matrix = MATRICES[BT2020 if primaries == 2 else primaries]
    wanted = 255 * np.clip(light @ matrix.T, 0, 1) ** (1 / 2.4)
    with open_clip(path) as clip:
        assert np.abs(middles(next(clip)) - wanted).max() <= 1.5
    with open_clip(path, 1) as clip:
        assert np.abs(middles(next(clip))[:, 0] - wanted @ [0.299, 0.587, 0.114]).max() <= 2
    with open_clip(path, 4) as clip:
        assert (next(clip)[..., 3] == 255).all()


@pytest.mark.parametrize(("primaries", "transfer"), ZSCALE)
def test_conversions_agree_with_zscale(primaries: str, transfer: str) -> None:
    names = {"2020": 9, "smpte170m": 6, "bt470bg": 5, "bt470m": 4, "film": 8, "smpte431": 11, "smpte432": 12, "709": 1}
    curves = {"smpte2084": 16, "arib-std-b67": 18, "709": 1, "linear": 8, "log100": 9, "log316": 10, "bt470m": 4}
    space = ColourSpace(names[primaries], curves[transfer])
    got = space.to_bt709((SAMPLES * 65535).astype(np.float32))
    assert np.abs(got - np.array(ZSCALE[primaries, transfer]) / 257).max() <= 0.6


def test_graphics_white_of_hdr_is_white(tmp_path: Path) -> None:
    for transfer, code in ((PQ, 0.58069), (HLG, 0.75)):  # BT.2408: 203 cd/m2
        path, _ = written(tmp_path / f"{transfer}.mkv", np.full((2, 3), code), primaries=BT2020, transfer=transfer)
        with open_clip(path) as clip:
            assert 253 <= next(clip).min() <= 255


@pytest.mark.parametrize("primaries", [1, 2])
@pytest.mark.parametrize("transfer", [1, 2, 6, 13, 14])
def test_ordinary_curves_keep_code_values(tmp_path: Path, primaries: int, transfer: int) -> None:
    path, meant = written(tmp_path / "a.mkv", COLOURS, primaries=primaries, transfer=transfer)
    with open_clip(path) as clip:
        assert np.abs(middles(next(clip)) - 255 * meant).max() <= 0.6


@pytest.mark.parametrize("pixel_format", ["yuv444p", "yuv420p", "yuv444p10le", "yuv420p10le", "yuv444p12le"])
@pytest.mark.parametrize("full", [False, True])
def test_any_depth_and_range_is_rounded_to_the_nearest(tmp_path: Path, pixel_format: str, full: bool) -> None:
    path, meant = written(tmp_path / "a.mkv", COLOURS, pixel_format=pixel_format, tags=(1, 2 if full else 1))
    with open_clip(path) as clip:
        assert np.abs(middles(next(clip)) - 255 * meant).max() <= 0.6


@pytest.mark.parametrize("pixel_format", ["gray", "gray10le", "gray16le", "gbrp", "gbrp10le", "gbrp12le", "gbrp16le"])
def test_gray_and_rgb_of_any_depth_are_rounded_to_the_nearest(pixel_format: str) -> None:
    most = {"gray": 255, "gbrp": 255, "gray16le": 65535, "gbrp16le": 65535, "gbrp12le": 4095}.get(pixel_format, 1023)
    values = np.rint(np.linspace(0, 1, 256) ** 1.3 * most)
    frame = av.VideoFrame(256, 2, pixel_format)
    for plane in frame.planes:
        kind = np.uint8 if most == 255 else np.uint16
        rows = np.zeros((2, plane.line_size // kind().itemsize), kind)
        rows[:, :256] = values
        plane.update(rows.tobytes())
    frame.pts, frame.time_base = 0, Fraction(1, 24)
    assert np.abs(FrameConverter(3).convert(frame)[0, :, 1] - values / most * 255).max() <= 0.51
    assert np.abs(FrameConverter(1).convert(frame)[0, :, 0] - values / most * 255).max() <= 0.51


def test_a_conversion_is_said_once_for_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, _ = written(tmp_path / "said.mkv", COLOURS, primaries=BT2020, transfer=HLG)
    for _ in range(2):
        with open_clip(path) as clip:
            list(clip)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == 1
    assert "HLG" in lines[0]
    assert "BT.709" in lines[0]


@pytest.mark.parametrize("tag", [8, 10, 14])
def test_a_matrix_that_cannot_be_read_is_one_clear_error(tmp_path: Path, tag: int) -> None:
    path, _ = written(tmp_path / "a.mkv", COLOURS, tags=(tag, 1))
    with pytest.raises(MediaError, match=r"a\.mkv cannot be read: its colour matrix .* convert it to BT\.709 first"):
        open_clip(path)


def test_untagged_clips_have_the_matrix_of_their_writer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hd, six, seven = {"height": 720, "pixel_format": "yuv444p"}, COLOURS[12:], (1, 1)
    by_ffmpeg, meant = written(tmp_path / "a.mkv", six, tags=(2, 1), **hd)  # type: ignore[arg-type]
    with open_clip(by_ffmpeg) as clip:
        assert np.abs(middles(next(clip)) - 255 * meant).max() <= 1
    assert "bt601 is assumed" in caplog.text
    tagged, meant = written(tmp_path / "b.mkv", six, tags=seven, **hd)  # type: ignore[arg-type]
    with open_clip(tagged) as clip:
        assert np.abs(middles(next(clip)) - 255 * meant).max() <= 1
    other, meant = written(tmp_path / "c.mkv", six, tags=(2, 1), **hd)  # type: ignore[arg-type]
    other.write_bytes(other.read_bytes().replace(b"Lavf", b"Cam "))
    with open_clip(other, matrix="bt601") as clip:
        assert np.abs(middles(next(clip)) - 255 * meant).max() <= 1
    with open_clip(other) as clip:
        assert np.abs(middles(next(clip)) - 255 * meant).max() > 10
    assert "c.mkv does not name its colour matrix: bt709 is assumed" in caplog.text
    with pytest.raises(InputError, match="matrix must be one of"):
        open_clip(other, matrix="bt2020")


def rgba_clip(path: Path, codec: str, pixel_format: str) -> Path:
    """Red over hidden green: opaque, half and no alpha, 32 columns each."""
    pixels = np.zeros((64, 96, 4), np.uint8)
    pixels[:, :32], pixels[:, 32:64], pixels[:, 64:] = (200, 0, 0, 255), (200, 0, 0, 128), (0, 255, 0, 0)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixel_format
        for place in range(3):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba")
            frame.pts, frame.time_base = place, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mov", "qtrle", "argb"),
        ("a.mov", "prores_ks", "yuva444p10le"),
        ("a.mkv", "ffv1", "bgra"),
        ("a.mov", "png", "rgba"),
        ("a.webm", "libvpx-vp9", "yuva420p"),
        ("a.mkv", "libvpx-vp9", "yuva420p"),
    ],
)
def test_transparent_video_is_shown_over_the_background(
    tmp_path: Path, name: str, codec: str, pixel_format: str
) -> None:
    path = rgba_clip(tmp_path / name, codec, pixel_format)
    for background in ((255, 255, 255), (0, 0, 255)):
        with open_clip(path, background=background) as clip:
            opaque, half, hidden = next(clip)[32, 16::32].astype(int)
        assert np.abs(opaque - (200, 0, 0)).max() <= 2
        assert (
            np.abs(half - [(200 * 128 + 127 * background[0]) / 255, *(b * 127 / 255 for b in background[1:])]).max()
            <= 2
        )
        assert np.abs(hidden - background).max() <= 2
    with open_clip(path, 4) as clip:
        assert np.abs(next(clip)[32, 16::32, 3].astype(int) - (255, 128, 0)).max() <= 1


def test_alpha_is_composited_as_pictures_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)
    alpha = pixels[..., 3:] / 255
    exact = pixels[..., :3] * alpha + np.array([10, 20, 250]) * (1 - alpha)
    assert np.abs(composite(pixels, (10, 20, 250)) - exact).max() <= 0.501


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.mkv", "a.mov"])
def test_a_written_container_is_tagged(tmp_path: Path, name: str) -> None:
    from latentrt.runtime.media.clips.clip_writer import write_clip

    with write_clip(tmp_path / name, 24, sample_aspect_ratio=Fraction(4, 3)) as writer:
        writer.write(np.zeros((3, 32, 48, 3), np.uint8))
    if name in ("a.mp4", "a.mov"):
        assert (
            b"colrnclx\0\1\0\1\0\1" in (tmp_path / name).read_bytes() or b"colrnclc" in (tmp_path / name).read_bytes()
        )
    with av.open(str(tmp_path / name)) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        tags = (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc)
        assert tuple(map(int, tags)) == (1, 1, 1, 1)
        assert stream.sample_aspect_ratio == Fraction(4, 3)


@pytest.mark.parametrize(
    ("codec", "ending"), [("libx264", ".mkv"), ("libx264", ".mp4"), ("libx264", ".mov"), ("libx265", ".mkv")]
)
def test_tags_that_only_the_container_has_count(tmp_path: Path, codec: str, ending: str) -> None:
    try:
        av.codec.Codec(codec, "w")
    except ValueError:
        pytest.skip(f"this FFmpeg has no {codec}")
    tagged, untagged = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
    with av.open(str(tagged), "w") as container:
        stream: Any = container.add_stream(codec, rate=24, options={"x265-params": "log-level=none", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = BT2020, 1, BT2020, PQ
        ramp = np.broadcast_to(np.linspace(0, 40000, 128, dtype=np.uint16)[None, :, None], (64, 128, 3)) + np.uint16(1)
        frame = av.VideoFrame.from_ndarray(ramp.copy(), format="rgb48le").reformat(format="yuv420p10le")
        frame.pts, frame.time_base = 0, Fraction(1, 24)
        frame.colorspace, frame.color_range = BT2020, 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(tagged)) as container, av.open(str(untagged), "w") as output:
        source = container.streams.video[0]
        copy = output.add_stream_from_template(source)
        name = {"libx264": "h264_metadata", "libx265": "hevc_metadata"}[codec]
        settings = "colour_primaries=2:transfer_characteristics=2:matrix_coefficients=2"
        untag = av.BitStreamFilterContext(f"{name}={settings}", source, copy)
        for packet in container.demux(source):
            for changed in untag.filter(packet if packet.size else None):
                changed.stream = copy
                output.mux(changed)
    with av.open(str(untagged)) as container:
        assert int(next(container.decode(video=0)).colorspace) == 2
    with open_clip(tagged) as one, open_clip(untagged) as other:
        wanted = next(one)
        assert wanted.std() > 20
        assert np.array_equal(wanted, next(other))


def test_codes_above_white_count_where_their_colour_lies_inside_bt709(tmp_path: Path) -> None:
    # Red of BT.709 is more than the red of SMPTE C (6) can show: its code is 1.026 there, which YUV holds.
    red = np.array([[1.0264, 0.2139, 0.0]]) * [1, 1, 0]
    path, _ = written(tmp_path / "a.mkv", red, primaries=6, transfer=6, tags=(6, 1), pixel_format="yuv444p12le")
    with open_clip(path) as clip:
        assert middles(next(clip))[0, 0] >= 254
