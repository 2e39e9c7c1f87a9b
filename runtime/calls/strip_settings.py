"""`enable_tiling(exact=True)`: its arguments, checked, as a value."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...tiling.argument_names import argument
from ..arrays.grid import Grid
from ..bundle.graph import Graph
from ..errors import BundleError, InputError
from ..system.available_memory import available_bytes

__all__ = ["STORAGES", "StripSettings", "exact_strips", "require_halos", "without_strips"]

STORAGES = ("float32", "float16")
"""Precisions in which activations may wait between the steps."""

_PART_OF_AVAILABLE = 0.5


@dataclass(frozen=True)
class StripSettings:
    """Run pictures or clips in strips with the numbers of a single pass, if `storage` is "float32".

    Attributes:
        rows: the height of a strip in pixels. None: as many rows as the budget allows.
        columns: the width of a strip in pixels. None: the picture's width.
        memory_bytes: the host memory that a call may take in addition to input and output. None: half of the available
            memory.
        folder: the folder for activations that do not fit into the budget. None: the system's folder for temporary
            files.
        storage: the precision of activations between two steps. With "float16" they take half the memory, and the
            result is no longer exact.
    """

    rows: int | None = None
    columns: int | None = None
    memory_bytes: int | None = None
    folder: Path | None = None
    storage: str = "float32"

    @property
    def is_exact(self) -> bool:
        return self.storage == "float32"

    @property
    def budget_bytes(self) -> int:
        return int(_PART_OF_AVAILABLE * available_bytes()) if self.memory_bytes is None else self.memory_bytes


def exact_strips(
    grid: Grid, strip: Any, memory_bytes: int | None, folder: str | os.PathLike[str] | None, storage: str
) -> StripSettings:
    """The settings for `strip` pixel rows, (rows, columns), or None.

    Raises:
        InputError: not a size, or one off the grid; a budget that is no number; a folder that is not there; a precision
            that activations are not kept in.
    """
    pair = tuple(strip) if isinstance(strip, tuple | list) else (strip, None)
    if len(pair) != 2:
        raise InputError(f"{argument('strip')}: wanted pixel rows, or (rows, columns), got {strip!r}")
    for name, side in zip(("rows", "columns"), pair, strict=True):
        if side is None:
            continue
        if isinstance(side, bool) or not isinstance(side, int) or side < 1 or side % grid.spatial:
            raise InputError(
                f"{argument('strip')}: wanted {name} that are a multiple of {grid.spatial} pixels, got {side!r}"
            )
    if memory_bytes is not None and (
        isinstance(memory_bytes, bool) or not isinstance(memory_bytes, int) or memory_bytes < 0
    ):
        raise InputError(f"{argument('memory_bytes')}: wanted a whole number of bytes, or None, got {memory_bytes!r}")
    path = None if folder is None else Path(folder)
    if path is not None and not path.is_dir():
        raise InputError(f"folder: there is no folder {path} for temporary files; make it, or leave it out")
    if storage not in STORAGES:
        raise InputError(f"{argument('storage')}: wanted {' or '.join(map(repr, STORAGES))}, got {storage!r}")
    return StripSettings(pair[0], pair[1], memory_bytes, path, storage)


def require_halos(stages: Sequence[Graph]) -> None:
    """Refuse strips of a clip if the bundle does not say how far the rows of its frames depend on each other.

    Args:
        stages: the graphs of the stream.

    Raises:
        BundleError: a stage has no halo.
    """
    for graph in stages:
        if graph.halo is None:
            raise BundleError(
                f"{graph.file}: the bundle does not say how to cut frames into strips, since an earlier version made "
                f"it: export it again"
            )


def without_strips(folder: Path, dtype: str, component: str) -> BundleError:
    """The error of a bundle that holds no graphs for strips of pictures."""
    return BundleError(
        f"{folder} holds no {dtype} graphs for strips of its {component}: export it again with --dtype {dtype} --strips"
    )
