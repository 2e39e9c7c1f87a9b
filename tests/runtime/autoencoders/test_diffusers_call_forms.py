"""The calls that code for diffusers makes: a script written for diffusers' VAE runs with only its import changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import ALL, latents_of, picture, relative_error

from latentrt.runtime import InputError

Opened = Callable[..., Any]

IMAGE_SCRIPT = """
from {module} import AutoencoderKL

vae = AutoencoderKL.from_pretrained(folder)
vae.enable_slicing()
encoded = vae.encode(x, return_dict=False)[0]
latents = encoded.mode() * vae.config.scaling_factor
picture = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
same = vae.decode(latents / vae.config.scaling_factor).sample
first = vae.decode(encoded.mode())[0]
by_place = vae.decode(encoded.mode(), False)[0]
round_trip = vae(x).sample
size = len(vae.decode(encoded.mode()))
vae.disable_slicing()
flags = (vae.use_slicing, vae.use_tiling)
vae.use_slicing = True
vae.use_tiling = False
results = [latents, picture, same, first, by_place, round_trip]
"""

VIDEO_SCRIPT = """
from {module} import AutoencoderKLLTX2Video

vae = AutoencoderKLLTX2Video.from_pretrained(folder)
latents = vae.encode(x).latent_dist.mode()
clip = vae.decode(latents, timestep, return_dict=False)[0]
same = vae.decode(latents, temb=timestep)[0]
results, flags, size = [latents, clip, same], (vae.use_slicing, vae.use_tiling), len(vae.decode(latents, timestep))
"""


def run(script: str, module: str, folder: Path, **arrays: Any) -> dict[str, Any]:
    names = {"folder": folder, **arrays}
    with torch.no_grad():
        exec(script.format(module=module), names)
    return names


@pytest.mark.parametrize(("name", "script"), [("sd", IMAGE_SCRIPT), ("flux", IMAGE_SCRIPT), ("timestep", VIDEO_SCRIPT)])
def test_a_script_for_diffusers_runs_with_only_the_import_changed(
    name: str, script: str, checkpoint_of: Callable[[str], Path], bundle_of: Callable[[str], Path]
) -> None:
    x = picture(ALL[name], batch=2, frames=9, height=64, width=64)
    steps = np.array([0.05, 0.3], np.float32)
    ours = run(script, "latentrt.runtime", bundle_of(name), x=x, timestep=steps)
    tensors = {"x": torch.from_numpy(x), "timestep": torch.from_numpy(steps)}
    theirs = run(script, "diffusers", checkpoint_of(name), **tensors)
    assert (ours["flags"], ours["size"]) == (theirs["flags"], theirs["size"])
    for mine, wanted in zip(ours["results"], theirs["results"], strict=True):
        assert relative_error(mine, wanted.numpy()) < 1e-4


def test_outputs_are_indexed_and_unpacked_as_tuples(opened: Opened) -> None:
    vae = opened("sd")
    z = latents_of(vae, (8, 8))
    out = vae.decode(z)
    (sample,) = out
    assert sample is out[0] is out["sample"] is out.sample is out[-1] is out.to_tuple()[0]
    assert (len(out), out[:1][0] is sample, len(out[1:])) == (1, True, 0)
    assert isinstance(vae.decode(z, return_dict=False), tuple)
    assert isinstance(vae.tiled_decode(z, return_dict=False), tuple)
    x = np.zeros((1, 3, 64, 64), np.float32)
    assert isinstance(vae.encode(x, return_dict=False), tuple)
    assert isinstance(vae.tiled_encode(x, return_dict=False), tuple)
    assert isinstance(vae(x, return_dict=False), tuple)
    encoded = vae.encode(x)
    assert encoded[0] is encoded["latent_dist"] is encoded.latent_dist
    with pytest.raises(IndexError):
        out[1]
    with pytest.raises(KeyError):
        out["exact"]


def test_a_posterior_samples_with_a_generator_a_seed_or_one_for_each_element(opened: Opened) -> None:
    dist = opened("sd").encode(np.zeros((2, 3, 64, 64), np.float32)).latent_dist
    drawn = dist.sample(np.random.default_rng(3))
    for again in (dist.sample(3), dist.sample(generator=3), dist.sample(rng=3), dist.sample([3])):
        np.testing.assert_array_equal(again, drawn)
    np.testing.assert_array_equal(dist.sample(generator=[3, 4])[:1], drawn[:1])
    for wrong in ([1, 2, 3], torch.Generator(), "seed", None):
        with pytest.raises(InputError):
            dist.sample(generator=wrong)
    with pytest.raises(InputError, match="give one of them"):
        dist.sample(3, generator=3)


def test_generator_is_another_name_of_rng_for_noise_and_for_round_trips(opened: Opened) -> None:
    vae = opened("noise")
    z = latents_of(vae, (2, 2, 2))
    wanted = vae.decode(z, rng=5)[0]
    np.testing.assert_array_equal(vae.decode(z, generator=np.random.default_rng(5))[0], wanted)
    assert not np.array_equal(vae.decode(z, generator=6)[0], wanted)
    x = np.zeros((1, 3, 9, 64, 64), np.float32)
    both = [vae(x, True, **{name: 2})[0] for name in ("rng", "generator")]
    np.testing.assert_array_equal(*both)


def test_tiling_and_slicing_are_switched_by_attributes(opened: Opened) -> None:
    vae = opened("sd")
    vae.enable_tiling(tile_sample_min_size=64)
    settings = vae.settings
    vae.use_tiling = False
    assert (vae.use_tiling, vae.settings.tiling) == (False, None)
    vae.use_tiling = True
    assert vae.use_tiling
    assert vae.settings == settings
    vae.use_slicing = True
    assert vae.use_slicing
    assert vae.settings.sliced
    with pytest.raises(InputError, match="wanted True or False"):
        vae.use_tiling = 1
