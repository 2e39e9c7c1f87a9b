"""Mistakes of a first command line are one sentence with the command to type."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke

from latentrt.runtime import BundleError, CheckpointError, InputError, LatentsFile, OutputError, write_latents
from latentrt.runtime.media.pictures.picture_file import write_picture

BundleOf = Callable[..., Path]


@pytest.fixture
def latents(tmp_path: Path) -> Path:
    path = tmp_path / "z.safetensors"
    write_latents(path, LatentsFile(np.zeros((1, 4, 8, 8), np.float32)))
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    write_picture(tmp_path / "a b.png", np.zeros((16, 24, 3), np.uint8))
    return tmp_path / "a b.png"


def test_a_bundle_that_comes_second_is_named_with_the_right_order(
    bundle_of: BundleOf, latents: Path, picture: Path, tmp_path: Path
) -> None:
    bundle = bundle_of("sd")
    with pytest.raises(InputError, match=f"the bundle comes first: `latentrt decode {bundle} {latents} -o y.png`"):
        invoke("decode", latents, bundle, "-o", "y.png")
    with pytest.raises(InputError, match=f"the bundle comes first: `latentrt encode {bundle} '{picture}' -o y`"):
        invoke("encode", picture, bundle, "-o", "y")


def test_a_picture_is_not_decoded_and_latents_are_not_encoded(
    bundle_of: BundleOf, latents: Path, picture: Path
) -> None:
    bundle = bundle_of("sd")
    with pytest.raises(InputError, match=f"`latentrt encode {bundle} '{picture}' -o 'a b.safetensors'`"):
        invoke("decode", bundle, picture, "-o", "y.png")
    with pytest.raises(InputError, match=f"`latentrt decode {bundle} {latents} -o y.png`"):
        invoke("encode", bundle, latents, "-o", "y.png")
    with pytest.raises(OutputError, match=f"`latentrt encode {bundle} '{picture}' -o y.safetensors`"):
        invoke("encode", bundle, picture, "-o", "y.png")


def test_latents_with_the_name_of_a_picture_are_decoded(bundle_of: BundleOf, latents: Path, tmp_path: Path) -> None:
    named = latents.rename(tmp_path / "z.png")
    invoke("decode", bundle_of("sd"), named, "-o", tmp_path / "y.png")
    assert (tmp_path / "y.png").is_file()


def test_a_checkpoint_is_no_bundle_and_a_bundle_no_checkpoint(
    bundle_of: BundleOf, checkpoint_of: BundleOf, latents: Path, tmp_path: Path
) -> None:
    folder = checkpoint_of("sd")
    for command in (("plan", folder, "--size", "64x64"), ("decode", folder, latents, "-o", "y.png"), ("bench", folder)):
        with pytest.raises(BundleError, match=f"it is a checkpoint; export it first, as in `latentrt export {folder} "):
            invoke(*command)
    weights = folder / "diffusion_pytorch_model.safetensors"
    with pytest.raises(BundleError, match=f"it is a file, .* `latentrt export {weights} bundle`"):
        invoke("decode", weights, latents, "-o", "y.png")
    for words in (("export", bundle_of("sd"), tmp_path / "new"), ("convert", bundle_of("sd"), tmp_path / "new")):
        with pytest.raises(CheckpointError, match="is a bundle, not a checkpoint"):
            invoke(*words)


def test_the_folder_around_a_bundle_names_the_bundle(bundle_of: BundleOf, latents: Path) -> None:
    bundle = bundle_of("sd")
    with pytest.raises(BundleError, match=r"a folder in it is one; give .*/sd"):
        invoke("decode", bundle.parent, latents, "-o", "y.png")


@pytest.mark.parametrize(
    ("words", "missing"),
    [(("decode", "b", "z"), "'-o' / '--output'"), (("decode", "b"), "LATENTS"), (("plan", "b"), "--size")],
)
def test_what_is_missing_is_said_with_an_example(words: tuple[str, ...], missing: str) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert missing in result.output
    assert f"Example: latentrt {words[0]} bundle" in result.output
