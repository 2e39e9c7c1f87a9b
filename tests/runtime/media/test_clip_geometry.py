"""Clips are shown as their files say: mirrored, turned, deinterlaced, and with the shape of their pixels."""

import gc
import logging
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from latentrt.runtime.arrays.grid import Grid
from latentrt.runtime.errors import MediaError
from latentrt.runtime.media.clips import clip_chunks, webm_display_size
from latentrt.runtime.media.clips.clip_chunks import ClipChunks
from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.clips.clip_writer import write_clip
from latentrt.runtime.media.clips.deinterlacer import deinterlaced
from latentrt.runtime.media.clips.video_geometry import Orientation
from latentrt.runtime.media.latents_file import LatentsFile, read_latents, write_latents

ONE, UNIT = 1 << 16, 1 << 30
EIGHT_WAYS = [(first, second, crossed) for crossed in (False, True) for first in (1, -1) for second in (1, -1)]


def matrix_of(first: int, second: int, crossed: bool) -> list[int]:
    """A display matrix that sends a stored x to `first` and a stored y to `second` times an axis."""
    top = [0, first * ONE] if crossed else [first * ONE, 0]
    below = [second * ONE, 0] if crossed else [0, second * ONE]
    return [*top, 0, *below, 0, 0, 0, UNIT]


def picture() -> np.ndarray:
    """Four colours in the corners, 48x64."""
    pixels = np.full((48, 64, 3), 128, np.uint8)
    pixels[:24, :32], pixels[:24, 32:], pixels[24:, :32] = (220, 30, 30), (30, 220, 30), (30, 30, 220)
    return pixels


def written(
    path: Path,
    frames: list[np.ndarray],
    *,
    matrix: list[int] | None = None,
    sound: bool = False,
    aspect: Fraction | None = None,
    codec: str = "libx264",
    params: str = "",
) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(
            codec, rate=25, options={"crf": "1", "x264-params": params} if params else {"crf": "1"}
        )
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        if matrix is not None:
            stream.set_display_matrix(matrix)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        audio: Any = container.add_stream("aac", rate=44100) if sound else None
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
        if audio is not None:
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            samples.rate = 44100
            container.mux(audio.encode(samples))
            container.mux(audio.encode(None))
    return path


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def placed_by_points(stored: np.ndarray, matrix: list[int]) -> np.ndarray:
    """Each stored pixel at the point where the matrix sends it, one by one."""
    (a, b), (c, d) = np.array(matrix).reshape(3, 3)[:2, :2] // ONE
    height, width = stored.shape[:2]
    points = {(x * a + y * c, x * b + y * d): stored[y, x] for y in range(height) for x in range(width)}
    left, top = min(x for x, _ in points), min(y for _, y in points)
    shown = np.empty((height, width, 3) if a else (width, height, 3), np.uint8)
    for (x, y), pixel in points.items():
        shown[y - top, x - left] = pixel
    return shown


@pytest.mark.parametrize(("first", "second", "crossed"), EIGHT_WAYS)
def test_all_eight_display_matrices_are_applied(tmp_path: Path, first: int, second: int, crossed: bool) -> None:
    matrix = matrix_of(first, second, crossed)
    with open_clip(written(tmp_path / "plain.mp4", [picture()] * 2)) as clip:
        plain = next(clip)
    with open_clip(written(tmp_path / "a.mp4", [picture()] * 2, matrix=matrix)) as clip:
        shown = next(clip)
        assert (clip.height, clip.width) == shown.shape[:2] == ((64, 48) if crossed else (48, 64))
    np.testing.assert_array_equal(shown, placed_by_points(plain, matrix))


def test_other_angles_take_the_nearest_quarter_turn_and_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    half = round(ONE * 0.5**0.5)
    cosine, sine = round(ONE * 0.9659), round(ONE * 0.2588)  # 15 degrees
    path = written(tmp_path / "a.mp4", [picture()] * 2, matrix=[cosine, sine, 0, -sine, cosine, 0, 0, 0, UNIT])
    with open_clip(path) as clip:
        assert next(clip).shape == (48, 64, 3)
    assert [line for line in lines(caplog) if "no quarter turn" in line]
    for broken in (np.zeros((3, 3), np.int32), np.array([[half, half, 0], [half, half, 0], [0, 0, 1]], np.int32)):
        assert not Orientation.from_matrix(broken).transposed
    # A scaled quarter turn is a quarter turn.
    assert Orientation.from_matrix(np.array([[0, ONE // 2, 0], [-ONE // 2, 0, 0], [0, 0, 1]])) == Orientation(
        True, True
    )


@pytest.mark.parametrize("tagged", [True, False])
def test_frames_are_let_go_without_a_garbage_collection(tmp_path: Path, tagged: bool) -> None:
    # Frames of 4K video have 12 MB: a few dozen that wait for a collection are hundreds of megabytes.
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=24)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        if tagged:
            stream.codec_context.colorspace = stream.codec_context.color_trc = 1
        for place in range(60):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 4 * place, np.uint8), format="rgb24")
            frame.pts, frame.time_base = place, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    gc.collect()
    gc.disable()
    try:
        with open_clip(tmp_path / "a.mp4") as clip:
            for _ in clip:
                pass
            assert sum(type(held) is av.VideoFrame for held in gc.get_objects()) < 10
    finally:
        gc.enable()


def test_sound_that_is_left_out_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path / "with sound.mp4", [picture()] * 2, sound=True)
    for _ in range(2):
        with open_clip(path) as clip:
            assert len(list(clip)) == 2
    assert len(lines(caplog)) == 1
    assert f"-i '{path}' -map 0:v -map 1:a -c copy" in lines(caplog)[0]


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize(("crossed", "aspect"), [(False, Fraction(4, 3)), (True, Fraction(3, 4))])
def test_the_shape_of_pixels_survives_reading_and_writing(
    tmp_path: Path, ending: str, crossed: bool, aspect: Fraction
) -> None:
    path = written(tmp_path / "a.mp4", [picture()] * 2, aspect=Fraction(4, 3), matrix=matrix_of(1, 1, crossed))
    with open_clip(path) as clip:
        assert clip.sample_aspect_ratio == aspect
    chunks = ClipChunks(path, 3, Grid(32, 8, 1, 1, video=True))
    list(chunks)
    assert chunks.sample_aspect_ratio == aspect
    with write_clip(tmp_path / f"back{ending}", 25, sample_aspect_ratio=aspect) as writer:
        writer.write(np.stack([picture()] * 2)[:, :47, :63])  # odd: padded by one, which changes no pixel's shape
    with open_clip(tmp_path / f"back{ending}") as clip:
        assert clip.sample_aspect_ratio == aspect


def test_large_frames_are_read_in_short_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, grid = written(tmp_path / "a.mp4", [picture()] * 11), Grid(32, 8, 1, 1, video=True)
    long = list(ClipChunks(path, 3, grid))
    assert [chunk.shape[2] for chunk in long] == [8, 9]
    monkeypatch.setattr(clip_chunks, "MOST_BYTES", 3 * 4 * 3 * picture().shape[0] * picture().shape[1])
    short = list(ClipChunks(path, 3, grid))
    assert [chunk.shape[2] for chunk in short] == [3, 3, 3, 3, 3, 2]
    assert np.array_equal(np.concatenate(short, axis=2), np.concatenate(long, axis=2))


def test_a_latents_file_keeps_the_shape_of_pixels(tmp_path: Path) -> None:
    latents, path = np.zeros((1, 4, 1, 2, 2), np.float32), tmp_path / "z.safetensors"
    write_latents(path, LatentsFile(latents, sample_aspect_ratio=Fraction(40, 33)))
    assert read_latents(path).sample_aspect_ratio == Fraction(40, 33)
    write_latents(path, LatentsFile(latents))
    assert read_latents(path).sample_aspect_ratio is None
    whole = (tmp_path / "z.safetensors").read_bytes()
    assert b"aspect" not in whole
    for hostile in ("1e9999999", "0/1", "1/0", "-1/1", "1000/1", "x", "9" * 50):
        import safetensors.numpy

        metadata = {"format": "latentrt-latents-1", "sample_aspect_ratio": hostile}
        safetensors.numpy.save_file({"latents": latents}, path, metadata)
        with pytest.raises(MediaError, match="sample_aspect_ratio"):
            read_latents(path)


def comb(place: int) -> np.ndarray:
    """A bar that moves between the two fields of a frame."""
    pixels = np.zeros((128, 128, 3), np.uint8)
    pixels[0::2, 8 * place : 8 * place + 32] = 255
    pixels[1::2, 8 * place + 4 : 8 * place + 36] = 255
    return pixels


def combing(pixels: np.ndarray) -> float:
    """How much neighbouring lines differ more than lines two apart."""
    gray = pixels[8:-8, :, 1].astype(int)
    return float(np.abs(gray[1:-1] - gray[:-2]).mean() - np.abs(gray[2:] - gray[:-2]).mean())


@pytest.mark.parametrize("params", ["tff=1", "bff=1"])
def test_interlaced_frames_are_deinterlaced_one_for_one(
    tmp_path: Path, params: str, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [comb(place) for place in range(9)]
    path = written(tmp_path / "a.mp4", frames, params=params)
    with open_clip(path) as clip:
        assert clip.frame_count == 9
        assert clip.frame_rate == 25
        back = list(clip)
    assert len(back) == 9
    assert combing(comb(3)) > 5
    assert max(map(combing, back)) < 1
    starts = [int(np.argmax(frame[64, :, 1] > 128)) for frame in back]
    assert np.abs(np.array(starts) - 8 * np.arange(9)).max() <= 4  # in order, each at its own time
    assert len(lines(caplog)) == 1
    assert "deinterlaced" in lines(caplog)[0]


def test_progressive_frames_among_interlaced_ones_stay_as_they_are(tmp_path: Path) -> None:
    woven = written(tmp_path / "a.mp4", [comb(place) for place in range(4)], params="tff=1")
    whole = written(tmp_path / "b.mp4", [np.roll(comb(0)[:, :, ::-1], 8 * place, 1) for place in range(4)])
    frames: list[Any] = []
    for path in (whole, woven, whole, woven):
        with av.open(str(path)) as container:
            frames += container.decode(video=0)
    found: list[int] = []
    pairs = list(deinterlaced(iter(frames), lambda: found.append(1)))
    assert [frame for frame, _ in pairs] == frames
    assert found == [1]
    for frame, picture_of in pairs:
        same = np.array_equal(frame.to_ndarray(), picture_of.to_ndarray())
        assert same is not frame.interlaced_frame


@pytest.mark.parametrize("aspect", [Fraction(16, 11), Fraction(8, 9), Fraction(64, 45), Fraction(1, 3)])
@pytest.mark.parametrize("size", [(48, 64), (57, 31)])
def test_a_webm_says_the_shape_of_its_pixels_and_stays_whole(
    tmp_path: Path, aspect: Fraction, size: tuple[int, int]
) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (30, *size, 3), np.uint8)
    for name, ratio in (("square.webm", None), ("a.webm", aspect)):
        with write_clip(tmp_path / name, 24, sample_aspect_ratio=ratio) as writer:
            writer.write(frames)
    assert (tmp_path / "a.webm").stat().st_size == (tmp_path / "square.webm").stat().st_size
    with open_clip(tmp_path / "a.webm") as clip, open_clip(tmp_path / "square.webm") as square:
        assert (clip.sample_aspect_ratio, square.sample_aspect_ratio) == (aspect, None)
        assert (clip.height, clip.width) == size
        assert clip.frame_rate == 24
        np.testing.assert_array_equal(list(clip), list(square))
    with av.open(str(tmp_path / "a.webm")) as container:  # its index still leads to the frames
        container.seek(1_000_000)
        first: Any = next(container.decode(video=0))
        assert first.time >= 0
        assert container.duration is not None
        assert container.duration > 1_200_000


@pytest.mark.parametrize("name", ["a.webm", "a.mp4"])
def test_what_a_container_crops_is_left_out(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain, path = tmp_path / f"plain{name[1:]}", tmp_path / name
    for each in (plain, path):
        with write_clip(each, 24) as writer:
            writer.write(np.stack([picture()] * 3))
    if name == "a.webm":  # PixelCropTop and PixelCropLeft in place of a display size
        monkeypatch.setattr(webm_display_size, "_DISPLAY_HEIGHT", bytes.fromhex("54bb"))
        monkeypatch.setattr(webm_display_size, "_DISPLAY_WIDTH", bytes.fromhex("54cc"))
        monkeypatch.setattr(webm_display_size, "_display_size", lambda *_: (6, 10))
        assert webm_display_size.write_display_size(path, 48, 64, Fraction(1))
    else:  # a clean aperture of 54x42, 5 to the right and 3 below the middle, in place of the box behind the codec's
        clap = struct.pack(">4IiIiI", 54, 1, 42, 1, 5, 1, 3, 1)
        clap = (8 + len(clap)).to_bytes(4, "big") + b"clap" + clap
        content = path.read_bytes()
        for box in (b"avc1", b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
            place = content.index(box, content.index(b"moov")) - 4  # "avc1" is a brand of the file too
            length = int.from_bytes(content[place : place + 4], "big")
            if box == b"avc1":
                content = content[: place + length] + clap + content[place + length :]
            content = content[:place] + (length + len(clap)).to_bytes(4, "big") + content[place + 4 :]
        place = content.index(b"stco") + 12  # the frames lie behind and have moved
        offset = int.from_bytes(content[place : place + 4], "big") + len(clap)
        path.write_bytes(content[:place] + offset.to_bytes(4, "big") + content[place + 4 :])
    with open_clip(plain) as clip:
        whole = next(clip)
    with open_clip(path) as clip:
        assert (clip.height, clip.width) == (42, 54)
        np.testing.assert_array_equal(next(clip), whole[6:, 10:])
        assert len(list(clip)) == 2
    assert ["is cropped" in line for line in lines(caplog)] == [True]
