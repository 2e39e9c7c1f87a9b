"""The latents that ComfyUI's nodes hand to a VAE: their space, their channels and their ratios."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ...runtime.config.model_config import ModelConfig

__all__ = ["LatentSpace"]


@dataclass(frozen=True)
class LatentSpace:
    """ComfyUI's latents of one model.

    Attributes:
        normalised: whether they are diffusion latents. Otherwise they are model latents.
        channels: their channels.
        packed: model latent cells per cell along height and width.
        spatial: pixels per cell along height and width.
        temporal: frames per latent frame after the first, or None for pictures.
    """

    normalised: bool
    channels: int
    packed: int
    spatial: int
    temporal: int | None

    @classmethod
    def of(cls, config: ModelConfig) -> "LatentSpace":
        """The latents of a model with this config."""
        normalised = config.scaled_in_comfyui
        packed = config.packing[0] if normalised and config.packing is not None else 1
        return cls(
            normalised,
            config.diffusion_channels if normalised else config.latent_channels,
            packed,
            config.spatial_ratio * packed,
            config.temporal_ratio if config.video else None,
        )

    def frames(self, latent_frames: int) -> int:
        """Frames of the clip that this many latent frames decode to."""
        ratio = self.temporal or 1
        return max(0, latent_frames * ratio - (ratio - 1))

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a clip, whose frames after the last whole group are left out."""
        ratio = self.temporal or 1
        return max(0, math.floor((frames + ratio - 1) / ratio))

    def whole_frames(self, frames: int) -> int:
        """The most frames, of at least one, that an encoder takes of a clip with this many."""
        ratio = self.temporal or 1
        return max(1, 1 + (frames - 1) // ratio * ratio)

    @property
    def upscale_ratio(self) -> "int | tuple[Callable[[int], int], int, int]":
        """As ComfyUI's VAE objects have it: pixels per cell, and for clips a function from latent frames to frames."""
        return self.spatial if self.temporal is None else (self.frames, self.spatial, self.spatial)

    @property
    def downscale_ratio(self) -> "int | tuple[Callable[[int], int], int, int]":
        """As ComfyUI's VAE objects have it: pixels per cell, and for clips a function from frames to latent frames."""
        return self.spatial if self.temporal is None else (self.latent_frames, self.spatial, self.spatial)

    @property
    def index_formula(self) -> tuple[int, int, int] | None:
        """Frames and pixels per cell along time, height and width. None for pictures."""
        return None if self.temporal is None else (self.temporal, self.spatial, self.spatial)
