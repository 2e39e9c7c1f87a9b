"""The tiles of ComfyUI's tiled nodes as settings of the runtime."""

from dataclasses import dataclass
from typing import Any

from ...runtime.config.model_config import ModelConfig
from .latent_space import LatentSpace

__all__ = ["TileSizes"]

_DEFAULT_CELLS = 512  # pixels of a tile, if a node leaves its size out
_DEFAULT_OVERLAP_SHARE = 4  # an overlap is this part of a tile, if a node leaves it out


@dataclass(frozen=True)
class TileSizes:
    """Tiles as ComfyUI's nodes ask for them, in latent cells of ComfyUI.

    Attributes:
        height, width: of a tile, or None for 512 pixels.
        overlap: of two tiles along height and width, or None for a quarter of a tile.
        frames: latent frames of a tile, or None for all.
        frame_overlap: latent frames by which two tiles overlap, or None for one.
    """

    height: int | None = None
    width: int | None = None
    overlap: int | None = None
    frames: int | None = None
    frame_overlap: int | None = None

    @classmethod
    def of_pixels(
        cls,
        space: LatentSpace,
        height: int | None,
        width: int | None,
        overlap: int | None,
        frames: int | None,
        frame_overlap: int | None,
    ) -> "TileSizes":
        """Tiles that a node gives in pixels and frames, as nodes that encode do."""
        cells = [None if size is None else size // space.spatial for size in (height, width, overlap)]
        times = [None if size is None else space.latent_frames(size) for size in (frames, frame_overlap)]
        return cls(*cells, *times)

    def arguments(self, config: ModelConfig, component: str, space: LatentSpace, frames: int) -> dict[str, Any]:
        """The arguments of `enable_tiling`.

        Sizes below the model's least are raised to it, and an overlap as large as a tile is cut to half of it.

        Args:
            frames: latent frames of the whole clip; 1 for pictures.
        """
        least = config.min_latent_size(component)
        arguments = {}
        for name, size in (("height", self.height), ("width", self.width)):
            cells = max(least, (_DEFAULT_CELLS // space.spatial if size is None else size) * space.packed)
            stride = _stride(cells, None if self.overlap is None else self.overlap * space.packed)
            arguments[f"tile_sample_min_{name}"] = cells * config.spatial_ratio
            arguments[f"tile_sample_stride_{name}"] = stride * config.spatial_ratio
        if space.temporal is not None:
            cells = max(2, min(self.frames or frames, frames))
            stride = min(_stride(cells, 1 if self.frame_overlap is None else self.frame_overlap), cells - 1)
            arguments["tile_sample_min_num_frames"] = (cells - 1) * space.temporal
            arguments["tile_sample_stride_num_frames"] = stride * space.temporal
        return arguments


def _stride(cells: int, overlap: int | None) -> int:
    overlap = cells // _DEFAULT_OVERLAP_SHARE if overlap is None else overlap
    return max(1, cells - min(overlap, cells // 2))
