"""Which space latents are in: both directions for every family, and no false alarm."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from latentrt.runtime.arrays.latent_space import likely_space
from latentrt.runtime.arrays.latents import scale_latents, unscale_latents
from latentrt.runtime.config.flux2 import AutoencoderKLFlux2Config
from latentrt.runtime.config.kl import AutoencoderKLConfig
from latentrt.runtime.config.ltx2 import AutoencoderKLLTX2VideoConfig
from latentrt.runtime.errors import InputError
from latentrt.runtime.files.decoded_file import decode_file
from latentrt.runtime.media.latents_file import LatentsFile, write_latents

RNG = np.random.default_rng(18)
STATISTICS: dict[str, Any] = {
    "latents_mean": tuple(RNG.normal(0, 0.8, 128).tolist()),
    "latents_std": tuple(RNG.uniform(0.4, 1.6, 128).tolist()),
}
FLUX_2 = AutoencoderKLFlux2Config(
    bn_running_mean=tuple(RNG.normal(0, 0.1, 128).tolist()), bn_running_var=tuple(RNG.uniform(6, 12, 128).tolist())
)
CONFIGS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "sd": (AutoencoderKLConfig(scaling_factor=0.18215), (1, 4, 32, 32)),
    "sdxl": (AutoencoderKLConfig(scaling_factor=0.13025), (1, 4, 32, 32)),
    "flux1": (AutoencoderKLConfig(scaling_factor=0.3611, shift_factor=0.1159, latent_channels=16), (1, 16, 32, 32)),
    "playground": (
        AutoencoderKLConfig(
            scaling_factor=0.5, latents_mean=(-1.6, 1.1, 0.2, 0.9), latents_std=(8.4, 5.9, 5.0, 5.3), latent_channels=4
        ),
        (2, 4, 16, 16),
    ),
    "ltx2": (AutoencoderKLLTX2VideoConfig(**STATISTICS), (1, 128, 3, 4, 6)),
    "flux2": (FLUX_2, (1, 128, 16, 16)),
}


def like_a_picture(shape: tuple[int, ...], power: float = 1.0) -> Any:
    """Diffusion latents as pictures give them: each channel has a mean of its own, and the rest varies around it."""
    means = RNG.normal(0, 0.5, shape[:2] + (1,) * (len(shape) - 2))
    return (power * (means + RNG.normal(0, 0.85, shape))).astype(np.float32)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("power", [0.8, 1.0])
def test_both_spaces_are_recognised_in_every_family(name: str, power: float) -> None:
    config, shape = CONFIGS[name]
    diffusion = like_a_picture(shape, power)
    model = unscale_latents(diffusion, config)
    np.testing.assert_allclose(scale_latents(model, config), diffusion, atol=1e-4)
    assert likely_space(model, config) == "model"
    assert likely_space(diffusion, config) == "diffusion"


@pytest.mark.parametrize("name", CONFIGS)
def test_pictures_far_from_the_average_give_no_false_verdict(name: str) -> None:
    config, shape = CONFIGS[name]
    for _ in range(20):
        flat = np.broadcast_to(RNG.normal(0, 1.3, shape[:2] + (1,) * (len(shape) - 2)), shape)
        blank = (flat + RNG.normal(0, 0.15, shape)).astype(np.float32)  # a page of one colour
        for diffusion in (blank, like_a_picture(shape, 0.6), like_a_picture(shape, 1.5)):
            assert likely_space(diffusion, config) != "model"
            assert likely_space(unscale_latents(diffusion, config), config) != "diffusion"


def test_what_statistics_cannot_tell_gives_no_verdict() -> None:
    config, shape = CONFIGS["ltx2"]
    sd, flux1 = CONFIGS["sd"][0], CONFIGS["flux1"][0]
    sd3 = AutoencoderKLConfig(scaling_factor=1.5305, shift_factor=0.0609, latent_channels=16)
    untrained = AutoencoderKLLTX2VideoConfig(latents_mean=(0.0,) * 128, latents_std=(1.0,) * 128)
    assert likely_space(like_a_picture((1, 16, 64, 64)), sd3) is None
    assert likely_space(like_a_picture(shape), untrained) is None
    assert likely_space(like_a_picture((1, 4, 2, 3)), sd) is None  # a picture of 16x24 pixels
    assert likely_space(like_a_picture((1, 128, 1, 2, 3)), config) is None
    for latents in (np.zeros(shape), np.full(shape, np.nan), np.full(shape, np.inf), RNG.normal(0, 0.02, shape)):
        assert likely_space(latents.astype(np.float32), config) is None
    assert likely_space(RNG.normal(0, 0.03, (1, 4, 32, 32)), sd) is None  # an encoder of random weights
    assert likely_space(np.zeros((1, 16, 32, 32), np.float16), flux1) is None
    assert likely_space(like_a_picture((1, 32, 15, 16)), FLUX_2) is None


def test_decoding_as_the_other_space_warns_once_and_changes_nothing(
    tmp_path: Path, opened: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    vae = opened("flux")
    diffusion = like_a_picture((1, 16, 16, 16))
    model = vae.unscale_latents(diffusion)
    for name, latents, scaled, hint in (
        ("a", diffusion, False, "give --from diffusion"),
        ("b", model, True, "leave --scaled out"),
        ("c", diffusion, True, None),
        ("d", model, False, "does not say where its latents come from"),
    ):
        save_file({"latents": latents}, tmp_path / f"{name}.safetensors")
        caplog.clear()
        decode_file(vae, tmp_path / f"{name}.safetensors", tmp_path / f"{name}.npy", scaled=scaled)
        warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(warnings) == (hint is not None)
        if hint is not None:
            assert hint in warnings[0]
        wanted = vae.decode(vae.unscale_latents(latents) if scaled else latents).sample
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), wanted)
    write_latents(tmp_path / "e.safetensors", LatentsFile(diffusion, scaled=False))  # a file that says so is believed
    caplog.clear()
    decode_file(vae, tmp_path / "e.safetensors", tmp_path / "e.npy")
    assert not caplog.records


def test_flux2_latents_of_the_other_space_are_refused_with_what_to_do(
    tmp_path: Path, opened: Callable[..., Any]
) -> None:
    vae = opened("flux2")
    for channels, scaled, hint in ((32, False, "give origin='diffusion'"), (8, True, "leave scaled out")):
        save_file({"latents": like_a_picture((1, channels, 8, 8))}, tmp_path / "z.safetensors")
        with pytest.raises(InputError, match=hint):
            decode_file(vae, tmp_path / "z.safetensors", tmp_path / "x.png", scaled=scaled)
