"""The array boundary: checks of input arrays, and results in the form that the caller wants."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ...tiling.argument_names import argument
from ..errors import EngineError, InputError
from .given_array import host_array, in_float32, kind_name, on_cuda
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


def as_input(array: Any, what: str, *, device: str = "cpu") -> Any:
    """Convert an input array to C-contiguous float32 on the host.

    Args:
        array: floating-point numbers: a NumPy array, or an object with `__dlpack__` or `__array__` (PyTorch, JAX, ...).
            float16, bfloat16 and byte-swapped values are converted exactly, and float64 is rounded. A gradient does not
            matter.
        what: the argument that an error names.
        device: the device that the backend runs on, "cpu" or "cuda". With "cuda", a CUDA array stays on its device.

    Raises:
        InputError: `array` is no such array, has another dtype or masked values, or is on a device that the backend
            does not run on.
    """
    if type(array) is np.ndarray and array.dtype == np.float32 and array.flags.c_contiguous:
        return array
    on_device = on_cuda(array) if device == "cuda" else None
    if on_device is not None:
        return on_device
    return in_float32(host_array(array, what, device), what)


def is_finite(array: NDArray[Any]) -> bool:
    """Whether an array holds neither NaN nor infinity."""
    # The minimum or maximum is then not finite either. Unlike np.isfinite(array), they need no array of flags.
    return not array.size or bool(np.isfinite(array.min()) and np.isfinite(array.max()))


def require_finite(array: Any, what: str) -> tuple[float, float] | None:
    """Refuse NaN and infinity in an array on the host. Arrays on a device are not checked, since that needs a copy.

    Args:
        array: any array.
        what: the argument that an error names.

    Returns:
        The least and the greatest value. None if the array was not checked, or has no values.

    Raises:
        InputError: the array holds NaN or infinity. The message says how many and names the first place.
    """
    if not isinstance(array, np.ndarray) or array.size == 0:
        return None
    low, high = float(array.min()), float(array.max())
    if math.isfinite(low) and math.isfinite(high):  # as in `is_finite`
        return low, high
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
        got = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else kind_name(out)
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
