"""One way to run a call, as a value: whole, as a stream, in tiles, in both, or in strips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, Self

from ..arrays.grid import Grid
from .strip_settings import StripSettings
from .tiling_settings import AxisTiles, TilingSettings

__all__ = ["WHOLE", "Strategy", "Tiling", "Way", "label_of", "linear_tiles"]

Tiling = TilingSettings | StripSettings
_LONGEST = 1 << 31  # cells of an axis
Way = Literal["whole", "stream", "strips", "stream in strips"]
"""Which graphs of a component a call runs, and whether in pieces whose rims depend on them. Tiles and sliced batches
run the whole graph."""
_KEPT_LABELS = 64  # every call reports its strategy, and few strategies are in use


@dataclass(frozen=True)
class Strategy:
    """How a call runs.

    Attributes:
        tiling: tiles, of height and width only if it streams too, or strips.
        streaming: a clip chunk by chunk, of at most `frames_per_chunk` frames (None: the runtime's own choice).
        sliced: one batch element at a time.
        budgeted: chosen for a memory budget, by measurements of engines for every size. Engines for one size, which
            `warmup` makes, are faster and hold more memory.
        backend: the label of the backend that runs it. None: the backend that the bundle was opened with.
        planned_bytes: the most memory that the planner expects of it, for reports. Strategies that differ in it alone
            are equal.
    """

    tiling: Tiling | None = None
    streaming: bool = False
    frames_per_chunk: int | None = None
    sliced: bool = False
    budgeted: bool = False
    backend: str | None = None
    planned_bytes: int | None = field(default=None, compare=False)

    @property
    def kind(self) -> str:
        if isinstance(self.tiling, StripSettings):
            return "stream in strips" if self.streaming else "strips"
        if self.streaming:
            return "stream" if self.tiling is None else "stream + tiles"
        return "whole" if self.tiling is None else "tiles"

    @property
    def is_exact(self) -> bool:
        """Whether it gives the numbers of a single pass, for sizes that are larger than a tile."""
        return self.tiling.is_exact if isinstance(self.tiling, StripSettings) else self.tiling is None

    @property
    def untiled(self) -> "Strategy":
        return replace(self, tiling=None)

    def over(self, grid: Grid) -> "Strategy":
        """The strategy for arrays on a grid: a clip in strips is a stream."""
        return replace(self, streaming=True) if grid.video and isinstance(self.tiling, StripSettings) else self

    def label(self, grid: Grid, cells: Sequence[int] | None = None) -> str:
        """The strategy in words for messages and tables, with sizes in pixels and frames. No size is larger than the
        sample of latents of `cells`, (T,) H, W, if these are given."""
        return label_of(self, grid, None if cells is None else tuple(cells))

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "streaming": self.streaming,
            "frames_per_chunk": self.frames_per_chunk,
            "sliced": self.sliced,
        }
        if isinstance(self.tiling, StripSettings):
            values["strips"] = {"rows": self.tiling.rows, "memory_bytes": self.tiling.memory_bytes}
        elif self.tiling is not None:
            values["tiles"] = [[tiles.size, tiles.stride] for tiles in self.tiling.tiles]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        tiling: Tiling | None = None
        if "strips" in values:
            tiling = StripSettings(values["strips"]["rows"], None, values["strips"]["memory_bytes"])
        elif "tiles" in values:
            tiling = linear_tiles(values["tiles"])
        return cls(tiling, values["streaming"], values["frames_per_chunk"], values["sliced"])


WHOLE = Strategy()


@lru_cache(_KEPT_LABELS)
def label_of(strategy: Strategy, grid: Grid, cells: tuple[int, ...] | None = None) -> str:
    """See `Strategy.label`."""
    most = (_LONGEST,) * 3 if cells is None else cells
    parts = []
    if strategy.sliced:
        parts.append("one element at a time")
    if strategy.streaming:
        frames = strategy.frames_per_chunk
        longest = (most[0] - 1) * grid.temporal + 1
        parts.append("stream" if frames is None else f"stream of {_counted(min(frames, longest))}")
    if isinstance(strategy.tiling, StripSettings):
        rows = strategy.tiling.rows
        parts.append("strips" if rows is None else f"strips of {min(rows, most[-2] * grid.spatial)} rows")
    elif strategy.tiling is not None:
        sides = zip(strategy.tiling.tiles[-2:], most[-2:], strict=True)
        sizes = [f"{min(tiles.size, side) * grid.spatial}" for tiles, side in sides]
        if grid.video and not strategy.streaming:
            sizes.append(_counted((min(strategy.tiling.tiles[0].size, most[0]) - 1) * grid.temporal + 1))
        parts.append("tiles of " + "x".join(sizes))
    return ", ".join(parts) or "whole"


def _counted(frames: int) -> str:
    return f"{frames} frame{'' if frames == 1 else 's'}"


def linear_tiles(tiles: Sequence[Sequence[int]]) -> TilingSettings:
    """Tiles of exactly (size, stride) latent cells along each axis, blended linearly."""
    return TilingSettings("linear", tuple(AxisTiles(size, stride) for size, stride in tiles))
