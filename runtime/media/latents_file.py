"""Latents files: safetensors files with the tensor `latents` and metadata for decoding. Other formats are read too."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tiling.public_place import shown_in
from ..arrays.latent_form import Layout
from ..arrays.shown_arrays import array_text
from ..errors import InputError, MediaError
from ..system.number_text import parse_fraction, parse_whole_number
from ..system.outputs.partial_output import output_error, partial_output
from ..system.tensor_files.safetensors_header import safetensors_header
from .clips.video_geometry import MOST_ASPECT
from .encode_record import EncodeRecord
from .latents_tensor import COMFYUI_KEY, COMFYUI_VERSION_KEY, chosen_tensor
from .named_origin import COMFYUI, DIFFUSERS, DIFFUSION, MODEL, check_name, origin_names, stated_forms
from .stored_tensors import opened_tensors, safetensors_metadata

__all__ = ["LatentsFile", "is_ours", "latents_shape", "read_latents", "read_metadata", "write_latents"]

_FORMAT = "latentrt-latents-1"
_FORMAT_PREFIX = "latentrt-latents-"  # of all versions of the format
_KEY = "latents"  # the name of the tensor
_MOST_TEXT = 200  # characters in the metadata's family and origin
# ComfyUI multiplies latents of files without a version by this: they hold diffusion latents of Stable Diffusion 1.
_OLD_COMFYUI_FACTOR = np.float32(1 / 0.18215)


@shown_in("latentrt.runtime")
@dataclass(frozen=True, eq=False)
class LatentsFile:
    """The content of a latents file. A field is None if the file does not state it.

    Attributes:
        latents: float32 or float16, (B, C, h, w) or (B, C, t, h, w), in latent cells, or in another form that `origin`
            names, such as the tokens of a FLUX pipeline, (B, h/2 * w/2, 4 * C). A file may also hold one element
            without the axis of the batch.
        family: the model family, as a bundle's manifest names it.
        height: the height of the original picture or clip, in pixels.
        width: the width of the original picture or clip, in pixels.
        frames: the number of frames of the original clip. None for pictures.
        frame_rate: the frame rate of the original clip, in frames per second.
        scaled: True for diffusion latents (scaled and shifted), False for model latents.
        sample_aspect_ratio: a pixel's width over its height in the original clip. None for square pixels.
        record: the source and the settings of the encode.
        origin: where the latents come from: "model", "diffusion", "comfyui" or a pipeline class of diffusers. The table
            in docs/reference/origins.md has the form of the latents of each.
    """

    latents: NDArray[np.float32] | NDArray[np.float16]
    family: str | None = None
    height: int | None = None
    width: int | None = None
    frames: int | None = None
    frame_rate: Fraction | None = None
    scaled: bool | None = None
    sample_aspect_ratio: Fraction | None = None
    record: EncodeRecord | None = None
    origin: str | None = None

    def __repr__(self) -> str:
        stated = (f"{key}={value!r}" for key, value in vars(self).items() if key != "latents" and value is not None)
        return f"LatentsFile({', '.join([f'latents={array_text(self.latents)}', *stated])})"


@shown_in("latentrt.runtime")
def write_latents(path: Path | str, content: LatentsFile, *, overwrite: bool = True) -> None:
    """Write a latents file whole or not at all.

    Latents with the origin "comfyui" get the names of ComfyUI's tensors, so that its LoadLatent node reads the file if
    the file's name ends in .latent.

    Args:
        path: the safetensors file.
        content: the latents and their metadata. Fields that are None are left out.
        overwrite: whether to replace an existing file.

    Raises:
        InputError: the latents are not float32 or float16 of rank 4 or 5 (of rank 3 for the tokens of a pipeline), or
            hold no values. The origin is unknown, or contradicts `scaled`.
        OutputError: the file exists and `overwrite` is false, or it cannot be written.
    """
    path, metadata, ranks = Path(path), _metadata(content), _ranks(content)
    latents = content.latents
    if (
        not isinstance(latents, np.ndarray)
        or latents.dtype not in (np.dtype(np.float32), np.dtype(np.float16))
        or latents.ndim not in ranks
        or latents.size == 0
    ):
        got = f"{latents.dtype} {latents.shape}" if isinstance(latents, np.ndarray) else type(latents).__name__
        wanted = "(B, C, h, w) or (B, C, t, h, w)" if 4 in ranks else f"{Layout.TOKENS.value} from {content.origin}"
        raise InputError(f"latents must be float32 or float16 {wanted}, got {got}: convert them first")
    with partial_output(path, overwrite=overwrite) as partial:
        try:
            with partial.open("wb") as file:
                tensors = _tensors(content)
                file.write(safetensors_header(tensors, metadata))
                for tensor in tensors.values():
                    file.write(np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<")).data)
        except OSError as error:
            raise output_error(path, error) from error


@shown_in("latentrt.runtime")
def read_latents(path: Path | str, *, key: str | None = None, origin: str | None = None) -> LatentsFile:
    """Read latents from a file. Its bytes decide its format, not its ending:

    - safetensors: the tensor `latents`, ComfyUI's `latent_tensor`, or a single tensor with any name.
    - `.npy`, and `.npz` with an array `latents` or a single array.
    - A file of `torch.save` with a tensor or a dict of tensors. Its pickle is read as data and never run.

    If LatentRT did not write the file, all other fields are None, except for the origin of ComfyUI's files. float32 and
    float16 stay as they are; bfloat16 (exactly) and float64 become float32. The caller owns the array.

    Args:
        path: the file.
        key: the name of the tensor. None chooses it as described above.
        origin: where the latents come from, for a file that does not say it. "diffusers" is resolved by the model that
            decodes the latents.

    Raises:
        MediaError: the file is missing, damaged, truncated or of a newer version, or holds no latents.
        InputError: the origin is unknown, or the file says that its latents have another form.
    """
    if origin is not None:
        check_name(origin)
    path = Path(path)
    stored = opened_tensors(path)
    name = chosen_tensor(path, list(stored.readers), key)
    latents = _checked(path, stored.readers[name]())
    fields = _fields(path, stored.metadata)
    if name == COMFYUI_KEY:
        fields |= {"origin": COMFYUI, "scaled": None}
        if COMFYUI_VERSION_KEY not in stored.readers:
            with np.errstate(all="ignore"):
                latents = latents.astype(np.float32, copy=False) * _OLD_COMFYUI_FACTOR
    if origin is not None:
        fields["origin"] = _agreed(path, origin, fields.get("origin"), fields.get("family"))
    return LatentsFile(latents, **fields)


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


def _ranks(content: LatentsFile) -> tuple[int, ...]:
    """The ranks that an array of the file may have."""
    if content.origin is None:
        return (4, 5)
    layouts = {form.layout for form in stated_forms(content.origin, content.family)}
    return (3,) if all(layout is not None and layout.has_tokens for layout in layouts) else (4, 5)


def _tensors(content: LatentsFile) -> dict[str, NDArray[Any]]:
    latents = np.ascontiguousarray(content.latents)
    if content.origin == COMFYUI:
        return {COMFYUI_KEY: latents, COMFYUI_VERSION_KEY: np.zeros(0, np.float32)}
    return {_KEY: latents}


def _agreed(path: Path, given: str, stated: str | None, family: str | None) -> str:
    """The origin of a file: the given one, or the stated one if it says more.

    Raises:
        InputError: no form of the given origin is a form of the stated one.
    """
    if stated is None or given == stated or stated not in origin_names():
        return given
    if not any(one.fits(other) for one in stated_forms(given, family) for other in stated_forms(stated, family)):
        raise InputError(f"{path} says that its latents come from {stated}, not from {given}: leave origin= out")
    return given if given not in (MODEL, DIFFUSION, DIFFUSERS) else stated


def _scaled(content: LatentsFile) -> bool | None:
    """Whether the file holds diffusion latents, if its fields say so.

    Raises:
        InputError: the origin is unknown, or contradicts `scaled`.
    """
    if content.origin is None:
        return content.scaled
    check_name(content.origin)
    if content.origin == DIFFUSERS:
        raise InputError("origin: diffusers names no form of latents: give the class of the pipeline")
    spaces = {form.space == "diffusion" for form in stated_forms(content.origin, content.family)}
    if content.scaled is not None and content.scaled not in spaces:
        raise InputError(
            f"scaled is {content.scaled}, and latents from {content.origin} are "
            f"{'diffusion' if True in spaces else 'model'} latents: leave scaled out"
        )
    return spaces.pop() if len(spaces) == 1 else content.scaled


def _metadata(content: LatentsFile) -> dict[str, str]:
    scaled = _scaled(content)
    fields = {
        "format": _FORMAT,
        "family": content.family,
        "original_height": content.height,
        "original_width": content.width,
        "original_frames": content.frames,
        "frame_rate": content.frame_rate,  # the text of a Fraction is "30000/1001"
        "scaled": None if scaled is None else str(scaled).lower(),
        "origin": content.origin,
        "sample_aspect_ratio": content.sample_aspect_ratio,
    }
    record = content.record.to_metadata() if content.record is not None else {}
    return record | {key: str(value) for key, value in fields.items() if value is not None}


def _fields(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if not is_ours(metadata):  # other programs use the key "format" too, often with the value "pt"
        return {}
    written_as = metadata["format"]
    if written_as != _FORMAT:
        raise MediaError(f"{path} has the format {written_as[:40]!r}, this version reads {_FORMAT}: update latentrt")
    readers: dict[str, tuple[str, Callable[[str], Any]]] = {
        "family": ("family", _short_text),
        "height": ("original_height", _positive_int),
        "width": ("original_width", _positive_int),
        "frames": ("original_frames", _positive_int),
        "frame_rate": ("frame_rate", _positive_fraction),
        "scaled": ("scaled", _boolean),
        "sample_aspect_ratio": ("sample_aspect_ratio", _aspect_ratio),
        "origin": ("origin", _short_text),
    }
    fields: dict[str, Any] = {}
    for field, (key, reader) in readers.items():
        if key in metadata:
            try:
                fields[field] = reader(metadata[key])
            except ValueError as error:
                value = metadata[key][:60]
                raise MediaError(f"{path} has {key}={value!r} in its metadata: write the file again") from error
    if "origin" not in fields and "scaled" in fields:  # a file of an earlier version
        fields["origin"] = DIFFUSION if fields["scaled"] else MODEL
    return fields | {"record": EncodeRecord.from_metadata(metadata)}


def _short_text(text: str) -> str:
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
