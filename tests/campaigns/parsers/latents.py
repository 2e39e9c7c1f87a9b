"""Latents files and arrays: safetensors with metadata, and NumPy's files."""

import io
import json
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import safetensors.numpy

from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.latents_file import read_latents, read_metadata

from ..material import Material
from ..mutations import json_text, mixed, mutated_bytes, mutated_json, mutated_safetensors, mutated_text
from .subject import Maker, Subject

__all__ = ["LATENTS"]


def _latents(material: Material, place: Path) -> Subject:
    array = np.random.default_rng(0).standard_normal((1, 4, 3, 5)).astype(np.float32)
    seeds = {
        "picture.safetensors": material.picture_latents.read_bytes(),
        "clip.safetensors": material.clip_latents.read_bytes(),
    }
    for dtype in (np.float16, np.float64):
        name = f"{np.dtype(dtype).name}.safetensors"
        seeds[name] = safetensors.numpy.save({"latents": array.astype(dtype)}, {"format": "pt"})
    header = b'{"latents":{"dtype":"BF16","shape":[1,4,3,5],"data_offsets":[0,120]}}'
    seeds["bfloat16.safetensors"] = struct.pack("<Q", len(header)) + header + array.astype(np.float16).tobytes()

    def read(path: Path) -> None:
        read_metadata(path)
        read_latents(path)

    return Subject(seeds, read, mutated_safetensors)


def _metadata(material: Material, place: Path) -> Subject:
    """The metadata alone, in a safetensors file that is whole."""
    array = np.zeros((1, 4, 3, 5), np.float32)
    seeds = {
        f"{path.stem}.json": json.dumps(read_metadata(path)).encode()
        for path in (material.picture_latents, material.clip_latents)
    }

    def read(path: Path) -> None:
        try:
            values = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            return
        texts = {_text(key): _text(value) for key, value in values.items()} if isinstance(values, dict) else {}
        file = path.with_suffix(".safetensors")
        file.write_bytes(safetensors.numpy.save({"latents": array}, texts))
        read_latents(file)

    return Subject(seeds, read, mutated_json)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json_text(value)
    return text.encode("utf-8", "replace").decode()


def _npy_seeds(shape: tuple[int, ...], *dtypes: str) -> dict[str, bytes]:
    seeds = {}
    for dtype in dtypes:
        file = io.BytesIO()
        np.save(file, np.zeros(shape, dtype))
        seeds[f"{dtype}.npy"] = file.getvalue()
    return seeds


def _npy(material: Material, place: Path) -> Subject:
    return Subject(_npy_seeds((1, 4, 3, 5), "float32", "float16", "float64"), read_latents, _MUTATED_NPY)


def _npy_clip(material: Material, place: Path) -> Subject:
    def read(path: Path) -> None:
        with open_clip(path) as clip:
            for _ in clip:
                pass

    seeds = _npy_seeds((3, 8, 8, 3), "uint8") | _npy_seeds((3, 2, 8, 8), "float32")
    return Subject(seeds, read, _MUTATED_NPY)


def _mutated_npy_header(random: Random, whole: bytes) -> bytes:
    """Alters the header, which NumPy parses as Python, and keeps its stated length right."""
    length = struct.unpack("<H", whole[8:10])[0]
    header = mutated_text(random, whole[10 : 10 + length])
    if random.random() < 0.4:
        shape = random.choice(
            ["(1, 4, 3, 5)", "(-1,)", "(2**40,)", f"({10**12},)", "(" * 500, "(1.5,)", "(True,)", "()"]
        )
        dtype = random.choice(["<f4", "|O", "<f2", ">f8", "V4", "<U9", "[('a', '<f4')]", "<c8", "<M8[s]", "x"])
        quoted = dtype if dtype.startswith("[") else repr(dtype)
        header = (
            f"{{'descr': {quoted}, 'fortran_order': {random.choice([True, False, 3])}, 'shape': {shape}, }}".encode()
        )
    version = random.choice([b"\x01\0"] * 6 + [b"\x02\0", b"\x03\0", b"\xff\0"])
    size = struct.pack("<H", len(header) & 0xFFFF) if version == b"\x01\0" else struct.pack("<I", len(header))
    return whole[:6] + version + size + header + whole[10 + length :]


def _other_content(random: Random, whole: bytes) -> bytes:
    """Content that NumPy reads in another way: archives, pickles, and headers nested deep."""
    file = io.BytesIO()
    np.savez(file, latents=np.zeros((1, 4, 3, 5), np.float32))
    nested = random.choice([b"[", b"(", b"{", b"-", b"not "]) * random.choice([90, 900, 2000])
    header = b"\x93NUMPY\x01\0" + struct.pack("<H", len(nested)) + nested
    content = random.choice(
        [file.getvalue(), pickle.dumps(["x"]), b"PK\x03\x04", b"PK\x05\x06" + bytes(18), header, b""]
    )
    return mutated_bytes(random, content) if random.random() < 0.5 else content


_MUTATED_NPY = mixed(mutated_bytes, _mutated_npy_header, _mutated_npy_header, _other_content)
LATENTS: Mapping[str, Maker] = {"latents": _latents, "metadata": _metadata, "npy": _npy, "npy_clip": _npy_clip}
"""Parsers of latents files and arrays."""
