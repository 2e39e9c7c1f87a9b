"""Latents that pipelines return with `output_type="latent"` decode to the frames of the same pipelines."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from architectures import ALL
from command_line import invoke
from safetensors.torch import save_file
from tiny_pipelines import PIPELINES

from latentrt.runtime import open_bundle
from latentrt.runtime.files.decoded_file import decode_file
from latentrt.runtime.media.named_origin import named_origin

MOST_DIFFERENCE = 1e-5  # of [0, 1]
SIZE = (64, 64)
# One pipeline of each form runs in the usual tests.
USUAL = ("sd", "flux", "flux2", "flux2_klein", "ideogram4", "ltx2")
CASES = [name if name in USUAL else pytest.param(name, marks=pytest.mark.slow) for name in PIPELINES]

pytestmark = pytest.mark.filterwarnings("ignore")  # of diffusers and its schedulers


@pytest.fixture(scope="module")
def opened_once(bundle_of: Callable[[str], Path]) -> Iterator[Callable[[str], Any]]:
    """The autoencoder of an architecture, opened once."""
    vaes: dict[str, Any] = {}

    def open_one(name: str) -> Any:
        if name not in vaes:
            vaes[name] = open_bundle(bundle_of(name), backend="onnxruntime", threads=1)
        return vaes[name]

    yield open_one
    for vae in vaes.values():
        vae.close()


def own_vae(name: str, checkpoint: Path) -> Any:
    kind = getattr(diffusers, ALL[name]["_class_name"])
    return kind.from_pretrained(checkpoint).eval()


def class_of(kind: str) -> str:
    return "Ideogram4Pipeline" if kind == "Ideogram4WithoutText" else kind


def as_frames(sample: np.ndarray) -> np.ndarray:
    """A sample (B, C, H, W) or (B, C, T, H, W) in [-1, 1] as frames in [0, 1], clips with time before channels."""
    frames = (sample / 2 + 0.5).clip(0, 1)
    return frames.swapaxes(1, 2) if sample.ndim == 5 else frames


@pytest.mark.parametrize("name", CASES)
def test_latents_decode_to_the_frames_of_their_pipeline(
    name: str, checkpoint_of: Callable[[str], Path], opened_once: Callable[[str], Any], tmp_path: Path
) -> None:
    case = PIPELINES[name]
    vae, origin = opened_once(case.architecture), class_of(case.kind)
    pipe = case.made(own_vae(case.architecture, checkpoint_of(case.architecture)))
    no_noise: dict[str, Any] = {"decode_noise_scale": 0.0} if name == "ltx2_timestep" else {}
    wanted = case.run(pipe, **no_noise).numpy()
    latents = case.run(pipe, "latent", **no_noise)
    save_file({"latents": latents.contiguous()}, tmp_path / "z.safetensors")
    form = named_origin(origin, vae.config).form
    assert form.layout is not None
    options: dict[str, Any] = {"size": SIZE} if form.layout.has_tokens else {}
    options |= {"temb": 0.05} if name == "ltx2_timestep" else {}
    decode_file(vae, tmp_path / "z.safetensors", tmp_path / "x.npy", origin=origin, **options)
    got = as_frames(np.load(tmp_path / "x.npy"))
    assert got.shape == wanted.shape
    assert wanted.std() > 0.01  # pictures with content
    assert np.abs(got - wanted).max() <= MOST_DIFFERENCE


@pytest.mark.slow
def test_the_command_line_decodes_latents_of_a_pipeline(
    checkpoint_of: Callable[[str], Path], bundle_of: Callable[[str], Path], tmp_path: Path
) -> None:
    case = PIPELINES["flux"]
    pipe = case.made(own_vae("flux", checkpoint_of("flux")))
    wanted, latents = case.run(pipe).numpy(), case.run(pipe, "latent")
    torch.save(latents, tmp_path / "z.pt")
    for option in (("--from", "FluxPipeline"), ("--from", "diffusers"), ("--scaled",)):
        out = tmp_path / f"{option[-1]}.npy"
        result = invoke("decode", bundle_of("flux"), tmp_path / "z.pt", "-o", out, *option, "--size", "64x64")
        assert result.exit_code == 0, result.output
        assert np.abs(as_frames(np.load(out)) - wanted).max() <= MOST_DIFFERENCE
