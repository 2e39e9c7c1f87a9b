"""The times, the rate and the number of a video's frames, by its packets and its container."""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .constant_rate import CLOCK_TOLERANCE, Pacing

__all__ = ["PacketTimes", "declared_frame_count", "declared_rate", "gif_delay", "has_field_packets", "pacing_of"]

_CODECS_WITH_FIELDS = ("h264", "mpeg2video", "vc1", "wmv3")
_FRAMES_TO_INSPECT = 12  # that are decoded to find out whether fields come in separate packets
_LEAST_BEFORE_A_CUT = 6  # frames that show the rate
_HOLE = 1.5  # in frames: a longer distance between two frames is a hole
_MOST_REORDERED = 16  # frames that may need one later frame (H.264 and H.265)
_MOST_BEHIND_A_CUT = 5  # frames that such frames need: the levels of a pyramid of 16
_MOST_PACKETS = 2_000_000  # nine hours at 60 frames per second; longer files keep the rate that they declare


def has_field_packets(container: Any, stream: Any) -> bool:
    """Whether each field of an interlaced frame comes in a separate packet, as in files of many camcorders.

    This decodes the first frame of `container`, and a few more if it is interlaced.
    """
    if stream.codec_context.name not in _CODECS_WITH_FIELDS:
        return False
    packets: list[int] = []
    frames: list[int] = []
    for packet in container.demux(stream):
        if packet.pts is not None and not packet.is_discard:
            packets.append(packet.pts)
        for frame in packet.decode():
            if not frame.interlaced_frame and not frames:
                return False
            if frame.pts is not None:
                frames.append(frame.pts)
        if len(frames) >= _FRAMES_TO_INSPECT:
            break
    between = sum(min(frames) <= time < max(frames) for time in packets) if frames else 0
    return between > len(frames)  # if packets hold whole frames, there is one packet fewer than frames


def _first_fields(times: list[int]) -> list[int]:
    """The times of the first fields of frames. A second field follows its first field after half a frame."""
    times = sorted(times)
    deltas = [following - time for time, following in pairwise(times) if following > time]
    frame = 2 * min(deltas, default=0)
    kept = times[:1]
    for time in times[1:]:
        if 4 * (time - kept[-1]) > 3 * frame:
            kept.append(time)
    return kept


@dataclass(frozen=True, eq=False)
class PacketTimes:
    """The times of a video's packets, in ticks of the stream.

    Attributes:
        starts: the start of each frame, in the order of the packets.
        end: the end of the last frame.
    """

    starts: NDArray[np.int64]
    end: int

    @classmethod
    def of(cls, container: Any, stream: Any, *, fields: bool = False) -> "PacketTimes | None":
        """Read the times. None if the packets have none, or if there are too many.

        Args:
            container: the open file. Its packets are read to the end, so open the file again for decoding.
            stream: the video stream.
            fields: whether each field comes in a separate packet (see `has_field_packets`).
        """
        is_gif = container.format.name == "gif"
        times: list[int] = []
        end = 0
        for packet in container.demux(stream):
            if packet.pts is None or packet.is_discard:
                continue
            start, duration = (end, gif_delay(packet.duration)) if is_gif else (packet.pts, packet.duration or 0)
            times.append(start)
            end = max(end, start + duration)
            if len(times) > _MOST_PACKETS:
                return None
        if not times or stream.time_base is None:
            return None
        return cls(np.array(_first_fields(times) if fields else times, np.int64), end)

    def behind_a_cut(self) -> int:
        """How many of the last frames stand behind frames that a cut without encoding left out. 0 if there are none.

        A frame can need a later frame, which then comes first in the file (B-frames). A file that ends between the two
        lacks the earlier frame. Such a file says nothing about the time of its last frames: nothing stood still.
        """
        order = np.argsort(self.starts, kind="stable")
        deltas = np.diff(self.starts[order])
        if len(deltas) < _LEAST_BEFORE_A_CUT or not (np.diff(self.starts) < 0).any():
            return 0
        usual = float(np.median(deltas))
        holes = np.flatnonzero(deltas > _HOLE * usual)
        if usual <= 0 or not len(holes):
            return 0
        behind = len(deltas) - int(holes[0])
        missing = float(deltas[holes].sum()) / usual - len(holes)
        comes_last = int(order[-behind:].min()) >= len(self.starts) - _MOST_REORDERED
        return behind if missing < _MOST_REORDERED and behind <= _MOST_BEHIND_A_CUT and comes_last else 0

    def before(self, ticks: Fraction) -> int:
        """How many frames start before a time."""
        return int(np.count_nonzero(self.starts < math.ceil(ticks)))


def pacing_of(times: PacketTimes | None, container: Any, stream: Any) -> Pacing | None:
    """The constant rate of a video. None if its frames have no times, or there are fewer than two.

    A clip that was cut without encoding it again keeps the frames that it has, as in FFmpeg: none is repeated in the
    place of the frames that the cut left out at its end.

    Args:
        times: the times of its packets.
        container: the open file.
        stream: the video stream.

    Raises:
        MediaError: keeping the times would take far more frames than the source has.
    """
    if times is None:
        return None
    is_gif = container.format.name == "gif"
    rates = [stream.average_rate, stream.guessed_rate, stream.base_rate]
    if is_gif:
        # GIF rounds times to 1/100 s, so the average over a few frames is inexact. The guess corrects for the rounding.
        rates = [stream.guessed_rate, stream.average_rate]
    pace = partial(
        Pacing.of,
        tick=Fraction(stream.time_base),
        declared=tuple(Fraction(rate) for rate in rates if rate),
        tolerance=0 if is_gif else CLOCK_TOLERANCE,
    )
    if behind := times.behind_a_cut():
        pacing = pace(np.sort(times.starts)[:-behind])
        if pacing is not None and pacing.even:
            return replace(pacing, frames=len(times.starts))
    return pace(times.starts, last=max(0, times.end - int(times.starts.max())))


def gif_delay(hundredths: int | None) -> int:
    """How long browsers show a frame of a GIF, in 1/100 s. Delays of 0 and 1 count as 10."""
    return hundredths if hundredths and hundredths >= 2 else 10


def declared_rate(stream: Any, container: str) -> Fraction | None:
    """The frame rate that the container of a video declares. None if it declares none.

    Args:
        stream: the video stream.
        container: FFmpeg's name of the container's format.
    """
    if container == "gif":
        return None  # FFmpeg reports the shortest possible delay for a still picture
    rates = [stream.average_rate, stream.guessed_rate, stream.base_rate]
    unit = stream.time_base and 1 / stream.time_base  # for a container without a rate, FFmpeg reports its clock rate
    return next((Fraction(rate) for rate in rates if rate and rate != unit), None)


def declared_frame_count(stream: Any, container: str) -> int | None:
    """The number of frames that the container of a video declares. None if it declares none, or not reliably.

    Args:
        stream: the video stream.
        container: FFmpeg's name of the container's format.
    """
    frames, duration, rate = stream.frames, stream.duration, stream.average_rate
    if not frames or container == "avi":  # AVI counts chunks, and some chunks hold no frame (Xvid's B-frames)
        return None
    if container == "gif" or not duration or not rate or stream.time_base is None:
        return int(frames)
    shown = duration * stream.time_base * rate  # fewer than `frames` if an edit list cuts the clip
    return int(frames) if abs(shown - frames) < Fraction(1, 2) else None
