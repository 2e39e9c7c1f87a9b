"""Pipelines of diffusers give the same pictures and clips with a bundle as their VAE."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from architectures import ALL
from tiny_pipelines import PIPELINES

from latentrt.integrations.diffusers import LatentRTAutoencoder

MOST_DIFFERENCE = 1e-5  # of [0, 1]

pytestmark = pytest.mark.filterwarnings("ignore")  # of diffusers and its schedulers


@pytest.fixture(scope="module")
def own_vae(checkpoint_of: Callable[[str], Path]) -> Callable[[str], Any]:
    """diffusers' VAE of an architecture."""

    @cache
    def load(name: str) -> Any:
        kind = getattr(diffusers, ALL[name]["_class_name"])
        return kind.from_pretrained(checkpoint_of(name)).eval()

    return load


@pytest.fixture(scope="module")
def adapter(bundle_of: Callable[[str], Path]) -> Iterator[Callable[[str], Any]]:
    """The bundle of an architecture as a VAE for pipelines."""
    made: dict[str, Any] = {}

    def open_one(name: str) -> Any:
        if name not in made:
            made[name] = LatentRTAutoencoder(bundle_of(name), backend="onnxruntime", threads=1)
        return made[name].to(torch.float32)

    yield open_one
    for vae in made.values():
        vae.close()


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_gives_the_same_pictures_with_a_bundle(
    name: str, own_vae: Callable[[str], Any], adapter: Callable[[str], Any]
) -> None:
    case = PIPELINES[name]
    wanted = case.run(case.made(own_vae(case.architecture)))
    got = case.run(case.made(adapter(case.architecture)))
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    assert wanted.std() > 0.01  # pictures with content
    assert float((got - wanted).abs().max()) <= MOST_DIFFERENCE
