"""Tensors in a file that `torch.save` wrote, read without PyTorch and without running a pickle.

Such a file is a zip archive of raw values and of one pickle that describes the tensors. A pickle is a program. It is
never run here: its instructions are read one by one, and only those that describe tensors, dicts and lists are
understood. Everything else is refused, so no code from the file can run.
"""

import math
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError
from .zip_archive import opened_archive, read_member

__all__ = ["torch_tensors"]

_MOST_PICKLE_BYTES = 1 << 20  # the description of one tensor takes about 300 bytes
_STORAGES = {"FloatStorage": "f4", "HalfStorage": "f2", "DoubleStorage": "f8", "BFloat16Storage": "u2"}
_REBUILD = "torch._utils _rebuild_tensor_v2"
_REBUILD_PARAMETER = "torch._utils _rebuild_parameter"
_ORDERED = "collections OrderedDict"
_VALUES = (  # instructions that put a value on the stack
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class _Refused(Exception):
    """The pickle holds something other than tensors. The message names it."""


@dataclass(frozen=True)
class _Name:
    """The name of a class or function."""

    text: str


@dataclass(frozen=True)
class _Storage:
    """The values that a tensor looks at: the name of their type, the name of their member, and their number."""

    kind: str
    member: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A tensor: a view of a storage. `offset` and `strides` count values."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_MARK = object()


def torch_tensors(path: Path) -> Mapping[str, Callable[[], NDArray[Any]]]:
    """The tensors in a file of `torch.save`: one tensor, or a dict or list of tensors.

    Returns:
        Readers by the name of the tensor: its key in the dict, its place in the list, or "tensor". A reader gives the
        values in their own precision, bfloat16 as float32.

    Raises:
        MediaError: the file is damaged, or holds other things than tensors. The readers raise it too.
    """
    with opened_archive(path) as archive:
        names = [name for name in archive.namelist() if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(names) != 1:
            raise MediaError(f"{path} is a zip archive without tensors: extract it, or give a latents file")
        try:
            content = _described(read_member(archive, names[0], _MOST_PICKLE_BYTES))
        except _Refused as error:
            raise MediaError(
                f"{path} holds {error}, and only tensors are read from such a file: save the latents alone, with "
                f"safetensors.torch.save_file({{'latents': latents}}, 'latents.safetensors')"
            ) from error
        except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
            raise MediaError(f"{path} is not a whole file of torch.save ({error}): replace it") from error
    folder = names[0].removesuffix("data.pkl")
    return {name: _reader(path, folder, tensor) for name, tensor in _tensors_in(content)}


def _tensors_in(content: Any) -> list[tuple[str, _Tensor]]:
    if isinstance(content, _Tensor):
        return [("tensor", content)]
    if isinstance(content, dict):
        return [(str(name), value) for name, value in content.items() if isinstance(value, _Tensor)]
    if isinstance(content, list | tuple):
        return [(str(place), value) for place, value in enumerate(content) if isinstance(value, _Tensor)]
    return []


def _reader(path: Path, folder: str, tensor: _Tensor) -> Callable[[], NDArray[Any]]:
    def read() -> NDArray[Any]:
        with opened_archive(path) as archive:
            return _values(archive, folder, tensor)

    return read


def _values(archive: ZipFile, folder: str, tensor: _Tensor) -> NDArray[Any]:
    kind = _STORAGES.get(tensor.storage.kind)
    if kind is None:
        raise MediaError(
            f"{archive.filename} holds latents as {tensor.storage.kind[:40]}: convert them to float32 or float16"
        )
    order = ">" if _is_big_endian(archive, folder) else "<"
    raw = read_member(archive, f"{folder}data/{tensor.storage.member}")
    values = np.frombuffer(raw, f"{order}{kind}")
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    numbers = (tensor.offset, *tensor.shape, *tensor.strides)
    if min(numbers) < 0 or (0 not in tensor.shape and last >= len(values)) or math.prod(tensor.shape) > len(values):
        raise ValueError("a tensor is expanded, or larger than its values: save it contiguous")
    view = np.lib.stride_tricks.as_strided(
        values[tensor.offset :], tensor.shape, [stride * values.itemsize for stride in tensor.strides], writeable=False
    )
    if tensor.storage.kind != "BFloat16Storage":
        return view.copy()
    return (view.astype(np.uint32) << 16).view(np.float32)  # bfloat16 is the upper half of a float32


def _is_big_endian(archive: ZipFile, folder: str) -> bool:
    name = f"{folder}byteorder"
    return name in archive.namelist() and read_member(archive, name, 16) == b"big"


def _described(pickled: bytes) -> Any:
    """What a pickle describes, made of tensors, dicts, lists, tuples, text and numbers. The pickle is not run.

    Raises:
        _Refused: the pickle holds something else.
        Exception: the pickle is damaged.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for instruction, argument, _ in pickletools.genops(pickled):
        name = instruction.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            return stack.pop()
        if name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[int(argument) if argument is not None else len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument or 0)])
        elif name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _BUILDERS:
            _BUILDERS[name](stack)
        elif name == "GLOBAL":
            stack.append(_Name(str(argument)))
        else:
            raise _Refused(f"the pickle instruction {name}")
    raise ValueError("it has no end")


def _marked(stack: list[Any]) -> list[Any]:
    """Take the values from the stack that were put there after the last mark, and the mark."""
    place = len(stack) - 1
    while stack[place] is not _MARK:
        place -= 1
    values = stack[place + 1 :]
    del stack[place:]
    return values


def _tuple_of(count: int) -> Callable[[list[Any]], None]:
    def build(stack: list[Any]) -> None:
        if len(stack) < count:
            raise ValueError("its stack is empty")
        values = tuple(stack[len(stack) - count :])
        del stack[len(stack) - count :]
        stack.append(values)

    return build


def _set_items(stack: list[Any], values: list[Any]) -> None:
    target = stack[-1]
    if not isinstance(target, dict):
        raise ValueError("it sets items of something that is no dict")
    for key, value in zip(values[::2], values[1::2], strict=True):
        if not isinstance(key, str | int):
            raise _Refused(f"a key of the type {type(key).__name__.strip('_').lower()}")
        target[key] = value


def _append(stack: list[Any], values: list[Any]) -> None:
    if not isinstance(stack[-1], list):
        raise ValueError("it appends to something that is no list")
    stack[-1].extend(values)


def _set_item(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    _set_items(stack, [key, value])


def _append_one(stack: list[Any]) -> None:
    value = stack.pop()
    _append(stack, [value])


def _named(stack: list[Any]) -> None:
    name, module = stack.pop(), stack.pop()
    stack.append(_Name(f"{module} {name}"))


def _stored(stack: list[Any]) -> None:
    what, storage, member, _, count = stack.pop()
    if what != "storage" or not isinstance(storage, _Name) or not isinstance(member, str):
        raise ValueError("it refers to something that is no storage")
    stack.append(_Storage(storage.text.rpartition(" ")[2], member, int(count)))


def _call(stack: list[Any]) -> None:
    arguments, function = stack.pop(), stack.pop()
    name = function.text if isinstance(function, _Name) else "something that is no function"
    if name == _REBUILD:
        storage, offset, shape, strides = arguments[:4]
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or not all(type(number) is int for number in numbers):
            raise ValueError("a tensor has no storage or no shape")
        stack.append(_Tensor(storage, offset, tuple(shape), tuple(strides)))
    elif name == _REBUILD_PARAMETER:
        stack.append(arguments[0])
    elif name == _ORDERED:
        stack.append({})
    else:
        raise _Refused(name.replace(" ", ".")[:80])


def _set_state(stack: list[Any]) -> None:
    stack.pop()
    if not isinstance(stack[-1], dict):  # a dict of tensors has attributes, which do not matter
        raise _Refused("an object with a state")


_BUILDERS: dict[str, Callable[[list[Any]], None]] = {
    "MARK": lambda stack: stack.append(_MARK),
    "EMPTY_DICT": lambda stack: stack.append({}),
    "EMPTY_LIST": lambda stack: stack.append([]),
    "EMPTY_TUPLE": lambda stack: stack.append(()),
    "TUPLE": lambda stack: stack.append(tuple(_marked(stack))),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "SETITEM": _set_item,
    "SETITEMS": lambda stack: _set_items(stack, _marked(stack)),
    "APPEND": _append_one,
    "APPENDS": lambda stack: _append(stack, _marked(stack)),
    "STACK_GLOBAL": _named,
    "BINPERSID": _stored,
    "REDUCE": _call,
    "BUILD": _set_state,
}
