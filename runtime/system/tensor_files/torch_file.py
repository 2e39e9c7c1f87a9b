"""Files that `torch.save` writes, read without torch and without running anything that they hold.

A file is a zip archive with one pickle (`data.pkl`) and one entry per storage (`data/0`), or, before torch 1.6, several
pickles and then the storages one after the other. The pickle says how each tensor lies in its storage.
"""

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .pickle_machine import HostilePickle, Made, run_pickle
from .torch_tensor import Storage, StorageKind, TorchFileError, rebuilt_tensor, storage_kind
from .zip_archive import DamagedArchive, opened_archive, read_member

__all__ = ["read_torch_file"]

_MOST_PICKLE_BYTES = 32 << 20  # The pickle of a checkpoint with 10,000 tensors has 2 MB.
_MOST_DEPTH = 8  # dicts, lists and tuples within each other
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read_torch_file(path: Path, *, checksums: bool) -> Any:
    """Read what a file holds. Tensors become `TorchTensor`, and objects of all other classes stay inert (`Made`).

    Args:
        path: the file.
        checksums: whether a tensor's `read` compares the checksum of its whole storage. Files that were saved without
            checksums are then refused. False reads only the bytes of the tensor.

    Raises:
        TorchFileError: the file is damaged or no file of torch.
        HostilePickle: the file was made to run code.
        OSError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
        return _read_zip(path, checksums) if start.startswith(b"PK") else _read_legacy(path)
    except (TorchFileError, HostilePickle, OSError):
        raise
    except Exception as error:  # damaged pickles and archives raise errors of many kinds
        raise _damaged(path) from error


def _damaged(path: Path) -> TorchFileError:
    return TorchFileError(f"{path} is not a whole file of torch.save: it is damaged; fetch it again")


def _expanded(path: Path) -> str:
    return f"{path} holds a tensor that repeats its elements (expanded): save it contiguous"


def _read_zip(path: Path, checksums: bool) -> Any:
    with opened_archive(path) as archive:
        names = set(archive.namelist())
        found = sorted((name for name in names if name.split("/")[-1] == "data.pkl"), key=len)
        if not found:
            raise TorchFileError(f"{path} is a zip archive without tensors: extract it first")
        root = found[0].removesuffix("data.pkl")
        if f"{root}constants.pkl" in names:
            raise TorchFileError(f"{path} is a TorchScript program, not a set of tensors: take safetensors")
        order = f"{root}byteorder"
        is_big_endian = order in names and read_member(archive, order, 16) == b"big"
        value = run_pickle(read_member(archive, found[0], _MOST_PICKLE_BYTES)).value
        size = path.stat().st_size

        def storage(key: str) -> Storage:
            entry = archive.getinfo(f"{root}data/{key}")
            if checksums:
                return Storage(entry.file_size, _checked_reader(path, entry.filename), is_big_endian)
            if entry.compress_type != zipfile.ZIP_STORED:
                raise TorchFileError(f"{path} was packed again with compression: save it again with torch.save")
            with path.open("rb") as file:
                file.seek(entry.header_offset)
                head = file.read(30)
            if len(head) != 30 or head[:4] != b"PK\x03\x04":
                raise ValueError("an entry is damaged")
            start = entry.header_offset + 30 + sum(struct.unpack("<HH", head[26:]))
            if start + entry.file_size > size:
                raise ValueError("an entry ends behind the file")
            return Storage(entry.file_size, _span_reader(path, start), is_big_endian)

        return _Reader(path, storage).value(value)


def _read_legacy(path: Path) -> Any:
    with path.open("rb") as file:
        content = file.read(_MOST_PICKLE_BYTES)
    magic = run_pickle(content)
    if magic.value != _LEGACY_MAGIC:
        return magic.value  # a plain pickle, which holds no tensors of torch
    version = run_pickle(content, magic.end)
    machine = run_pickle(content, version.end)
    if isinstance(machine.value, dict) and machine.value.get("little_endian") is False:
        raise TorchFileError(f"{path} was written on a machine with another order of bytes: convert it there")
    main = run_pickle(content, machine.end)
    keys = run_pickle(content, main.end)
    kinds: dict[str, StorageKind] = dict(map(storage_kind, main.references))
    storages: dict[str, Storage] = {}
    place = keys.end
    size = path.stat().st_size
    with path.open("rb") as file:
        for key in keys.value:
            file.seek(place)
            count = struct.unpack("<q", file.read(8))[0]
            storages[key] = Storage(count * kinds[key].item_bytes, _span_reader(path, place + 8))
            place += 8 + storages[key].size_bytes
            if count < 0 or place > size:
                raise ValueError("a storage ends behind the file")
    return _Reader(path, storages.__getitem__).value(main.value)


class _Reader:
    """Replaces the calls that rebuild tensors by `TorchTensor`, in dicts, lists and tuples."""

    def __init__(self, path: Path, storage: Callable[[str], Storage]) -> None:
        self._expanded, self._storage = _expanded(path), storage
        self._storages: dict[str, Storage] = {}
        self._read: dict[tuple[int, int], Any] = {}  # by identity and depth: a pickle can name a value many times

    def value(self, value: Any, depth: int = 0) -> Any:
        """The value with its tensors, at most eight levels deep."""
        if not isinstance(value, dict | list | tuple | Made) or depth >= _MOST_DEPTH:
            return value
        known = (id(value), depth)
        if known not in self._read:
            self._read[known] = self._new_value(value, depth + 1)
        return self._read[known]

    def _new_value(self, value: Any, depth: int) -> Any:
        if isinstance(value, Made):
            return rebuilt_tensor(value, self._once, self._expanded) or value
        if isinstance(value, dict):
            return {key: self.value(inner, depth) for key, inner in value.items()}
        return type(value)(self.value(inner, depth) for inner in value)

    def _once(self, key: str) -> Storage:
        if key not in self._storages:
            self._storages[key] = self._storage(key)
        return self._storages[key]


def _span_reader(path: Path, start: int) -> Callable[[int, int], bytes]:
    """A function that reads bytes of a storage which begins at byte `start` of the file."""

    def read(place: int, count: int) -> bytes:
        try:
            with path.open("rb") as file:
                file.seek(start + place)
                raw = file.read(count)
        except OSError as error:
            raise TorchFileError(f"cannot read {path}: {error.strerror or error}") from error
        if len(raw) != count:
            raise _damaged(path)
        return raw

    return read


def _checked_reader(path: Path, member: str) -> Callable[[int, int], memoryview]:
    """A function that reads bytes of a member of an archive, after the checksum of the whole member is compared."""

    def read(place: int, count: int) -> memoryview:
        try:
            with opened_archive(path) as archive:
                return memoryview(read_member(archive, member))[place : place + count]
        except OSError as error:
            raise TorchFileError(f"cannot read {path}: {error.strerror or error}") from error
        except DamagedArchive as error:
            raise TorchFileError(f"{path} is not a whole file of torch.save ({error}): replace it") from error

    return read
