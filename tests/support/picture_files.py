"""Picture files and ICC profiles that Pillow does not write: PNGs by chunks, TIFFs by tags, profiles by tables."""

import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ImageCms

__all__ = ["chunk", "cmyk_profile", "gray_profile", "png", "rgb_profile", "tiff"]

GRAY, RGB, GRAY_ALPHA, RGBA = 0, 2, 4, 6
P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(path: Path, pixels: np.ndarray, chunks: bytes = b"") -> Path:
    """Write uint8 or uint16 (H, W, C) as a PNG, with these chunks in front of the pixels."""
    height, width, channels = pixels.shape
    colour_type = (GRAY, GRAY_ALPHA, RGB, RGBA)[channels - 1]
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunks + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def tiff(
    path: Path,
    pixels: np.ndarray,
    *,
    order: Literal["<", ">"] = "<",
    deflate: bool = False,
    **tags: int | tuple[int, ...],
) -> Path:
    """Write (H, W, C) of any dtype as a TIFF of one strip; `tags` by the names below, `bits` for packed samples.

    `planes=2` stores the channels one after the other. `order`: "<" or ">".
    """
    names = {"bits": 258, "photometric": 262, "orientation": 274, "planes": 284, "extra": 338, "format": 339}
    height, width, channels = pixels.shape
    stored = pixels.astype(pixels.dtype.newbyteorder(order))
    parts = (
        [stored[..., place].tobytes() for place in range(channels)] if tags.get("planes") == 2 else [stored.tobytes()]
    )
    parts = [zlib.compress(part) if deflate else part for part in parts]
    places = np.cumsum([8, *map(len, parts)])
    entries: dict[int, tuple[int, ...]] = {
        256: (width,),
        257: (height,),
        258: (8 * pixels.itemsize,) * channels,
        259: (8 if deflate else 1,),
        273: tuple(places[:-1].tolist()),
        277: (channels,),
        278: (height,),
        279: tuple(map(len, parts)),
    }
    entries |= {names[name]: value if isinstance(value, tuple) else (value,) for name, value in tags.items()}
    content = b"".join(parts)
    content += bytes(len(content) % 2)
    table = b""
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            place = 8 + len(content)
            content += packed
            packed = struct.pack(f"{order}I", place)
        table += struct.pack(f"{order}HHI", tag, 4, len(values)) + packed
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(content))
    path.write_bytes(head + content + struct.pack(f"{order}H", len(entries)) + table + bytes(4))
    return path


def rgb_profile(columns: tuple[tuple[float, float, float], ...], gamma: float | None = None) -> bytes:
    """lcms's own sRGB profile with other primaries (XYZ at D50), and a plain gamma where that is given."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    wanted = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True))
    (count,) = struct.unpack(">I", profile[128:132])
    for place in range(count):
        name, offset, _ = struct.unpack(">4sII", profile[132 + 12 * place : 144 + 12 * place])
        if name in wanted:
            profile[offset + 8 : offset + 20] = struct.pack(">iii", *[round(part * 65536) for part in wanted[name]])
        if name in (b"rTRC", b"gTRC", b"bTRC") and gamma is not None:
            profile[offset + 8 : offset + 16] = struct.pack(">HHi", 0, 0, round(gamma * 65536))  # "para", kind 0
    return bytes(profile)


def gray_profile(gamma: float) -> bytes:
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256))
    white = b"XYZ " + struct.pack(">Iiii", 0, 63190, 65536, 54061)
    return _profile(b"GRAY", b"XYZ ", b"mntr", {b"wtpt": white, b"kTRC": curve})


def cmyk_profile() -> bytes:
    """A printer of tables: 2 x 2 x 2 x 2 mixes of inks, whose Lab colours are those of a plain model with dull inks."""
    inks = {0: (55, -37, -50), 1: (48, 74, -3), 2: (89, -5, 93), 3: (16, 0, 0)}
    table = bytearray()
    for mix in np.ndindex(2, 2, 2, 2):
        lab = np.array([95.0, 0, -2])
        for ink, used in enumerate(mix):
            if used:
                colour = np.array(inks[ink], float)
                lab = np.array([lab[0] * colour[0] / 95, lab[1] / 2 + colour[1] / 2, lab[2] / 2 + colour[2] / 2])
        table += bytes([round(lab[0] * 2.55), round(lab[1] + 128), round(lab[2] + 128)])
    identity = struct.pack(">9i", *(65536 if place % 4 == 0 else 0 for place in range(9)))
    ramp = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + bytes(table) + ramp * 3
    return _profile(b"CMYK", b"Lab ", b"prtr", {b"A2B0": lut, b"A2B1": lut})


def _profile(space: bytes, connection: bytes, kind: bytes, parts: dict[bytes, bytes]) -> bytes:
    start, table, body = 128 + 4 + 12 * len(parts), b"", b""
    for name, part in parts.items():
        table += name + struct.pack(">II", start + len(body), len(part))
        body += part + bytes(-len(part) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), 0x02400000, kind, space, connection)
    head += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp")
    head = head.ljust(68, b"\0") + struct.pack(">iii", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(parts)) + table + body
