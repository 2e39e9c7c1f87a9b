"""Pictures of each format, with colour profiles, EXIF data, text, transparency and animation."""

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.pictures.opened_picture import opened_picture
from latentrt.runtime.media.pictures.picture_file import read_picture

from ..material import Material
from ..mutations import Mutator, mixed, mutated_bytes
from .subject import Maker, Subject

__all__ = ["PICTURES", "near_head"]

_SIZE = (24, 17)  # width and height, in pixels
_MOST_PIXELS = 10_000_000  # of a picture that is read: an allowed size above it takes seconds, which is right
_PNG_START = b"\x89PNG\r\n\x1a\n"


def _image(mode: str, seed: int = 0) -> Any:
    from PIL import Image

    width, height = _SIZE
    random = np.random.default_rng(seed)
    picture = Image.fromarray(random.integers(0, 256, (height, width, 4), np.uint8))
    if mode == "I;16":
        return Image.fromarray(random.integers(0, 65536, (height, width), np.uint16))
    return picture.convert("RGB").quantize(16) if mode == "P" else picture.convert(mode)


def _saved(mode: str, format_name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    _image(mode).save(file, format_name, **options)
    return file.getvalue()


def _extras() -> dict[str, Any]:
    """A colour profile and EXIF data."""
    from PIL import Image, ImageCms

    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    exif[0x010E] = "a description"
    exif.get_ifd(0x8769)[0xA001] = 65535  # colour space: uncalibrated
    return {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), "exif": exif}


def _format(name: str, modes: tuple[str, ...], mutate: Mutator = mutated_bytes, *, animated: bool = False) -> Maker:
    """A format, its modes, and pictures with extras and animation if it has them."""

    def make(material: Material, place: Path) -> Subject:
        seeds = {f"{mode.replace(';', '_')}.pic": _saved(mode, name) for mode in modes}
        if name in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF"):
            seeds["extras.pic"] = _saved("RGB", name, **_extras())
        if animated:
            others = [_image("RGB", seed) for seed in (1, 2)]
            seeds["animated.pic"] = _saved("RGB", name, save_all=True, append_images=others, duration=[40, 80, 40])
        return Subject(seeds, _read_both if animated else _read, mutate)

    return make


def _read(path: Path) -> None:
    with opened_picture(path) as image:
        if image.width * image.height > _MOST_PIXELS:
            return
    read_picture(path, 3)
    read_picture(path, 4)


def _read_both(path: Path) -> None:
    """As a picture, and as a clip of pictures."""
    _read(path)
    with opened_picture(path) as image:
        if image.width * image.height > _MOST_PIXELS:
            return
    with open_clip(path) as clip:
        for _ in clip:
            pass


def _mutated_png(random: Random, whole: bytes) -> bytes:
    """Alters chunks, and makes their checksums right."""
    chunks = _chunks(whole)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(chunks))
        kind, content = chunks[at]
        match random.randrange(6):
            case 0:
                chunks.insert(at, random.choice(chunks))
            case 1 if len(chunks) > 1:
                del chunks[at]
            case 2:
                text = zlib.compress(random.choice([bytes(100), bytes(1 << 22), b"x" * 70000]))
                kind, form = random.choice(
                    [(b"iCCP", b"name\0\0%b"), (b"zTXt", b"key\0\0%b"), (b"iTXt", b"k\0\1\0\0\0%b")]
                )
                chunks.insert(1, (kind, form % text))
            case 3:
                added = [
                    b"gAMA",
                    b"cHRM",
                    b"sRGB",
                    b"eXIf",
                    b"tRNS",
                    b"cICP",
                    b"acTL",
                    b"fcTL",
                    b"PLTE",
                    b"pHYs",
                    b"mDCV",
                ]
                chunks.insert(1, (random.choice(added), random.randbytes(random.choice([0, 1, 4, 6, 8, 26, 32]))))
            case 4 if kind == b"IHDR":
                size = random.choice([0, 1, 65535, 100_000, 2**31 - 1])
                chunks[at] = (kind, struct.pack(">I", size) + content[4:])
            case _:
                chunks[at] = (kind, mutated_bytes(random, content))
    return _PNG_START + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunks(whole: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], len(_PNG_START)
    while at < len(whole):
        length = struct.unpack(">I", whole[at : at + 4])[0]
        found.append((whole[at + 4 : at + 8], whole[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def near_head(random: Random, whole: bytes) -> bytes:
    """Alters the first bytes, which hold most of what a format says about a picture."""
    end = min(len(whole), 700)
    return mutated_bytes(random, whole[:end]) + whole[end:]


_ANY: Callable[[Random, bytes], bytes] = mixed(mutated_bytes, near_head)
PICTURES: Mapping[str, Maker] = {
    "png": _format(
        "PNG", ("RGB", "RGBA", "L", "P", "I;16"), mixed(mutated_bytes, _mutated_png, _mutated_png), animated=True
    ),
    "jpeg": _format("JPEG", ("RGB", "L", "CMYK"), _ANY),
    "webp": _format("WEBP", ("RGB", "RGBA"), _ANY, animated=True),
    "tiff": _format("TIFF", ("RGB", "RGBA", "L", "I;16", "CMYK", "LAB"), _ANY),
    "gif": _format("GIF", ("P", "L"), _ANY, animated=True),
    "avif": _format("AVIF", ("RGB", "RGBA"), _ANY, animated=True),
    "bmp": _format("BMP", ("RGB", "RGBA", "P"), _ANY),
    "ppm": _format("PPM", ("RGB", "L"), _ANY),
    "tga": _format("TGA", ("RGB", "RGBA", "L"), _ANY),
    "jpeg2000": _format("JPEG2000", ("RGB", "RGBA"), _ANY),
}
"""Parsers of pictures."""
