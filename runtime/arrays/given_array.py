"""The arrays that users hold become NumPy arrays: NumPy, PyTorch, JAX, CuPy and others, without importing them.

A library is known by its protocols: `__dlpack__`, `__array__`, and PyTorch's `detach`, `resolve_neg` and `float`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

__all__ = ["host_array", "in_float32", "kind_name", "on_cuda"]

_HOST_DEVICES = (1, 3)  # DLPack's kDLCPU and kDLCUDAHost (pinned)
_CUDA_DEVICE = 2  # DLPack's kDLCUDA
_NARROW_FLOATS = "bfloat16", "float8_", "float6_", "float4_"  # how the names of ml_dtypes' dtypes begin
_UNKNOWN_DEVICE = -1


def on_cuda(array: Any) -> Any | None:
    """The array for a backend that takes arrays on a CUDA device. None if `array` is not on one.

    A PyTorch tensor comes without its gradient, and bfloat16 and float64 as float32.
    """
    if isinstance(array, np.ndarray) or _device(array) != _CUDA_DEVICE:
        return None
    array = _plain_tensor(array)
    wide = str(getattr(array, "dtype", "")) in ("torch.bfloat16", "torch.float64")
    return array.float() if wide and callable(getattr(array, "float", None)) else array


def host_array(array: Any, what: str, backend_device: str = "cpu") -> NDArray[Any]:
    """The values of an array as a NumPy array, which shares its memory where that is possible.

    Args:
        array: a NumPy array, or an object of another library with `__dlpack__`, `__array__` or `__array_interface__`.
            bfloat16 tensors of PyTorch come as float32.
        what: the argument that an error names.
        backend_device: the device that the backend takes arrays on in addition to the host, for messages.

    Raises:
        InputError: `array` is no such object, has masked values, or is on a device.
    """
    if isinstance(array, np.ma.MaskedArray):
        masked = int(np.ma.getmaskarray(array).sum())
        if masked:
            raise InputError(
                f"{what}: {masked} of {array.size} values are masked: fill them first, with .filled(value)"
            )
        return np.asarray(array.data)
    if isinstance(array, np.ndarray):
        return np.asarray(array)
    if hasattr(array, "__dlpack__"):
        device = _device(array)
        if device not in (*_HOST_DEVICES, _UNKNOWN_DEVICE):
            raise InputError(
                f"{what}: the array lies on a device that this backend ({backend_device}) does not run on: copy it to "
                f"the host first, with .cpu() in PyTorch or .get() in CuPy"
            )
        return _from_dlpack(_plain_tensor(array), what)
    if hasattr(array, "__array__") or hasattr(array, "__array_interface__"):
        return _from_protocol(array, what)
    raise InputError(
        f"{what}: wanted a float32 array (NumPy, or anything with __dlpack__ or __array__), got {kind_name(array)}: "
        f"convert it with numpy.asarray(..., 'float32')"
    )


def in_float32(array: NDArray[Any], what: str) -> NDArray[np.float32]:
    """Floating-point values as C-contiguous float32.

    float16, bfloat16 and narrower ones are widened exactly, in any byte order. Wider ones are rounded. A value that
    float32 cannot hold becomes infinite.

    Args:
        array: any NumPy array.
        what: the argument that an error names.

    Raises:
        InputError: the values are no floating-point numbers.
    """
    dtype = array.dtype
    if dtype == np.float32:
        return np.ascontiguousarray(array)
    if dtype.kind == "f" or dtype.name.startswith(_NARROW_FLOATS):
        with np.errstate(all="ignore"):
            return np.ascontiguousarray(array.astype(np.float32))
    if dtype == np.uint8:
        cure = "convert it with .astype('float32') (scale pixels to [-1, 1] first: x / 127.5 - 1)"
    elif dtype.kind in "iub":
        cure = "convert it with .astype('float32')"
    else:
        cure = "give real numbers as float32"
    raise InputError(f"{what}: wanted float32, got {dtype}; {cure}")


def kind_name(value: object) -> str:
    """The type of a value with its module, such as "torch.Tensor"."""
    return f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")


def _device(array: Any) -> int:
    """DLPack's number of an array's kind of device."""
    try:
        return int(array.__dlpack_device__()[0])
    except Exception:  # each library raises its own errors, as PyTorch for tensors without data
        return _UNKNOWN_DEVICE


def _plain_tensor(array: Any) -> Any:
    """A PyTorch tensor without its gradient and without a pending negation; other objects as they are."""
    for method in ("detach", "resolve_neg"):
        if callable(getattr(array, method, None)):
            array = getattr(array, method)()
    return array


def _from_dlpack(array: Any, what: str) -> NDArray[Any]:
    try:
        return np.from_dlpack(array)
    except Exception as error:  # NumPy and each library raise different errors for dtypes and layouts that they lack
        refusal = error
    if callable(getattr(array, "float", None)):  # PyTorch; bfloat16 and float8 are not in NumPy
        try:
            return np.from_dlpack(array.float())
        except Exception as error:
            refusal = error
    if hasattr(array, "__array__"):  # JAX gives bfloat16 as the dtype of ml_dtypes
        try:
            return _from_protocol(array, what)
        except InputError:
            pass
    raise _unreadable(array, what, refusal) from refusal


def _from_protocol(array: Any, what: str) -> NDArray[Any]:
    try:
        return np.asarray(array)
    except Exception as error:  # each library raises its own errors
        raise _unreadable(array, what, error) from error


def _unreadable(array: Any, what: str, error: Exception) -> InputError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(
        f"{what}: the {kind_name(array)} cannot be read as a NumPy array ({reason}): give a dense float32 array on the "
        f"host"
    )
