"""A tensor in a file of `torch.save`: how it lies in its storage, and its values."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pickle_machine import Made, Name, Persistent
from .stored_dtypes import STORED_DTYPES

__all__ = ["Storage", "StorageKind", "TorchFileError", "TorchTensor", "rebuilt_tensor", "storage_kind"]

_MOST_WRAPPERS = 8  # around a tensor
_MOST_RANK = 16
_MOST_NUMBER = 1 << 48  # of a shape, in elements
_PLAIN = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor"}
_PARAMETER = {"_rebuild_parameter", "_rebuild_parameter_with_state"}


class TorchFileError(ValueError):
    """A file of torch cannot be read. The message is a sentence that names the file and says what to do."""


@dataclass(frozen=True)
class StorageKind:
    """The dtype of a storage.

    Attributes:
        dtype: its name in torch, such as "bfloat16".
        item_bytes: of an element.
        stored: its name in `STORED_DTYPES`. None if values of this dtype are not read.
    """

    dtype: str
    item_bytes: int
    stored: str | None = None


@dataclass(frozen=True)
class Storage:
    """The bytes of a storage.

    Attributes:
        size_bytes: of the storage.
        read: gives some of the bytes, by the place of the first of them and by their number.
        is_big_endian: whether the high byte of a number comes first.
    """

    size_bytes: int
    read: Callable[[int, int], bytes | memoryview]
    is_big_endian: bool = False


@dataclass(frozen=True)
class TorchTensor:
    """A tensor, read on demand.

    Attributes:
        shape: sizes of the axes.
        dtype: its name in torch, for display.
        stored: its name in `STORED_DTYPES`. None if the values cannot be read.
        read: gives the values as an array of the dtype `STORED_DTYPES[stored]`. It raises `TorchFileError`, and must
            not be called if `stored` is None.
    """

    shape: tuple[int, ...]
    dtype: str
    stored: str | None
    read: Callable[[], NDArray[Any]]


_KINDS = {
    "DoubleStorage": StorageKind("float64", 8, "F64"),
    "FloatStorage": StorageKind("float32", 4, "F32"),
    "HalfStorage": StorageKind("float16", 2, "F16"),
    "BFloat16Storage": StorageKind("bfloat16", 2, "BF16"),
    "LongStorage": StorageKind("int64", 8),
    "IntStorage": StorageKind("int32", 4),
    "ShortStorage": StorageKind("int16", 2),
    "CharStorage": StorageKind("int8", 1),
    "ByteStorage": StorageKind("uint8", 1),
    "BoolStorage": StorageKind("bool", 1),
    "ComplexDoubleStorage": StorageKind("complex128", 16),
    "ComplexFloatStorage": StorageKind("complex64", 8),
    "QInt8Storage": StorageKind("qint8", 1),
    "QUInt8Storage": StorageKind("quint8", 1),
    "QInt32Storage": StorageKind("qint32", 4),
    "QUInt4x2Storage": StorageKind("quint4x2", 1),
    "QUInt2x4Storage": StorageKind("quint2x4", 1),
    "UntypedStorage": StorageKind("bytes", 1),
}
_DTYPES = {kind.dtype: kind for kind in _KINDS.values()} | {
    "float8_e4m3fn": StorageKind("float8_e4m3fn", 1, "F8_E4M3"),
    "float8_e5m2": StorageKind("float8_e5m2", 1, "F8_E5M2"),
}


def storage_kind(reference: Any) -> tuple[str, StorageKind]:
    """The key of a storage that a pickle refers to, and its dtype.

    Raises:
        ValueError: the reference is of another kind, or the storage is of an unknown class.
    """
    match reference:
        case Persistent(of=("storage", Name(name=kind), str(key), _, *_)) if kind in _KINDS:
            return key, _KINDS[kind]
    raise ValueError("the storage of a tensor is damaged or of an unknown kind")


def rebuilt_tensor(made: Made, storage: Callable[[str], Storage], expanded: str) -> TorchTensor | None:
    """The tensor that a call in a pickle would make. None if the call makes something else.

    Args:
        made: the call.
        storage: gives a storage by its key.
        expanded: the sentence about a tensor that repeats elements of its storage, which no model's weights do.

    Raises:
        ValueError: the tensor is damaged.
    """
    for _ in range(_MOST_WRAPPERS):
        name = made.of.name if isinstance(made.of, Name) and made.of.module.startswith("torch.") else ""
        if name == "_rebuild_from_type_v2" and len(made.arguments) > 2 and isinstance(made.arguments[2], tuple):
            made = Made(made.arguments[0], made.arguments[2])
        elif name in _PARAMETER and made.arguments and isinstance(made.arguments[0], Made):
            made = made.arguments[0]
        elif name in _PLAIN:
            return _plain_tensor(name, storage, expanded, *made.arguments)
        else:
            return None
    return None


def _plain_tensor(
    rebuild: str,
    storages: Callable[[str], Storage],
    expanded: str,
    reference: Any,
    offset: Any,
    shape: Any,
    stride: Any,
    *more: Any,
) -> TorchTensor:
    key, kind = storage_kind(reference)
    if rebuild == "_rebuild_tensor_v3" and isinstance(more[2], Name):
        kind = _DTYPES.get(more[2].name, StorageKind(more[2].name, 1))
    item, stored = kind.item_bytes, None if rebuild == "_rebuild_qtensor" else kind.stored
    whole = all(type(number) is int and 0 <= number < _MOST_NUMBER for number in (offset, *shape, *stride))
    if not whole or len(shape) != len(stride) or len(shape) > _MOST_RANK:
        raise ValueError("the shape of a tensor is damaged")
    storage = storages(key)
    count = math.prod(shape)
    span = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) if count else 0
    if (offset + span) * item > storage.size_bytes:
        raise ValueError("a tensor is larger than its storage")

    def read() -> NDArray[Any]:
        assert stored is not None
        if count * item > storage.size_bytes:
            raise TorchFileError(expanded)
        dtype = STORED_DTYPES[stored]
        order = dtype.newbyteorder(">") if storage.is_big_endian else dtype
        raw = np.frombuffer(storage.read(offset * item, span * item), order)
        steps = tuple(step * item for step in stride)
        strided = np.lib.stride_tricks.as_strided(raw, shape, steps, writeable=False)
        return np.ascontiguousarray(strided, dtype).reshape(shape)

    return TorchTensor(tuple(shape), kind.dtype, stored, read)
