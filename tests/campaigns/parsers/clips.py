"""Clips of each container."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from latentrt.runtime.media.clips.clip_reader import open_clip

from ..material import Material
from ..mutations import mixed, mutated_bytes
from .pictures import near_head
from .subject import Maker, Subject

__all__ = ["CLIPS"]

_FRAMES = 9
_SIZE = (64, 48)  # width and height, in pixels
_MOST_FRAMES = 500  # that a case reads


def _container(ending: str, codec: str, pixels: str = "yuv420p") -> Maker:
    def make(material: Material, place: Path) -> Subject:
        return Subject({f"clip{ending}": _encoded(place / f"valid{ending}", codec, pixels)}, _read, _MUTATE)

    return make


def _encoded(path: Path, codec: str, pixels: str) -> bytes:
    import av

    width, height = _SIZE
    random = np.random.default_rng(0)
    base = random.integers(0, 256, (height, width, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        for number in range(_FRAMES):
            frame = av.VideoFrame.from_ndarray(np.roll(base, 3 * number, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.read_bytes()


def _read(path: Path) -> None:
    with open_clip(path) as clip:
        for _, _ in zip(range(_MOST_FRAMES), clip, strict=False):
            pass


_MUTATE = mixed(mutated_bytes, mutated_bytes, near_head)
CLIPS: Mapping[str, Maker] = {
    "mp4": _container(".mp4", "libx264"),
    "mov": _container(".mov", "mpeg4"),
    "mkv": _container(".mkv", "libx264"),
    "webm": _container(".webm", "libvpx-vp9"),
    "avi": _container(".avi", "mpeg4"),
    "mpegts": _container(".ts", "libx264"),
    "flv": _container(".flv", "flv"),
    "mpeg": _container(".mpg", "mpeg2video"),
    "mxf": _container(".mxf", "mpeg2video"),
    "asf": _container(".wmv", "msmpeg4"),
    "gif_clip": _container(".gif", "gif", "rgb8"),
    "y4m": _container(".y4m", "wrapped_avframe"),
}
"""Parsers of clips."""
