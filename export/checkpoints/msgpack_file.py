"""The msgpack files that Flax writes, read with msgpack and NumPy: maps of maps, with arrays as extension types.

Format (flax.serialization): extension 1 is an array and extension 3 a NumPy scalar, each a packed (shape, dtype name,
bytes in C order). An array above 1 GiB is a map of its shape and of flat pieces. Every length is checked against a
bound before memory is allocated: a file makes this module allocate at most its own size, and memory for 100,000 names.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import CheckpointError
from ...runtime.extras import require
from ...runtime.system.tensor_files.stored_dtypes import STORED_DTYPES, widened
from ...tiling.plain_text import shown
from .checkpoint import LazyTensor
from .listing import listed

__all__ = ["read_flax_arrays"]

_DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_ARRAY, _SCALAR = 1, 3
_CHUNKED = "__msgpack_chunked_array__"  # key of the map of an array above 1 GiB
_MAX_ENTRIES = 100_000  # names in all maps together
_MAX_NAME_BYTES = 1024
_MAX_DEPTH = 32  # maps within maps
_MAX_RANK = 8  # axes of an array
_PIECE_BYTES = 1 << 20  # read from the file at a time


@dataclass(frozen=True)
class _Stored:
    """An array as it is stored.

    Attributes:
        shape: sizes of the axes.
        dtype: stored dtype by its safetensors name.
        data: the bytes, in C order.
    """

    shape: tuple[int, ...]
    dtype: str
    data: memoryview

    def read(self) -> NDArray[np.float32]:
        return widened(np.frombuffer(self.data, STORED_DTYPES[self.dtype]), self.dtype).reshape(self.shape)


def read_flax_arrays(path: Path) -> dict[tuple[str, ...], LazyTensor]:
    """Read a file into memory, and return its arrays by their paths of names.

    The arrays keep their stored dtypes in memory; reading one converts it to float32.

    Raises:
        CheckpointError: the file is damaged, is not a tree of arrays, or holds arrays that are not floating-point.
        MissingExtra: msgpack is not installed.
    """
    msgpack = require("msgpack", extra="flax")
    if not path.is_file():  # opening a pipe waits until something is written to it
        raise CheckpointError(f"cannot read {path}: it is not a regular file")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            tree = _unpack(msgpack, file, size)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except _Damaged as error:
        raise CheckpointError(f"{path} is not a usable Flax file: {error}") from error
    # msgpack and the hooks below raise these for a truncated file, impossible lengths, broken UTF-8 and deep nesting.
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise CheckpointError(
            f"{path} is not a usable Flax file: it is not msgpack, or it is truncated; fetch it again"
        ) from error
    return {names: LazyTensor(stored.shape, stored.dtype, stored.read) for names, stored in tree.items()}


class _Damaged(Exception):
    """A msgpack file is damaged. The message is the end of a sentence that begins with the file."""


def _unpack(msgpack: Any, file: Any, size: int) -> dict[tuple[str, ...], _Stored]:
    entries = 0

    def as_map(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
        nonlocal entries
        entries += len(pairs)
        if entries > _MAX_ENTRIES:
            raise _Damaged(f"it holds more than {_MAX_ENTRIES} names; a VAE has hundreds")
        values = dict(pairs)
        if len(values) != len(pairs) or not all(isinstance(key, str) for key in values):
            raise _Damaged("a name occurs twice, or is not text")
        return values

    unpacker = msgpack.Unpacker(
        file,
        read_size=min(_PIECE_BYTES, max(size, 1)),
        max_buffer_size=max(size, 1),
        max_ext_len=size,
        max_map_len=_MAX_ENTRIES,
        max_str_len=_MAX_NAME_BYTES,
        max_bin_len=0,
        max_array_len=0,
        raw=False,
        object_pairs_hook=as_map,
        ext_hook=lambda code, data: _array(msgpack, code, data),
    )
    tree = unpacker.unpack()
    if unpacker.tell() != size:
        raise _Damaged("it has bytes after its end")
    arrays: dict[tuple[str, ...], _Stored] = {}
    _flatten(tree, (), arrays)
    return arrays


def _array(msgpack: Any, code: int, data: bytes) -> _Stored:
    if code not in (_ARRAY, _SCALAR):
        raise _Damaged(f"it holds an extension of type {code}, which is not an array of real numbers")
    content = msgpack.unpackb(
        data, raw=False, max_array_len=_MAX_RANK, max_map_len=0, max_str_len=32, max_ext_len=0, max_bin_len=len(data)
    )
    match content:
        case [list(shape), str(name), bytes(buffer)]:
            if name not in _DTYPES:
                raise _Damaged(f"it holds an array of {shown(name)}; supported: {', '.join(_DTYPES)}")
            whole = all(type(length) is int and 0 <= length <= len(buffer) for length in shape)
            if whole and math.prod(shape) * STORED_DTYPES[_DTYPES[name]].itemsize == len(buffer):
                return _Stored(tuple(shape), _DTYPES[name], memoryview(buffer))
    raise _Damaged("the shape of an array contradicts its bytes")


def _flatten(tree: Any, names: tuple[str, ...], arrays: dict[tuple[str, ...], _Stored]) -> None:
    if isinstance(tree, _Stored):
        arrays[names] = tree
    elif isinstance(tree, dict) and _CHUNKED in tree:
        arrays[names] = _joined(tree)
    elif isinstance(tree, dict) and len(names) < _MAX_DEPTH:
        for name, inner in tree.items():
            _flatten(inner, (*names, name), arrays)
    else:
        raise _Damaged(
            f"it holds a value that is neither a map nor an array, at {listed(['/'.join(names)]) or 'its top'}"
        )


def _joined(tree: Mapping[str, Any]) -> _Stored:
    """Join an array that is stored in flat pieces. Maps whose names are positions stand for tuples."""
    shape, chunks = _in_order(tree.get("shape")), _in_order(tree.get("chunks"))
    pieces = [chunk for chunk in chunks if isinstance(chunk, _Stored)]
    dtypes = {piece.dtype for piece in pieces}
    lengths = [length for length in shape if type(length) is int and length >= 0]
    if pieces and len(pieces) == len(chunks) and len(dtypes) == 1 and len(lengths) == len(shape) <= _MAX_RANK:
        data = memoryview(b"".join(piece.data for piece in pieces))
        if math.prod(lengths) * STORED_DTYPES[pieces[0].dtype].itemsize == len(data):
            return _Stored(tuple(lengths), pieces[0].dtype, data)
    raise _Damaged("the pieces of a large array contradict its shape")


def _in_order(value: Any) -> list[Any]:
    if not isinstance(value, dict) or value.keys() != set(map(str, range(len(value)))):
        return []
    return [value[str(index)] for index in range(len(value))]
