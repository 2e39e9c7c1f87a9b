"""Packed latents of FLUX pipelines: unpacked as diffusers unpacks them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import FLUX_2, KL
from diffusers import Flux2Pipeline, FluxPipeline
from safetensors.numpy import save_file

from latentrt.runtime import AutoencoderKLConfig, AutoencoderKLFlux2Config, InputError, decode_file, open_bundle
from latentrt.runtime.arrays.packed_latents import is_packed, unpacked_latents

RANDOM = np.random.default_rng(0)
FLUX = AutoencoderKLConfig.from_dict(KL["flux"])
FLUX2 = AutoencoderKLFlux2Config.from_dict(FLUX_2)
SIZES = [(64, 96), (64, 64), (70, 111), (16, 16)]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("batch", [1, 2])
def test_flux_latents_are_unpacked_as_the_pipeline_does(height: int, width: int, batch: int) -> None:
    packed = RANDOM.standard_normal((batch, (height // 16) * (width // 16), 64), np.float32)
    wanted = FluxPipeline._unpack_latents(torch.from_numpy(packed), height, width, 8)  # noqa: SLF001
    assert is_packed(packed, FLUX)
    np.testing.assert_array_equal(unpacked_latents(packed, FLUX, height, width), wanted.numpy())


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_flux2_latents_are_unpacked_as_the_pipeline_does(height: int, width: int) -> None:
    side, channels = 2 * FLUX2.spatial_ratio, FLUX2.diffusion_channels
    whole = RANDOM.standard_normal((2, channels, height // side, width // side), np.float32)
    packed = Flux2Pipeline._pack_latents(torch.from_numpy(whole))  # noqa: SLF001
    ids = Flux2Pipeline._prepare_latent_ids(torch.from_numpy(whole))  # noqa: SLF001
    wanted = Flux2Pipeline._unpack_latents_with_ids(packed, ids)  # noqa: SLF001
    assert is_packed(packed.numpy(), FLUX2)
    unpacked = unpacked_latents(packed.numpy(), FLUX2, height, width)
    np.testing.assert_array_equal(unpacked, wanted.numpy())
    np.testing.assert_array_equal(unpacked, whole)


def test_latents_of_one_picture_are_not_packed() -> None:
    for shape in ((16, 64, 64), (16, 8, 12), (1, 16, 64, 64), (16, 64)):
        assert not is_packed(np.zeros(shape, np.float32), FLUX)


def test_the_size_is_never_guessed() -> None:
    packed = np.zeros((1, 16, 64), np.float32)
    with pytest.raises(
        InputError, match=r"give size, the height and width in pixels .* such as 64x64, because another"
    ):
        unpacked_latents(packed, FLUX, None, None)
    with pytest.raises(InputError, match="a picture of 64x96 pixels has 24 tokens"):
        unpacked_latents(packed, FLUX, 64, 96)


def test_a_file_of_packed_latents_decodes_as_the_pipeline_does(
    bundle_of: Callable[[str], Path], tmp_path: Path
) -> None:
    with open_bundle(bundle_of("flux"), backend="onnxruntime") as vae:
        packed = RANDOM.standard_normal((1, 24, 64), np.float32)
        save_file({"latents": packed}, tmp_path / "a.safetensors")
        save_file({"latents": packed[:, :23]}, tmp_path / "b.safetensors")
        latents = FluxPipeline._unpack_latents(torch.from_numpy(packed), 64, 96, 8)  # noqa: SLF001
        raw = (latents / 0.3611 + 0.1159).numpy()  # as the pipeline's own lines
        wanted = vae.decode(raw).sample
        for scaled in (True, False):
            decode_file(
                vae,
                tmp_path / "a.safetensors",
                tmp_path / "a.npy",
                size=(64, 96),
                scaled=scaled,
                overwrite=True,
            )
            np.testing.assert_allclose(np.load(tmp_path / "a.npy"), wanted, rtol=0, atol=2e-5)
        with pytest.raises(InputError, match=r"a\.safetensors holds packed latents .*give size"):
            decode_file(vae, tmp_path / "a.safetensors", tmp_path / "b.png")
        with pytest.raises(InputError, match="has 24 tokens"):
            decode_file(vae, tmp_path / "b.safetensors", tmp_path / "b.png", size=(64, 96))


def test_a_batch_of_as_many_as_channels_is_packed_if_the_size_says_so() -> None:
    packed = RANDOM.standard_normal((FLUX.latent_channels, 4 * 6, 4 * FLUX.latent_channels), np.float32)
    assert not is_packed(packed, FLUX), "without a size these may be latents of one picture"
    side = 2 * FLUX.spatial_ratio
    assert is_packed(packed, FLUX, 4 * side, 6 * side)
    assert not is_packed(packed, FLUX, 4 * side, 5 * side)
