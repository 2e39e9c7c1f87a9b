"""The tensors of a file that may hold latents: safetensors, `.npy`, `.npz` or PyTorch. Its bytes decide which."""

import contextlib
import io
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from ..errors import MediaError
from ..system.file_kinds import kind_of, not_the_wanted_kind
from ..system.npy_file import load_npy
from ..system.npy_header import NpyHeader
from ..system.tensor_files.stored_dtypes import STORED_DTYPES, widened
from ..system.tensor_files.zip_archive import opened_archive, read_member
from .torch_archive import torch_tensors

__all__ = ["StoredTensors", "opened_tensors", "safetensors_metadata"]

# The largest safetensors header that is parsed. LatentRT writes a few hundred bytes. Tools that store a workflow in the
# header write a few hundred thousand.
_MOST_HEADER_BYTES = 4 << 20
_FLOATS = {"F16": np.float16, "F32": np.float32, "F64": np.float64, "BF16": np.float32}
_DAMAGE = (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError, OverflowError, struct.error)
_MOST_MEMBERS = 10_000  # of an archive
_WANTED = "a latents file (.safetensors, .npy, .npz, .latent or .pt)"


@dataclass(frozen=True, eq=False)
class StoredTensors:
    """The tensors of a file, which are not read yet.

    Attributes:
        readers: gives the values of each tensor by its name, in its own precision, bfloat16 as float32.
        metadata: the metadata of a safetensors file.
        shapes: the shapes of the tensors of a safetensors file. For other files they are known after reading.
    """

    readers: Mapping[str, Callable[[], NDArray[Any]]]
    metadata: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def opened_tensors(path: Path) -> StoredTensors:
    """The tensors in a file.

    Raises:
        MediaError: the file is missing, damaged or of another kind. The readers raise it too.
    """
    if not path.is_file():
        raise MediaError(f"{path} is not a file: give {_WANTED}")
    kind = kind_of(path)
    name = path.suffix.lower() if kind is None or kind.name in ("empty", "zeros") else kind.name
    if name in ("npy", ".npy"):
        return StoredTensors({"array": lambda: load_npy(path, mmap_mode="r")})
    if name in ("zip", "npz", "torch-zip", ".npz", ".pt", ".pth"):
        return StoredTensors(_archived(path))
    sentence = not_the_wanted_kind(path, _WANTED, ("safetensors", "empty", "zeros", "pickle"))
    if sentence is not None:
        raise MediaError(sentence)
    if name == "pickle":
        raise MediaError(
            f"{path} is a pickle, which can run code when it is loaded, so it is not opened: save the latents again, "
            f"with safetensors.torch.save_file({{'latents': latents}}, 'latents.safetensors')"
        )
    return _safetensors(path)


def safetensors_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file without its tensors.

    Raises:
        MediaError: the file is damaged or truncated.
    """
    _check_header_size(path)
    try:
        with safetensors.safe_open(path, framework="np") as tensors:
            return tensors.metadata() or {}
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _archived(path: Path) -> Mapping[str, Callable[[], NDArray[Any]]]:
    with _errors_of_archive(path), opened_archive(path) as archive:
        members = archive.namelist()
    if len(members) > _MOST_MEMBERS:
        raise MediaError(f"{path} is an archive of {len(members)} files: give a latents file")
    names = [name for name in members if name.endswith(".npy")]
    if not names:
        return torch_tensors(path)
    return {name.removesuffix(".npy"): _npz_reader(path, name) for name in names}


@contextlib.contextmanager
def _errors_of_archive(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:  # a `DamagedArchive` is a ValueError
        raise MediaError(f"{path} is not a whole archive ({error}): replace it") from error


def _npz_reader(path: Path, name: str) -> Callable[[], NDArray[Any]]:
    def read() -> NDArray[Any]:
        with _errors_of_archive(path), opened_archive(path) as archive:
            content = read_member(archive, name)
            try:
                header = NpyHeader.read(io.BytesIO(content), len(content))
            except MediaError as error:
                raise MediaError(f"{path} holds no array of numbers as {name[:60]!r} ({error}): replace it") from error
            values = np.frombuffer(content, header.dtype, header.nbytes // header.dtype.itemsize, header.offset)
            return values.reshape(header.shape, order=header.order)

    return read


def _safetensors(path: Path) -> StoredTensors:
    _check_header_size(path)
    try:
        with safetensors.safe_open(path, framework="np") as tensors:
            shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
            metadata = tensors.metadata() or {}
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return StoredTensors({name: _safetensors_reader(path, name) for name in shapes}, metadata, shapes)


def _safetensors_reader(path: Path, name: str) -> Callable[[], NDArray[Any]]:
    def read() -> NDArray[Any]:
        try:
            with safetensors.safe_open(path, framework="np") as tensors:
                stored = tensors.get_slice(name).get_dtype()
                if stored not in _FLOATS:
                    raise MediaError(f"{path} holds latents as {stored}: convert them to float32 or float16")
                values: NDArray[Any] = _bfloat16(path, name) if stored == "BF16" else tensors.get_tensor(name)
                return values
        except _DAMAGE as error:
            raise _damaged(path, error) from error

    return read


def _bfloat16(path: Path, name: str) -> NDArray[np.float32]:
    """Read a bfloat16 tensor, which NumPy does not know.

    `safe_open` has checked the header already.
    """
    with path.open("rb") as file:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        entry = json.loads(file.read(header_bytes))[name]
        start, end = entry["data_offsets"]
        file.seek(8 + header_bytes + start)
        raw = np.frombuffer(file.read(end - start), STORED_DTYPES["BF16"])
    return widened(raw, "BF16").reshape(entry["shape"])


def _check_header_size(path: Path) -> None:
    """Refuse a large header before it is parsed, because parsing takes far more memory than the header."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise _damaged(path, error) from error
    size = int.from_bytes(head, "little")
    if len(head) == 8 and _MOST_HEADER_BYTES < size <= path.stat().st_size:
        raise MediaError(
            f"{path} has a header of {size / 1e6:.0f} MB, and latents files have at most "
            f"{_MOST_HEADER_BYTES >> 20} MiB: write the file again without such metadata"
        )


def _damaged(path: Path, error: Exception) -> MediaError:
    reason = getattr(error, "strerror", None) or error
    return MediaError(f"{path} is not a whole safetensors file ({reason}): replace it")
