"""Frames keep their time: mixed delays, variable rates, browsers' clocks, and claims that no clip can mean."""

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from field_pictures import field_pictures

from latentrt.runtime.errors import MediaError
from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.clips.constant_rate import Pacing, paced


def clip_of(path: Path, starts: list[int], tick: Fraction, *, codec: str = "libx264", last: int | None = None) -> Path:
    """A clip whose frames begin at `starts`, each with its number as gray."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=round(1 / tick))
        stream.codec_context.time_base = tick
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for place, start in enumerate(starts):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20 + 10 * place % 200, np.uint8), format="rgb24")
            frame.pts, frame.time_base = start, tick
            if last is not None:
                frame.duration = ([*starts, start + last])[place + 1] - start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def gif_of(path: Path, delays: list[int]) -> Path:
    """A GIF with these delays in 1/100 s, written byte by byte; frame n is gray level 20 + 10 n."""
    table = bytes(value for place in range(256) for value in [place] * 3)
    content = b"GIF89a" + (8).to_bytes(2, "little") * 2 + b"\xf7\0\0" + table
    for place, delay in enumerate(delays):
        level = 20 + 10 * place % 200
        codes = [value for _ in range(64) for value in (256, level)] + [257]  # 9 bits each: clear, pixel, ..., end
        bits = sum(code << 9 * shift for shift, code in enumerate(codes))
        packed = bits.to_bytes((9 * len(codes) + 7) // 8, "little")
        blocks = b"".join(bytes([len(part)]) + part for part in (packed[:255], packed[255:]) if part)
        content += b"\x21\xf9\4\0" + delay.to_bytes(2, "little") + b"\0\0"
        content += b"\x2c\0\0\0\0" + (8).to_bytes(2, "little") * 2 + b"\0\x08" + blocks + b"\0"
    path.write_bytes(content + b";")
    return path


def numbers(path: Path) -> tuple[list[int], Fraction | None, int | None]:
    """Which frame is shown at each place, the rate, and the count that was known at once."""
    with open_clip(path) as clip:
        shown = [round((frame[8:-8].mean() if len(frame) > 16 else frame.mean()) - 20) / 10 for frame in clip]
        return [round(number) for number in shown], clip.frame_rate, clip.frame_count


@pytest.mark.parametrize(
    ("delays", "rate", "shown"),
    [
        ([10, 10, 30, 10], 10, [0, 1, 2, 2, 2, 3]),
        ([4, 4, 12, 4, 4, 4], 25, [0, 1, 2, 2, 2, 3, 4, 5]),
        ([20, 10, 10, 10, 24], 10, [0, 0, 1, 2, 3, 4, 4]),
        ([10, 10, 2, 2, 6, 10, 10], 10, [0, 1, 4, 5, 6]),
        ([5, 5, 5, 5], 20, [0, 1, 2, 3]),
        ([0, 1, 0, 50], 10, [0, 1, 2, 3, 3, 3, 3, 3]),  # browsers take 0 and 1 for 10
    ],
)
def test_frames_of_a_gif_keep_their_time(
    tmp_path: Path, delays: list[int], rate: int, shown: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    got, got_rate, count = numbers(gif_of(tmp_path / "a.gif", delays))
    assert got_rate == rate
    assert got == shown
    uneven = len(set(delays)) > 1
    assert (count is None) == uneven
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == uneven
    assert all("each keeps its time" in line for line in said)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_a_variable_rate_becomes_constant(tmp_path: Path, name: str) -> None:
    starts = [0, 40, 80, 120, 280, 320, 340, 360, 400]
    got, rate, count = numbers(clip_of(tmp_path / name, starts, Fraction(1, 1000), last=40))
    assert rate == 25
    assert count is None
    wanted = [sum(start <= 40 * place + 20 for start in starts) - 1 for place in range(11)]
    assert got == wanted


@pytest.mark.parametrize("codec", ["libvpx-vp9", "libvpx"])
@pytest.mark.parametrize("per_second", [24, 30, Fraction(30000, 1001), 60])
def test_the_rate_of_a_browser_recording_is_estimated(tmp_path: Path, codec: str, per_second: Fraction) -> None:
    # A MediaRecorder's clock counts milliseconds, and its file names no rate and no duration.
    starts = [round(1000 * place / per_second) for place in range(150)]
    path = clip_of(tmp_path / "a.webm", starts, Fraction(1, 1000), codec=codec)
    got, rate, _ = numbers(path)
    assert rate == per_second
    assert len(got) == 150


def test_a_browser_recording_with_a_trembling_clock_keeps_its_length(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    starts = sorted({int(place * 1000 / 30 + rng.integers(-6, 7)) for place in range(1, 90)})
    got, rate, _ = numbers(clip_of(tmp_path / "a.webm", starts, Fraction(1, 1000), codec="libvpx"))
    assert rate is not None
    assert 28 <= rate <= 33
    assert abs(len(got) / rate - Fraction(len(starts), 30)) < Fraction(1, 10)


@pytest.mark.parametrize("tick", [Fraction(1, 600), Fraction(1, 90000), Fraction(1, 15360), Fraction(1, 1000)])
@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60)])
def test_constant_rates_pass_frame_by_frame(tick: Fraction, rate: Fraction) -> None:
    ticks = np.array([round(place / rate / tick) for place in range(300)]) + 1234
    pacing = Pacing.of(ticks[::-1], tick)
    assert pacing == Pacing(rate, True, 300)
    frames = [(place, Fraction(int(start)) * tick, Fraction(0)) for place, start in enumerate(ticks)]
    assert list(paced(frames, pacing)) == list(range(300))


def test_paced_frames_are_the_ones_shown_at_each_time() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        delays = rng.choice([2, 3, 10, 10, 10, 25], 60)
        starts = np.concatenate([[0], np.cumsum(delays)[:-1]])
        tick = Fraction(1, 100)
        pacing = Pacing.of(starts, tick, last=int(delays[-1]))
        assert pacing is not None
        frames = [
            (place, int(s) * tick, int(d) * tick) for place, (s, d) in enumerate(zip(starts, delays, strict=True))
        ]
        got = list(paced(frames, pacing))
        assert len(got) == pacing.frames
        assert abs(len(got) / pacing.rate - int(delays.sum()) * tick) < 3 / (
            2 * pacing.rate
        )  # the last frame is never left out
        middles = [(place + Fraction(1, 2)) / pacing.rate / tick for place in range(len(got))]
        assert got == [int(np.searchsorted(starts, float(middle), side="right")) - 1 for middle in middles]


@pytest.mark.parametrize("gap", [10**6, 10**9])
def test_a_gap_that_no_clip_has_is_refused(tmp_path: Path, gap: int) -> None:
    starts = [0, 40, 80, 120, 120 + gap, 160 + gap]
    path = clip_of(tmp_path / "a.mkv", starts, Fraction(1, 1000))
    with pytest.raises(MediaError, match=r"a\.mkv cannot be read: .*constant frame rate first"):
        open_clip(path)
    with pytest.raises(MediaError, match="constant frame rate"):
        list(paced([(0, Fraction(0), Fraction(0)), (1, Fraction(gap), Fraction(0))], Pacing(Fraction(25), False, 2)))


def test_times_at_the_ends_of_their_range_are_refused() -> None:
    with pytest.raises(MediaError, match="further apart"):
        Pacing.of(np.array([-(2**62) - 9, 0, 2**62]), Fraction(1, 1000))


def test_one_frame_and_equal_times_have_no_rate_of_their_own() -> None:
    assert Pacing.of(np.array([], np.int64), Fraction(1, 25)) is None
    assert Pacing.of(np.array([5]), Fraction(1, 25)) is None
    assert Pacing.of(np.array([5, 5, 5]), Fraction(1, 25)) is None


def test_chunks_of_an_avi_that_hold_no_frame_are_not_promised(tmp_path: Path) -> None:
    # Xvid packs two frames into one chunk, and its files count a chunk that holds none.
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=24)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for place in range(6):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * place, np.uint8), format="rgb24")
            frame.pts, frame.time_base = place, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        empty = av.Packet(b"\0\0\1\xb2no picture")  # user data
        empty.stream, empty.time_base, empty.pts, empty.dts = stream, Fraction(1, 24), 6, 6
        container.mux(empty)
    with av.open(str(tmp_path / "a.avi")) as container:
        assert container.streams.video[0].frames == 7
    with open_clip(tmp_path / "a.avi") as clip:
        assert clip.frame_count is None
        assert len(list(clip)) == 6


@pytest.mark.parametrize("rate", [Fraction(60000, 1001), Fraction(30000, 1001), Fraction(24000, 1001)])
def test_a_rate_that_a_container_rounds_is_the_standard_one(rate: Fraction) -> None:
    rounded = Fraction(10**9, round(10**9 / rate)).limit_denominator(1000)
    ticks = np.array([round(1000 * place / rate) for place in range(60)])
    assert Pacing.of(ticks, Fraction(1, 1000), declared=(rounded,)) == Pacing(rate, True, 60)
    off = Fraction(5995, 100)  # not a rounding of 60000/1001
    ticks = np.array([round(90000 * place / off) for place in range(60)])
    assert Pacing.of(ticks, Fraction(1, 90000), declared=(off,)) == Pacing(off, True, 60)


@pytest.mark.parametrize("ending", [".ts", ".mp4", ".mkv", ".mov"])
def test_fields_in_packets_of_their_own_are_half_a_frame(tmp_path: Path, ending: str) -> None:
    with open_clip(field_pictures(tmp_path / f"a{ending}", 15)) as clip:
        assert clip.frame_rate == 25
        assert clip.frame_count in (None, 15)
        assert len(list(clip)) == 15
