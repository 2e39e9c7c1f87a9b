"""When the frames of a video file are shown: read from its packets, without decoding them."""

from fractions import Fraction
from typing import Any

import numpy as np

from .constant_rate import CLOCK, Pacing

__all__ = ["gif_delay", "pacing_of"]

_MOST_PACKETS = 2_000_000  # nine hours at 60 frames per second; longer files keep the rate they declare


def pacing_of(container: Any, stream: Any) -> Pacing | None:
    """The constant rate of a video; None if its frames have no times or are fewer than two.

    Reads the packets of `container` to its end: open another one for decoding.

    Raises:
        MediaError: keeping the times would take far more frames than there are.
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
    rates = [stream.average_rate, stream.guessed_rate, stream.base_rate]
    if is_gif:
        # GIF counts time in 1/100 s, so an average over few frames is off; the guess sees through the rounding.
        rates = [stream.guessed_rate, stream.average_rate]
    declared = tuple(Fraction(rate) for rate in rates if rate)
    latest = max(times)
    return Pacing.of(
        np.array(times, np.int64),
        Fraction(stream.time_base),
        last=max(0, end - latest),
        declared=declared,
        tolerance=0 if is_gif else CLOCK,
    )


def gif_delay(hundredths: int | None) -> int:
    """How long browsers show a frame of a GIF, in 1/100 s: delays of 0 and 1 count as 10."""
    return hundredths if hundredths and hundredths >= 2 else 10
