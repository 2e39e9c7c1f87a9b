"""The array boundary: what comes in is made a checked array, and what goes out has the form that was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError, InputError
from .pixels import to_pixels

__all__ = [
    "OUTPUTS",
    "Result",
    "as_input",
    "check_output",
    "check_shape",
    "is_finite",
    "pixel_shape",
    "require_finite",
    "to_output",
]

OUTPUTS = ("float32", "uint8", "device")
_HOST_DEVICES = (1, 3)  # DLPack's kDLCPU and kDLCUDAHost (pinned)
_CUDA_DEVICE = 2  # DLPack's kDLCUDA


def as_input(array: Any, what: str, *, device: str = "cpu") -> Any:
    """A float32 array on the host, C-contiguous, for a NumPy array or anything else with `__dlpack__`; float16 is
    widened. A CUDA array is handed through where the backend runs on CUDA.

    Raises:
        InputError: not an array, another dtype, or on a device that the backend does not run on.
    """
    if not isinstance(array, np.ndarray):
        if not hasattr(array, "__dlpack__"):
            raise InputError(f"{what}: wanted a float32 array (NumPy, or anything with __dlpack__), got {_kind(array)}")
        place = int(array.__dlpack_device__()[0])
        if place == _CUDA_DEVICE and device == "cuda":
            return array
        if place not in _HOST_DEVICES:
            raise InputError(
                f"{what}: the array lies on a device that this backend ({device}) does not run on: copy it"
            )
        try:
            array = np.from_dlpack(array)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{what}: the {_kind(array)} cannot be read as a NumPy array ({reason})") from error
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype != np.float32:
        hint = " (scale pixels to [-1, 1] first: x / 127.5 - 1)" if array.dtype == np.uint8 else ""
        raise InputError(f"{what}: wanted float32, got {array.dtype}; convert it with .astype('float32'){hint}")
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def is_finite(array: NDArray[Any]) -> bool:
    """Whether an array holds neither NaN nor infinity."""
    # Both survive into a minimum or a maximum, and neither of these needs an array of flags.
    return not array.size or bool(np.isfinite(array.min()) and np.isfinite(array.max()))


def require_finite(array: Any, what: str) -> None:
    """Refuse NaN and infinity (host arrays only; a device array is not fetched for this).

    Raises:
        InputError: says how many and where the first is.
    """
    if not isinstance(array, np.ndarray) or array.size == 0:
        return
    if np.isfinite(array.min()) and np.isfinite(array.max()):  # as in `is_finite`
        return
    bad = np.argwhere(~np.isfinite(array))
    raise InputError(
        f"{what}: {len(bad)} of {array.size} values are NaN or infinite, the first at {tuple(map(int, bad[0]))}"
    )


def pixel_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """(B, C, H, W) -> (B, H, W, C), and (B, C, T, H, W) -> (B, T, H, W, C)."""
    return (shape[0], *shape[2:], shape[1])


def check_output(output: str, out: Any, shape: Sequence[int]) -> None:
    """Check how a result of `shape` is wanted.

    Raises:
        InputError: an unknown form, or an `out` that does not fit.
    """
    if output not in OUTPUTS:
        raise InputError(f"output must be one of {', '.join(OUTPUTS)}, got {output!r}")
    if out is None:
        return
    if output == "device":
        raise InputError("out= is an array on the host and output='device' leaves the result on the device: give one")
    wanted_shape = pixel_shape(shape) if output == "uint8" else tuple(shape)
    fits = (
        isinstance(out, np.ndarray)
        and out.shape == wanted_shape
        and out.dtype == np.dtype(output)
        and out.flags.writeable
    )
    if not fits:
        got = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else _kind(out)
        raise InputError(f"out must be a writeable {output} array of shape {wanted_shape}, got {got}")


def to_output(sample: NDArray[Any], output: str, out: NDArray[Any] | None) -> Any:
    """A result, float32 or pixels already, in the form that was asked for, written into `out` if that is given."""
    if output == "uint8" and sample.dtype != np.uint8:
        return to_pixels(sample, out)
    if out is None or out is sample:
        return sample
    np.copyto(out, sample)
    return out


def check_shape(array: Any, wanted: Sequence[int | None], source: str) -> None:
    """Compare the shape of an engine's result with the lengths that are `wanted` (None: any length of at least 1).

    Every result is checked, because an engine in a bad state can give an array of the size of an earlier call.
    `source` names the graph, for the message.

    Raises:
        EngineError: another rank or another length.
    """
    shape = array.shape() if callable(array.shape) else array.shape  # a method of ONNX Runtime's values
    got = tuple(shape)
    if len(got) == len(wanted) and all(
        one == two or (two is None and one > 0) for one, two in zip(got, wanted, strict=True)
    ):
        return
    lengths = ", ".join("any" if length is None else str(length) for length in wanted)
    raise EngineError(
        f"{source}: the engine gave an array of shape {got}, wanted ({lengths}): its result is dropped; run the call "
        f"again, or open the bundle with another backend"
    )


@dataclass(frozen=True, eq=False)
class Result:
    """Where the result of one call goes, and in which form. Every piece of a result is cropped, converted and written
    here, whether engines make the result at once or in tiles, strips or frames.

    Attributes:
        shape: (B, C, ...) of what the engines make.
        size: the first elements of the trailing axes that the caller wants.
        output: "float32", "uint8" or "device", see `OUTPUTS`.
        out: the caller's array, of the form that the caller wants. None: a new array.
    """

    shape: tuple[int, ...]
    size: tuple[int, ...]
    output: str = "float32"
    out: NDArray[Any] | None = None

    def allocated(self) -> Self:
        """The same result with an array to write into: the caller's, or a new one."""
        if self.out is not None:
            return self
        shape = (*self.shape[:2], *self.size)
        return replace(self, out=np.empty(pixel_shape(shape) if self.output == "uint8" else shape, self.output))

    def elements(self, start: int, stop: int) -> Self:
        """The result of some elements of the batch of an `allocated` result, which goes into its array."""
        assert self.out is not None
        return replace(self, shape=(stop - start, *self.shape[1:]), out=self.out[start:stop])

    def written_by_engine(self, *, pixels: bool) -> NDArray[Any] | None:
        """The caller's array, if an engine that makes `pixels`, or else float32, can write the whole result there."""
        if self.out is None or not (pixels or self.output == "float32") or self.shape[2:] != self.size:
            return None
        return self.out if self.out.flags.c_contiguous else None

    def whole(self, made: Any) -> Any:
        """The finished result.

        Args:
            made: what an engine made of all of it: float32 (B, C, ...), uint8 (B, ..., C), or an object on a device.
        """
        if self.output == "device" or made is self.out:
            return made
        wanted = tuple(slice(0, length) for length in self.size)
        return to_output(made[:, *wanted] if made.dtype == np.uint8 else made[:, :, *wanted], self.output, self.out)

    def put(self, piece: NDArray[Any], *starts: int) -> None:
        """Write a piece into the array of an `allocated` result; what lies beyond the wanted size is dropped.

        Args:
            piece: float32 (B, C, ...), or uint8 (B, ..., C) if an engine made pixels.
            starts: where the piece begins along the first trailing axes; along the others it begins at 0.
        """
        assert self.out is not None
        lead = 1 if piece.dtype == np.uint8 else 2
        lengths = piece.shape[lead : lead + len(self.size)]
        begins = (*starts, *(0,) * (len(self.size) - len(starts)))
        kept = [min(length, most - begin) for length, most, begin in zip(lengths, self.size, begins, strict=True)]
        if min(kept) < 1:
            return
        target = [slice(begin, begin + length) for begin, length in zip(begins, kept, strict=True)]
        inside = piece[(*(slice(None),) * lead, *map(slice, kept))]
        if self.output == "uint8":
            to_output(inside, "uint8", self.out[:, *target])
        else:
            self.out[:, :, *target] = inside


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
