"""Latents that remember the size of the sample before `encode(pad=True)` padded it: `decode` cuts its result to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from .grid import Grid

__all__ = [
    "PaddedLatents",
    "cut_chunks",
    "original_size_of",
    "plain_array",
    "size_before_padding",
    "with_original_size",
]

Size = tuple[int, ...]


class PaddedLatents(np.ndarray):
    """Latents (B, C, ...) of a padded sample.

    The size stays with arithmetic, copies, slices of the batch and pickles, which keep every cell at its place. Any
    other operation, such as a flip or a crop, gives an array without it, because the padding might lie elsewhere then.

    Attributes:
        original_size: of the sample before padding, (H, W) or (T, H, W). None: not known any more.
    """

    original_size: Size | None = None

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        out = options.get("out", ())
        if out:
            options["out"] = tuple(map(plain_array, out))
        result = getattr(ufunc, method)(*map(plain_array, inputs), **options)
        if out:
            return out[0] if len(out) == 1 else out
        if method != "__call__" or ufunc.signature is not None or not isinstance(result, np.ndarray):
            return result
        sizes = {one.original_size for one in inputs if isinstance(one, PaddedLatents)}
        alike = all(one.shape[2:] == result.shape[2:] for one in inputs if isinstance(one, PaddedLatents))
        return with_original_size(result, sizes.pop() if alike and len(sizes) == 1 else None)

    def __getitem__(self, key: Any) -> Any:
        part = plain_array(self)[key]
        return with_original_size(part, self.original_size) if isinstance(key, slice) else part

    def copy(self, order: Any = "C") -> Any:
        return with_original_size(plain_array(self).copy(order), self.original_size)

    def astype(self, dtype: Any, *arguments: Any, **options: Any) -> Any:
        return with_original_size(plain_array(self).astype(dtype, *arguments, **options), self.original_size)

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()

    def __reduce__(self) -> Any:
        return with_original_size, (plain_array(self).copy(), self.original_size)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return self.__reduce__()


def with_original_size(latents: NDArray[Any], size: Sequence[int] | None) -> NDArray[Any]:
    """The latents as an array that remembers this size, (H, W) or (T, H, W); without a size, the latents themselves."""
    if size is None:
        return latents
    remembering = latents.view(PaddedLatents)
    remembering.original_size = tuple(size)
    return remembering


def original_size_of(latents: object) -> Size | None:
    """The size that the latents remember, if they remember one."""
    return latents.original_size if isinstance(latents, PaddedLatents) else None


def size_before_padding(latents: object, grid: Grid, out: object = None) -> Size | None:
    """The size to cut a decoded sample to, if the latents remember a size that agrees with their own.

    Args:
        latents: what is decoded.
        grid: the model's grid.
        out: the array that the caller gave for the sample or its pixels. Nothing is cut if the whole sample fits it.
    """
    known = original_size_of(latents)
    if known is None or not isinstance(latents, np.ndarray) or len(known) != latents.ndim - 2:
        return None
    whole = grid.sample_size(latents.shape[2:])
    given = out.shape if isinstance(out, np.ndarray) else ()
    return known if grid.padded_size(known) == whole and whole not in (given[2:], given[1:-1]) else None


def plain_array(array: Any) -> Any:
    """The same array without a memory of a size. Other objects stay as they are."""
    return array.view(np.ndarray) if isinstance(array, PaddedLatents) else array


def cut_chunks(chunks: Iterable[NDArray[Any]], size: Size, *, pixels: bool) -> Iterator[NDArray[Any]]:
    """The frames of a clip, cut to a size, as they come.

    Args:
        chunks: float32 (B, C, t, H, W), or uint8 (B, t, H, W, C) if `pixels`.
        size: (T, H, W). Frames after the first T are dropped.
        pixels: whether the channels are the last axis.
    """
    lead, left = 1 if pixels else 2, size[0]
    for chunk in chunks:
        frames = min(chunk.shape[lead], left)
        left -= frames
        if frames:
            yield chunk[(*(slice(None),) * lead, *map(slice, (frames, *size[1:])))]
