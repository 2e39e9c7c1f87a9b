"""Legal sizes: the sizes of samples and their latents, and padding of samples to a legal size.

A latent cell stands for `spatial` x `spatial` pixels. A latent clip of 1 + k frames stands for 1 + temporal * k frames.
Sizes are (H, W) for images and (T, H, W) for video.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...tiling import Axis
from ...tiling.plan import Direction
from ..config.model_config import ModelConfig
from ..errors import InputError

__all__ = ["Grid"]

Size = tuple[int, ...]


@dataclass(frozen=True)
class Grid:
    """The grid of legal sizes of a model.

    Attributes:
        spatial: pixels per latent cell along height and width.
        temporal: frames per latent frame after the first one. 1 for images.
        encoder_minimum: the fewest latent cells along height or width that the encoder takes.
        decoder_minimum: the fewest latent cells along height or width that the decoder takes.
        video: whether sizes have a time axis.
    """

    spatial: int
    temporal: int
    encoder_minimum: int
    decoder_minimum: int
    video: bool

    @classmethod
    def of(cls, config: ModelConfig) -> "Grid":
        """The grid of a model with this config."""
        return cls(
            config.spatial_ratio,
            config.temporal_ratio,
            config.min_latent_size("encoder"),
            config.min_latent_size("decoder"),
            config.video,
        )

    @property
    def axes(self) -> str:
        """The names of the axes of a size, for messages."""
        return "(frames, height, width)" if self.video else "(height, width)"

    def axes_for(self, direction: Direction) -> tuple[Axis, ...]:
        """The axes for tiling, with the minimum of the encoder ("encode") or the decoder ("decode")."""
        minimum = self.encoder_minimum if direction == "encode" else self.decoder_minimum
        space = tuple(Axis(name, self.spatial, minimum=minimum) for name in ("height", "width"))
        return (Axis("num_frames", self.temporal, leading=True), *space) if self.video else space

    def sample_size(self, latent_size: Sequence[int]) -> Size:
        """The size of the sample that latents of this size decode to."""
        space = tuple(cells * self.spatial for cells in latent_size[-2:])
        return ((latent_size[0] - 1) * self.temporal + 1, *space) if self.video else space

    def latent_size(self, sample_size: Sequence[int]) -> Size:
        """The size of the latents of a sample with this legal size."""
        space = tuple(pixels // self.spatial for pixels in sample_size[-2:])
        return ((sample_size[0] - 1) // self.temporal + 1, *space) if self.video else space

    def padded_size(self, sample_size: Sequence[int]) -> Size:
        """The smallest size that is at least `sample_size` and that both the encoder and the decoder take.

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
        """Refuse a sample size that the encoder does not take.

        Raises:
            InputError: the size is not legal. The message names the rule, the size and the next larger legal size.
        """
        if len(sample_size) != (3 if self.video else 2):
            raise InputError(f"sample: wanted a size {self.axes}, got {tuple(sample_size)}")
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
        """Refuse a latent size that the decoder does not take.

        Raises:
            InputError: an axis is empty or too small. The message names the minimum and the size.
        """
        if min(latent_size) < 1 or min(latent_size[-2:]) < self.decoder_minimum:
            raise InputError(
                f"latents: height and width need at least {self.decoder_minimum} cells and no axis may be empty, "
                f"got {self.axes} = {tuple(latent_size)}"
            )

    def cropped_size(self, sample_size: Sequence[int], crop: Sequence[int] | None) -> Size:
        """The size that a sample is cropped to: `crop`, or its whole size if `crop` is None.

        Raises:
            InputError: `crop` does not lie within the sample.
        """
        if crop is None:
            return tuple(sample_size)
        try:
            wanted = tuple(operator.index(keep) for keep in crop)
        except TypeError:  # not a sequence, or not of whole numbers
            wanted = ()
        if len(wanted) != len(sample_size) or not all(map(operator.le, wanted, sample_size)) or min(wanted) < 1:
            raise InputError(
                f"crop: wanted {self.axes} of at least 1 and at most {tuple(sample_size)}, got {wanted or crop!r}"
            )
        return wanted

    def pad(self, sample: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pad a sample to a legal size by repeating the last element of each axis.

        Args:
            sample: float32 (B, C, H, W) or (B, C, T, H, W).

        Returns:
            A new array, or `sample` itself if its size is legal.
        """
        size = sample.shape[2:]
        after = [(0, legal - length) for legal, length in zip(self.padded_size(size), size, strict=True)]
        return np.pad(sample, [(0, 0), (0, 0), *after], mode="edge") if any(sum(pair) for pair in after) else sample
