"""The inputs of golden samples: small, of the range of real pictures and latents, and rough enough to show faults."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...runtime.arrays.grid import Grid
from ...runtime.arrays.latents import unscale_latents
from ...runtime.config.model_config import ModelConfig

__all__ = ["component_inputs", "latents_pair"]

Latents = NDArray[np.float32]
Pixels = NDArray[np.uint8]
_LEAST_CELLS = 8  # The least height and width of the first picture's latents; the second has half the height.
_LEAST_CLIP_PIXELS = 64  # the least height and width of a clip
_TALL_CELLS = 12  # the height of a tall clip, which the smallest strips cut in every stage of a stream
_MORE_CELLS = 4  # by which the second picture is wider than the first
_STREAM_FRAMES = {True: 4, False: 26}
"""The latent frames of the long clip, by the causality of the decoder. LTX-2.0 reads 22 frames ahead."""
_GRAIN = 24.0  # standard deviation of the noise in the smooth picture, in steps of 1/255


def component_inputs(config: ModelConfig, component: str) -> Iterator[Pixels | Latents]:
    """Yield the inputs of a component: uint8 pixels (1, [T,] H, W, C), or float32 model latents (1, C, [t,] h, w).

    The first is smooth with edges and grain, and the second is noise. Video models get a third one, a clip of one
    frame that is so tall that strips cut it in every stage. Their decoder gets a fourth one, a clip that is so long
    that a stream takes several steps.
    """
    grid = Grid.of(config)
    least = -(-_LEAST_CLIP_PIXELS // grid.spatial) if config.video else _LEAST_CELLS
    side = max(grid.encoder_minimum, grid.decoder_minimum, least)
    sizes: list[tuple[int, ...]] = [(side, side), (side // 2, side + _MORE_CELLS)]
    if config.video:
        sizes = [(2, side, side + 1), (2, side, side)]
        sizes += [(1, _TALL_CELLS, side)]
        if component == "decoder":
            sizes += [(_STREAM_FRAMES[bool(config.causal("decoder"))], side, side)]
    for number, cells in enumerate(sizes):
        rng = np.random.default_rng([number, component == "decoder"])
        yield (
            _pixels(rng, grid.sample_size(cells), config.in_channels, smooth=number == 0)
            if component == "encoder"
            else _latents(rng, config, cells, smooth=number == 0)
        )


def latents_pair(config: ModelConfig) -> tuple[Latents, Latents] | None:
    """Return the same latents as model latents and as diffusion latents, float32 (1, C, [t,] h, w). None: the config
    has no statistics for the conversion."""
    if config.missing_statistics:
        return None
    rows, columns = config.packing or (1, 1)
    shape = (1, config.diffusion_channels, *((2,) if config.video else ()), 4, 6)
    diffusion = np.random.default_rng([7]).standard_normal(shape, np.float32)
    model = unscale_latents(diffusion, config)
    assert model.shape[-2:] == (4 * rows, 6 * columns)
    return model, diffusion


def _pixels(rng: np.random.Generator, size: tuple[int, ...], channels: int, *, smooth: bool) -> Pixels:
    shape = (*size, channels)
    if not smooth:
        return rng.integers(0, 256, (1, *shape), dtype=np.uint8)
    waves = _waves(rng, shape)
    edges = np.where(waves > 0.4, 60.0, 0.0) - np.where(waves < -0.5, 50.0, 0.0)
    values = 127.5 + 70 * waves + edges + _GRAIN * rng.standard_normal(shape)
    pixels: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)[np.newaxis]
    return pixels


def _latents(rng: np.random.Generator, config: ModelConfig, cells: tuple[int, ...], *, smooth: bool) -> Latents:
    rows, columns = config.packing or (1, 1)
    scaled = not config.missing_statistics
    channels = config.diffusion_channels if scaled else config.latent_channels
    packed = (*cells[:-2], cells[-2] // rows, cells[-1] // columns) if scaled else cells
    values = rng.standard_normal((1, channels, *packed))
    if smooth:
        values = 0.5 * values + np.moveaxis(_waves(rng, (*packed, channels)), -1, 0)
    latents = values.astype(np.float32)
    return unscale_latents(latents, config) if scaled else latents


def _waves(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Slow waves in about [-1, 1], of another direction in each channel, which is the last axis."""
    places = np.meshgrid(*(np.linspace(0, 1, length) for length in shape[:-1]), indexing="ij")
    directions = rng.uniform(-8, 8, (len(places), shape[-1]))
    angles = sum(place[..., np.newaxis] * direction for place, direction in zip(places, directions, strict=True))
    waves: NDArray[np.float64] = np.sin(angles + rng.uniform(0, 2 * np.pi, shape[-1]))
    return waves
