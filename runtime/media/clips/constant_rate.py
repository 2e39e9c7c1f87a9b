"""Conversion of frames with different durations to a constant rate: frames are repeated or left out."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError

__all__ = ["CLOCK_TOLERANCE", "Pacing", "paced"]

T = TypeVar("T")

CLOCK_TOLERANCE = 0.16
"""How far frames that a clock timed (as in cameras and browsers) may be from an even grid, in frames."""

_LONG_LAST = Fraction(3, 2)  # in frames: a last frame that is shown for this time or longer is repeated
_STANDARD_RATES = tuple(
    rate for base in (24, 30, 60, 120) for rate in (Fraction(base * 1000, 1001), Fraction(base))
) + tuple(Fraction(rate) for rate in (5, 8, 10, 12, 15, 16, 20, 25, 48, 50, 100))
# Relative tolerances within which a measured rate counts as a standard rate.
_CLOSE_TO_STANDARD = 0.0004  # for delays that differ by rounding only; 24 and 24000/1001 are 0.001 apart
_CLOSE_WHEN_UNSTEADY = 0.02  # for delays that differ by more, which give the rate less exactly
_ROUNDED = Fraction(1, 10**6)  # for a rate whose frames last whole nanoseconds; an error of 0.04 s in ten hours
_MOST_UNEVEN_RATE = Fraction(240)  # frames per second, if the frames are not even
# The result may have 10 frames per frame of the source and 1000 more. A file may claim a gap of years.
_MOST_FRAMES_PER_FRAME, _MOST_FRAMES = 10, 1000


@dataclass(frozen=True)
class Pacing:
    """The constant rate of a clip.

    Attributes:
        rate: frames per second.
        even: whether the source has this rate already, so that no frame is repeated or left out.
        frames: how many frames `paced` gives.
    """

    rate: Fraction
    even: bool
    frames: int

    @classmethod
    def of(
        cls,
        ticks: NDArray[np.int64],
        tick: Fraction,
        *,
        last: int = 0,
        declared: tuple[Fraction, ...] = (),
        tolerance: float = 0.0,
    ) -> Self | None:
        """Find the constant rate for frames that start at these times. None for fewer than two different times.

        If the frames are on an even grid, that is their rate. Otherwise the most frequent duration gives the rate.

        Args:
            ticks: the start of each frame in units of `tick`, in any order.
            tick: the unit in seconds.
            last: the duration of the last frame in ticks. 0 if it is unknown.
            declared: rates that the container names. They are used if they fit.
            tolerance: how far a frame may be from an even grid, in frames, in addition to rounding to whole ticks.

        Raises:
            MediaError: keeping the times would take far more frames than the source has.
        """
        if len(ticks) < 2 or ticks.min() == ticks.max():
            return None
        if int(ticks.max()) - int(ticks.min()) > np.iinfo(np.int64).max // 2:
            raise MediaError("its frames are further apart than any clip is long: replace it")
        times = np.sort(ticks) - ticks.min()
        seconds = times.astype(np.float64) * float(tick)
        usual = _most_frequent_rate(np.diff(times), tick)
        rates = [rate for rate in (*declared, usual) if 0 < rate <= 10**6]
        off = [float(np.ptp(seconds * float(rate) - np.arange(len(seconds)))) / 2 for rate in rates]
        best = int(np.argmin(off))
        starts_are_even = off[best] <= tolerance + min(1.0, float(tick * rates[best])) / 2 + 1e-6
        rates[best] = _standard_or_as_is(rates[best])
        if starts_are_even and last * tick * rates[best] < _LONG_LAST:
            return cls(rates[best], True, len(times))
        rate = rates[best] if starts_are_even else min(usual, _MOST_UNEVEN_RATE)
        end = int(times[-1]) * tick + (last * tick or 1 / rate)
        frames = max(_place(end, rate), _place(int(times[-1]) * tick, rate) + 1)  # at least one for the last frame
        _check_frames(frames, len(times))
        return cls(rate, False, frames)


def paced(frames: Iterable[tuple[T, Fraction, Fraction]], pacing: Pacing) -> Iterator[T]:
    """Repeat or leave out frames so that each keeps its time at the constant rate `pacing.rate`.

    Args:
        frames: each frame with its start and duration in seconds, in order. Only the duration of the last frame
            matters. 0 means unknown.
        pacing: the rate. If it is even, all frames pass unchanged.

    Raises:
        MediaError: keeping the times would take far more frames than the source has.
    """
    if pacing.even:
        for frame, _, _ in frames:
            yield frame
        return
    taken = given = 0
    origin: Fraction | None = None
    waiting: tuple[T, Fraction, Fraction] | None = None
    for following in frames:
        origin = following[1] if origin is None else origin
        taken += 1
        if waiting is not None:
            end = _place(following[1] - origin, pacing.rate)
            _check_frames(end, taken)
            for _ in range(end - given):
                yield waiting[0]
            given = max(given, end)
        waiting = following
    if waiting is not None and origin is not None:
        end = _place(waiting[1] - origin + (waiting[2] or 1 / pacing.rate), pacing.rate)
        _check_frames(end, taken)
        for _ in range(max(end - given, 1)):
            yield waiting[0]


def _standard_or_as_is(rate: Fraction) -> Fraction:
    """The standard rate that a container rounded, else the rate itself. Matroska stores a rate as nanoseconds per
    frame."""
    nearest = min(_STANDARD_RATES, key=lambda standard: abs(standard - rate))
    return nearest if abs(nearest / rate - 1) <= _ROUNDED else rate


def _place(seconds: Fraction, rate: Fraction) -> int:
    """The number of the first frame at a constant rate whose middle is not before a time."""
    return math.ceil(seconds * rate - Fraction(1, 2))


def _check_frames(frames: int, source: int) -> None:
    if frames > _MOST_FRAMES_PER_FRAME * source + _MOST_FRAMES:
        raise MediaError(
            f"its {source} frames would become {frames} at a constant rate, because some are shown for very long: "
            "cut it, or give it a constant frame rate first (ffmpeg -i IN -vf fps=24 OUT)"
        )


def _most_frequent_rate(delays: NDArray[np.int64], tick: Fraction) -> Fraction:
    """The rate of the most frequent delay. Delays that differ only by rounding to whole ticks count as equal."""
    values, counts = np.unique(delays[delays > 0], return_counts=True)
    alike = np.maximum(1, values // 10)
    ends = np.searchsorted(values, values + alike, side="right")
    starts = np.searchsorted(values, values - alike)
    sums = np.concatenate([[0], np.cumsum(counts)])
    best = int(np.argmax(sums[ends] - sums[starts]))  # the shortest of the most frequent delays, to lose no frame
    group = slice(starts[best], ends[best])
    count = int(counts[group].sum())
    mean = Fraction(int((values[group] * counts[group]).sum()), count) * tick
    rate = 1 / mean
    nearest = min(_STANDARD_RATES, key=lambda standard: abs(standard - rate))
    rounding = float(tick / mean) / count
    spread = int(values[group][-1] - values[group][0])
    close = _CLOSE_WHEN_UNSTEADY if spread > max(2, values[best] // 50) else _CLOSE_TO_STANDARD
    if abs(float(nearest / rate) - 1) <= max(close, rounding):
        return nearest
    return rate.limit_denominator(1001)
