"""What a decoder takes besides the latents: timesteps and noise, for a whole call, one batch element, or some tiles."""

from __future__ import annotations  # or the annotations of draw_noise would import numpy.random

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tiling import Tile
from ...tiling.argument_names import argument
from ..arrays.boundary import as_input, require_finite
from ..arrays.posterior import generator_from
from ..bundle import ports
from ..config.model_config import ModelConfig
from ..errors import InputError

__all__ = [
    "DECODE_TIMESTEP",
    "Conditions",
    "conditions_for",
    "draw_noise",
    "neutral_conditions",
    "takes_conditions",
    "timesteps",
]

DECODE_TIMESTEP = 0.05
"""What LTX-2's own pipeline decodes at."""

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Conditions:
    """`temb`: float32 (B,) timesteps. `noise`: by graph input, float32 (maps, scale * latent height, scale * latent
    width), shared by the whole batch. Most decoders take neither."""

    temb: Array | None = None
    noise: Mapping[str, Array] = field(default_factory=dict)

    def inputs(self) -> dict[str, Array]:
        """The arrays by graph input."""
        return {**self.noise, **({} if self.temb is None else {ports.TEMB: self.temb})}

    def of_element(self, index: int) -> Conditions:
        """The conditions of one element of the batch."""
        return self if self.temb is None else replace(self, temb=self.temb[index : index + 1])

    def of_tiles(self, tiles: Sequence[Tile], latent_size: Sequence[int]) -> Conditions:
        """The conditions of tiles that run as one batch: the noise of the whole, cut out at their place in space.

        Tiles at different places need different noise. So a decoder with noise runs one tile per engine call.
        """
        temb = None if self.temb is None else np.tile(self.temb, len(tiles))
        rows, columns = (piece.cells for piece in tiles[0].pieces[-2:])
        cut = {}
        for name, maps in self.noise.items():
            scale = maps.shape[-1] // latent_size[-1]
            part = maps[:, rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale]
            cut[name] = np.ascontiguousarray(part)
        return Conditions(temb, cut)


def takes_conditions(config: ModelConfig) -> bool:
    """Whether a model's decoder takes timesteps or noise."""
    return bool(config.timestep_conditioning or config.noise_stacks)


def conditions_for(
    config: ModelConfig, latents: Any, temb: Any, rng: np.random.Generator | int | None
) -> Conditions | None:
    """The further inputs of a decode of `latents`, (B, C, ...). None: the decoder takes none.

    Raises:
        InputError: a timestep or a seed is missing, or wrong, or the decoder takes no timesteps.
    """
    if temb is not None and not config.timestep_conditioning:
        raise InputError(f"{argument('temb')}: this decoder is not timestep-conditioned; leave it out")
    if not takes_conditions(config):
        return None
    steps = timesteps(temb, latents.shape[0]) if config.timestep_conditioning else None
    if not config.noise_stacks:
        return Conditions(steps)
    if rng is None:
        raise InputError(f"{argument('rng')}: this decoder injects noise; give a seed or a numpy.random.Generator")
    return Conditions(steps, draw_noise(config, latents.shape[-2:], rng))


def neutral_conditions(config: ModelConfig, batch: int) -> dict[str, Any]:
    """Options of `decode` that any decoder of this config takes, for warming up and for measuring."""
    return {"temb": np.zeros(batch, np.float32) if config.timestep_conditioning else None, "rng": 0}


def timesteps(temb: Any, batch: int) -> Array:
    """`temb` as float32 (batch,); one number counts for all.

    Raises:
        InputError: it is missing, of another shape, or not finite.
    """
    if temb is None:
        raise InputError(
            f"{argument('temb')}: this decoder is timestep-conditioned; give a timestep for each batch element, (B,) "
            "float32 (LTX-2 uses 0.05)"
        )
    if isinstance(temb, int | float | np.number | list | tuple):
        try:
            temb = np.asarray(temb, np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(f"{argument('temb')}: wanted (B,) float32 timesteps, got {temb!r}") from error
    steps = as_input(temb, "temb")
    if steps.shape in ((), (1,)):
        steps = np.repeat(steps, batch)
    if steps.shape != (batch,):
        raise InputError(
            f"{argument('temb')}: wanted one timestep per batch element, ({batch},), got shape {steps.shape}"
        )
    require_finite(steps, "temb")
    return steps  # type: ignore[no-any-return]


def draw_noise(config: ModelConfig, latent_size: tuple[int, int], rng: np.random.Generator | int) -> dict[str, Array]:
    """The noise of one decode, by graph input: standard normal maps drawn in the order in which they are used.

    The same seed and the same latent height and width give the same noise, for any batch and any clip length.
    """
    generator = generator_from(rng)
    height, width = latent_size
    return {
        ports.noise_input(stack.block): generator.standard_normal(
            (stack.maps, height * stack.scale, width * stack.scale), np.float32
        )
        for stack in config.noise_stacks
    }
