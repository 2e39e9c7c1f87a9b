"""`encode(pad=True)` remembers the size of the sample, and `decode` of those latents cuts the padding off."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from latentrt.runtime import open_bundle

BundleOf = Callable[..., Path]
SIZES = {"mish": (21, 13), "flux2": (29, 25), "ltx20": (3, 70, 64)}


@pytest.mark.parametrize("name", list(SIZES))
def test_a_padded_sample_comes_back_in_its_size(name: str, bundle_of: BundleOf) -> None:
    size = SIZES[name]
    x = np.random.default_rng(0).uniform(-1, 1, (1, 3, *size)).astype(np.float32)
    with open_bundle(bundle_of(name), backend="onnxruntime") as vae:
        encoded = vae.encode(x, pad=True)
        z = encoded.latent_dist.mode()
        whole = vae.decode(np.asarray(z)).sample
        wanted = whole[(..., *map(slice, size))]
        assert whole.shape != wanted.shape
        for one in (z, encoded, encoded.latent_dist, z * 1.0):
            np.testing.assert_array_equal(vae.decode(one).sample, wanted)
        assert vae.decode(encoded.latent_dist.sample(0), output="uint8").sample.shape == (1, *size, 3)
        assert vae.decode(vae.unscale_latents(vae.scale_latents(z))).sample.shape == x.shape
        assert vae.decode(z, crop=whole.shape[2:]).sample.shape == whole.shape
        assert vae.decode(z, out=np.empty_like(whole)).sample.shape == whole.shape
        assert vae(x, pad=True).sample.shape == x.shape
        if vae.clip_calls is not None:
            frames = [chunk.copy() for chunk in vae.decode_stream(z)]
            assert np.concatenate(frames, 2).shape == x.shape
            assert sum(chunk.shape[1] for chunk in vae.clip_calls.decode_frames(z, output="uint8")) == size[0]


def test_a_sample_on_the_grid_gives_plain_latents(bundle_of: BundleOf) -> None:
    x = np.zeros((1, 3, 16, 24), np.float32)
    with open_bundle(bundle_of("mish"), backend="onnxruntime") as vae:
        assert type(vae.encode(x, pad=True).latent_dist.mode()) is np.ndarray
        assert type(vae.encode(x).latent_dist.mode()) is np.ndarray
