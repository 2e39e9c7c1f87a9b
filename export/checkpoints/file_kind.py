"""The kind of a weights file, by its first bytes. Endings are often wrong: a `.ckpt` may hold safetensors."""

from pathlib import Path
from typing import Literal

from ...runtime.errors import CheckpointError
from ...runtime.system.file_kinds import kind_of_bytes

__all__ = ["PICKLE_ENDINGS", "SAFETENSORS_ENDINGS", "WeightsKind", "weights_kind"]

SAFETENSORS_ENDINGS = (".safetensors", ".sft")
PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".ckpt")
WeightsKind = Literal["safetensors", "torch zip", "pickle"]

_START_BYTES = 1024
_UNFINISHED = (".incomplete", ".part", ".crdownload", ".download", ".partial", ".tmp", ".aria2")
# Kinds by their names in `runtime/system/file_kinds.py`. These may be weights, so the ending decides or the reader.
_BY_ENDING = ("json", "text", "xml")
_ZIPS = ("torch-zip", "zip")
# What to do about a file of weights in a format that is not read, where the general advice does not help.
_CURES = {
    "gguf": "take the model's safetensors file; the weights of a GGUF file are quantised",
    "npy": "give a file with all weights of a model",
    "npz": "give a safetensors file with the weights of a model",
    "hdf5": "convert it to safetensors",
    "onnx": "give the model that it came from",
    "tensorrt": "give the weights that it was built from",
}


def weights_kind(path: Path) -> WeightsKind:
    """Recognise a weights file by its bytes, whichever ending it has.

    Raises:
        CheckpointError: the file cannot be read, or is of a kind that is not read; the message names the kind.
    """
    if not path.is_file() and path.exists():  # opening a pipe waits until something is written to it
        raise CheckpointError(f"cannot read {path}: it is not a regular file")
    try:
        with path.open("rb") as file:
            start = file.read(_START_BYTES)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    if path.suffix in _UNFINISHED:
        raise CheckpointError(f"{path} is an unfinished download ({path.suffix}): fetch it again")
    if start[8:9] == b"{" and start[4:8] == b"\0\0\0\0":
        return "safetensors"
    kind = kind_of_bytes(start, len(start))
    if kind is None or kind.name in _BY_ENDING:
        return _by_ending(path)
    if kind.name == "pickle":
        return "pickle"
    if kind.name in _ZIPS:
        return "torch zip"
    if kind.name == "zeros":
        raise CheckpointError(f"{path} is not a weights file: it begins with zeros only, as unfinished downloads do")
    cure = _CURES.get(kind.name) or kind.cure or "give the weights of a model"
    raise CheckpointError(f"{path} is not a weights file: it is {kind.text}: {cure}")


def _by_ending(path: Path) -> WeightsKind:
    """The kind of a file whose bytes do not show it."""
    if path.suffix.lower() in SAFETENSORS_ENDINGS:
        return "safetensors"  # damaged: the reader says how
    if path.suffix.lower() in PICKLE_ENDINGS:
        return "pickle"
    if path.suffix.lower() == ".msgpack":
        raise CheckpointError(
            f"{path} has the ending of Flax weights: give the folder with config.json and diffusion_flax_model.msgpack"
        )
    raise CheckpointError(
        f"{path} is a file of an unknown kind ({path.suffix or 'no ending'}): give safetensors weights "
        f"({', '.join(SAFETENSORS_ENDINGS)}), a diffusers folder or a Flax folder"
    )
