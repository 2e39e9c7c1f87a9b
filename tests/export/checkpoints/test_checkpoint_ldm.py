"""Image VAEs in single files: LDM's names, inside full checkpoints too; which model it is, and what is refused."""

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from architectures import ALL, relative_error
from checkpoint_checks import assert_same, refuse
from click.testing import CliRunner
from originals import FULL_SDXL, ldm_tensors, write_sparse
from safetensors.numpy import load_file, save_file

from latentrt.cli.main import cli
from latentrt.export.bundle import export_bundle
from latentrt.export.checkpoints import open_checkpoint, published_files
from latentrt.export.checkpoints.parameters.of_config import parameters_of
from latentrt.runtime import open_bundle
from latentrt.runtime.config.families import config_from_dict
from latentrt.runtime.config.kl import MissingScalingFactor
from latentrt.runtime.errors import LatentRTError
from latentrt.runtime.system.hashing import sha256_of

WEIGHTS = "diffusion_pytorch_model.safetensors"
SD1 = {"cond_stage_model.transformer.text_model.embeddings.x": np.ones(2, np.float32)}
SDXL = {"conditioner.embedders.0.transformer.x": np.ones(2, np.float32)}
SD3 = {"model.diffusion_model.joint_blocks.0.x": np.ones(2, np.float32)}
FLUX1 = {"model.diffusion_model.double_blocks.0.x": np.ones(2, np.float32)}
UNET = {"model.diffusion_model.input_blocks.0.0.x": np.ones(2, np.float32)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


RECOGNISED: dict[str, tuple[str, str, dict[str, np.ndarray], str]] = {
    "SD 1.x": ("sd", "first_stage_model.", SD1, "Stable Diffusion 1.x or 2.x"),
    "SD 2.x": ("sd", "first_stage_model.", {"cond_stage_model.model.x": np.ones(1)}, "Stable Diffusion 1.x or 2.x"),
    "SDXL": ("sdxl", "first_stage_model.", SDXL, "SDXL"),
    "SDXL without text encoders": ("sdxl", "vae.", {"model.diffusion_model.label_emb.0.0.x": np.ones(1)}, "SDXL"),
    "SD without text encoders": ("sd", "vae.", {"model.diffusion_model.input_blocks.0.0.x": np.ones(1)}, "Stable Diff"),
    "SD 2.1 unCLIP without text encoders": (
        "sd",
        "first_stage_model.",
        UNET | {"model.diffusion_model.label_emb.0.0.weight": np.ones((2, 2048), np.float32)},
        "Stable Diffusion 1.x or 2.x",
    ),
    "SDXL's UNet": (
        "sdxl",
        "first_stage_model.",
        UNET | {"model.diffusion_model.label_emb.0.0.weight": np.ones((2, 2816), np.float32)},
        "SDXL",
    ),
    "FLUX.1 inside a full checkpoint": ("flux", "vae.", FLUX1, "FLUX.1"),
    "FLUX.1 under another prefix": ("flux", "first_stage_model.", FLUX1, "FLUX.1"),
}


@pytest.mark.parametrize("case", RECOGNISED)
def test_a_published_model_is_recognised_with_its_folders_tensors_and_config(
    case: str,
    file: Path,
    tensors_of: Callable[[str], dict[str, np.ndarray]],
    checkpoint_of: Callable[[str], Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    name, prefix, others, variant = RECOGNISED[case]
    save_file(ldm_tensors(tensors_of(name), prefix) | others, file)
    with caplog.at_level(logging.WARNING):
        checkpoint = open_checkpoint(file)
    assert_same(checkpoint, tensors_of(name))
    assert checkpoint.variant.startswith(variant)
    assert f"taken as {checkpoint.variant}" in caplog.text
    theirs, ours = (open_checkpoint(path).config.to_dict() for path in (checkpoint_of(name), file))
    assert {key for key, value in ours.items() if value != theirs[key]} <= {"sample_size"}


def numbers(path: Path, overrides: dict[str, Any] | None = None) -> tuple[float | None, float | None]:
    config = open_checkpoint(path, overrides).config
    return config.scaling_factor, getattr(config, "shift_factor", None)


def test_sd3_is_told_from_flux_by_the_rest_of_the_file(
    file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    save_file(ldm_tensors(tensors_of("flux"), "first_stage_model.") | SD3, file)
    assert numbers(file) == (1.5305, 0.0609)


@pytest.mark.parametrize(
    ("prefix", "others"),
    [
        ("", {}),
        ("vae.", {}),
        ("first_stage_model.", {}),
        ("first_stage_model.", {"text_encoders.t5xxl.x": np.ones(1)}),
        ("vae.", SD3 | FLUX1),
    ],
)
def test_sixteen_channels_that_may_be_sd3_or_flux_are_asked_for(
    prefix: str, others: dict[str, np.ndarray], file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    save_file(ldm_tensors(tensors_of("flux"), prefix) | others, file)
    sentence = (
        r"SD3's \(--scaling-factor 1\.5305 --shift-factor 0\.0609\) or FLUX\.1's \(--scaling-factor 0\.3611 "
        r"--shift-factor 0\.1159\), and nothing in the file shows which: pass --scaling-factor and --shift-factor"
    )
    refuse(file, sentence, MissingScalingFactor)
    with pytest.raises(MissingScalingFactor):
        open_checkpoint(file, {"scaling_factor": 1.5305})
    for given in ((1.5305, 0.0609), (0.3611, 0.1159)):
        assert numbers(file, dict(zip(("scaling_factor", "shift_factor"), given, strict=True))) == given


@pytest.mark.parametrize(
    ("name", "architecture", "wanted"),
    [
        ("flux", "stable-diffusion-v3-medium", (1.5305, 0.0609)),
        ("flux", "stable-diffusion-3-5-large", (1.5305, 0.0609)),
        ("flux", "Flux-1-dev", (0.3611, 0.1159)),
        ("sd", "stable-diffusion-v2-768-v", (0.18215, None)),
        ("sdxl", "stable-diffusion-xl-v1-base", (0.13025, None)),
        ("sdxl", "flux-1-dev", None),
        ("flux", "stable-diffusion-xl-v1-base", None),
        ("flux", "lumina-2", None),
    ],
)
def test_the_architecture_in_the_header_decides_if_it_fits_the_layout(
    name: str,
    architecture: str,
    wanted: tuple[float, float | None] | None,
    file: Path,
    tensors_of: Callable[[str], dict[str, np.ndarray]],
) -> None:
    save_file(ldm_tensors(tensors_of(name)), file, {"modelspec.architecture": architecture})
    if wanted is None:
        refuse(file, "nothing in the file shows which", MissingScalingFactor)
    else:
        assert numbers(file) == wanted


def test_a_published_file_is_known_by_its_bytes_and_no_other_file_is_hashed(
    file: Path,
    tensors_of: Callable[[str], dict[str, np.ndarray]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    save_file(ldm_tensors(tensors_of("flux")), file)
    row = (file.stat().st_size, sha256_of(file))
    for model, wanted in (("SD3", (1.5305, 0.0609)), ("FLUX.1", (0.3611, 0.1159))):
        monkeypatch.setattr(published_files, "PUBLISHED_FILES", {row: model})
        caplog.clear()
        assert numbers(file) == wanted
        assert f"taken as {model}" in caplog.text
        assert "it is the published file, by its SHA-256" in caplog.text
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refuse(file, "nothing in the file shows which", MissingScalingFactor)
    monkeypatch.setattr(published_files, "PUBLISHED_FILES", {(row[0] + 1, row[1]): "SD3"})
    monkeypatch.setattr(published_files, "sha256_of", lambda path: pytest.fail("it is of another size"))
    refuse(file, "nothing in the file shows which", MissingScalingFactor)


@pytest.mark.parametrize(
    "others",
    [
        UNET | {"model.diffusion_model.label_emb.0.0.weight": np.ones((2, 999), np.float32)},
        UNET | SDXL,  # SD 2.1 as Stability's own code names it: its UNet has no labels
    ],
)
def test_a_unet_that_may_be_of_either_model_is_asked_for(
    others: dict[str, np.ndarray], file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    save_file(ldm_tensors(tensors_of("sd"), "first_stage_model.") | others, file)
    refuse(file, "nothing in the file shows which", MissingScalingFactor)


@pytest.mark.parametrize(("name", "scaling", "shift"), [("SD3", 1.5305, 0.0609), ("FLUX.1", 0.3611, 0.1159)])
@pytest.mark.parametrize("null", [True, False])
def test_a_folder_with_a_published_scaling_and_no_shift_is_asked_for(
    name: str, scaling: float, shift: float, null: bool, tmp_path: Path, checkpoint_of: Callable[[str], Path]
) -> None:
    folder = Path(shutil.copytree(checkpoint_of("flux"), tmp_path / "folder"))
    config = json.loads((folder / "config.json").read_text()) | {"scaling_factor": scaling, "shift_factor": None}
    if not null:
        config.pop("shift_factor")
    (folder / "config.json").write_text(json.dumps(config))
    refuse(folder, rf"{name}'s scaling_factor {scaling} and no shift_factor .*{shift}\): pass", MissingScalingFactor)
    assert numbers(folder, {"shift_factor": shift}) == (scaling, shift)
    assert numbers(folder, {"shift_factor": 0.0}) == (scaling, 0.0)
    assert numbers(folder, {"scaling_factor": 0.5}) == (0.5, None)
    looked = CliRunner().invoke(cli, ["inspect", str(folder)], catch_exceptions=False)
    assert "shift_factor: missing; export needs --shift-factor" in looked.stdout
    assert f"scaling_factor: {scaling}" in looked.stdout


def test_a_folder_of_sixteen_channels_without_a_scaling_is_not_offered_that_of_stable_diffusion(
    tmp_path: Path, checkpoint_of: Callable[[str], Path]
) -> None:
    folder = Path(shutil.copytree(checkpoint_of("flux"), tmp_path / "folder"))
    config = json.loads((folder / "config.json").read_text()) | {"scaling_factor": None}
    config.pop("shift_factor")
    (folder / "config.json").write_text(json.dumps(config))
    refuse(folder, "no scaling_factor.* may be SD3's .*1.5305.* or FLUX.1's .*0.3611", MissingScalingFactor)
    assert numbers(folder, {"scaling_factor": 0.5, "shift_factor": 0.0}) == (0.5, 0.0)
    looked = CliRunner().invoke(cli, ["inspect", str(folder)], catch_exceptions=False)
    assert "scaling_factor: missing" in looked.stdout
    assert "shift_factor: missing" in looked.stdout
    assert "0.18215" not in looked.stdout


def test_playgrounds_statistics_are_read(file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]) -> None:
    mean, std = np.array([-1.5, 1, 0, 1], np.float32), np.array([8, 6, 5, 5], np.float32)
    others = {"edm_mean": mean.reshape(1, 4, 1, 1), "edm_std": std.reshape(1, 4, 1, 1)} | SDXL
    save_file(ldm_tensors(tensors_of("playground"), "first_stage_model.") | others, file)
    config = open_checkpoint(file).config
    assert config.scaling_factor == 0.5
    assert config.latents_mean == tuple(mean)
    assert config.latents_std == tuple(std)


def test_four_channels_alone_ask_for_the_scaling_factor(
    file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    for prefix in ("", "vae.", "first_stage_model."):
        save_file(ldm_tensors(tensors_of("sd"), prefix), file)
        refuse(
            file, r"Stable Diffusion's \(0\.18215\) or SDXL's \(0\.13025\).*pass --scaling-factor", MissingScalingFactor
        )
    assert open_checkpoint(file, {"scaling_factor": 0.13025}).config.scaling_factor == 0.13025


def test_given_numbers_override_the_recognised_ones(
    file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    save_file(ldm_tensors(tensors_of("flux"), "vae.") | FLUX1, file)
    assert numbers(file, {"scaling_factor": 0.5}) == (0.5, 0.1159)


def test_other_structures_ask_for_the_scaling_factor(
    file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    for name in ("no_attention", "relu_one_block"):
        save_file(ldm_tensors(tensors_of(name), "first_stage_model.") | SD1, file)
        refuse(file, "that of no published model known here: pass --scaling-factor", MissingScalingFactor)
    plain = {name: value for name, value in tensors_of("flux").items() if ".attentions." not in name}
    save_file(ldm_tensors(plain), file)  # 16 channels as CogView4 has them
    refuse(file, "of no published model .*: pass --scaling-factor and --shift-factor \\(0 for", MissingScalingFactor)
    assert numbers(file, {"scaling_factor": 1.0, "shift_factor": 0.0}) == (1.0, 0.0)


@pytest.mark.parametrize("matrices", [False, True])
def test_attention_may_be_convolutions_or_matrices(
    matrices: bool, file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    save_file(ldm_tensors(tensors_of("sd"), "vae.", matrices=matrices) | SD1, file)
    assert_same(open_checkpoint(file), tensors_of("sd"))


def test_diffusers_names_in_a_single_file_are_read(
    file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    save_file({f"vae.{name}": value for name, value in tensors_of("sdxl").items()} | SDXL, file)
    assert_same(open_checkpoint(file), tensors_of("sdxl"))


def test_the_weights_file_of_a_folder_means_the_folder(checkpoint_of: Callable[[str], Path]) -> None:
    folder = checkpoint_of("odd_groups")
    assert open_checkpoint(folder / WEIGHTS).config == open_checkpoint(folder).config


def test_what_training_left_beside_the_weights_is_left_out(
    file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    rest = {"loss.discriminator.main.0.weight": np.ones(3, np.float32), "model_ema.decay": np.ones(1, np.float32)}
    save_file(ldm_tensors(tensors_of("sd")) | rest, file)
    assert_same(open_checkpoint(file, {"scaling_factor": 0.18215}), tensors_of("sd"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "others"), [("sdxl", SDXL), ("flux", SD3)])
def test_the_decode_is_that_of_diffusers_from_single_file(
    name: str, others: dict[str, np.ndarray], file: Path, checkpoint_of: Callable[[str], Path]
) -> None:
    save_file(ldm_tensors(load_file(checkpoint_of(name) / WEIGHTS), "first_stage_model.") | others, file)
    theirs = diffusers.AutoencoderKL.from_single_file(str(file), config=str(checkpoint_of(name))).eval()
    export_bundle(file, file.with_name("bundle"))
    latents = (
        np.random.default_rng(0).standard_normal((1, ALL[name].get("latent_channels", 4), 6, 5)).astype(np.float32)
    )
    with open_bundle(file.with_name("bundle"), threads=1) as vae, torch.no_grad():
        decoded = vae.decode(latents).sample
        assert relative_error(decoded, theirs.decode(torch.from_numpy(latents)).sample.numpy()) < 1e-4


@pytest.mark.slow
def test_the_command_line_exports_and_verifies_a_full_checkpoint(
    file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    save_file(ldm_tensors(tensors_of("sdxl"), "first_stage_model.") | SDXL, file)
    bundle = str(file.with_name("bundle"))
    exported = CliRunner().invoke(cli, ["export", str(file), bundle], catch_exceptions=False)
    assert "single file (LDM names under first_stage_model., inside a larger checkpoint)" in exported.stdout
    assert "AutoencoderKL (SDXL), encoder and decoder" in exported.stdout
    verified = CliRunner().invoke(cli, ["verify", bundle, "--source", str(file)], catch_exceptions=False)
    assert verified.exit_code == 0, verified.stdout
    assert "passed: the worst PSNR" in verified.stdout


def test_a_full_width_sdxl_checkpoint_is_recognised(file: Path) -> None:
    config = config_from_dict(FULL_SDXL)
    shapes = ldm_tensors(parameters_of(config), "first_stage_model.")
    others: dict[str, Any] = {
        "conditioner.embedders.1.model.positional_embedding": (77, 1280),
        "model.diffusion_model.label_emb.0.0.weight": (1280, 2816),
        "model.diffusion_model.big": (50_000, 50_000),
    }
    write_sparse(file, shapes | others, "F16")
    checkpoint = open_checkpoint(file)
    assert checkpoint.config == config
    assert checkpoint.variant == "SDXL"
    assert checkpoint.parameter_count == 83_653_863


# What is refused


def test_missing_extra_and_misshapen_tensors_are_named(
    file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    whole = ldm_tensors(tensors_of("sd"), "vae.") | SD1

    def saved(change: dict[str, Any]) -> Path:
        save_file({name: value for name, value in (whole | change).items() if value is not None}, file)
        return file

    refuse(saved({"vae.encoder.down.1.block.0.conv1.bias": None}), r"1 tensors are missing \(encoder\.down_blocks\.1")
    refuse(saved({"vae.decoder.conv_in.weight": None}), r"incomplete or damaged \('decoder\.conv_in\.weight'")
    refuse(
        saved({"vae.encoder.down.0.attn.0.q.weight": np.ones(2)}), r"not of this model \(encoder\.down\.0\.attn\.0\.q"
    )
    far = {f"vae.{side}.{'9' * 5000}.block.0.x": np.ones(1) for side in ("encoder.down", "decoder.up")}
    refuse(saved(far), "2 tensors are not of this model")
    refuse(saved({"vae.encoder.a\n\x1b[31mb": np.ones(1)}), r"\('encoder\.a\\n\\x1b\[31mb'\)")
    refuse(saved({f"vae.encoder.down_blocks.{'9' * 5000}.x": np.ones(1)}), "1 tensors are not of this model")
    refuse(saved({"vae.encoder.down_blocks.9999.x": np.ones(1)}), "incomplete or damaged")
    extra = {f"vae.extra{index}": np.ones(1) for index in range(5)}
    refuse(saved(extra), r"5 tensors are not of this model \(extra0, extra1, extra2, \.\.\.\)")
    refuse(
        saved({"vae.encoder.conv_out.bias": np.ones(7, np.float32)}), r"conv_out\.bias is \[7\], the config says \[8\]"
    )
    refuse(
        saved({"vae.quant_conv.weight": None}),
        "not of this model .*quant_conv.bias|pass --scaling-factor",
        LatentRTError,
    )
    both = {"vae.encoder.mid_block.attentions.0.to_q.bias": np.ones(64, np.float32)}
    refuse(saved(both), r"holds encoder\.mid_block\.attentions\.0\.to_q\.bias twice")


def test_two_vaes_in_one_file_are_refused(file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]) -> None:
    small = ldm_tensors(tensors_of("relu_one_block"), "vae.")
    save_file(small | ldm_tensors(tensors_of("relu_one_block"), "first_stage_model."), file)
    refuse(file, re.escape("holds 2 VAEs (first_stage_model.encoder/decoder, vae.encoder/decoder)"))
    video = {"encoder.conv_in.conv.weight": np.ones((1, 1, 3, 3, 3), np.float32)}
    save_file(small | video, file)
    refuse(file, "holds 2 VAEs")


def test_a_file_without_a_vae_says_what_it_has(file: Path) -> None:
    save_file({f"model.diffusion_model.x{index}": np.ones(1) for index in range(9)}, file)
    refuse(
        file, r"holds no VAE that is known here: it has model\.diffusion_model\.x0, .*, \.\.\., and a VAE would have"
    )
    save_file({}, file)
    refuse(file, "it has no tensors")
    save_file({"audio_vae.encoder.conv_in.conv.weight": np.ones((1, 1, 3, 3), np.float32)}, file)
    refuse(file, "holds an audio VAE and no VAE for pictures or video")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(
    value: float, file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    whole = {name: array.copy() for name, array in tensors_of("sdxl").items()}
    for name in ("decoder.conv_in.bias", "decoder.conv_out.bias", "encoder.conv_in.bias", "encoder.conv_out.bias"):
        whole[name][-1] = value
    save_file(ldm_tensors(whole, "first_stage_model.") | SDXL, file)
    refuse(file, r"weights are NaN or infinite \((en|de)coder\.conv_\w+\.bias, .*, \.\.\.\).*fetch it again")


@pytest.mark.parametrize("shape", [(), (3,), (3, 3), (0, 0, 0, 0), (64, 3, 3, 3, 3)])
def test_markers_of_impossible_shapes_are_one_sentence(
    shape: tuple[int, ...], file: Path, tensors_of: Callable[[str], dict[str, np.ndarray]]
) -> None:
    for name in ("encoder.conv_in.weight", "decoder.conv_in.weight", "encoder.down.0.block.0.conv1.weight"):
        save_file(ldm_tensors(tensors_of("sd")) | {name: np.zeros(shape, np.float32)}, file)
        refuse(file, "incomplete or damaged|another shape|must be|pass --scaling-factor", LatentRTError)
