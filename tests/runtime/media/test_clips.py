"""Clips: the right colours, the right count, one frame at a time, and damage is one sentence."""

import ctypes
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from latentrt.runtime.arrays.pixels import to_samples
from latentrt.runtime.errors import InputError, MediaError, OutputError
from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.clips.clip_writer import write_clip
from latentrt.runtime.media.clips.frame_conversion import FrameConverter, encoder_graph
from latentrt.runtime.media.pictures.picture_file import write_picture

RATE = Fraction(30000, 1001)
FILES = ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.gif", "a.npy", "a"]
VIDEOS = ["a.mp4", "a.mov", "a.mkv", "a.webm"]
BAR = 64  # pixels a bar is wide; its inner half is free of what codecs and 4:2:0 do at edges


def colour_bars(level: int, height: int = 64) -> np.ndarray:
    """White, yellow, cyan, green, magenta, red, blue and black at `level`, uint8 (height, 512, 3)."""
    on_off = [(1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0)]
    return np.tile(np.repeat(np.array(on_off, np.uint8) * np.uint8(level), BAR, axis=0), (height, 1, 1))


def gray_ramp() -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to((np.arange(512) // 2).astype(np.uint8)[None, :, None], (64, 512, 3)))


def inside_bars(pixels: np.ndarray) -> np.ndarray:
    """The inner half of each bar, int (H, 8, BAR / 2, C)."""
    bars = pixels.reshape(pixels.shape[0], 8, BAR, pixels.shape[2]).astype(int)
    return bars[:, :, BAR // 4 : -BAR // 4]


def moving(count: int = 12, height: int = 32, width: int = 48) -> list[np.ndarray]:
    """Smooth frames that each differ: a gray ramp that moves, with the frame's number as its red."""
    ramp = np.linspace(40, 200, width).astype(np.uint8)
    frames = np.empty((count, height, width, 3), np.uint8)
    for place in range(count):
        frames[place] = np.roll(ramp, place)[None, :, None]
        frames[place, ..., 0] = 20 + 10 * place % 200
    return list(frames)


def written(path: Path, frames: list[np.ndarray], frame_rate: Fraction | int = RATE) -> Path:
    with write_clip(path, frame_rate) as clip:
        for frame in frames:
            clip.write(frame)
    return path


def encoded(
    path: Path, pixels: np.ndarray, matrix: str, full: bool, tags: tuple[int, int], rotation: float | None = None
) -> Path:
    """A lossless H.264 file in 4:4:4, converted by the standards' own formulas and tagged as told."""
    red_weight, blue_weight = {"601": (0.299, 0.114), "709": (0.2126, 0.0722), "2020": (0.2627, 0.0593)}[matrix]
    red, green, blue = np.moveaxis(pixels / 255, -1, 0)
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    planes = np.stack([luma, (blue - luma) / 2 / (1 - blue_weight), (red - luma) / 2 / (1 - red_weight)])
    scale, offset = ((255, 255, 255), (0, 128, 128)) if full else ((219, 224, 224), (16, 128, 128))
    planes = planes * np.reshape(scale, (3, 1, 1)) + np.reshape(offset, (3, 1, 1))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = pixels.shape[0], pixels.shape[1], "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = tags
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for place in range(3):
            frame = av.VideoFrame.from_ndarray(np.clip(np.rint(planes), 0, 255).astype(np.uint8), format="yuv444p")
            frame.pts, frame.time_base = place, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


# Colours


@pytest.mark.parametrize("picture", [colour_bars(255), colour_bars(191), gray_ramp()], ids=["100%", "75%", "ramp"])
def test_the_conversion_alone_is_within_two_levels_where_chroma_is_constant(picture: np.ndarray) -> None:
    graph = encoder_graph(picture.shape[0], picture.shape[1], Fraction(1, 24))
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    frame.pts = 0
    graph.push(frame)
    back = FrameConverter(3).convert(graph.pull())
    assert np.abs(inside_bars(back) - inside_bars(picture)).max() <= 2


@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("level", [255, 191])
def test_colour_bars_come_back_through_a_codec(tmp_path: Path, name: str, level: int) -> None:
    bars = colour_bars(level)
    with open_clip(written(tmp_path / name, [bars] * 5)) as clip:
        for back in clip:
            assert np.abs(back.astype(int) - bars).mean() <= 3
            # A wrong matrix moves pure green by 20 levels and more, a wrong range white or black by 16.
            means = inside_bars(back).mean(axis=(0, 2))
            assert np.abs(means - inside_bars(bars).mean(axis=(0, 2))).max() <= 3


@pytest.mark.parametrize("name", VIDEOS)
def test_what_is_written_is_tagged_as_it_is_converted(tmp_path: Path, name: str) -> None:
    written(tmp_path / name, [colour_bars(191)] * 3)
    with av.open(str(tmp_path / name)) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name == "yuv420p"
        assert (int(frame.colorspace), int(frame.color_range)) == (1, 1)
        if name != "a.webm":  # VP9 itself has no such tags
            context = container.streams.video[0].codec_context
            assert (int(context.color_primaries), int(context.color_trc)) == (1, 1)
        luma = np.frombuffer(bytes(frame.planes[0]), np.uint8).reshape(frame.height, -1)[32, BAR // 2 : 512 : BAR]
    red, green, blue = (colour_bars(191)[32, BAR // 2 : 512 : BAR] / 255).T
    expected = 16 + 219 * (0.2126 * red + 0.7152 * green + 0.0722 * blue)  # BT.709
    assert np.abs(luma - expected).max() <= 3


@pytest.mark.parametrize(
    ("matrix", "full", "tags", "height"),
    [
        ("601", False, (6, 1), 64),
        ("601", False, (5, 1), 720),
        ("601", True, (6, 2), 64),
        ("709", True, (1, 2), 64),
        ("709", False, (1, 1), 64),
        ("2020", False, (9, 1), 64),
        ("601", False, (2, 0), 64),
        ("601", False, (2, 0), 720),
    ],
    ids=["601", "601-hd", "601-full", "709-full", "709", "2020", "untagged-sd", "untagged-hd-of-ffmpeg"],
)
def test_the_tags_of_a_file_are_honoured(
    tmp_path: Path, matrix: str, full: bool, tags: tuple[int, int], height: int
) -> None:
    bars = colour_bars(191, height)
    with open_clip(encoded(tmp_path / "a.mp4", bars, matrix, full, tags)) as clip:
        back = next(clip)
    assert np.abs(inside_bars(back) - inside_bars(bars)).max() <= 2


def test_an_unknown_matrix_is_one_clear_error(tmp_path: Path) -> None:
    encoded(tmp_path / "a.mp4", colour_bars(191), "601", False, (8, 1))  # YCgCo
    with pytest.raises(MediaError, match="colour matrix"):
        open_clip(tmp_path / "a.mp4")


def test_luma_and_alpha_come_on_request(tmp_path: Path) -> None:
    bars = colour_bars(191)
    luma = (bars * [0.299, 0.587, 0.114]).sum(axis=-1, keepdims=True)  # as Pillow weighs pictures
    for matrix, tag in (("709", 1), ("601", 6)):
        with open_clip(encoded(tmp_path / f"{matrix}.mp4", bars, matrix, False, (tag, 1)), 1) as clip:
            assert np.abs(next(clip) - luma).max() <= 2
    written(tmp_path / "a.mp4", [gray_ramp()])
    with open_clip(tmp_path / "a.mp4", 1) as clip:
        assert np.abs(next(clip)[..., 0].astype(int) - gray_ramp()[..., 0]).max() <= 4
    with open_clip(tmp_path / "a.mp4", 4) as clip:
        assert (next(clip)[..., 3] == 255).all()


def test_rotation_is_applied(tmp_path: Path) -> None:
    bars = colour_bars(191)
    with open_clip(encoded(tmp_path / "a.mp4", bars, "709", False, (1, 1), 90)) as clip:
        assert (clip.height, clip.width) in {(512, 64)}
        back = next(clip)
        assert back.shape == (512, 64, 3)
        stored = av.open(str(tmp_path / "a.mp4"))
        turned = round(next(stored.decode(video=0)).rotation / 90)
        stored.close()
    assert np.abs(back.astype(int) - np.rot90(bars, turned)).mean() <= 2


# Frames


@pytest.mark.parametrize("name", FILES)
def test_frames_come_back_in_order_with_their_rate(tmp_path: Path, name: str) -> None:
    frames = moving()
    with open_clip(written(tmp_path / name, frames)) as clip:
        assert (clip.height, clip.width) == (32, 48)
        assert clip.frame_count in (12, None)
        if name in VIDEOS:
            assert clip.frame_rate == RATE
        back = list(clip)
    assert len(back) == 12
    assert [round((frame[..., 0].mean() - 20) / 10) for frame in back] == list(range(12))
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    if name in ("a.npy", "a"):
        np.testing.assert_array_equal(back, frames)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("rate", [24, Fraction(24000, 1001), 25, 60])
def test_the_frame_rate_survives_also_for_one_frame(tmp_path: Path, name: str, rate: Fraction | int) -> None:
    with open_clip(written(tmp_path / name, moving(1), rate)) as clip:
        assert len(list(clip)) == 1
        assert clip.frame_rate == (rate if name in VIDEOS else None)


def test_the_count_of_an_mp4_is_known_at_once(tmp_path: Path) -> None:
    with open_clip(written(tmp_path / "a.mp4", moving(40))) as clip:
        assert clip.frame_count == 40


def test_a_gif_keeps_the_rates_it_can_hold(tmp_path: Path) -> None:
    with open_clip(written(tmp_path / "a.gif", moving(), 25)) as clip:
        assert clip.frame_rate == Fraction(25)
        assert clip.frame_count == 12


def test_several_frames_are_written_at_once_and_none_too(tmp_path: Path) -> None:
    frames = np.stack(moving())
    with write_clip(tmp_path / "a.npy") as clip:
        clip.write(frames[:5])
        clip.write(frames[:0])
        clip.write(frames[5])
        clip.write(frames[6:, :, ::-1])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy")[:6], frames[:6])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy")[6:], frames[6:, :, ::-1])


@pytest.mark.parametrize(("name", "size"), [("a.mp4", (34, 52)), ("a.webm", (33, 51)), ("a.gif", (33, 51))])
def test_odd_sizes_are_padded_only_where_they_must_be(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    frames = moving(3, 33, 51)
    with open_clip(written(tmp_path / name, frames)) as clip:
        assert (clip.height, clip.width) == size
        back = next(clip)
    assert np.abs(back[:33, :51].astype(int) - frames[0]).mean() <= 4
    assert np.abs(back[-1, :51].astype(int) - frames[0][-1]).mean() <= 6


@pytest.mark.skipif(sys.platform != "linux", reason="glibc fills the memory that it gives")
@pytest.mark.parametrize("size", [(17, 34), (35, 64), (48, 62)])
def test_a_clip_gives_one_file_whatever_lies_in_the_memory(tmp_path: Path, size: tuple[int, int]) -> None:
    """x264's code for AVX-512 reads memory that it never wrote, if a side is no multiple of 16."""
    m_perturb, library = -6, ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        pytest.skip("this C library is not glibc")
    frames, files = np.random.default_rng(0).integers(0, 256, (6, *size, 3), np.uint8), set()
    for fill in (0, 1, 85, 170):
        library.mallopt(m_perturb, fill)
        try:
            with write_clip(tmp_path / f"{fill}.mp4", 24) as clip:
                clip.write(frames)
        finally:
            library.mallopt(m_perturb, 0)
        files.add((tmp_path / f"{fill}.mp4").read_bytes())
    assert len(files) == 1


def test_gray_frames_become_a_gray_video(tmp_path: Path) -> None:
    written(tmp_path / "a.mp4", [gray_ramp()[..., :1]])
    with open_clip(tmp_path / "a.mp4") as clip:
        assert np.abs(next(clip).astype(int) - gray_ramp()).max() <= 5


def test_a_folder_of_pictures_is_a_clip_in_natural_order(tmp_path: Path) -> None:
    for place in (10, 9, 1):
        write_picture(tmp_path / f"{place}.png", np.full((4, 6, 3), place, np.uint8))
    with open_clip(tmp_path) as clip:
        assert (clip.frame_count, clip.frame_rate, clip.height, clip.width) == (3, None, 4, 6)
        assert [int(frame[0, 0, 0]) for frame in clip] == [1, 9, 10]
    with open_clip(tmp_path / "9.png", 4) as clip:
        assert [frame.shape for frame in clip] == [(4, 6, 4)]


def test_arrays_are_read_in_their_three_forms(tmp_path: Path) -> None:
    frames = np.stack(moving())
    np.save(tmp_path / "clip.npy", frames)
    np.save(tmp_path / "frame.npy", frames[0])
    np.save(tmp_path / "samples.npy", to_samples(frames[None])[0])
    for name, expected in (("clip", frames), ("frame", frames[:1]), ("samples", frames)):
        with open_clip(tmp_path / f"{name}.npy") as clip:
            assert (clip.frame_count, clip.height, clip.width) == (len(expected), 32, 48)
            back = list(clip)
        np.testing.assert_array_equal(back, expected)
        assert type(back[0]) is np.ndarray
        assert back[0].flags.writeable


def test_a_closed_clip_has_no_more_frames(tmp_path: Path) -> None:
    clip = open_clip(written(tmp_path / "a.mp4", moving()))
    next(clip)
    clip.close()
    clip.close()
    assert list(clip) == []


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.npy", "a"])
def test_memory_stays_flat_over_a_long_clip(tmp_path: Path, name: str) -> None:
    frame = colour_bars(255)[:, ::8].copy()
    frames = 150

    def peak_bytes(work: Callable[[], None]) -> int:
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def write() -> None:
        with write_clip(tmp_path / name, 24, overwrite=True) as clip:
            for _ in range(frames):
                clip.write(frame)

    def read() -> None:
        with open_clip(tmp_path / name) as clip:
            assert sum(1 for _ in clip) == frames

    write()  # imports
    assert peak_bytes(write) < 20 * frame.nbytes < frames * frame.nbytes
    assert peak_bytes(read) < 20 * frame.nbytes


# What goes wrong


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.gif", "a.npy"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 0.99])
def test_a_truncated_video_is_one_clear_error(tmp_path: Path, name: str, share: float) -> None:
    path = written(tmp_path / name, moving(30))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(MediaError) as caught, open_clip(path) as clip:
        for _ in clip:
            pass
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damage_in_the_middle_is_one_clear_error(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), np.uint8)
    path = written(tmp_path / "a.mp4", list(noise))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) * 3 // 4] = bytes(len(content) // 4)
    path.write_bytes(content)
    with pytest.raises(MediaError, match="damaged"), open_clip(path) as clip:
        for _ in clip:
            pass


def test_what_is_no_clip_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello " * 1000)
    (tmp_path / "text.txt").write_text("hello " * 1000)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost/a.ts\n")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "doubles.npy", np.zeros((1, 4, 4, 3)))
    np.save(tmp_path / "nothing.npy", np.zeros((0, 4, 4, 3), np.uint8))
    np.save(tmp_path / "five.npy", np.zeros((1, 4, 4, 5), np.uint8))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "text.npy").write_text("hello")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    for path in [*tmp_path.iterdir(), tmp_path / "absent.mp4", tmp_path / "absent.npy"]:
        with pytest.raises(MediaError, match=r": \w+") as caught:
            open_clip(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="1, 3 or 4"):
        open_clip(tmp_path / "text.mp4", 2)


def test_the_first_picture_of_another_size_is_named(tmp_path: Path) -> None:
    for name, width in (("a1.png", 6), ("a2.png", 6), ("a10.png", 8), ("a11.png", 9)):
        write_picture(tmp_path / name, np.zeros((4, width, 3), np.uint8))
    with pytest.raises(MediaError, match=r"a10\.png is 4x8 and a1\.png is 4x6"), open_clip(tmp_path) as clip:
        for _ in clip:
            pass


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_clip_leaves_nothing(tmp_path: Path, name: str, interrupt: type[BaseException]) -> None:
    def interrupted(overwrite: bool) -> None:
        with write_clip(tmp_path / name, 24, overwrite=overwrite) as clip:
            clip.write(moving()[0])
            raise interrupt

    with pytest.raises(interrupt):
        interrupted(False)
    assert list(tmp_path.iterdir()) == []

    written(tmp_path / name, moving(2))
    with pytest.raises(interrupt):
        interrupted(True)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    with open_clip(tmp_path / name) as clip:
        assert len(list(clip)) == 2


@pytest.mark.parametrize("name", FILES)
def test_an_existing_output_is_replaced_only_on_request(tmp_path: Path, name: str) -> None:
    written(tmp_path / name, moving(2))
    with pytest.raises(OutputError, match="exists already"):
        written(tmp_path / name, moving(3))
    with write_clip(tmp_path / name, 24, overwrite=True) as clip:
        clip.write(np.stack(moving(3)))
    with open_clip(tmp_path / name) as back:
        assert len(list(back)) == 3
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_folder_with_other_things_in_it_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(OutputError, match=r"thesis\.txt"):
        write_clip(tmp_path / "mine", overwrite=True)
    (tmp_path / "empty").mkdir()
    assert len(list(written(tmp_path / "empty", moving(2)).iterdir())) == 2


@pytest.mark.parametrize("name", FILES)
def test_a_clip_without_frames_is_one_clear_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no frames"), write_clip(tmp_path / name, 24):
        pass
    assert list(tmp_path.iterdir()) == []


def test_frames_that_do_not_fit_are_one_clear_error(tmp_path: Path) -> None:
    frame: Any = moving()[0]
    for bad in (frame.astype(np.float32), frame[0], frame[..., :2], frame[:0], np.dstack([frame, frame[..., :1]])):
        with pytest.raises(InputError, match="frames"), write_clip(tmp_path / "a.mp4", 24) as clip:
            clip.write(bad)
    with pytest.raises(InputError, match="must have the first"):
        written(tmp_path / "a.mp4", [frame, frame[:16]])
    for rate in (None, 0, -1):
        with pytest.raises(InputError, match="frame rate"):
            write_clip(tmp_path / "a.mp4", rate)
    with pytest.raises(OutputError, match="end its name in"):
        write_clip(tmp_path / "a.xyz", 24)
    with pytest.raises(OutputError, match="make it first"):
        written(tmp_path / "absent" / "a.mp4", [frame])
    with pytest.raises(OutputError, match="use `with"):
        write_clip(tmp_path / "a.mp4", 24).write(frame)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize("name", FILES)
def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    code = (
        "import resource, sys, numpy as np\n"
        "from latentrt.runtime.errors import OutputError\n"
        "from latentrt.runtime.media.clips.clip_writer import write_clip\n"
        "frames = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), np.uint8)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n"
        "    with write_clip(sys.argv[1], 24) as clip: clip.write(frames)\n"
        "except OutputError as error: sys.exit(str(error))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("cannot write ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_libraries_keep_quiet(tmp_path: Path) -> None:
    good = written(tmp_path / "good.mp4", moving())
    (tmp_path / "bad.mp4").write_bytes(good.read_bytes()[:-500])
    (tmp_path / "text.mp4").write_text("hello")
    code = (
        "import pathlib, sys, numpy as np\n"
        "from latentrt.runtime.media.clips.clip_reader import open_clip\n"
        "from latentrt.runtime.media.clips.clip_writer import write_clip\n"
        "from latentrt.runtime.errors import MediaError\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "for name in ('bad.mp4', 'text.mp4'):\n"
        "    try: list(open_clip(folder / name))\n"
        "    except MediaError: pass\n"
        "for ending in ('mp4', 'webm', 'gif'):\n"
        "    with write_clip(folder / f'new.{ending}', 24) as clip: clip.write(np.zeros((3, 31, 31, 3), np.uint8))\n"
        "    with open_clip(folder / f'new.{ending}') as back: list(back)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
