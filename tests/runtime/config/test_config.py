"""Configs: what diffusers accepts is accepted, what cannot run is one sentence, and nothing is guessed."""

import dataclasses
import inspect
import logging
from typing import Any

import diffusers
import pytest
import torch
from architectures import ALL, KL_BASE, LTX_20

from latentrt.export.models.reference_model import model_from_config
from latentrt.runtime.config.families import config_from_dict
from latentrt.runtime.config.kl import AutoencoderKLConfig
from latentrt.runtime.config.ltx2 import AutoencoderKLLTX2VideoConfig
from latentrt.runtime.config.model_config import NoiseStack
from latentrt.runtime.errors import ConfigError

FULL_KL = KL_BASE | {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2}
NO_QUANT = {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
LTX_COMMON = {
    "_class_name": "AutoencoderKLLTX2Video",
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 128,
    "down_block_types": ["LTX2VideoDownBlock3D"] * 4,
    "spatio_temporal_scaling": [True] * 4,
    "downsample_type": ["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
    "timestep_conditioning": False,
    "patch_size": 4,
    "patch_size_t": 1,
    "resnet_norm_eps": 1e-6,
    "encoder_causal": True,
    "decoder_causal": False,
    "encoder_spatial_padding_mode": "zeros",
}
# The configs of released models (diffusers' scripts/convert_ltx2_to_diffusers.py and the vae folders on the Hub).
REAL: dict[str, dict[str, Any]] = {
    "sd15": FULL_KL | {"_diffusers_version": "0.6.0", "act_fn": "silu", "in_channels": 3},
    "sdxl": FULL_KL | {"sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True, "latents_mean": None},
    "sd3": FULL_KL | NO_QUANT | {"sample_size": 1024, "scaling_factor": 1.5305, "shift_factor": 0.0609},
    "flux": FULL_KL | NO_QUANT | {"sample_size": 1024, "scaling_factor": 0.3611, "shift_factor": 0.1159},
    "ltx20": LTX_COMMON
    | {
        "block_out_channels": [256, 512, 1024, 2048],
        "decoder_block_out_channels": [256, 512, 1024],
        "layers_per_block": [4, 6, 6, 2, 2],
        "decoder_layers_per_block": [5, 5, 5, 5],
        "decoder_spatio_temporal_scaling": [True] * 3,
        "decoder_inject_noise": [False] * 4,
        "upsample_type": ["spatiotemporal"] * 3,
        "upsample_residual": [True] * 3,
        "upsample_factor": [2, 2, 2],
        "decoder_spatial_padding_mode": "reflect",
    },
    "ltx23": LTX_COMMON
    | {
        "block_out_channels": [256, 512, 1024, 1024],
        "decoder_block_out_channels": [256, 512, 512, 1024],
        "layers_per_block": [4, 6, 4, 2, 2],
        "decoder_layers_per_block": [4, 6, 4, 2, 2],
        "decoder_spatio_temporal_scaling": [True] * 4,
        "decoder_inject_noise": [False] * 5,
        "upsample_type": ["spatiotemporal", "spatiotemporal", "temporal", "spatial"],
        "upsample_residual": [False] * 4,
        "upsample_factor": [2, 2, 1, 2],
        "decoder_spatial_padding_mode": "zeros",
    },
}


@pytest.mark.parametrize("name", REAL)
def test_the_configs_of_released_models_give_the_parameters_of_diffusers(name: str) -> None:
    config = config_from_dict(REAL[name])
    with torch.device("meta"):
        ours = model_from_config(config)
        values = {key: value for key, value in REAL[name].items() if not key.startswith("_")}
        theirs = getattr(diffusers, REAL[name]["_class_name"])(**values)
    shapes = {key: tuple(value.shape) for key, value in ours.state_dict().items()}
    assert shapes == {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert (config.spatial_ratio, config.temporal_ratio) == ((32, 8) if name.startswith("ltx") else (8, 1))


@pytest.mark.parametrize("kind", [AutoencoderKLConfig, AutoencoderKLLTX2VideoConfig])
def test_fields_and_defaults_are_those_of_diffusers(kind: Any) -> None:
    parameters = inspect.signature(getattr(diffusers, kind.family).__init__).parameters
    theirs = {name: parameter.default for name, parameter in parameters.items() if name != "self"}
    ours = {field.name: field.default for field in dataclasses.fields(kind)}
    own = {"scaling_factor"} if kind is AutoencoderKLConfig else {"latents_mean", "latents_std"}  # LTX-2: buffers
    assert theirs.keys() == ours.keys() - (own - theirs.keys())
    differing = {name for name, default in theirs.items() if ours[name] != default}
    assert differing <= own, "AutoencoderKL's scaling factor is never guessed"


@pytest.mark.parametrize("name", [*ALL, *REAL])
def test_every_field_survives_the_way_to_json_and_back(name: str) -> None:
    values = (ALL | REAL)[name]
    config = config_from_dict(values)
    stored = config.to_dict()
    assert config_from_dict(stored) == config
    assert {key: stored[key] for key in values if not key.startswith("_diffusers")} == {
        key: value for key, value in values.items() if not key.startswith("_diffusers")
    }
    assert stored.keys() == {"_class_name", *(field.name for field in dataclasses.fields(config))}


def test_a_config_that_leaves_out_what_has_a_default_is_taken() -> None:
    assert AutoencoderKLConfig.from_dict({"scaling_factor": 0.5}).block_out_channels == (64,)
    assert AutoencoderKLLTX2VideoConfig.from_dict({}).spatial_ratio == 32


def test_fields_of_a_newer_diffusers_are_ignored_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        config_from_dict(KL_BASE | {"flavour": "lemon", "_name_or_path": "x"})
    assert [record.message for record in caplog.records] == [
        "AutoencoderKL: config fields that are not known here are ignored: flavour"
    ]


def test_a_missing_scaling_factor_is_an_error_that_names_the_option_and_diffusers_default() -> None:
    values = {key: value for key, value in KL_BASE.items() if key != "scaling_factor"}
    with pytest.raises(ConfigError, match=r"--scaling-factor .*0\.18215"):
        config_from_dict(values)
    with pytest.raises(ConfigError, match="scaling_factor"):
        config_from_dict(values | {"scaling_factor": None})


BAD_KL: list[tuple[dict[str, Any], str]] = [
    ({"_class_name": None}, "AutoencoderKL, AutoencoderKLFlux2, AutoencoderKLLTX2Video, got None"),
    ({"_class_name": "AutoencoderKLWan"}, "got 'AutoencoderKLWan'"),
    ({"_class_name": ["AutoencoderKL"]}, "_class_name must be one of"),
    ({"in_channels": 0}, "in_channels must be a whole number of at least 1, got 0"),
    ({"in_channels": "3"}, "in_channels must be a whole number"),
    ({"latent_channels": 4.0}, "latent_channels must be a whole number"),
    ({"layers_per_block": True}, "layers_per_block must be a whole number"),
    ({"norm_num_groups": None}, "norm_num_groups must be a whole number"),
    ({"use_quant_conv": 1}, "use_quant_conv must be true or false, got 1"),
    ({"mid_block_add_attention": "yes"}, "mid_block_add_attention must be true or false"),
    ({"block_out_channels": 128}, "block_out_channels must be a list of whole numbers"),
    ({"block_out_channels": []}, "block_out_channels must be a list of whole numbers"),
    ({"block_out_channels": [32, 64, 64, -64]}, "block_out_channels must be a list of whole numbers"),
    ({"block_out_channels": [32, 64, [64], 64]}, "block_out_channels must be a list of whole numbers"),
    ({"block_out_channels": [32, 64, 64, 48]}, r"multiple of norm_num_groups \(32\), got 48"),
    ({"block_out_channels": [32, 64]}, r"down_block_types must name one block per entry .*\(2\), got 4"),
    ({"down_block_types": ["DownEncoderBlock2D"] * 3 + ["AttnDownEncoderBlock2D"]}, "supported: DownEncoderBlock2D"),
    ({"up_block_types": ["UpDecoderBlock2D"] * 3 + ["UpDecoderBlock3D"]}, "supported: UpDecoderBlock2D"),
    ({"up_block_types": "UpDecoderBlock2D"}, "up_block_types must be a list of names"),
    ({"act_fn": "tanh"}, "'tanh', which is not supported; supported: gelu, mish, relu, silu, swish"),
    ({"act_fn": ["silu"]}, "act_fn names"),
    ({"scaling_factor": 0}, "scaling_factor must be a positive number, got 0"),
    ({"scaling_factor": "0.18215"}, "scaling_factor must be a positive number"),
    ({"scaling_factor": float("nan")}, "scaling_factor must be a positive number"),
    ({"scaling_factor": 10**400}, "scaling_factor must be a positive number"),
    ({"shift_factor": float("inf")}, "shift_factor must be a number"),
    ({"latents_mean": [0.0] * 4}, "latents_mean and latents_std come together"),
    ({"latents_mean": [0.0] * 3, "latents_std": [1.0] * 3}, r"one finite number per latent channel \(4\), got 3"),
    ({"latents_mean": [0.0] * 4, "latents_std": [1.0, 1.0, 0.0, 1.0]}, "latents_std must be positive"),
    ({"latents_mean": ["0"] * 4, "latents_std": [1.0] * 4}, "latents_mean must hold"),
]
BAD_LTX: list[tuple[dict[str, Any], str]] = [
    ({"patch_size_t": 2}, "patch_size_t must be 1 .*diffusers' own code fails on it.*, got 2"),
    ({"patch_size": 0}, "patch_size must be a whole number"),
    ({"timestep_conditioning": "no"}, "timestep_conditioning must be true or false"),
    ({"down_block_types": ["LTXVideoDownBlock3D"] * 4}, "supported: LTX2VideoDownBlock3D"),
    ({"downsample_type": ["spatial", "temporal", "depth", "spatial"]}, "spatial, temporal, spatiotemporal, conv"),
    ({"upsample_type": ["spatiotemporal", "conv", "spatial"]}, "supported: spatial, temporal, spatiotemporal"),
    ({"decoder_spatial_padding_mode": "replicate"}, "must be one of reflect, zeros, got 'replicate'"),
    ({"layers_per_block": [2, 1, 1, 1]}, "layers_per_block needs 5 entries .*, got 4"),
    ({"layers_per_block": [2, 1, 1, 1, -1]}, "layers_per_block must be a list of whole numbers of at least 0"),
    ({"upsample_factor": [2, 2]}, "upsample_factor needs 3 entries"),
    ({"spatio_temporal_scaling": [True, True]}, "spatio_temporal_scaling needs 4 entries"),
    ({"spatio_temporal_scaling": "true"}, "spatio_temporal_scaling must be true, false, or a list of these"),
    ({"decoder_spatio_temporal_scaling": [1, 1, 1]}, "decoder_spatio_temporal_scaling must be true, false, or a list"),
    ({"decoder_inject_noise": None}, "decoder_inject_noise must be true, false, or a list"),
    ({"upsample_residual": 0}, "upsample_residual must be true, false, or a list"),
    ({"block_out_channels": [16, 32, 64, 100]}, "encoder block 3 packs 64 channels in groups of 8 into 100"),
    ({"decoder_block_out_channels": [16, 32, 48]}, "decoder block 1 takes 32 channels but gets 24"),
    ({"upsample_factor": [2, 2, 3]}, "decoder block 0 unpacks 64 channels by 8 with upsample_factor 3"),
    ({"decoder_spatio_temporal_scaling": [False, True, True]}, "does not upsample, so its upsample_factor must be 1"),
    ({"patch_size": 4, "upsample_type": ["spatial"] * 3}, "encoder and decoder must scale alike"),
    ({"resnet_norm_eps": -1e-6}, "resnet_norm_eps must be a positive number"),
]


@pytest.mark.parametrize(("changes", "sentence"), BAD_KL, ids=lambda value: str(value)[:50])
def test_a_bad_image_config_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    refuse(KL_BASE | changes, sentence)


@pytest.mark.parametrize(("changes", "sentence"), BAD_LTX, ids=lambda value: str(value)[:50])
def test_a_bad_video_config_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    refuse(LTX_20 | changes, sentence)


def refuse(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        config_from_dict(values)
    assert "\n" not in str(caught.value)


def test_configs_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        config_from_dict(KL_BASE).scaling_factor = 1.0  # type: ignore[misc]


def test_noise_is_listed_in_the_order_in_which_the_decoder_draws_it() -> None:
    config = config_from_dict(ALL["noise"])
    assert isinstance(config, AutoencoderKLLTX2VideoConfig)
    # decoder_inject_noise is listed from the picture: [up 2, up 1, up 0, mid]
    assert config.noise_stacks == (
        NoiseStack(0, 2, 1),
        NoiseStack(1, 2, 2),
        NoiseStack(3, 2, 8),
    )


def test_only_reflect_padding_asks_for_two_latent_cells() -> None:
    config = config_from_dict(LTX_20)
    assert (config.min_latent_size("encoder"), config.min_latent_size("decoder")) == (1, 2)
    other = config_from_dict(ALL["ltx23"])
    assert (other.min_latent_size("encoder"), other.min_latent_size("decoder")) == (1, 1)
    assert config_from_dict(KL_BASE).min_latent_size("decoder") == 1
