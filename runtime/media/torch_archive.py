"""The tensors in a file of `torch.save` that holds tensors alone, such as latents. Its pickle is not run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...tiling.plain_text import shortened, visible
from ..errors import MediaError
from ..system.tensor_files.pickle_machine import HostilePickle, Made, Name, Persistent
from ..system.tensor_files.stored_dtypes import widened
from ..system.tensor_files.torch_file import read_torch_file
from ..system.tensor_files.torch_tensor import TorchFileError, TorchTensor

__all__ = ["torch_tensors"]

_OWN = ("F64", "F32", "F16")  # the dtypes that NumPy has


def torch_tensors(path: Path) -> Mapping[str, Callable[[], NDArray[Any]]]:
    """The tensors in a file of `torch.save`: one tensor, or a dict or list of tensors.

    Returns:
        Readers by the name of the tensor: its key in the dict, its place in the list, or "tensor". A reader gives the
        values in their own precision, bfloat16 as float32.

    Raises:
        MediaError: the file is damaged, or holds other things than tensors. The readers raise it too.
    """
    try:
        content = read_torch_file(path, checksums=True)
    except HostilePickle as error:
        raise _refused(path, error) from error
    except TorchFileError as error:
        raise MediaError(str(error)) from error
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror or error}") from error
    foreign = _foreign_object(content)
    if foreign is not None:
        raise _refused(path, foreign)
    return {name: _reader(path, tensor) for name, tensor in _tensors_in(content)}


def _refused(path: Path, held: object) -> MediaError:
    return MediaError(
        f"{path} holds {shortened(visible(str(held)), 80)}, and only tensors are read from such a file: save the "
        f"latents alone, with safetensors.torch.save_file({{'latents': latents}}, 'latents.safetensors')"
    )


def _foreign_object(content: Any) -> str | None:
    """The name of an object that is no tensor, dict, list, text or number. None if there is none."""
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Made):
            return str(value.of)
        if isinstance(value, Name | Persistent):
            return str(value)
        if isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value
    return None


def _tensors_in(content: Any) -> list[tuple[str, TorchTensor]]:
    if isinstance(content, TorchTensor):
        return [("tensor", content)]
    if isinstance(content, dict):
        return [(str(name), value) for name, value in content.items() if isinstance(value, TorchTensor)]
    if isinstance(content, list | tuple):
        return [(str(place), value) for place, value in enumerate(content) if isinstance(value, TorchTensor)]
    return []


def _reader(path: Path, tensor: TorchTensor) -> Callable[[], NDArray[Any]]:
    def read() -> NDArray[Any]:
        if tensor.stored not in (*_OWN, "BF16"):
            raise MediaError(f"{path} holds latents as {tensor.dtype}: convert them to float32 or float16")
        try:
            values = tensor.read()
        except TorchFileError as error:
            raise MediaError(str(error)) from error
        return values.copy() if tensor.stored in _OWN else widened(values, tensor.stored)

    return read
