"""One way to run a call, as a value: whole, as a stream, in tiles, in both, or in exact strips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from ..arrays.grid import Grid
from .jobs import Tiling
from .strip_settings import StripSettings
from .tiling_settings import AxisTiles, TilingSettings

__all__ = ["WHOLE", "Strategy", "linear_tiles"]


@dataclass(frozen=True)
class Strategy:
    """`streaming`: a clip chunk by chunk, of at most `frames_per_chunk` frames (None: the runtime's own choice).
    `tiling`: tiles, of height and width only where it streams too, or exact strips. `sliced`: one batch element at a
    time. `budgeted`: chosen for a memory budget, by measurements of engines for every size; those for one size, which
    `warmup` makes, are faster and hold more. `backend`: the label of the backend that runs it; None: the one that the
    bundle was opened with. `planned_bytes`: the most memory that the planner expects of it, for reports; it makes no
    two strategies different."""

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
            return "strips"
        if self.streaming:
            return "stream" if self.tiling is None else "stream + tiles"
        return "whole" if self.tiling is None else "tiles"

    @property
    def is_exact(self) -> bool:
        """Whether it gives the numbers of a single pass, for sizes that are larger than a tile."""
        return self.tiling.is_exact if isinstance(self.tiling, StripSettings) else self.tiling is None

    @property
    def specialise(self) -> bool | None:
        """As `CallScope.specialise`: engines for one size are for calls without a budget; None: as things are then."""
        return False if self.budgeted else None

    @property
    def untiled(self) -> "Strategy":
        return replace(self, tiling=None)

    def label(self, grid: Grid) -> str:
        """For people, with sizes in pixels and frames."""
        parts = []
        if self.sliced:
            parts.append("one element at a time")
        if self.streaming:
            parts.append("stream" if self.frames_per_chunk is None else f"stream of {self.frames_per_chunk} frames")
        if isinstance(self.tiling, StripSettings):
            parts.append(f"strips of {self.tiling.rows} rows")
        elif self.tiling is not None:
            sizes = [f"{tiles.size * grid.spatial}" for tiles in self.tiling.tiles[-2:]]
            if grid.video and not self.streaming:
                sizes.append(f"{(self.tiling.tiles[0].size - 1) * grid.temporal + 1} frames")
            parts.append("tiles of " + "x".join(sizes))
        return ", ".join(parts) or "whole"

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


def linear_tiles(tiles: Sequence[Sequence[int]]) -> TilingSettings:
    """Tiles of (size, stride) latent cells along each axis, blended linearly; of exactly these sizes."""
    return TilingSettings("linear", tuple(AxisTiles(size, stride) for size, stride in tiles))
