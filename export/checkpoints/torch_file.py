"""Files that `torch.save` writes, read without torch and without running anything that they hold.

A file is a zip archive with one pickle (`data.pkl`) and one entry per storage (`data/0`), or, before torch 1.6, several
pickles and then the storages one after the other. The pickle says how each tensor lies in its storage.
"""

import math
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import CheckpointError
from ...tiling.plain_text import shown
from ..weights.stored_dtypes import STORED_DTYPES, widened
from .checkpoint import LazyTensor
from .pickle_machine import HostilePickle, Made, Name, Persistent, run_pickle

__all__ = ["read_torch_file"]

_MOST_PICKLE_BYTES = 32 << 20  # The pickle of a checkpoint with 10,000 tensors has 2 MB.
_MOST_DIRECTORY_BYTES = 16 << 20  # of a zip archive; 10,000 tensors take less than 1 MB
_MOST_DEPTH = 8  # dicts within dicts, and wrappers around a tensor
_MOST_RANK = 16
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_REFUSED = "holds more than tensors, or is damaged, so it is not opened even with --allow-pickle"
# Storage class or dtype of torch -> its dtype, bytes per element, and the name that `STORED_DTYPES` has for it.
_STORAGES: dict[str, tuple[str, int, str | None]] = {
    "DoubleStorage": ("float64", 8, "F64"),
    "FloatStorage": ("float32", 4, "F32"),
    "HalfStorage": ("float16", 2, "F16"),
    "BFloat16Storage": ("bfloat16", 2, "BF16"),
    "LongStorage": ("int64", 8, None),
    "IntStorage": ("int32", 4, None),
    "ShortStorage": ("int16", 2, None),
    "CharStorage": ("int8", 1, None),
    "ByteStorage": ("uint8", 1, None),
    "BoolStorage": ("bool", 1, None),
    "ComplexDoubleStorage": ("complex128", 16, None),
    "ComplexFloatStorage": ("complex64", 8, None),
    "QInt8Storage": ("qint8", 1, None),
    "QUInt8Storage": ("quint8", 1, None),
    "QInt32Storage": ("qint32", 4, None),
    "QUInt4x2Storage": ("quint4x2", 1, None),
    "QUInt2x4Storage": ("quint2x4", 1, None),
    "UntypedStorage": ("bytes", 1, None),
}
_DTYPES = {dtype: (dtype, size, name) for dtype, size, name in _STORAGES.values()}
_DTYPES |= {"float8_e4m3fn": ("float8_e4m3fn", 1, "F8_E4M3"), "float8_e5m2": ("float8_e5m2", 1, "F8_E5M2")}
_PLAIN = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor"}
_PARAMETER = {"_rebuild_parameter", "_rebuild_parameter_with_state"}


@dataclass(frozen=True)
class _Storage:
    """The bytes of a storage in the file.

    Attributes:
        start: of its first byte.
        size_bytes: of the storage.
    """

    start: int
    size_bytes: int


def read_torch_file(path: Path) -> Any:
    """Read what a file holds. Tensors become `LazyTensor`, and objects of all other classes stay inert.

    Raises:
        CheckpointError: the file is damaged or no file of torch, or it was made to run code.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
        read = _read_zip if start.startswith(b"PK") else _read_legacy
        return read(path)
    except CheckpointError:
        raise
    except HostilePickle as error:
        raise CheckpointError(f"{path} {_REFUSED}: it calls {shown(str(error))}, which no model needs") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # zipfile raises errors of many kinds for damaged archives
        raise CheckpointError(f"{path} is not a whole file of torch.save: it is damaged; fetch it again") from error


def _read_zip(path: Path) -> Any:
    _check_directory(path)
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        found = sorted((name for name in names if name.split("/")[-1] == "data.pkl"), key=len)
        if not found:
            raise CheckpointError(f"{path} is a zip archive and no file of torch.save: unpack it first")
        root = found[0].removesuffix("data.pkl")
        if f"{root}constants.pkl" in names:
            raise CheckpointError(f"{path} is a TorchScript program, not a set of weights: take safetensors")
        if f"{root}byteorder" in names and _entry(archive, f"{root}byteorder", 16) != b"little":
            raise CheckpointError(f"{path} was written on a machine with another order of bytes: convert it there")
        content = _entry(archive, found[0], _MOST_PICKLE_BYTES)
        value = run_pickle(content).value
        size = path.stat().st_size

        def storage(key: str) -> _Storage:
            entry = archive.getinfo(f"{root}data/{key}")
            if entry.compress_type != zipfile.ZIP_STORED:
                raise CheckpointError(f"{path} was packed again with compression: save it again with torch.save")
            with path.open("rb") as file:
                file.seek(entry.header_offset)
                head = file.read(30)
            if len(head) != 30 or head[:4] != b"PK\x03\x04":
                raise ValueError("an entry is damaged")
            start = entry.header_offset + 30 + sum(struct.unpack("<HH", head[26:]))
            if start + entry.file_size > size:
                raise ValueError("an entry ends behind the file")
            return _Storage(start, entry.file_size)

        return _Reader(path, storage).value(value)


def _check_directory(path: Path) -> None:
    """Refuse an archive with a directory that takes much memory to read."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - (1 << 16) - 22 - 76, 0))  # the longest comment, the end record, and those of zip64
        tail = file.read()
        end = tail.rfind(b"PK\x05\x06")
        if end < 0 or len(tail) < end + 22:
            raise ValueError("the directory is missing")
        length = struct.unpack("<L", tail[end + 12 : end + 16])[0]
        locator = tail[end - 20 : end] if end >= 20 else b""
        if locator.startswith(b"PK\x06\x07"):
            file.seek(min(struct.unpack("<Q", locator[8:16])[0], size))
            records = [file.read(56), tail[max(end - 76, 0) : end - 20]]  # zipfile takes the one before the locator
            length = max([length, *(struct.unpack("<Q", one[40:48])[0] for one in records if len(one) == 56)])
    if length > _MOST_DIRECTORY_BYTES:
        raise ValueError("the directory is larger than that of any checkpoint")


def _entry(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    with archive.open(name) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{name} is larger than that of any checkpoint")
    return content


def _read_legacy(path: Path) -> Any:
    with path.open("rb") as file:
        content = file.read(_MOST_PICKLE_BYTES)
    magic = run_pickle(content)
    if magic.value != _LEGACY_MAGIC:
        return magic.value  # a plain pickle, which holds no tensors of torch
    version = run_pickle(content, magic.end)
    machine = run_pickle(content, version.end)
    if isinstance(machine.value, dict) and machine.value.get("little_endian") is False:
        raise CheckpointError(f"{path} was written on a machine with another order of bytes: convert it there")
    main = run_pickle(content, machine.end)
    keys = run_pickle(content, main.end)
    item_bytes = {key: kind[1] for key, kind in map(_storage_kind, main.references)}
    storages: dict[str, _Storage] = {}
    place = keys.end
    size = path.stat().st_size
    with path.open("rb") as file:
        for key in keys.value:
            file.seek(place)
            count = struct.unpack("<q", file.read(8))[0]
            storages[key] = _Storage(place + 8, count * item_bytes[key])
            place += 8 + storages[key].size_bytes
            if count < 0 or place > size:
                raise ValueError("a storage ends behind the file")
    return _Reader(path, storages.__getitem__).value(main.value)


def _storage_kind(reference: Any) -> tuple[str, tuple[str, int, str | None]]:
    """The key of a storage, and its dtype as in `_STORAGES`.

    Raises:
        ValueError: the reference is of another kind, or the storage is of an unknown class.
    """
    match reference:
        case Persistent(of=("storage", Name(name=kind), str(key), _, *_)) if kind in _STORAGES:
            return key, _STORAGES[kind]
    raise ValueError("the storage of a tensor is damaged or of an unknown kind")


class _Reader:
    """Replaces the calls that rebuild tensors by `LazyTensor`."""

    def __init__(self, path: Path, storage: Callable[[str], _Storage]) -> None:
        self._path, self._storage = path, storage
        self._storages: dict[str, _Storage] = {}

    def value(self, value: Any, depth: int = 0) -> Any:
        """The value with its tensors. Only dicts are looked into, at most eight levels deep."""
        if isinstance(value, dict) and depth < _MOST_DEPTH:
            return {key: self.value(inner, depth + 1) for key, inner in value.items()}
        if isinstance(value, Made):
            return self._tensor(value) or value
        return value

    def _tensor(self, made: Made) -> LazyTensor | None:
        for _ in range(_MOST_DEPTH):
            name = made.of.name if isinstance(made.of, Name) and made.of.module.startswith("torch.") else ""
            if name == "_rebuild_from_type_v2" and len(made.arguments) > 2 and isinstance(made.arguments[2], tuple):
                made = Made(made.arguments[0], made.arguments[2])
            elif name in _PARAMETER and made.arguments and isinstance(made.arguments[0], Made):
                made = made.arguments[0]
            elif name in _PLAIN:
                return self._plain_tensor(name, *made.arguments)
            else:
                return None
        return None

    def _plain_tensor(self, rebuild: str, storage: Any, offset: Any, shape: Any, stride: Any, *more: Any) -> LazyTensor:
        key, kind = _storage_kind(storage)
        if rebuild == "_rebuild_tensor_v3" and isinstance(more[2], Name):
            kind = _DTYPES.get(more[2].name, (more[2].name, 1, None))
        dtype, item, stored = kind
        whole = all(type(number) is int and 0 <= number < 1 << 48 for number in (offset, *shape, *stride))
        if not whole or len(shape) != len(stride) or len(shape) > _MOST_RANK:
            raise ValueError("the shape of a tensor is damaged")
        if key not in self._storages:
            self._storages[key] = self._storage(key)
        place = self._storages[key]
        count = math.prod(shape)
        span = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) if count else 0
        if (offset + span) * item > place.size_bytes:
            raise ValueError("a tensor does not lie in its storage")

        def read() -> NDArray[np.float32]:
            if count * item > place.size_bytes:  # it repeats elements of its storage, which no weights of a model do
                raise CheckpointError(f"{self._path}: a tensor that the model needs is expanded: save it contiguous")
            if stored is None or rebuild == "_rebuild_qtensor":
                raise CheckpointError(
                    f"{self._path}: a tensor that the model needs is stored as {dtype}; supported: float32, float16, "
                    f"bfloat16, float8 (e4m3 and e5m2), float64"
                )
            raw = _read_span(self._path, place.start + offset * item, STORED_DTYPES[stored], span)
            steps = tuple(step * item for step in stride)
            strided = np.lib.stride_tricks.as_strided(raw, shape, steps, writeable=False)
            return widened(np.ascontiguousarray(strided), stored).reshape(shape)

        return LazyTensor(tuple(shape), dtype, read)


def _read_span(path: Path, start: int, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            file.seek(start)
            raw = np.fromfile(file, dtype, count)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    if raw.size != count:
        raise CheckpointError(f"{path} is not a whole file of torch.save: it is damaged; fetch it again")
    return raw
