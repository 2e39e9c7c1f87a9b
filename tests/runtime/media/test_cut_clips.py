"""Clips that were cut without encoding them again: the frames that can be decoded, and never more are promised."""

import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from latentrt.runtime import InputError, MediaError, open_bundle, read_clip, read_picture, write_clip, write_picture
from latentrt.runtime.files.sources import read_sample
from latentrt.runtime.media.clips.clip_reader import open_clip

FRAMES, GROUP = 48, 12


def open_group_clip(path: Path, codec: str = "libx264") -> None:
    """A clip whose groups of pictures begin with frames that need the group before (open GOP)."""
    x264 = "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0"
    options = {"x264-params": x264} if codec == "libx264" else {"x265-params": f"log-level=none:{x264}"}
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for place in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(noise, place, 1), format="rgb24")))
        container.mux(stream.encode(None))


def cut(source: Path, path: Path) -> None:
    """Copy the packets from the second key frame on, as `ffmpeg -ss ... -c copy` does."""
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        stream = container.streams.video[0]
        target, keys = output.add_stream_from_template(stream), 0
        for packet in container.demux(stream):
            keys += packet.is_keyframe
            if packet.dts is not None and keys >= 2:
                packet.stream = target
                output.mux(packet)


def with_duration(path: Path, ticks: int) -> None:
    """Change the duration of the track in an MP4 file, which some programs round or sum up otherwise."""
    content = bytearray(path.read_bytes())
    place = content.find(b"mdhd")
    content[place + 20 : place + 24] = struct.pack(">I", ticks)
    path.write_bytes(content)


def decoded(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".mov"])
def test_frames_that_nothing_can_decode_are_not_promised(
    tmp_path: Path, ending: str, bundle_of: Callable[[str], Path]
) -> None:
    open_group_clip(tmp_path / "full.mp4")
    cut(tmp_path / "full.mp4", tmp_path / f"cut{ending}")
    files = [tmp_path / f"cut{ending}"]
    if ending == ".mp4":
        files.append(tmp_path / "sum.mp4")
        shutil.copy(files[0], files[1])
        with_duration(files[1], 39 * 512)  # the sum of the frames' durations, as ISO/IEC 14496-12 says
    with open_bundle(bundle_of("ltx20"), backend="onnxruntime") as vae, open_clip(tmp_path / "full.mp4") as full:
        whole = list(full)
        assert full.frame_count == len(whole) == FRAMES
        for path in files:
            with open_clip(path) as clip:
                frames = list(clip)
                assert clip.frame_count in (None, len(frames))
                assert clip.frame_rate == 24
            assert len(frames) == decoded(path) == FRAMES - GROUP
            np.testing.assert_array_equal(frames, whole[GROUP:])
            assert read_sample(path, vae).size == (FRAMES - GROUP, 64, 64)


def test_a_sum_of_durations_is_no_promise(tmp_path: Path) -> None:
    open_group_clip(tmp_path / "full.mp4")
    cut(tmp_path / "full.mp4", tmp_path / "cut.mp4")
    with_duration(tmp_path / "cut.mp4", 39 * 512)
    with open_clip(tmp_path / "cut.mp4") as clip:
        assert clip.frame_count == FRAMES - GROUP, "the container says 39, and 3 of these need earlier frames"


@pytest.mark.parametrize("ticks", [48 * 512, 48 * 512 - 1, 48 * 512 + 255, 47 * 512, 50 * 512, 1, 10**6])
def test_a_rounded_duration_loses_no_frame(tmp_path: Path, ticks: int) -> None:
    open_group_clip(tmp_path / "full.mp4")
    with_duration(tmp_path / "full.mp4", ticks)
    with open_clip(tmp_path / "full.mp4") as clip:
        assert clip.frame_count in (None, FRAMES)
        assert len(list(clip)) == FRAMES


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg makes the clips")
@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["-ss", "0.6", "-i", "full.mp4", "-c", "copy"], "a.mp4"),
        (["-ss", "0.6", "-i", "full.mp4", "-c", "copy"], "a.mkv"),
        (["-i", "full.mp4", "-c", "copy"], "a.ts"),
        (["-i", "full.mp4", "-c", "copy", "-movflags", "frag_keyframe+empty_moov"], "a.mp4"),
        (["-i", "full.mp4", "-c", "copy", "-video_track_timescale", "1000"], "a.mp4"),
        (["-i", "full.mp4", "-c", "copy"], "a.flv"),
        (["-i", "full.mp4", "-t", "0.8", "-c", "copy"], "a.mp4"),  # the end lacks frames that need later frames
        (["-i", "full.mp4", "-t", "0.9", "-c", "copy"], "a.mkv"),
        (["-ss", "0.6", "-i", "full.mp4", "-t", "0.7", "-c", "copy"], "a.mov"),
        (["-i", "full.mp4", "-t", "1.15", "-c", "copy"], "a.ts"),
        (["-i", "full.mp4", "-c:v", "mpeg2video", "-bf", "2", "-g", "12"], "a.mpg"),
        (["-i", "full.mp4", "-c:v", "mpeg4", "-bf", "2"], "a.avi"),
    ],
)
def test_there_are_as_many_frames_as_ffmpeg_counts(tmp_path: Path, options: list[str], name: str) -> None:
    open_group_clip(tmp_path / "full.mp4")
    command = ["ffmpeg", "-v", "error", *options, name]
    subprocess.run(command, cwd=tmp_path, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    count = ["ffmpeg", "-v", "error", "-i", name, "-an", "-fps_mode", "passthrough", "-f", "framemd5", "-"]
    lines = subprocess.run(count, cwd=tmp_path, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    wanted = sum(not line.startswith("#") for line in lines.stdout.splitlines())
    with open_clip(tmp_path / name) as clip:
        assert clip.frame_count in (None, wanted)
        assert clip.frame_rate == 24
        assert len(list(clip)) == wanted


@pytest.mark.parametrize("pyramid", ["none", "normal"])
@pytest.mark.parametrize("kept", range(18, 24))
def test_a_clip_that_ends_anywhere_keeps_the_frames_that_it_has(tmp_path: Path, kept: int, pyramid: str) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, 64, 64, 3)).astype(np.uint8)
    options = {"x264-params": f"keyint=24:bframes=3:b-adapt=0:scenecut=0:b-pyramid={pyramid}"}
    with av.open(str(tmp_path / "full.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(tmp_path / "full.mp4")) as source, av.open(str(tmp_path / "cut.mkv"), "w") as output:
        stream = source.streams.video[0]
        target = output.add_stream_from_template(stream)
        for place, packet in enumerate(source.demux(stream)):
            if place < kept and packet.dts is not None:
                packet.stream = target
                output.mux(packet)
    with open_clip(tmp_path / "full.mp4") as whole, open_clip(tmp_path / "cut.mkv") as clip:
        assert clip.frame_rate == 24
        assert clip.frame_count in (None, kept)
        shown = [frame.tobytes() for frame in clip]
        known = [frame.tobytes() for frame in whole]
    assert len(shown) == len(set(shown)) == kept == decoded(tmp_path / "cut.mkv")
    assert set(shown) <= set(known)


def test_the_public_functions_read_and_write_pictures_and_clips(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 16, 24, 3), np.uint8)
    write_picture(tmp_path / "a.png", frames[0])
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), frames[0])
    for name in ("frames", "clip.npy"):
        with write_clip(tmp_path / name, 24) as writer:
            writer.write(frames)
        clip = read_clip(tmp_path / name)
        assert clip.pixels.dtype == np.uint8
        assert clip.frame_rate is None
        np.testing.assert_array_equal(clip.pixels, frames)
    with write_clip(tmp_path / "a.mp4", 25) as writer:
        writer.write(frames)
    clip = read_clip(tmp_path / "a.mp4", max_frames=3)
    assert clip.pixels.shape == (3, 16, 24, 3)
    assert clip.frame_rate == 25
    assert "array" not in repr(clip)
    with pytest.raises(InputError, match="1, 3 or 4 channels"):
        read_clip(tmp_path / "a.mp4", 2)
    with pytest.raises(MediaError, match="holds no frames"):
        read_clip(tmp_path / "a.mp4", max_frames=0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "run `git lfs pull`"),
        (b"<!doctype html><html></html>", "is a web page: download the file itself"),
        (b"PK\x03\x04" + bytes(40), "is a zip archive: extract it"),
        (b"", "is empty: give another file"),
        (bytes(5000), "is not a whole video"),
    ],
)
def test_a_file_that_is_no_clip_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(MediaError, match=words):
        open_clip(tmp_path / "a.mp4")
