"""Latents files: safetensors files with the tensor `latents` and metadata for decoding. Other formats are read too."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tiling.public_place import shown_in
from ..arrays.shown_arrays import array_text
from ..errors import InputError, MediaError
from ..system.number_text import parse_fraction, parse_whole_number
from ..system.outputs.partial_output import output_error, partial_output
from .clips.video_geometry import MOST_ASPECT
from .latents_origin import Origin
from .latents_tensor import COMFYUI_KEY, COMFYUI_VERSION_KEY, chosen_tensor
from .stored_tensors import opened_tensors, safetensors_metadata

__all__ = ["LatentsFile", "is_ours", "latents_shape", "read_latents", "read_metadata", "write_latents"]

_FORMAT = "latentrt-latents-1"
_FORMAT_PREFIX = "latentrt-latents-"  # of all versions of the format
_KEY = "latents"  # the name of the tensor
_ALIGNMENT = 8  # bytes that the values of a safetensors file are aligned to
_MOST_TEXT = 200  # characters in the metadata's family
# ComfyUI multiplies latents of files without a version by this: they hold diffusion latents of Stable Diffusion 1.
_OLD_COMFYUI_FACTOR = np.float32(1 / 0.18215)


@shown_in("latentrt.runtime")
@dataclass(frozen=True, eq=False)
class LatentsFile:
    """The content of a latents file. A field is None if the file does not state it.

    Attributes:
        latents: float32 or float16, (B, C, h, w) or (B, C, t, h, w), in latent cells. A file may also hold one element
            without the axis of the batch, or the tokens of a FLUX pipeline, (B, h/2 * w/2, 4 * C).
        family: the model family, as a bundle's manifest names it.
        height: the height of the original picture or clip, in pixels.
        width: the width of the original picture or clip, in pixels.
        frames: the number of frames of the original clip. None for pictures.
        frame_rate: the frame rate of the original clip, in frames per second.
        scaled: True for diffusion latents (scaled and shifted), False for model latents.
        sample_aspect_ratio: a pixel's width over its height in the original clip. None for square pixels.
        origin: the source and the settings of the encode.
        comfyui: whether ComfyUI wrote the file. Its latents are in the space that ComfyUI's VAE of the family takes.
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
    comfyui: bool = False

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
            with partial.open("wb") as file:
                file.write(_header(latents, _metadata(content)))
                file.write(np.ascontiguousarray(latents, latents.dtype.newbyteorder("<")).data)
        except OSError as error:
            raise output_error(path, error) from error


def _header(latents: NDArray[Any], metadata: Mapping[str, str]) -> bytes:
    """The header of a safetensors file, with the metadata sorted by key. The library writes them in another order each
    time, so one picture would give files of different bytes."""
    tensor = {
        "dtype": f"F{8 * latents.itemsize}",
        "shape": list(latents.shape),
        "data_offsets": [0, latents.nbytes],
    }
    values = {"__metadata__": dict(sorted(metadata.items())), _KEY: tensor}
    text = json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


@shown_in("latentrt.runtime")
def read_latents(path: Path | str, *, key: str | None = None) -> LatentsFile:
    """Read latents from a file. Its bytes decide its format, not its ending:

    - safetensors: the tensor `latents`, ComfyUI's `latent_tensor`, or a single tensor with any name.
    - `.npy`, and `.npz` with an array `latents` or a single array.
    - A file of `torch.save` with a tensor or a dict of tensors. Its pickle is read as data and never run.

    If LatentRT did not write the file, all other fields are None. float32 and float16 stay as they are; bfloat16
    (exactly) and float64 become float32. The caller owns the array.

    Args:
        path: the file.
        key: the name of the tensor. None chooses it as described above.

    Raises:
        MediaError: the file is missing, damaged, truncated or of a newer version, or holds no latents.
    """
    path = Path(path)
    stored = opened_tensors(path)
    name = chosen_tensor(path, list(stored.readers), key)
    latents = _checked(path, stored.readers[name]())
    if name != COMFYUI_KEY:
        return LatentsFile(latents, **_fields(path, stored.metadata))
    if COMFYUI_VERSION_KEY not in stored.readers:
        with np.errstate(all="ignore"):
            latents = latents.astype(np.float32, copy=False) * _OLD_COMFYUI_FACTOR
    return LatentsFile(latents, comfyui=True)


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file without its tensors.

    Raises:
        MediaError: the file is damaged or truncated.
    """
    return safetensors_metadata(path)


def latents_shape(path: Path, *, key: str | None = None) -> tuple[int, ...]:
    """Read the shape of the latents in a file. The values of a safetensors file are not read.

    Raises:
        MediaError: the file is damaged or holds no latents.
    """
    stored = opened_tensors(path)
    name = chosen_tensor(path, list(stored.readers), key)
    return stored.shapes[name] if name in stored.shapes else stored.readers[name]().shape


def is_ours(metadata: Mapping[str, str]) -> bool:
    """Whether the metadata belongs to a latents file that LatentRT wrote."""
    return metadata.get("format", "").startswith(_FORMAT_PREFIX)


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


def _fields(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
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


def _checked(path: Path, values: NDArray[Any]) -> NDArray[np.float32] | NDArray[np.float16]:
    """The latents in native byte order and C order, as an array of their own."""
    if values.dtype.kind != "f":
        raise MediaError(f"{path} holds {values.dtype} and no floating-point array: give latents as float32 or float16")
    if values.ndim not in (3, 4, 5) or values.size == 0:
        raise MediaError(f"{path} holds an array of shape {values.shape}: latents are (B, C, h, w) or (B, C, t, h, w)")
    narrow = values.dtype.itemsize == 2
    with np.errstate(all="ignore"):  # numbers that float32 cannot hold become infinite, which the decoder refuses
        if narrow:
            return np.array(values, np.float16, order="C")
        return np.array(values, np.float32, order="C")
