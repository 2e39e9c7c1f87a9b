"""The forms in which programs and pipelines hold latents: their space, and the layout of their numbers."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from ..config.model_config import ModelConfig
from .latent_space import Space
from .latents import mean_and_factor, packed_latents, scale_latents, unpacked_cells, unscale_latents
from .packed_latents import token_rows, tokens_of, unpacked_latents

__all__ = ["LatentForm", "Layout", "from_model_latents", "to_model_latents"]


class Layout(Enum):
    """How the numbers of latents lie in their array. The value is the shape, as documents show it."""

    CELLS = "(B, C, h, w)"
    """Pictures (B, C, h, w) and clips (B, C, t, h, w). Diffusion latents of FLUX.2 are packed: (B, 4 * C, h/2, w/2)."""
    TOKENS = "(B, h/2 * w/2, 4 * C)"
    """One token for 2x2 cells. Its channels are ordered by channel, row and column."""
    CHANNELS_LAST = "(B, h/2 * w/2, 4 * C), channels last"
    """One token for 2x2 cells. Its channels are ordered by row, column and channel, and so are its statistics."""
    SPREAD = "(B, C, h, w), spread"
    """Diffusion latents of FLUX.2, unpacked to (B, C, h, w) after they were normalised."""

    @property
    def has_tokens(self) -> bool:
        """Whether it is a row of tokens, which does not show the height and width of the picture."""
        return self in (Layout.TOKENS, Layout.CHANNELS_LAST)


@dataclass(frozen=True)
class LatentForm:
    """The space and the layout of latents.

    Attributes:
        space: model latents or diffusion latents.
        layout: the layout. None where the shape of the array decides between cells and tokens.
    """

    space: Space
    layout: Layout | None = None

    def fits(self, other: "LatentForm") -> bool:
        """Whether latents can be of both forms."""
        layouts = (self.layout, other.layout)
        return self.space == other.space and (None in layouts or self.layout is other.layout)


def to_model_latents(
    latents: NDArray[np.float32],
    config: ModelConfig,
    space: Space,
    layout: Layout,
    size: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """Model latents, as `decode` takes them.

    Args:
        latents: float32, in this space and layout.
        config: the model's config.
        space: the space of the latents. Layouts other than `CELLS` have diffusion latents.
        layout: the layout of the latents.
        size: for tokens the height and width in pixels of the picture that the pipeline was asked for.

    Returns:
        float32 (B, C, h, w) or (B, C, t, h, w).

    Raises:
        InputError: the size is missing or has another number of tokens.
    """
    if space == "model":
        return latents
    if layout is Layout.CELLS:
        return unscale_latents(latents, config)
    if layout is Layout.SPREAD:
        return unscale_latents(packed_latents(latents, config), config)
    height, width = size or (None, None)
    if layout is Layout.TOKENS:
        return unscale_latents(unpacked_latents(latents, config, height, width), config)
    assert config.packing is not None
    packed = unpacked_latents(latents, config, height, width)
    mean, factor = mean_and_factor(config, packed.ndim)
    return unpacked_cells(_channels_first(np.asarray(packed / factor + mean, np.float32), config), config.packing)


def from_model_latents(
    latents: NDArray[np.float32], config: ModelConfig, space: Space, layout: Layout
) -> NDArray[np.float32]:
    """The reverse of `to_model_latents`.

    Raises:
        InputError: the layout packs cells, and h or w is odd.
    """
    if space == "model":
        return latents
    if layout is Layout.CELLS:
        return scale_latents(latents, config)
    if layout is Layout.SPREAD:
        assert config.packing is not None
        return unpacked_cells(scale_latents(latents, config), config.packing)
    if layout is Layout.TOKENS:
        return tokens_of(scale_latents(latents, config), config)
    last = _channels_last(packed_latents(latents, config), config)
    mean, factor = mean_and_factor(config, last.ndim)
    return token_rows(np.asarray((last - mean) * factor, np.float32))


def _channels_first(packed: NDArray[np.float32], config: ModelConfig) -> NDArray[np.float32]:
    """Channels (B, rows * columns * C, h, w) as FLUX.2 orders them, (B, C * rows * columns, h, w)."""
    assert config.packing is not None
    batch, _, height, width = packed.shape
    split = packed.reshape(batch, *config.packing, config.latent_channels, height, width)
    return split.transpose(0, 3, 1, 2, 4, 5).reshape(packed.shape)


def _channels_last(packed: NDArray[np.float32], config: ModelConfig) -> NDArray[np.float32]:
    """The reverse of `_channels_first`."""
    assert config.packing is not None
    batch, _, height, width = packed.shape
    split = packed.reshape(batch, config.latent_channels, *config.packing, height, width)
    return split.transpose(0, 2, 3, 1, 4, 5).reshape(packed.shape)
