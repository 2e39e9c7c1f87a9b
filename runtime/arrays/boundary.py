"""The array boundary: checks of input arrays, and results in the form that the caller wants."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ...tiling.argument_names import argument
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
"""The forms that a result can have. See `check_output`."""
_HOST_DEVICES = (1, 3)  # DLPack's kDLCPU and kDLCUDAHost (pinned)
_CUDA_DEVICE = 2  # DLPack's kDLCUDA


def as_input(array: Any, what: str, *, device: str = "cpu") -> Any:
    """Check an input array and convert it to C-contiguous float32 on the host.

    Args:
        array: a NumPy array, or an object with `__dlpack__`. float32, or float16, which is widened.
        what: the argument that an error names.
        device: the device that the backend runs on, "cpu" or "cuda". With "cuda", a CUDA array is returned as it is.

    Raises:
        InputError: `array` is no array, has another dtype, or is on a device that the backend does not run on.
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
    # The minimum or maximum is then not finite either. Unlike np.isfinite(array), they need no array of flags.
    return not array.size or bool(np.isfinite(array.min()) and np.isfinite(array.max()))


def require_finite(array: Any, what: str) -> None:
    """Refuse NaN and infinity in an array on the host. Arrays on a device are not checked, since that needs a copy.

    Args:
        array: any array.
        what: the argument that an error names.

    Raises:
        InputError: the array holds NaN or infinity. The message says how many and names the first place.
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
    """The shape of pixels for the shape of a sample: (B, C, [T,] H, W) gives (B, [T,] H, W, C)."""
    return (shape[0], *shape[2:], shape[1])


def check_output(output: str, out: Any, shape: Sequence[int]) -> None:
    """Check the arguments that choose the form of a result.

    Args:
        output: "float32" for a sample, "uint8" for pixels, or "device" for an array that stays on the engine's device.
        out: the array to write the result into, or None.
        shape: the shape of the sample, (B, C, H, W) or (B, C, T, H, W).

    Raises:
        InputError: `output` is unknown, or `out` has the wrong type, shape or dtype for it.
    """
    if output not in OUTPUTS:
        raise InputError(f"{argument('output')} must be one of {', '.join(OUTPUTS)}, got {output!r}")
    if out is None:
        return
    if output == "device":
        raise InputError(
            f"{argument('out')}= is an array on the host and output='device' leaves the result on the device: give "
            "only one"
        )
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
    """A result in the form that the caller wants. With `out`, the result is written there.

    Args:
        sample: a float32 sample, or uint8 pixels.
        output: see `check_output`.
        out: see `check_output`.
    """
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
