"""Legal sizes: how samples and latents lie on each other, and padding a sample up to the grid.

A latent cell is `spatial` x `spatial` pixels. A latent clip of 1 + k frames is a clip of 1 + temporal * k frames.
Sizes are (H, W) for images and (T, H, W) for video.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...tiling import Axis
from ...tiling.plan import Direction
from ..config import ModelConfig
from ..errors import InputError

__all__ = ["Grid"]

Size = tuple[int, ...]


@dataclass(frozen=True)
class Grid:
    """`encoder_minimum` and `decoder_minimum` are the fewest latent cells along height or width that each takes."""

    spatial: int
    temporal: int
    encoder_minimum: int
    decoder_minimum: int
    video: bool

    @classmethod
    def of(cls, config: ModelConfig, *, video: bool) -> "Grid":
        return cls(
            config.spatial_ratio,
            config.temporal_ratio,
            config.min_latent_size("encoder"),
            config.min_latent_size("decoder"),
            video,
        )

    @property
    def axes(self) -> str:
        return "(frames, height, width)" if self.video else "(height, width)"

    def axes_for(self, direction: Direction) -> tuple[Axis, ...]:
        """The axes as tiles are laid along them, with the minimum of what runs: encoder or decoder."""
        minimum = self.encoder_minimum if direction == "encode" else self.decoder_minimum
        space = tuple(Axis(name, self.spatial, minimum=minimum) for name in ("height", "width"))
        return (Axis("num_frames", self.temporal, leading=True), *space) if self.video else space

    def sample_size(self, latent_size: Sequence[int]) -> Size:
        """The sample that latents of that size decode to."""
        space = tuple(cells * self.spatial for cells in latent_size[-2:])
        return ((latent_size[0] - 1) * self.temporal + 1, *space) if self.video else space

    def latent_size(self, sample_size: Sequence[int]) -> Size:
        """The latents of a legal sample size."""
        space = tuple(pixels // self.spatial for pixels in sample_size[-2:])
        return ((sample_size[0] - 1) // self.temporal + 1, *space) if self.video else space

    def padded_size(self, sample_size: Sequence[int]) -> Size:
        """The smallest size that holds a sample of any size, and that both encoder and decoder take.

        Raises:
            InputError: an axis is empty.
        """
        if min(sample_size) < 1:
            raise InputError(f"sample: every axis needs at least one element, got {self.axes} = {tuple(sample_size)}")
        minimum = max(self.encoder_minimum, self.decoder_minimum)
        cells = [max(-(-pixels // self.spatial), minimum) for pixels in sample_size[-2:]]
        if self.video:
            cells.insert(0, -(-(sample_size[0] - 1) // self.temporal) + 1)
        return self.sample_size(cells)

    def check_sample(self, sample_size: Sequence[int]) -> None:
        """Refuse a size off the grid.

        Raises:
            InputError: names the rule, the size and the nearest legal one above.
        """
        legal = self.padded_size(sample_size)
        cells = self.latent_size(sample_size)
        if self.sample_size(cells) != tuple(sample_size) or min(cells[-2:]) < self.encoder_minimum:
            smallest = self.spatial * self.encoder_minimum
            frames = f" and frames 1 + a multiple of {self.temporal}" if self.video else ""
            raise InputError(
                f"sample: height and width must be multiples of {self.spatial} (at least {smallest}){frames}, "
                f"got {self.axes} = {tuple(sample_size)}; pad=True pads to {legal}, or resize"
            )

    def check_latents(self, latent_size: Sequence[int]) -> None:
        """Refuse latents that are empty or smaller than the decoder takes.

        Raises:
            InputError: names the minimum and the size.
        """
        if min(latent_size) < 1 or min(latent_size[-2:]) < self.decoder_minimum:
            raise InputError(
                f"latents: height and width need at least {self.decoder_minimum} cells and no axis may be empty, "
                f"got {self.axes} = {tuple(latent_size)}"
            )

    def cropped_size(self, sample_size: Sequence[int], crop: Sequence[int] | None) -> Size:
        """What is wanted of a sample: `crop`, or all of it.

        Raises:
            InputError: `crop` does not lie within the sample.
        """
        if crop is None:
            return tuple(sample_size)
        fits = len(crop) == len(sample_size) and all(
            1 <= keep <= length for keep, length in zip(crop, sample_size, strict=True)
        )
        if not fits:
            raise InputError(
                f"crop: wanted {self.axes} of at least 1 and at most {tuple(sample_size)}, got {tuple(crop)}"
            )
        return tuple(crop)

    def pad(self, sample: NDArray[np.float32]) -> NDArray[np.float32]:
        """The sample, (B, C, H, W) or (B, C, T, H, W), padded at the end of each axis by repeating its last element."""
        size = sample.shape[2:]
        after = [(0, legal - length) for legal, length in zip(self.padded_size(size), size, strict=True)]
        return np.pad(sample, [(0, 0), (0, 0), *after], mode="edge") if any(sum(pair) for pair in after) else sample
