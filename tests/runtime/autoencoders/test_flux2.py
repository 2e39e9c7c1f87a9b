"""FLUX.2: its folders and original files, its networks, and its packed and normalised latents, against diffusers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import ALL, diffusers_model, relative_error
from click.testing import CliRunner
from diffusers.pipelines.flux2.pipeline_flux2 import Flux2Pipeline
from originals import ldm_tensors
from safetensors.numpy import load_file, save_file

from latentrt.cli.main import cli
from latentrt.export import VerifySettings, verify_bundle
from latentrt.export.bundle import ExportSettings, export_bundle
from latentrt.export.checkpoints import open_checkpoint
from latentrt.export.convert import convert_checkpoint
from latentrt.runtime import AutoencoderKL, AutoencoderKLFlux2, open_bundle
from latentrt.runtime.arrays.latents import scale_latents, unscale_latents
from latentrt.runtime.config.families import config_from_dict
from latentrt.runtime.errors import BundleError, CheckpointError, ConfigError, InputError
from latentrt.runtime.files.decoded_file import decode_file
from latentrt.runtime.files.encoded_file import encode_file
from latentrt.runtime.media.pictures.picture_file import read_picture, write_picture

WEIGHTS = "diffusion_pytorch_model.safetensors"
PIPELINE: Any = Flux2Pipeline
# The pipeline has no public names for them.
patchify, unpatchify = PIPELINE._patchify_latents, PIPELINE._unpatchify_latents  # noqa: SLF001
NAMES = ["flux2", "flux2_small_decoder"]
COUNTER = "bn.num_batches_tracked"


def original_names(folder: Path) -> dict[str, np.ndarray]:
    """The folder's tensors as black-forest-labs' files name them: quant convolutions inside encoder and decoder."""
    renamed = {}
    for name, value in ldm_tensors(load_file(folder / WEIGHTS)).items():
        inner = f"encoder.{name}" if name.startswith("quant_conv") else name
        renamed[f"decoder.{name}" if name.startswith("post_quant_conv") else inner] = value
    return renamed


@pytest.mark.parametrize("name", NAMES)
def test_the_original_file_gives_the_folders_tensors_and_config(
    name: str, tmp_path: Path, checkpoint_of: Callable[[str], Path]
) -> None:
    save_file(original_names(checkpoint_of(name)), tmp_path / "flux2-vae.safetensors")
    original, folder = open_checkpoint(tmp_path / "flux2-vae.safetensors"), open_checkpoint(checkpoint_of(name))
    assert original.config == folder.config
    assert original.variant == folder.variant == "FLUX.2"
    expected = load_file(checkpoint_of(name) / WEIGHTS)
    assert original.tensors.keys() == folder.tensors.keys() == expected.keys() - {COUNTER}
    for key, tensor in original.tensors.items():
        np.testing.assert_array_equal(tensor.read(), expected[key], err_msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_a_converted_file_is_what_diffusers_reads(
    name: str, tmp_path: Path, checkpoint_of: Callable[[str], Path]
) -> None:
    import diffusers

    save_file(original_names(checkpoint_of(name)), tmp_path / "flux2-vae.safetensors")
    convert_checkpoint(tmp_path / "flux2-vae.safetensors", tmp_path / "folder")
    loader: Any = diffusers.AutoencoderKLFlux2
    theirs = loader.from_pretrained(tmp_path / "folder").state_dict()
    original = diffusers_model(ALL[name]).state_dict()
    assert theirs.keys() == original.keys()
    assert all(torch.equal(theirs[key], value) for key, value in original.items())


@pytest.mark.parametrize("name", NAMES)
def test_scaling_is_what_the_pipeline_does_around_the_vae(name: str, bundle_of: Callable[[str], Path]) -> None:
    model = diffusers_model(ALL[name])
    latents = np.random.default_rng(0).standard_normal((2, 8, 4, 6)).astype(np.float32)
    # As the pipeline has it where it encodes a picture, and backwards where it decodes.
    mean = model.bn.running_mean.view(1, -1, 1, 1)
    std = torch.sqrt(model.bn.running_var.view(1, -1, 1, 1) + model.config.batch_norm_eps)
    wanted = (patchify(torch.from_numpy(latents)) - mean) / std
    with open_bundle(bundle_of(name)) as vae:
        assert isinstance(vae, AutoencoderKLFlux2)
        scaled = vae.scale_latents(latents)
        assert scaled.dtype == np.float32
        np.testing.assert_allclose(scaled, wanted.numpy(), rtol=1e-5, atol=1e-5)
        unscaled = vae.unscale_latents(scaled)
        theirs = unpatchify(torch.from_numpy(scaled) * std + mean).numpy()
        np.testing.assert_allclose(unscaled, theirs, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(unscaled, latents, rtol=1e-5, atol=1e-5)
        assert unscaled.flags.owndata
        assert scaled.flags.owndata


def test_latents_that_cannot_be_packed_are_refused(bundle_of: Callable[[str], Path]) -> None:
    with open_bundle(bundle_of("flux2")) as vae:
        with pytest.raises(InputError, match=r"must be even, got \(3, 4\).*multiple of 16 pixels high and 16 wide"):
            vae.scale_latents(np.zeros((1, 8, 3, 4), np.float32))
        with pytest.raises(InputError, match="32"):
            vae.unscale_latents(np.zeros((1, 8, 4, 4), np.float32))
    config = config_from_dict(ALL["flux2"])
    for function in (scale_latents, unscale_latents):
        with pytest.raises(ConfigError, match="needs bn_running_mean and bn_running_var"):
            function(np.zeros((1, 8, 4, 4), np.float32), config)


def test_the_bundle_keeps_the_statistics_and_opens_as_its_family(
    bundle_of: Callable[[str], Path], checkpoint_of: Callable[[str], Path]
) -> None:
    stored = load_file(checkpoint_of("flux2") / WEIGHTS)
    with open_bundle(bundle_of("flux2")) as vae:
        np.testing.assert_array_equal(np.array(vae.config.latents_mean, np.float32), stored["bn.running_mean"])
        deviation = np.sqrt(stored["bn.running_var"].astype(np.float64) + 1e-4)
        np.testing.assert_allclose(np.array(vae.config.latents_std), deviation, rtol=1e-12)
    manifest = json.loads((bundle_of("flux2") / "manifest.json").read_text())
    assert len(manifest["latent_statistics"]["latents_std"]) == 32
    with pytest.raises(BundleError, match="holds an AutoencoderKLFlux2, not an AutoencoderKL"):
        AutoencoderKL.from_pretrained(bundle_of("flux2"))


def test_a_picture_goes_through_scaled_and_unscaled_latents(tmp_path: Path, bundle_of: Callable[[str], Path]) -> None:
    rows, columns = np.mgrid[0:48, 0:64]
    write_picture(tmp_path / "in.png", np.stack([rows * 5, columns * 3, rows + columns], -1).astype(np.uint8))
    with open_bundle(bundle_of("flux2"), threads=1) as vae:
        for scaled in (False, True):
            encode_file(vae, tmp_path / "in.png", tmp_path / f"{scaled}.safetensors", scaled=scaled)
            decode_file(vae, tmp_path / f"{scaled}.safetensors", tmp_path / f"{scaled}.png")
    plain, packed = (load_file(tmp_path / f"{scaled}.safetensors")["latents"] for scaled in (False, True))
    assert (plain.shape, packed.shape) == ((1, 8, 6, 8), (1, 32, 3, 4))
    difference = read_picture(tmp_path / "True.png").astype(int) - read_picture(tmp_path / "False.png")
    assert np.abs(difference).max() <= 1


@pytest.mark.slow
def test_verify_compares_with_the_reference(tmp_path: Path, checkpoint_of: Callable[[str], Path]) -> None:
    settings = ExportSettings(attention="eager", fuse_qkv=False)
    export_bundle(checkpoint_of("flux2_small_decoder"), tmp_path / "bundle", settings)
    report = verify_bundle(tmp_path / "bundle", checkpoint_of("flux2_small_decoder"), VerifySettings(threads=1))
    assert report.passed
    assert report.comparisons


def test_the_decode_of_scaled_latents_is_the_pipelines(bundle_of: Callable[[str], Path]) -> None:
    model = diffusers_model(ALL["flux2"])
    diffusion = np.random.default_rng(1).standard_normal((1, 32, 2, 3)).astype(np.float32)
    std = torch.sqrt(model.bn.running_var.view(1, -1, 1, 1) + model.config.batch_norm_eps)
    theirs = torch.from_numpy(diffusion) * std + model.bn.running_mean.view(1, -1, 1, 1)
    with torch.no_grad(), open_bundle(bundle_of("flux2"), threads=1) as vae:
        wanted = model.decode(unpatchify(theirs)).sample.numpy()
        assert relative_error(vae.decode(vae.unscale_latents(diffusion)).sample, wanted) < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_tiles_are_those_of_diffusers(name: str, bundle_of: Callable[[str], Path]) -> None:
    model = diffusers_model(ALL[name])
    model.enable_tiling()
    model.tile_sample_min_size, model.tile_latent_min_size = 64, 8
    latents = np.random.default_rng(2).standard_normal((1, 8, 14, 18)).astype(np.float32)
    vae: Any
    with torch.no_grad(), open_bundle(bundle_of(name), threads=1) as vae:
        vae.enable_tiling(blend="diffusers", tile_sample_min_size=64)
        sample = vae.decode(latents).sample
        assert relative_error(sample, model.decode(torch.from_numpy(latents)).sample.numpy()) < 1e-4
        wanted = model.encode(torch.from_numpy(sample)).latent_dist.parameters.numpy()
        assert relative_error(vae.encode(sample).latent_dist.parameters, wanted) < 1e-4
        vae.enable_tiling(tile_sample_min_size=64)
        assert vae.decode(latents).sample.shape == sample.shape


def test_it_takes_no_scaling_factor(tmp_path: Path, checkpoint_of: Callable[[str], Path]) -> None:
    arguments = ["export", str(checkpoint_of("flux2")), str(tmp_path / "bundle"), "--scaling-factor", "0.5"]
    with pytest.raises(ConfigError, match="AutoencoderKLFlux2 has no scaling_factor: leave --scaling-factor out"):
        CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []


def test_without_the_statistics_it_is_refused(tmp_path: Path, checkpoint_of: Callable[[str], Path]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text((checkpoint_of("flux2") / "config.json").read_text())
    stored = load_file(checkpoint_of("flux2") / WEIGHTS)
    save_file(
        {name: value for name, value in stored.items() if "running_var" not in name}, tmp_path / "model" / WEIGHTS
    )
    with pytest.raises(CheckpointError, match=r"1 tensors are missing \(bn\.running_var\)"):
        open_checkpoint(tmp_path / "model")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"patch_size": [1, 1]}, r"patch_size must be \[2, 2\]"),
        ({"decoder_block_out_channels": [32, 32]}, "as many entries as block_out_channels"),
        ({"decoder_block_out_channels": [32, 32, 32, 33]}, "multiple of norm_num_groups"),
        ({"batch_norm_eps": 0}, "batch_norm_eps must be a positive number"),
        ({"bn_running_mean": [0.0] * 32}, "come together"),
        ({"bn_running_mean": [0.0] * 8, "bn_running_var": [1.0] * 8}, r"one finite number per latent channel \(32\)"),
        ({"bn_running_mean": [0.0] * 32, "bn_running_var": [-1.0] * 32}, "must not be negative"),
    ],
)
def test_a_config_that_is_wrong_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        config_from_dict(ALL["flux2"] | changes)
