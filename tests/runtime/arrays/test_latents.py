"""Model latents and diffusion latents: the formulas of the diffusers pipelines, there and back."""

from typing import Any

import numpy as np
import pytest
import torch
from architectures import ALL
from diffusers.pipelines.ltx2.pipeline_ltx2 import LTX2Pipeline

from latentrt.runtime.arrays.latents import scale_latents, unscale_latents
from latentrt.runtime.config.families import config_from_dict
from latentrt.runtime.config.model_config import ModelConfig

STATISTICS = {"latents_mean": [-1.6, 1.1, 0.2, 0.9], "latents_std": [8.4, 5.9, 5.0, 5.3]}
LTX_STATISTICS = {
    "latents_mean": np.linspace(-1, 1, 16).tolist(),
    "latents_std": np.linspace(0.5, 2, 16).tolist(),
}


def config_of(name: str, **changes: Any) -> ModelConfig:
    return config_from_dict(ALL[name] | changes)


def latents_of(config: ModelConfig) -> np.ndarray:
    size = (3, 4, 5) if config.family.endswith("Video") else (4, 5)
    shape = (2, config.latent_channels, *size)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32) * 3


def per_channel(values: Any, rank: int) -> np.ndarray:
    return np.asarray(values, np.float64).reshape(1, -1, *[1] * (rank - 2))


def test_stable_diffusion_multiplies_by_the_scaling_factor() -> None:
    config = config_of("sd")
    z = latents_of(config)
    np.testing.assert_allclose(scale_latents(z, config), z * 0.18215, rtol=1e-6)
    np.testing.assert_allclose(unscale_latents(z, config), z / 0.18215, rtol=1e-6)


def test_flux_shifts_before_it_scales() -> None:
    # pipeline_flux_img2img: (latents - shift_factor) * scaling_factor; pipeline_flux: latents / scaling + shift
    config = config_of("flux")
    z = latents_of(config)
    np.testing.assert_allclose(scale_latents(z, config), (z.astype(np.float64) - 0.1159) * 0.3611, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(unscale_latents(z, config), z / 0.3611 + 0.1159, rtol=1e-5, atol=1e-6)


def test_statistics_of_the_channels_replace_the_shift() -> None:
    # pipeline_stable_diffusion_xl: latents * latents_std / scaling_factor + latents_mean
    config = config_of("playground", shift_factor=7.0)
    z = latents_of(config)
    mean, std = (per_channel(STATISTICS[name], 4) for name in ("latents_mean", "latents_std"))
    np.testing.assert_allclose(scale_latents(z, config), (z - mean) * 0.5 / std, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(unscale_latents(z, config), z * std / 0.5 + mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scaling", [1.0, 0.7])
def test_ltx_2_uses_the_statistics_of_its_checkpoint(scaling: float) -> None:
    config = config_of("ltx20", scaling_factor=scaling, **LTX_STATISTICS)
    z = latents_of(config)
    mean, std = (torch.tensor(LTX_STATISTICS[name]) for name in ("latents_mean", "latents_std"))
    # The pipeline has no public names for them.
    scale, unscale = LTX2Pipeline._normalize_latents, LTX2Pipeline._denormalize_latents  # noqa: SLF001
    for ours, theirs in ((scale_latents, scale), (unscale_latents, unscale)):
        wanted = theirs(torch.from_numpy(z), mean, std, scaling).numpy()
        np.testing.assert_allclose(ours(z, config), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("flux2")])  # those in test_flux2.py
def test_scaling_there_and_back_is_the_identity(name: str) -> None:
    config = config_of(name)
    z = latents_of(config)
    for there, back in ((scale_latents, unscale_latents), (unscale_latents, scale_latents)):
        result = back(there(z, config), config)
        assert result.dtype == np.float32
        assert result.flags.owndata
        np.testing.assert_allclose(result, z, rtol=1e-5, atol=1e-5)
