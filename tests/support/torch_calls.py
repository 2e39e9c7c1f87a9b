"""Calls that the tests of PyTorch as a backend compare between backends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from architectures import latents_of

from latentrt.integrations.torch_backend import TorchBackend
from latentrt.runtime import open_bundle

__all__ = ["STRATEGIES", "clip_or_picture", "conditions_of", "opened_in_torch"]

CELLS = (4, 6)
LATENT_FRAMES = 3


def opened_in_torch(bundle: Path, **options: Any) -> Any:
    """The bundle on PyTorch's CPU; `options` are those of `TorchBackend`."""
    return open_bundle(bundle, backend=TorchBackend("cpu", **options), dtype=options.get("dtype", "float32"))


def clip_or_picture(vae: Any) -> np.ndarray:
    """A random sample of 4 by 6 latent cells, always the same."""
    frames = (1 + (LATENT_FRAMES - 1) * vae.grid.temporal,) if vae.video else ()
    shape = (1, vae.config.in_channels, *frames, *(cells * vae.grid.spatial for cells in CELLS))
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def conditions_of(vae: Any) -> dict[str, Any]:
    """The timestep and the seed that a decoder takes."""
    config = vae.config
    return ({"temb": 0.05} if config.timestep_conditioning else {}) | ({"rng": 7} if config.noise_stacks else {})


def _whole(vae: Any) -> tuple[np.ndarray, ...]:
    return _both(vae)


def _exact(vae: Any) -> tuple[np.ndarray, ...]:
    """In strips, or as a stream."""
    if vae.video:
        vae.enable_streaming(frames_per_chunk=4)
        if not vae.config.encoder_causal:
            return (_decoded(vae),)
    else:
        vae.enable_tiling(exact=True, strip=(2 * vae.grid.spatial, 3 * vae.grid.spatial))
    return _both(vae)


def _tiles(vae: Any) -> tuple[np.ndarray, ...]:
    side = 3 * vae.grid.spatial
    if vae.video:
        vae.enable_tiling(side, side, tile_sample_stride_height=side // 3 * 2, tile_sample_stride_width=side // 3 * 2)
    else:
        vae.enable_tiling(tile_sample_min_size=side)
    return (_decoded(vae),)


def _both(vae: Any) -> tuple[np.ndarray, ...]:
    return vae.encode(clip_or_picture(vae)).latent_dist.parameters, _decoded(vae)


def _decoded(vae: Any) -> np.ndarray:
    size = (LATENT_FRAMES, *CELLS) if vae.video else CELLS
    return np.asarray(vae.decode(latents_of(vae, size), **conditions_of(vae)).sample)


STRATEGIES: dict[str, Callable[[Any], tuple[np.ndarray, ...]]] = {"whole": _whole, "exact": _exact, "tiles": _tiles}
"""By name: each runs a fresh autoencoder in one way, and gives the arrays to compare."""
