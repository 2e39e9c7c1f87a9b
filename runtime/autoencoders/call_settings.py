"""What is enabled for the calls of an autoencoder: slicing and tiling."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..calls.blends import ImageBlend
from ..calls.strategy import WHOLE, Strategy
from ..errors import InputError
from .bundle_model import BundleModel

if TYPE_CHECKING:
    from ..bundle.manifest import Manifest
    from ..calls.strategy import Tiling

__all__ = ["CallSettings"]


class CallSettings(BundleModel):
    """A model whose calls can be sliced and tiled.

    Attributes:
        settings: what is enabled, as the strategy of calls that are not planned.
    """

    settings: Strategy = WHOLE
    _tiling: Tiling  # of tiled_encode and tiled_decode, whether or not it is enabled
    _may_stream = False

    def __init__(self, manifest: Manifest, **options: Any) -> None:
        """`options` as in `open_bundle`."""
        super().__init__(manifest, **options)
        self.enable_tiling()
        self.disable_tiling()

    @property
    def use_slicing(self) -> bool:
        """Whether slicing is enabled. As in diffusers, it can be set."""
        return self.settings.sliced

    @use_slicing.setter
    def use_slicing(self, enabled: bool) -> None:
        self.settings = replace(self.settings, sliced=_flag("use_slicing", enabled))

    @property
    def use_tiling(self) -> bool:
        """Whether tiling is enabled. As in diffusers, it can be set: True takes the settings that `enable_tiling` made
        last, or its defaults."""
        return self.settings.tiling is not None

    @use_tiling.setter
    def use_tiling(self, enabled: bool) -> None:
        if _flag("use_tiling", enabled):
            self._tile(self._tiling)
        else:
            self.disable_tiling()

    def enable_slicing(self) -> None:
        """Run one batch element at a time: less memory for large batches, the same result."""
        self.settings = replace(self.settings, sliced=True)

    def disable_slicing(self) -> None:
        self.settings = replace(self.settings, sliced=False)

    @abstractmethod
    def enable_tiling(
        self,
        tile_sample_min_height: int | None = None,
        tile_sample_min_width: int | None = None,
        *,
        tile_sample_stride_height: int | None = None,
        tile_sample_stride_width: int | None = None,
        blend: ImageBlend = "linear",
        tiles_per_call: int = 1,
    ) -> None:
        """Encode and decode in overlapping tiles from now on.

        These are the arguments that all families take; each family documents them, and may take more.
        """

    def disable_tiling(self) -> None:
        """Encode and decode in one pass again; the settings stay for `tiled_encode` and `tiled_decode`."""
        self.settings = self.settings.untiled

    def _tile(self, tiling: Tiling) -> None:
        self._tiling, self.settings = tiling, replace(self.settings, tiling=tiling)


def _flag(name: str, enabled: object) -> bool:
    if not isinstance(enabled, bool):
        raise InputError(f"{name}: wanted True or False, got {enabled!r}")
    return enabled
