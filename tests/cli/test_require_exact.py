"""`--require-exact` refuses calls that would approximate, on every command that has it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke

from latentrt.runtime import InputError, LatentsFile, open_bundle, write_latents

BundleOf = Callable[..., Path]
TILES = ("--tile", "32x32", "--backend", "onnxruntime")


@pytest.fixture
def latents(bundle_of: BundleOf, tmp_path: Path) -> Path:
    with open_bundle(bundle_of("sd")) as vae:
        shape = (1, vae.config.latent_channels, 8, 8)
    write_latents(tmp_path / "z.safetensors", LatentsFile(np.zeros(shape, np.float32), scaled=False))
    return tmp_path / "z.safetensors"


def test_decode_refuses_tiles_and_leaves_nothing(bundle_of: BundleOf, latents: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.png"
    with pytest.raises(InputError, match="approximates"):
        invoke("decode", bundle_of("sd"), latents, "-o", output, *TILES, "--require-exact")
    assert not output.exists()
    assert invoke("decode", bundle_of("sd"), latents, "-o", output, *TILES).exit_code == 0
    assert invoke("decode", bundle_of("sd"), latents, "-o", tmp_path / "b.png", "--require-exact").exit_code == 0


def test_a_folder_of_latents_is_refused_file_by_file(bundle_of: BundleOf, latents: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    latents.rename(tmp_path / "in/z.safetensors")
    result = invoke("decode", bundle_of("sd"), tmp_path / "in", "-o", tmp_path / "out", *TILES, "--require-exact")
    assert result.exit_code == 1
    assert "approximates" in result.output


@pytest.mark.parametrize("options", [(), ("--stream",)])
def test_encode_refuses_tiles_of_a_clip(options: tuple[str, ...], bundle_of: BundleOf, tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", np.zeros((9, 128, 128, 3), np.uint8))
    arguments = ("encode", bundle_of("ltx20"), tmp_path / "clip.npy", "-o", tmp_path / "z.safetensors")
    tiles = ("--tile", "64x64", "--backend", "onnxruntime")
    with pytest.raises(InputError, match="approximates"):
        invoke(*arguments, *tiles, *options, "--require-exact")
    assert not (tmp_path / "z.safetensors").exists()
    large = ("--tile", "256x256", "--backend", "onnxruntime")
    assert invoke(*arguments, *large, *options, "--require-exact").exit_code == 0, "one tile holds everything"


def test_plan_shows_exact_ways_alone(bundle_of: BundleOf) -> None:
    arguments = ("plan", bundle_of("sd"), "--size", "256x256", "--backend", "onnxruntime", "--all")
    assert "tiles of" in invoke(*arguments, "--memory", "4GiB").output
    assert "tiles of" not in invoke(*arguments, "--memory", "4GiB", "--require-exact").output
    refused = invoke(*arguments, "--tile", "32x32", "--require-exact")
    assert refused.exit_code == 2
    assert "--require-exact" in refused.output
