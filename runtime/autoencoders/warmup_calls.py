"""The calls that warm an autoencoder up: which component runs on an array of which shape."""

from collections.abc import Iterable, Iterator

from ..arrays.grid import Grid
from ..bundle.manifest import Manifest
from ..errors import InputError

__all__ = ["warmup_calls"]


def warmup_calls(
    manifest: Manifest, grid: Grid, shapes: Iterable[tuple[int, ...]]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The component and its input's shape, call after call. A shape is a sample's, (B, in_channels, ...), for encoder
    and decoder, or latents', (B, latent_channels, ...), for the decoder; what the bundle lacks is left out.

    Raises:
        InputError: a shape that is neither, when it is its turn.
    """
    config, rank = manifest.config, 5 if grid.video else 4
    for shape in shapes:
        if len(shape) != rank or shape[1] not in (config.in_channels, config.latent_channels):
            raise InputError(
                f"warmup: wanted shapes of samples (B, {config.in_channels}, ...) or latents "
                f"(B, {config.latent_channels}, ...) with {rank} axes, got {shape}"
            )
        latent_shape = shape
        if shape[1] == config.in_channels:
            grid.check_sample(shape[2:])
            latent_shape = (shape[0], config.latent_channels, *grid.latent_size(shape[2:]))
            if "encoder" in manifest.components:
                yield "encoder", shape
        if "decoder" in manifest.components:
            yield "decoder", latent_shape
