"""H.264 whose fields are pictures of their own (PAFF), as camcorders write it and no encoder of PyAV does."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

__all__ = ["field_pictures"]

_WIDTH = _HEIGHT = 64
_SPS, _PPS, _IDR, _SLICE = 7, 8, 5, 1


class _Bits:
    """Bits of a NAL unit, as ITU-T H.264 (7.3) writes them."""

    def __init__(self) -> None:
        self.bits: list[int] = []

    def number(self, count: int, value: int) -> None:
        self.bits += [value >> place & 1 for place in range(count - 1, -1, -1)]

    def codes(self, *values: int) -> None:
        """Exp-Golomb codes, unsigned."""
        for value in values:
            self.number(2 * (value + 1).bit_length() - 1, value + 1)

    def samples(self, values: np.ndarray) -> None:
        self.number(-len(self.bits) % 8, 0)
        self.bits += np.unpackbits(values.astype(np.uint8)).tolist()

    def unit(self, kind: int) -> bytes:
        self.bits.append(1)
        self.number(-len(self.bits) % 8, 0)
        content, zeros = bytearray(), 0
        for byte in np.packbits(np.array(self.bits, np.uint8)).tobytes():
            if zeros >= 2 and byte <= 3:
                content.append(3)
                zeros = 0
            content.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return bytes([0, 0, 0, 1, 3 << 5 | kind]) + bytes(content)


def _parameters() -> bytes:
    sequence = _Bits()
    sequence.number(24, 77 << 16 | 30)  # main profile
    sequence.codes(0, 0, 2, 1)
    sequence.number(1, 0)
    sequence.codes(_WIDTH // 16 - 1, _HEIGHT // 32 - 1)
    sequence.number(5, 0b00100)  # fields may be pictures; no cropping, no further information
    picture = _Bits()
    picture.codes(0, 0)
    picture.number(2, 0)
    picture.codes(0, 0, 0)
    picture.number(3, 0)
    picture.codes(0, 0, 0)
    picture.number(3, 0)
    return sequence.unit(_SPS) + picture.unit(_PPS)


def _field(luma: int, *, bottom: bool, place: int) -> bytes:
    bits = _Bits()
    bits.codes(0, 7, 0)
    bits.number(4, 0)
    bits.number(2, 0b10 | bottom)
    if not bottom:
        bits.codes(place % 2)
    bits.number(1 if bottom else 2, 0)
    bits.codes(0)
    for _ in range(_WIDTH // 16 * (_HEIGHT // 32)):
        bits.codes(25)
        bits.samples(np.concatenate([np.full(256, luma), np.full(128, 128)]))
    return bits.unit(_SLICE if bottom else _IDR)


def field_pictures(path: Path, frames: int) -> Path:
    """Write frames at 25 per second, 64x64, whose luma grows by 10; each field is a packet."""
    raw = path.with_suffix(".h264")
    delimiter = b"\0\0\0\1\x09\x10"
    raw.write_bytes(
        b"".join(
            delimiter + (b"" if bottom else _parameters()) + _field(30 + 10 * place, bottom=bottom, place=place)
            for place in range(frames)
            for bottom in (False, True)
        )
    )
    with av.open(str(raw), options={"framerate": "50"}) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for place, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            packet.pts = packet.dts = place * 1800
            packet.time_base = Fraction(1, 90000)
            packet.stream = stream
            container.mux(packet)
    return path
