"""Safetensors files, read lazily and written as a stream: a file of any size needs memory for one tensor only.

Format (https://github.com/huggingface/safetensors): the length of the header in 8 little-endian bytes, a JSON header of
name -> {dtype, shape, data_offsets}, then the data. This module replaces the safetensors package for three reasons:
NumPy has no bfloat16, the package's writer needs all tensors in memory, and ONNX external data needs the byte offset of
each tensor.
"""

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import CheckpointError
from ...runtime.system.hashing import HashingWriter
from ...runtime.system.json_file import json_value
from ...runtime.system.stand_in import stand_in_at
from ...runtime.system.tensor_files.stored_dtypes import STORED_DTYPES, widened
from ...tiling.plain_text import shown
from .narrowing import ITEM_BYTES, narrowed

if TYPE_CHECKING:
    from onnx import TensorProto

__all__ = ["SafetensorsFile", "StoredTensor", "TensorEntry", "planned_safetensors", "write_safetensors"]

# Largest header that is parsed. The reference reader accepts 100 MB, but Python objects take thirty times the size of a
# hostile header. The header of a combined LTX-2 checkpoint has 0.7 MB.
_MAX_HEADER_BYTES = 8 << 20
_MAX_RANK = 16  # axes of a tensor
_MAX_SIZE = 1 << 62  # of an axis, and of a byte offset
# Bytes behind the last tensor that are taken for padding, if they are all zero. Programs that write whole blocks
# leave up to 1 MiB. Other bytes are no padding: a copy in text mode makes a file longer and alters all tensors.
_MOST_PADDING_BYTES = 1 << 20
_MOST_DTYPE_CHARACTERS = 32  # of the name of a dtype
_ALIGNMENT_BYTES = 64  # of the start of the data
_CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
# Bytes per element of the stored dtypes that are known and not read. Tensors of unknown dtypes are accepted too: a
# checkpoint of many models may hold some, and only the tensors of the VAE are read.
_OTHER_SIZES = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_OTHER_SIZES |= {"F8_E8M0": 1, "C64": 8}


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a safetensors file.

    Attributes:
        dtype: stored dtype by its safetensors name ("F32", "BF16", ...).
        shape: sizes of the axes.
        start_bytes: offset of its first byte within the data.
        end_bytes: offset behind its last byte within the data.
    """

    dtype: str
    shape: tuple[int, ...]
    start_bytes: int
    end_bytes: int


class SafetensorsFile(Mapping[str, TensorEntry]):
    """The checked header of a safetensors file, as a mapping from names to entries. `read` reads one tensor.

    Attributes:
        path: the file.
        metadata: the header's `__metadata__`.
        notes: what is unusual about the file, each the end of a sentence.

    Raises:
        CheckpointError: the file is not safetensors, is truncated, or has a header that contradicts itself.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: tuple[str, ...] = ()
        if (reason := stand_in_at(path)) is not None:
            raise self._error(reason)
        try:
            if not path.is_file() and path.exists():  # opening a pipe waits until something is written to it
                raise self._error("it is not a regular file")
            size = path.stat().st_size
            with path.open("rb") as file:
                end = self._parse(file.read(8), file.read, size)
                if end != size:
                    self._check_padding(file, end, size)
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error

    def _parse(self, prefix: bytes, read: Callable[[int], bytes], size: int) -> int:
        """Read the header, and return where the last tensor ends in the file."""
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if _MAX_HEADER_BYTES < length <= size - 8:
            raise self._error(
                f"its header has {length / 2**20:.0f} MiB, and at most {_MAX_HEADER_BYTES >> 20} MiB are read; "
                f"the header of a VAE has less than 1 MiB"
            )
        if not 2 <= length <= size - 8:
            raise self._error("its header does not fit the file: it is not safetensors, or it is truncated")
        try:
            header = json_value(read(length))
        except ValueError as error:
            raise self._error("its header is not JSON: it is not safetensors, or it is damaged") from error
        if not isinstance(header, dict):
            raise self._error("its header is not a JSON object")
        self._data_start = 8 + length
        metadata = header.pop("__metadata__", {})
        self.metadata: dict[str, str] = metadata if isinstance(metadata, dict) else {}
        self._entries = {name: self._entry(name, values) for name, values in header.items()}
        end = 0
        for name, entry in sorted(self._entries.items(), key=lambda item: (item[1].start_bytes, item[1].end_bytes)):
            if entry.start_bytes != end:
                raise self._error(f"the bytes of {shown(name)} overlap another tensor's or leave a gap")
            end = entry.end_bytes
        return self._data_start + end

    def _check_padding(self, file: IO[bytes], end: int, size: int) -> None:
        """Accept zeros behind the last tensor, which the safetensors library refuses."""
        if end > size:
            raise self._error(
                f"its header promises {end} bytes and it has {size}: it is truncated or damaged; fetch it again"
            )
        more = size - end
        file.seek(end)
        if more > _MOST_PADDING_BYTES or any(file.read(more)):
            raise self._error(
                f"it has {more} bytes behind its last tensor, so it is damaged or two files in one: fetch it again as "
                f"binary data, or load and save it with the program that wrote it"
            )
        self.notes = (f"{self.path.name} has {more} zero bytes behind its last tensor, which are left out",)

    def _entry(self, name: str, values: Any) -> TensorEntry:
        try:
            dtype, shape, (start, end) = values["dtype"], values["shape"], values["data_offsets"]
            whole = all(type(number) is int and number >= 0 for number in (*shape, start, end))
            whole = whole and len(shape) <= _MAX_RANK and all(number < _MAX_SIZE for number in (*shape, start, end))
            if dtype in STORED_DTYPES or dtype in _OTHER_SIZES:
                item = STORED_DTYPES[dtype].itemsize if dtype in STORED_DTYPES else _OTHER_SIZES[dtype]
                fits = whole and end - start == math.prod(shape) * item
            else:
                fits = whole and end >= start and isinstance(dtype, str) and _is_dtype_name(dtype)
            if fits:
                return TensorEntry(dtype, tuple(shape), start, end)
        except (KeyError, TypeError, ValueError):
            pass
        raise self._error(f"the header's entry for {shown(name)} is damaged")

    def _error(self, reason: str) -> CheckpointError:
        return CheckpointError(f"{self.path.name} is not a usable safetensors file: {reason}")

    def __getitem__(self, name: str) -> TensorEntry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, name: str) -> NDArray[np.float32]:
        """Read one tensor and widen it to float32. The conversion is exact, except that float64 is rounded.

        Raises:
            CheckpointError: the tensor has no floating-point dtype, or the file cannot be read.
        """
        entry = self[name]
        if entry.dtype not in STORED_DTYPES:
            raise CheckpointError(
                f"{self.path.name}: tensor {shown(name)} is stored as {entry.dtype}; supported: float32, float16, "
                f"bfloat16, float8 (e4m3 and e5m2), float64"
            )
        count = math.prod(entry.shape)
        try:
            with self.path.open("rb") as file:
                file.seek(self._data_start + entry.start_bytes)
                raw = np.fromfile(file, dtype=STORED_DTYPES[entry.dtype], count=count)
        except OSError as error:
            raise CheckpointError(f"cannot read {self.path}: {error.strerror or error}") from error
        if raw.size != count:
            raise self._error(f"the data of {shown(name)} ends early")
        return widened(raw, entry.dtype).reshape(entry.shape)


def _is_dtype_name(name: str) -> bool:
    return 0 < len(name) <= _MOST_DTYPE_CHARACTERS and name.isascii() and name.isprintable()


@dataclass(frozen=True)
class StoredTensor:
    """The place of a weight: a byte range of a file next to the graph.

    Attributes:
        file: name of the file, relative to the graph's folder.
        offset_bytes: offset of the first byte within the file.
        length_bytes: number of bytes.
        dtype: "float32", "float16" or "bfloat16".
        shape: sizes of the axes.
    """

    file: str
    offset_bytes: int
    length_bytes: int
    dtype: str
    shape: tuple[int, ...]

    def point(self, proto: "TensorProto") -> None:
        """Make an ONNX initializer read its data from this place."""
        proto.data_location = proto.EXTERNAL
        entries = {"location": self.file, "offset": self.offset_bytes, "length": self.length_bytes}
        for key, value in entries.items():
            proto.external_data.add(key=key, value=str(value))


@dataclass(frozen=True)
class WrittenFile:
    """A safetensors file that was written.

    Attributes:
        tensors: place of each tensor, by its name.
        size_bytes: size of the file.
        sha256: hash of the file, in hexadecimal digits.
    """

    tensors: dict[str, StoredTensor]
    size_bytes: int
    sha256: str

    @classmethod
    def of(cls, tensors: dict[str, StoredTensor], writer: HashingWriter) -> Self:
        return cls(tensors, writer.size_bytes, writer.hexdigest())


def planned_safetensors(
    file: str,
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> tuple[bytes, dict[str, StoredTensor]]:
    """Lay out a safetensors file before it is written.

    Args:
        file: name of the file.
        shapes: shape of each tensor, by its name.
        dtypes: dtype of each tensor, by its name; float32 for names that are missing.
        metadata: entries of the header's `__metadata__`.

    Returns:
        The header, and the place that each tensor will have.
    """
    kinds = {name: (dtypes or {}).get(name, "float32") for name in shapes}
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    stored: dict[str, StoredTensor] = {}
    end = 0
    # The widest dtype comes first: this aligns each tensor to its item size without gaps, which the format forbids.
    for name in sorted(shapes, key=lambda name: -ITEM_BYTES[kinds[name]]):
        dtype, shape = kinds[name], shapes[name]
        start, end = end, end + ITEM_BYTES[dtype] * math.prod(shape)
        header[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        stored[name] = StoredTensor(file, start, end - start, dtype, shape)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT_BYTES)
    head = struct.pack("<Q", len(text)) + text
    return head, {
        name: replace(tensor, offset_bytes=len(head) + tensor.offset_bytes) for name, tensor in stored.items()
    }


def write_safetensors(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], NDArray[np.float32]],
    dtypes: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> WrittenFile:
    """Write tensors to a file one after the other, with one tensor in memory at a time.

    Args:
        path: the file to write.
        shapes: shape of each tensor, by its name.
        read: returns the values of a tensor when it is due.
        dtypes: dtype of each tensor, by its name; float32 for names that are missing.
        metadata: entries of the header's `__metadata__`.

    Raises:
        CheckpointError: a dtype cannot hold a value.
        OSError: the disk is full, or the path cannot be written. The caller removes the half-written file.
    """
    head, stored = planned_safetensors(path.name, shapes, dtypes, metadata)
    with HashingWriter(path) as writer:
        writer.write(head)
        for name, tensor in stored.items():
            writer.write(narrowed(read(name), tensor.dtype, name).reshape(-1).view(np.uint8))
    return WrittenFile.of(stored, writer)
