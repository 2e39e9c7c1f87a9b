"""The kind of a weights file, by its first bytes. Endings are often wrong: a `.ckpt` may hold safetensors."""

from pathlib import Path
from typing import Literal

from ...runtime.errors import CheckpointError
from ...runtime.system.stand_in import stand_in

__all__ = ["PICKLE_ENDINGS", "SAFETENSORS_ENDINGS", "WeightsKind", "weights_kind"]

SAFETENSORS_ENDINGS = (".safetensors", ".sft")
PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".ckpt")
WeightsKind = Literal["safetensors", "torch zip", "pickle"]

_START_BYTES = 1024
_UNFINISHED = (".incomplete", ".part", ".crdownload", ".download", ".partial", ".tmp", ".aria2")
# First bytes of files that are recognised and not read: what they are, and what to do.
_OTHERS: dict[bytes, str] = {
    b"GGUF": "it is a GGUF file, whose weights are quantised: take the model's safetensors file",
    b"\x93NUMPY": "it is one NumPy array: give a file with all weights of a model",
    b"\x89HDF\r\n\x1a\n": "it is an HDF5 file (Keras): convert it to safetensors",
    b"\x1f\x8b": "it is compressed (gzip): unpack it first",
    b"7z\xbc\xaf\x27\x1c": "it is an archive (7z): unpack it first",
    b"Rar!": "it is an archive (RAR): unpack it first",
    b"\xfd7zXZ\0": "it is compressed (xz): unpack it first",
    b"BZh": "it is compressed (bzip2): unpack it first",
    b"\x28\xb5\x2f\xfd": "it is compressed (Zstandard): unpack it first",
    b"\x89PNG": "it is a picture: give the weights of a model",
    b"\xff\xd8\xff": "it is a picture: give the weights of a model",
    b"RIFF": "it is a picture, a sound or a clip: give the weights of a model",
    b"ftrt": "it is a TensorRT engine: give the weights that it was built from",
    b"ptrt": "it is a TensorRT engine: give the weights that it was built from",
}
_ONNX = (b"\x08\x07\x12", b"\x08\x08\x12", b"\x08\x09\x12", b"\x08\x0a\x12", b"\x08\x0b\x12", b"\x08\x0c\x12")
_TAR_MAGIC = slice(257, 262)


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
    reason = stand_in(start)
    if reason is not None:
        raise CheckpointError(f"{path} is not a weights file: {reason}")
    if start[8:9] == b"{":
        return "safetensors"
    if start.startswith(b"PK\x03\x04"):
        return "torch zip"
    for magic, other in _OTHERS.items():
        if start.startswith(magic):
            raise CheckpointError(f"{path} is not a weights file: {other}")
    if start.startswith(_ONNX):
        raise CheckpointError(f"{path} is not a weights file: it is an ONNX graph: give the model that it came from")
    if start[_TAR_MAGIC] == b"ustar":
        raise CheckpointError(f"{path} is not a weights file: it is an archive (tar): unpack it first")
    if not any(start):
        raise CheckpointError(f"{path} is not a weights file: it begins with zeros only, as unfinished downloads do")
    return _by_ending(path, start)


def _by_ending(path: Path, start: bytes) -> WeightsKind:
    """The kind of a file whose bytes do not show it."""
    if start[:1] == b"\x80" and len(start) > 1 and start[1] <= 5:  # the protocol of a pickle
        return "pickle"
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
