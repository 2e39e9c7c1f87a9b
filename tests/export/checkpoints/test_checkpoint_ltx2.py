"""LTX-2's original files: alone and combined, with and without the description in the header."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from architectures import ALL, diffusers_model, relative_error
from checkpoint_checks import assert_same, refuse
from originals import FULL_LTX_20, FULL_LTX_23, description_of, ltx2_tensors, write_sparse
from safetensors.numpy import save_file

from latentrt.export.bundle import export_bundle
from latentrt.export.checkpoints import open_checkpoint
from latentrt.export.checkpoints.parameters.of_config import parameters_of
from latentrt.runtime import open_bundle
from latentrt.runtime.config.families import config_from_dict
from latentrt.runtime.errors import LatentRTError

PUBLISHED = ["ltx20", "ltx23"]
OTHER_MODELS = {
    "model.diffusion_model.patchify_proj.weight": np.ones((4, 4), np.float32),
    "audio_vae.encoder.conv_in.conv.weight": np.ones((4, 2, 3, 3), np.float32),
    "audio_vae.decoder.conv_in.conv.weight": np.ones((4, 2, 3, 3), np.float32),
    "audio_vae.per_channel_statistics.mean-of-means": np.full(128, 9, np.float32),
    "audio_vae.per_channel_statistics.std-of-means": np.full(128, 9, np.float32),
    "vocoder.conv_pre.weight": np.ones(3, np.float32),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def header(name: str, **changes: Any) -> dict[str, str]:
    described = {key: value for key, value in (description_of(ALL[name]) | changes).items() if value is not None}
    return {"config": json.dumps({"transformer": {"_class_name": "AVTransformer3DModel"}, "vae": described})}


@pytest.mark.parametrize("prefix", ["vae.", ""])
@pytest.mark.parametrize("name", [*PUBLISHED, "timestep", "noise", "noise_timestep", "causal_decoder"])
def test_the_header_gives_the_folders_config_and_tensors(
    name: str,
    prefix: str,
    file: Path,
    tensors_of: Callable[[str], dict[str, np.ndarray]],
    checkpoint_of: Callable[[str], Path],
) -> None:
    save_file(ltx2_tensors(tensors_of(name), ALL[name], prefix), file, header(name))
    checkpoint = open_checkpoint(file)
    assert checkpoint.config == open_checkpoint(checkpoint_of(name)).config
    assert checkpoint.notes == ()
    assert_same(checkpoint, tensors_of(name))


@pytest.mark.parametrize("name", PUBLISHED)
def test_without_a_header_the_shapes_tell_and_what_is_assumed_is_said(
    name: str,
    file: Path,
    tensors_of: Callable[[str], dict[str, np.ndarray]],
    checkpoint_of: Callable[[str], Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    save_file(ltx2_tensors(tensors_of(name), ALL[name]), file)
    with caplog.at_level(logging.WARNING):
        checkpoint = open_checkpoint(file)
    assert "its header has no description; its upsamplers are those of LTX-2" in caplog.text
    assert checkpoint.config == open_checkpoint(checkpoint_of(name)).config
    assert_same(checkpoint, tensors_of(name))


@pytest.mark.parametrize("name", ["timestep", "noise", "noise_timestep"])
def test_a_file_without_a_header_that_may_be_of_ltx_video_is_refused(
    name: str, file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    """LTX-Video 0.9.5 has LTX-2.0's layout and another padding."""
    save_file(ltx2_tensors(tensors_of(name), ALL[name]), file)
    refuse(
        file,
        r"has no description of its VAE in its header, and holds decoder\..*, which LTX-Video has and no published",
    )


def test_a_header_of_ltx_video_that_leaves_the_padding_open_is_refused(
    file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    own = ltx2_tensors(tensors_of("timestep"), ALL["timestep"])
    config = json.loads(header("timestep")["config"]) | {"transformer": {"_class_name": "Transformer3DModel"}}
    save_file(own, file, {"config": json.dumps(config)})
    refuse(file, r"holds the VAE of LTX-Video \(Transformer3DModel in its header\).*give an LTX-2 checkpoint")
    config["vae"]["spatial_padding_mode"] = "zeros"
    save_file(own, file, {"config": json.dumps(config)})
    assert open_checkpoint(file).config.to_dict()["decoder_spatial_padding_mode"] == "zeros"


@pytest.mark.parametrize("statistics", [None, "", "vae.encoder.", "vae.decoder."])
def test_a_combined_file_gives_the_video_vae_and_its_own_statistics(
    statistics: str | None, file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    own = ltx2_tensors(tensors_of("ltx23"), ALL["ltx23"], statistics=statistics)
    save_file(OTHER_MODELS | own, file, header("ltx23"))
    checkpoint = open_checkpoint(file)
    assert_same(checkpoint, tensors_of("ltx23"))
    assert "inside a combined checkpoint" in checkpoint.format


def test_statistics_that_are_there_twice_must_agree(
    file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    own = ltx2_tensors(tensors_of("ltx20"), ALL["ltx20"])
    more = {name.replace("vae.", "vae.encoder."): value for name, value in own.items() if "statistics" in name}
    save_file(own | more, file, header("ltx20"))
    assert_same(open_checkpoint(file), tensors_of("ltx20"))
    save_file(own | {name: value + 1 for name, value in more.items()}, file, header("ltx20"))
    refuse(file, "per_channel_statistics.* more than once, with different values")


def test_without_statistics_a_file_is_refused(file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]) -> None:
    own = ltx2_tensors(tensors_of("ltx20"), ALL["ltx20"])
    kept = {name: value for name, value in own.items() if "statistics" not in name}
    save_file(kept | OTHER_MODELS, file, header("ltx20"))  # the audio VAE's are not taken instead
    refuse(file, r"2 tensors are missing \(latents_mean, latents_std\)")


def test_the_decode_is_that_of_diffusers_from_single_file(
    file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]], checkpoint_of: Callable[[str], Path]
) -> None:
    save_file(ltx2_tensors(tensors_of("ltx20"), ALL["ltx20"]), file, header("ltx20"))
    folder = str(checkpoint_of("ltx20"))
    theirs = diffusers.AutoencoderKLLTX2Video.from_single_file(str(file), config=folder).eval()
    assert_decodes_like(theirs, file)


def test_the_decode_of_ltx_23_is_that_of_diffusers_folder(
    file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    """diffusers' own single-file conversion leaves two blocks of LTX-2.3 out, so the folder is the reference."""
    save_file(ltx2_tensors(tensors_of("ltx23"), ALL["ltx23"]) | OTHER_MODELS, file, header("ltx23"))
    assert_decodes_like(diffusers_model(ALL["ltx23"]), file)


def assert_decodes_like(theirs: Any, file: Path) -> None:
    export_bundle(file, file.with_name("bundle"))
    latents = np.random.default_rng(0).standard_normal((1, 16, 2, 3, 2)).astype(np.float32)
    with open_bundle(file.with_name("bundle"), threads=1) as vae, torch.no_grad():
        decoded = vae.decode(latents).sample
        assert relative_error(decoded, theirs.decode(torch.from_numpy(latents)).sample.numpy()) < 1e-4
        np.testing.assert_array_equal(np.array(vae.config.latents_mean, np.float32), theirs.latents_mean.numpy())


@pytest.mark.parametrize(("full", "variant"), [(FULL_LTX_20, "LTX-2.0"), (FULL_LTX_23, "LTX-2.3 or 2.5")])
@pytest.mark.parametrize("described", [True, False])
def test_a_full_width_combined_file_is_recognised(
    full: dict[str, Any], variant: str, described: bool, file: Path
) -> None:
    config = config_from_dict(full)
    shapes = ltx2_tensors(parameters_of(config), config.to_dict())
    others = {name: value.shape for name, value in OTHER_MODELS.items()}
    big = {"model.diffusion_model.transformer_blocks.0.ff.net.0.proj.weight": (100_000, 100_000)}
    metadata = {"config": json.dumps({"vae": description_of(config.to_dict())})} if described else None
    write_sparse(file, others | shapes | big, metadata=metadata)
    checkpoint = open_checkpoint(file)
    assert checkpoint.config == config
    assert checkpoint.variant == variant
    write_sparse(file, shapes, metadata={"model_version": "2.5.0", **(metadata or {})})
    assert open_checkpoint(file).variant == "LTX-2.5.0"


def test_the_diffusion_decoder_of_ltx_25_is_refused_by_name(
    file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    own = ltx2_tensors(tensors_of("ltx23"), ALL["ltx23"])
    save_file(own, file, header("ltx23", _class_name="CausalDiffusionVAE"))
    refuse(file, r"LTX-2\.5's diffusion decoder \(CausalDiffusionVAE\), which is not supported: take")
    encoder = {name: value for name, value in own.items() if "decoder" not in name}
    alone = {"vae.decoder.det_stages.0.0.gate_msa": np.ones(4, np.float32)}
    for tensors in (encoder | alone, alone):
        save_file(tensors, file)
        refuse(file, r"LTX-2\.5's diffusion decoder \(CausalDiffusionVAE\)")


DESCRIPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "another depth": (
        {"encoder_blocks": description_of(ALL["ltx20"] | {"layers_per_block": [2, 1, 1, 1, 3]})["encoder_blocks"]},
        "tensors are missing",
    ),
    "another family": (
        {"decoder_blocks": description_of(ALL["ltx23"])["decoder_blocks"]},
        "do not fit|must scale alike",
    ),
    "conditioning": ({"timestep_conditioning": True}, "tensors are missing .decoder"),
    "no blocks": ({"encoder_blocks": None}, "encoder_blocks must be a list of blocks"),
    "empty blocks": ({"decoder_blocks": []}, "decoder_blocks must be a list of blocks"),
    "blocks are text": ({"decoder_blocks": "res_x"}, "decoder_blocks must be a list of blocks"),
    "a block is no pair": ({"decoder_blocks": [["res_x"]]}, "must hold pairs of a kind and its options"),
    "attention": ({"decoder_blocks": [["attn_res_x", {"num_layers": 1}]]}, "block 'attn_res_x' is not supported"),
    "two in a row": ({"decoder_blocks": [["res_x", 1], ["res_x", 1]]}, "two res_x blocks follow each other"),
    "a huge depth": ({"encoder_blocks": [["res_x", {"num_layers": 10**9}]]}, "num_layers must be a whole number"),
    "a great depth": (
        {"encoder_blocks": [["res_x", 10**6], *description_of(ALL["ltx20"])["encoder_blocks"][1:]]},
        "layers, and there are",
    ),
    "depth as text": ({"encoder_blocks": [["res_x", {"num_layers": "4"}]]}, "num_layers must be a whole number"),
    "residual as text": ({"decoder_blocks": [["compress_all", {"residual": "yes"}]]}, "residual must be true or false"),
    "another norm": ({"norm_layer": "group_norm"}, "norm_layer must be pixel_norm, got 'group_norm'"),
    "two dimensions": ({"dims": 2}, "dims must be 3, got 2"),
    "another padding": ({"spatial_padding_mode": "replicate"}, "padding_mode must be one of reflect, zeros"),
    "causality as text": ({"causal_decoder": "no"}, "decoder_causal must be true or false"),
    "another class": ({"_class_name": "Autoencoder3D"}, "holds a 'Autoencoder3D'; of LTX-2, CausalVideoAutoencoder"),
    "many latents": ({"latent_channels": 2**40}, "latent_channels must be a whole number"),
    "no latents": ({"latent_channels": 0}, "latent_channels must be a whole number"),
}


@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_a_description_that_contradicts_or_is_damaged_is_one_sentence(
    case: str, file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    changes, sentence = DESCRIPTIONS[case]
    save_file(ltx2_tensors(tensors_of("ltx20"), ALL["ltx20"]), file, header("ltx20", **changes))
    refuse(file, sentence, LatentRTError)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"vae": 1', "\0"])
def test_a_header_whose_config_is_no_json_is_one_sentence(
    text: str, file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    save_file(ltx2_tensors(tensors_of("ltx20"), ALL["ltx20"]), file, {"config": text})
    refuse(file, "the config in its header is not JSON")


@pytest.mark.parametrize("text", ["[]", "7", '{"vae": 1}', '{"transformer": {}}'])
def test_a_header_that_describes_no_vae_is_as_none(
    text: str, file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    save_file(ltx2_tensors(tensors_of("ltx20"), ALL["ltx20"]), file, {"config": text})
    assert_same(open_checkpoint(file), tensors_of("ltx20"))


def test_missing_extra_and_misshapen_tensors_are_named(
    file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    whole = ltx2_tensors(tensors_of("ltx20"), ALL["ltx20"])

    def saved(change: dict[str, Any], described: bool = True) -> Path:
        kept = {name: value for name, value in (whole | change).items() if value is not None}
        save_file(kept, file, header("ltx20") if described else None)
        return file

    gone = {"vae.encoder.down_blocks.3.conv.conv.weight": None}
    refuse(saved(gone), r"1 tensors are missing \(encoder\.down_blocks\.1\.downsamplers\.0\.conv\.conv\.weight\)")
    refuse(saved(gone, False), r"its tensors are not those of LTX-2 \('encoder\.down_blocks\.3\.conv\.conv\.weight'\)")
    refuse(saved({"vae.decoder.up_blocks.9.x": np.ones(1)}), r"not of this model \(decoder\.up_blocks\.9\.x\)")
    refuse(saved({"vae.decoder.up_blocks.9.x": np.ones(1)}, False), "blocks are missing among decoder.up_blocks")
    refuse(saved({"vae.decoder.conv_in.conv.weight": None}), "decoder.conv_in is missing")
    far = {f"vae.{side}_blocks.{'9' * 5000}.x": np.ones(1) for side in ("encoder.down", "decoder.up")}
    refuse(saved(far), "2 tensors are not of this model")
    refuse(saved({"vae.latents_mean": np.ones(16, np.float32)}), "holds latents_mean twice")
    wide = np.ones((9, 9, 3, 3, 3), np.float32)
    refuse(saved({"vae.decoder.up_blocks.1.conv.conv.weight": wide}), r"upsamplers\.0\.conv\.conv\.weight is \[9, 9, 3")
    refuse(saved({"vae.decoder.up_blocks.1.conv.conv.weight": wide}, False), "is none of LTX-2's")


def test_diffusers_names_without_a_config_ask_for_the_folder(
    file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    save_file(tensors_of("ltx20"), file)
    refuse(file, r"diffusers' names but no config: give the folder")
