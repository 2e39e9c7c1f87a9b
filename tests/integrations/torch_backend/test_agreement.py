"""PyTorch as a backend gives the numbers of ONNX Runtime, in every strategy and for every architecture."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from architectures import ALL, relative_error
from places import TESTS
from safetensors import safe_open
from safetensors.numpy import load_file
from torch_calls import STRATEGIES, opened_in_torch

from latentrt.runtime import open_bundle

BundleOf = Callable[[str], Path]
BOUND = 1e-5
IN_EVERY_RUN = ("sd", "flux2_small_decoder", "noise_timestep")
CASES = [
    pytest.param(
        name,
        strategy,
        channels_last,
        marks=[] if name in IN_EVERY_RUN and (not channels_last or strategy == "exact") else pytest.mark.long,
        id=f"{name}-{strategy}{'-channels_last' if channels_last else ''}",
    )
    for name in ALL
    for strategy in STRATEGIES
    for channels_last in (False, True)
]
EXHIBITS = sorted(path.parent for path in (TESTS / "museum").glob("*/*/results.safetensors"))


@pytest.mark.parametrize(("name", "strategy", "channels_last"), CASES)
def test_pytorch_gives_the_numbers_of_onnx_runtime(
    name: str, strategy: str, channels_last: bool, bundle_of: BundleOf
) -> None:
    run = STRATEGIES[strategy]
    with (
        open_bundle(bundle_of(name), backend="onnxruntime", threads=1) as theirs,
        opened_in_torch(bundle_of(name), channels_last=channels_last) as ours,
    ):
        for one, other in zip(run(ours), run(theirs), strict=True):
            assert one.dtype == np.float32
            assert one.flags.c_contiguous
            assert relative_error(one, other) <= BOUND


@pytest.mark.parametrize("name", ["ltx20", pytest.param("causal_decoder", marks=pytest.mark.slow)])
@pytest.mark.parametrize("frames", [1, 3, 64])
def test_a_stream_of_any_chunk_is_the_whole_clip(name: str, frames: int, bundle_of: BundleOf) -> None:
    z = np.random.default_rng(1).standard_normal((1, 16, 5, 2, 3)).astype(np.float32)
    with opened_in_torch(bundle_of(name)) as vae:
        whole = vae.decode(z).sample
        vae.enable_streaming(frames_per_chunk=frames)
        assert relative_error(vae.decode(z).sample, whole) <= BOUND
        pieces = np.concatenate(list(vae.decode_stream(z)), axis=2)
        assert relative_error(pieces, whole) <= BOUND


@pytest.mark.parametrize("folder", EXHIBITS, ids=lambda folder: folder.name)
def test_a_bundle_of_an_earlier_version_gives_its_numbers(folder: Path) -> None:
    results = load_file(folder / "results.safetensors")
    with opened_in_torch(folder / "bundle") as vae:
        conditions = {"temb": results["temb"], "rng": seed_of(folder)} if "temb" in results else {}
        moments = vae.encode(results["sample"]).latent_dist.parameters
        assert relative_error(moments, results["moments"]) <= BOUND
        assert relative_error(vae.decode(results["latents"], **conditions).sample, results["decoded"]) <= BOUND


def seed_of(folder: Path) -> int:
    with safe_open(folder / "results.safetensors", "np") as file:
        return int(file.metadata()["seed"])
