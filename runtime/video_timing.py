"""When the frames of a video file are shown: read from its packets, without decoding them."""

from fractions import Fraction
from typing import Any

import numpy as np

from .constant_rate import Pacing

__all__ = ["pacing_of"]

_MOST_PACKETS = 2_000_000  # nine hours at 60 frames per second; longer files keep the rate they declare


def pacing_of(container: Any, stream: Any) -> Pacing | None:
    """The constant rate of a video; None if its frames have no times or are fewer than two.

    Reads the packets of `container` to its end: open another one for decoding.

    Raises:
        MediaError: keeping the times would take far more frames than there are.
    """
    times: list[int] = []
    end = 0
    for packet in container.demux(stream):
        if packet.pts is None or packet.is_discard:
            continue
        times.append(packet.pts)
        end = max(end, packet.pts + (packet.duration or 0))
        if len(times) > _MOST_PACKETS:
            return None
    if not times or stream.time_base is None:
        return None
    rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    if container.format.name == "gif":
        # GIF counts time in 1/100 s, so an average over few frames is off; the guess sees through the rounding.
        rates = (stream.guessed_rate, stream.average_rate)
    declared = tuple(Fraction(rate) for rate in rates if rate)
    latest = max(times)
    return Pacing.of(
        np.array(times, np.int64), Fraction(stream.time_base), last=max(0, end - latest), declared=declared
    )
