"""The reference models against diffusers, at random weights: same parameter names, same numbers."""

from typing import Any

import numpy as np
import pytest
import torch
from architectures import ALL, diffusers_model, picture, relative_error

from latentrt.export.models.reference_model import model_from_config
from latentrt.runtime.config.families import config_from_dict

SIZES = [(1, 9, 64, 96), (2, 1, 96, 64), (1, 17, 64, 64)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_moments_and_samples_equal_diffusers(
    name: str, size: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ALL[name]
    theirs: Any = diffusers_model(config)
    ours: Any = model_from_config(config_from_dict(config))
    state = theirs.state_dict()
    state.pop("bn.num_batches_tracked", None)  # FLUX.2's, a counter of training
    ours.load_state_dict(state, strict=True)
    batch, frames, height, width = size
    sample = torch.from_numpy(picture(config, batch=batch, frames=frames, height=height, width=width))
    with torch.no_grad():
        moments = theirs.encode(sample).latent_dist.parameters
        assert relative_error(ours.encode(sample).numpy(), moments.numpy()) < 1e-5
        latents = moments.chunk(2, dim=1)[0]
        options = decoder_options(config, ours, latents, monkeypatch)
        theirs_options = {key: value for key, value in options.items() if key != "noise"}
        wanted = theirs.decode(latents, **theirs_options).sample
        assert relative_error(ours.decode(latents, **options).numpy(), wanted.numpy()) < 1e-5


def decoder_options(
    config: dict[str, Any], model: Any, latents: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """temb and noise for the decoders that take them; diffusers draws its noise from the patched torch.randn."""
    options: dict[str, Any] = {}
    if config.get("timestep_conditioning"):
        options["temb"] = torch.tensor([0.05, 0.4])[: latents.shape[0]]
    if any(np.atleast_1d(config.get("decoder_inject_noise", False))):
        generator = torch.Generator().manual_seed(5)
        maps: list[torch.Tensor] = []
        original = torch.randn

        def recorded(shape: Any, **_: Any) -> torch.Tensor:
            maps.append(original(tuple(shape), generator=generator))
            return maps[-1]

        # A dry run of diffusers records the maps in the order in which it draws them.
        reference: Any = diffusers_model(config)
        monkeypatch.setattr(torch, "randn", recorded)
        reference.decode(latents, **options)
        queue = list(maps)
        monkeypatch.setattr(torch, "randn", lambda shape, **_: queue.pop(0))
        blocks = [model.decoder.mid_block, *model.decoder.up_blocks]
        remaining = list(maps)
        noise: list[torch.Tensor | None] = []
        for block, injects in zip(blocks, config["decoder_inject_noise"][::-1], strict=True):
            count = 2 * len(block.resnets) if injects else 0
            noise.append(torch.stack(remaining[:count]) if count else None)
            del remaining[:count]
        assert not remaining
        options["noise"] = tuple(noise)
    return options
