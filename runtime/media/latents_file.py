"""Latents files: safetensors files with the tensor `latents` and metadata for decoding."""

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from ...tiling.public_place import shown_in
from ..arrays.shown_arrays import array_text
from ..errors import InputError, MediaError
from ..system.npy_file import load_npy
from ..system.number_text import parse_fraction, parse_whole_number
from ..system.partial_output import output_error, partial_output
from .clips.video_geometry import MOST_ASPECT
from .latents_origin import Origin

__all__ = ["LatentsFile", "is_ours", "read_latents", "read_metadata", "write_latents"]

_FORMAT = "latentrt-latents-1"
_FORMAT_PREFIX = "latentrt-latents-"  # of all versions of the format
_KEY = "latents"  # the name of the tensor
# The largest safetensors header that is parsed. LatentRT writes a few hundred bytes. Tools that store a workflow in the
# header write a few hundred thousand.
_MOST_HEADER_BYTES = 4 << 20
_TOKEN_CHANNELS = (64, 128)  # channels of packed latents: FLUX.1 has 64, FLUX.2 and LTX-2's pipeline have 128
_MOST_TEXT = 200  # characters in the metadata's family
_DTYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float32, "BF16": np.float32}


@shown_in("latentrt.runtime")
@dataclass(frozen=True, eq=False)
class LatentsFile:
    """The content of a latents file. A field is None if the file does not state it.

    Attributes:
        latents: float32 or float16, (B, C, h, w) or (B, C, t, h, w), in latent cells.
        family: the model family, as a bundle's manifest names it.
        height: the height of the original picture or clip, in pixels.
        width: the width of the original picture or clip, in pixels.
        frames: the number of frames of the original clip. None for pictures.
        frame_rate: the frame rate of the original clip, in frames per second.
        scaled: True for diffusion latents (scaled and shifted), False for model latents.
        sample_aspect_ratio: a pixel's width over its height in the original clip. None for square pixels.
        origin: the source and the settings of the encode.
    """

    latents: NDArray[np.float32] | NDArray[np.float16]
    family: str | None = None
    height: int | None = None
    width: int | None = None
    frames: int | None = None
    frame_rate: Fraction | None = None
    scaled: bool | None = None
    sample_aspect_ratio: Fraction | None = None
    origin: Origin | None = None

    def __repr__(self) -> str:
        stated = (f"{key}={value!r}" for key, value in vars(self).items() if key != "latents" and value is not None)
        return f"LatentsFile({', '.join([f'latents={array_text(self.latents)}', *stated])})"


@shown_in("latentrt.runtime")
def write_latents(path: Path | str, content: LatentsFile, *, overwrite: bool = True) -> None:
    """Write a latents file whole or not at all.

    Args:
        path: the safetensors file.
        content: the latents and their metadata. Fields that are None are left out.
        overwrite: whether to replace an existing file.

    Raises:
        InputError: the latents are not float32 or float16 of rank 4 or 5, or hold no values.
        OutputError: the file exists and `overwrite` is false, or it cannot be written.
    """
    path = Path(path)
    latents = content.latents
    if (
        not isinstance(latents, np.ndarray)
        or latents.dtype not in (np.dtype(np.float32), np.dtype(np.float16))
        or latents.ndim not in (4, 5)
        or latents.size == 0
    ):
        got = f"{latents.dtype} {latents.shape}" if isinstance(latents, np.ndarray) else type(latents).__name__
        raise InputError(
            f"latents must be float32 or float16 (B, C, h, w) or (B, C, t, h, w), got {got}: convert them first"
        )
    with partial_output(path, overwrite=overwrite) as partial:
        try:
            # Some versions of safetensors write a temporary file with mode 0600 and rename it, so the mode is restored.
            partial.touch()
            mode = partial.stat().st_mode
            safetensors.numpy.save_file({_KEY: np.ascontiguousarray(latents)}, partial, _metadata(content))
            partial.chmod(mode)
        except (OSError, safetensors.SafetensorError) as error:
            raise output_error(path, error) from error


@shown_in("latentrt.runtime")
def read_latents(path: Path | str) -> LatentsFile:
    """Read latents from a safetensors file or a `.npy` file.

    A safetensors file holds the tensor `latents`, or a single tensor with any name. If LatentRT did not write it, all
    other fields are None. float32 and float16 stay as they are; bfloat16 (exactly) and float64 become float32. The
    caller owns the array.

    Raises:
        MediaError: the file is missing, damaged, truncated or of a newer version, or holds no latents.
    """
    path = Path(path)
    if not path.is_file():
        raise MediaError(f"{path} is not a file: give a latents file (.safetensors or .npy)")
    if path.suffix.lower() == ".npy":
        return LatentsFile(latents=_checked(path, _read_npy(path)))
    _check_header_size(path)
    try:
        with safetensors.safe_open(path, framework="np") as tensors:
            names = list(tensors.keys())
            metadata: dict[str, str] = tensors.metadata() or {}
            if _KEY not in names and len(names) != 1:
                raise MediaError(f"{path} holds {len(names)} tensors, none named {_KEY}: give a latents file")
            name = _KEY if _KEY in names else names[0]
            stored = tensors.get_slice(name).get_dtype()
            if stored not in _DTYPES:
                raise MediaError(f"{path} holds latents as {stored}: convert them to float32 or float16")
            latents = _read_bfloat16(path, name) if stored == "BF16" else tensors.get_tensor(name)
    except (OSError, safetensors.SafetensorError, ValueError, KeyError) as error:
        raise MediaError(f"{path} is not a whole safetensors file ({error}): replace it") from error
    return LatentsFile(latents=_checked(path, latents.astype(_DTYPES[stored], copy=False)), **_fields(path, metadata))


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file without its tensors.

    Raises:
        MediaError: the file is damaged or truncated.
    """
    _check_header_size(path)
    try:
        with safetensors.safe_open(path, framework="np") as tensors:
            return tensors.metadata() or {}
    except (OSError, safetensors.SafetensorError, ValueError) as error:
        raise MediaError(f"{path} is not a whole safetensors file ({error}): replace it") from error


def is_ours(metadata: Mapping[str, str]) -> bool:
    """Whether the metadata belongs to a latents file that LatentRT wrote."""
    return metadata.get("format", "").startswith(_FORMAT_PREFIX)


def _check_header_size(path: Path) -> None:
    """Refuse a large header before it is parsed, because parsing takes far more memory than the header."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise MediaError(f"{path} is not a whole safetensors file ({error.strerror}): replace it") from error
    size = int.from_bytes(head, "little")
    if len(head) == 8 and _MOST_HEADER_BYTES < size <= path.stat().st_size:
        raise MediaError(
            f"{path} has a header of {size / 1e6:.0f} MB, and latents files have at most "
            f"{_MOST_HEADER_BYTES >> 20} MiB: write the file again without such metadata"
        )


def _metadata(content: LatentsFile) -> dict[str, str]:
    fields = {
        "format": _FORMAT,
        "family": content.family,
        "original_height": content.height,
        "original_width": content.width,
        "original_frames": content.frames,
        "frame_rate": content.frame_rate,  # the text of a Fraction is "30000/1001"
        "scaled": None if content.scaled is None else str(content.scaled).lower(),
        "sample_aspect_ratio": content.sample_aspect_ratio,
    }
    origin = content.origin.to_metadata() if content.origin is not None else {}
    return {key: str(value) for key, value in fields.items() if value is not None} | origin


def _fields(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    if not is_ours(metadata):  # other programs use the key "format" too, often with the value "pt"
        return {}
    written_as = metadata["format"]
    if written_as != _FORMAT:
        raise MediaError(f"{path} has the format {written_as[:40]!r}, this version reads {_FORMAT}: update latentrt")
    readers: dict[str, tuple[str, Callable[[str], Any]]] = {
        "family": ("family", _family),
        "height": ("original_height", _positive_int),
        "width": ("original_width", _positive_int),
        "frames": ("original_frames", _positive_int),
        "frame_rate": ("frame_rate", _positive_fraction),
        "scaled": ("scaled", _boolean),
        "sample_aspect_ratio": ("sample_aspect_ratio", _aspect_ratio),
    }
    fields: dict[str, Any] = {}
    for field, (key, reader) in readers.items():
        if key in metadata:
            try:
                fields[field] = reader(metadata[key])
            except ValueError as error:
                value = metadata[key][:60]
                raise MediaError(f"{path} has {key}={value!r} in its metadata: write the file again") from error
    return fields | {"origin": Origin.from_metadata(metadata)}


def _family(text: str) -> str:
    if len(text) > _MOST_TEXT:
        raise ValueError(text)
    return text


def _positive_int(text: str) -> int:
    if (value := parse_whole_number(text)) < 1:
        raise ValueError(text)
    return value


def _positive_fraction(text: str) -> Fraction:
    if (value := parse_fraction(text)) <= 0:
        raise ValueError(text)
    return value


def _aspect_ratio(text: str) -> Fraction | None:
    value = parse_fraction(text)
    if not Fraction(1, MOST_ASPECT) <= value <= MOST_ASPECT:
        raise ValueError(text)
    return None if value == 1 else value


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


def _read_bfloat16(path: Path, name: str) -> NDArray[np.float32]:
    """Read a bfloat16 tensor, which NumPy does not know: it is the upper half of a float32.

    `safe_open` has checked the header already.
    """
    with path.open("rb") as file:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        entry = json.loads(file.read(header_bytes))[name]
        start, end = entry["data_offsets"]
        file.seek(8 + header_bytes + start)
        raw = np.frombuffer(file.read(end - start), dtype="<u2")
    return (raw.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


def _read_npy(path: Path) -> NDArray[Any]:
    array = load_npy(path, mmap_mode="r")  # mapping checks the size in the header before memory is allocated
    if array.dtype.kind != "f":
        raise MediaError(f"{path} holds no floating-point array: give latents as float32 or float16")
    return array.astype(np.float16 if array.dtype.itemsize == 2 else np.float32)


def _checked(path: Path, latents: NDArray[Any]) -> NDArray[Any]:
    if latents.ndim == 3 and latents.shape[2] in _TOKEN_CHANNELS:
        raise MediaError(
            f"{path} holds packed latents {latents.shape}, a row of tokens from a FLUX pipeline: unpack "
            f"them to (B, C, h, w) first, with the pipeline's own _unpack_latents (docs/latents.md)"
        )
    if latents.ndim not in (4, 5) or latents.size == 0:
        raise MediaError(f"{path} holds an array of shape {latents.shape}: latents are (B, C, h, w) or (B, C, t, h, w)")
    return latents
