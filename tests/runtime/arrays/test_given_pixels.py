"""What `encode` takes: uint8 pixels as `decode` gives them, and float samples in [-1, 1] only."""

import importlib
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentrt.runtime import open_bundle
from latentrt.runtime.arrays import pixel_range
from latentrt.runtime.arrays.boundary import require_finite
from latentrt.runtime.arrays.given_pixels import given_pixels, size_of
from latentrt.runtime.arrays.pixel_range import check_pixel_range
from latentrt.runtime.arrays.pixels import to_pixels, to_samples
from latentrt.runtime.errors import InputError

RANDOM = np.random.default_rng(0)
PICTURE = RANDOM.integers(0, 256, (2, 16, 24, 3), np.uint8)
CLIP = RANDOM.integers(0, 256, (1, 5, 16, 24, 3), np.uint8)


def test_pixels_are_taken_as_decode_gives_them() -> None:
    assert given_pixels(PICTURE, 3, video=False) is not None
    np.testing.assert_array_equal(given_pixels(torch.from_numpy(CLIP), 3, video=True), CLIP)
    assert given_pixels(to_samples(PICTURE), 3, video=False) is None
    assert (size_of(PICTURE), size_of(CLIP), size_of(to_samples(CLIP))) == ((16, 24), (5, 16, 24), (5, 16, 24))
    assert size_of(torch.from_numpy(PICTURE)) == (16, 24)


@pytest.mark.parametrize(
    ("pixels", "video", "sentence"),
    [
        (PICTURE.transpose(0, 3, 1, 2), False, r"with x\.transpose\(0, 2, 3, 1\)"),
        (CLIP.transpose(0, 4, 1, 2, 3), True, r"with x\.transpose\(0, 2, 3, 4, 1\)"),
        (PICTURE[0], False, r"with x\[numpy\.newaxis\]"),
        (CLIP[0], True, r"with x\[numpy\.newaxis\]"),
        (Image.fromarray(PICTURE[0]), False, r"with x\[numpy\.newaxis\]"),
        (PICTURE[..., :2], False, "C = 3, got shape"),
        (PICTURE[:0], False, "give at least one picture"),
        (PICTURE[0, 0], False, "reshape it"),
    ],
)
def test_pixels_of_another_shape_are_refused_with_the_cure(pixels: object, video: bool, sentence: str) -> None:
    with pytest.raises(InputError, match=f"^sample: wanted uint8 pixels .*{sentence}"):
        given_pixels(pixels, 3, video=video)


def check(sample: np.ndarray) -> None:
    check_pixel_range(sample, require_finite(sample, "sample"))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_picture_in_0_to_255_is_refused_with_the_conversion(dtype: type) -> None:
    with pytest.raises(InputError, match=r"convert it with x / 127\.5 - 1, or give the pixels as uint8"):
        check(PICTURE.transpose(0, 3, 1, 2).astype(dtype).astype(np.float32))


def test_a_picture_in_0_to_1_is_refused_with_the_conversion() -> None:
    with pytest.raises(InputError, match=r"convert it with x \* 2 - 1"):
        check(PICTURE.transpose(0, 3, 1, 2).astype(np.float32) / 255)


@pytest.mark.parametrize(
    "sample",
    [
        to_samples(PICTURE),
        np.zeros((1, 3, 8, 8), np.float32),
        np.ones((1, 3, 8, 8), np.float32),
        RANDOM.standard_normal((1, 3, 8, 8), np.float32) * 30,
        np.linspace(-0.01, 1.3, 192, dtype=np.float32).reshape(1, 3, 8, 8),
        np.linspace(0.3, 1, 192, dtype=np.float32).reshape(1, 3, 8, 8),  # a bright picture
        np.linspace(0, 0.6, 192, dtype=np.float32).reshape(1, 3, 8, 8),  # fog
        np.where(np.arange(192) % 16, 1.0, 0.004).astype(np.float32).reshape(1, 3, 8, 8),  # gray lines on white
    ],
)
def test_a_picture_in_minus_1_to_1_is_taken(sample: np.ndarray) -> None:
    check(sample)


def test_a_doubtful_picture_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    fresh = importlib.reload(pixel_range)  # which has logged nothing yet
    bright = np.linspace(0.3, 1, 192, dtype=np.float32).reshape(1, 3, 8, 8)
    with caplog.at_level(logging.WARNING):
        fresh.check_pixel_range(bright, (0.3, 1.0))
        fresh.check_pixel_range(bright, (0.3, 1.0))
    assert [record.message.count("x * 2 - 1") for record in caplog.records] == [1]


def test_encode_takes_the_pixels_of_decode(bundle_of: Callable[[str], Path]) -> None:
    with open_bundle(bundle_of("sd"), backend="onnxruntime") as vae:
        pixels = RANDOM.integers(0, 256, (2, 16, 24, 3), np.uint8)
        wanted = vae.encode(to_samples(pixels)).latent_dist.parameters
        np.testing.assert_array_equal(vae.encode(pixels).latent_dist.parameters, wanted)
        np.testing.assert_array_equal(vae.encode(torch.from_numpy(pixels)).latent_dist.parameters, wanted)
        np.testing.assert_array_equal(vae.tiled_encode(pixels).latent_dist.parameters, wanted)
        decoded = vae.decode(vae.encode(pixels).latent_dist.mode(), output="uint8").sample
        again = vae.encode(decoded).latent_dist.parameters
        np.testing.assert_array_equal(again, vae.encode(to_samples(decoded)).latent_dist.parameters)
        odd = pixels[:, :15, :21]
        assert vae(odd, pad=True, output="uint8").sample.shape == odd.shape
        scaled = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255
        for wrong in (scaled, scaled * 255):
            with pytest.raises(InputError, match="convert it with x"):
                vae.encode(wrong)
        assert vae.encode(scaled, check_range=False).latent_dist.mean.shape == (2, 4, 2, 3)


def test_encode_takes_a_bright_picture_of_a_file(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    from latentrt.runtime import encode_file

    pixels = np.linspace(128, 255, 16 * 24 * 3).astype(np.uint8).reshape(16, 24, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", to_samples(pixels[np.newaxis])[0])
    with open_bundle(bundle_of("sd"), backend="onnxruntime") as vae:
        encode_file(vae, tmp_path / "a.png", tmp_path / "a.safetensors")
        with pytest.raises(InputError, match="range of a picture in 0"):
            encode_file(vae, tmp_path / "a.npy", tmp_path / "b.safetensors")


def test_a_stream_takes_pixels_too(bundle_of: Callable[[str], Path]) -> None:
    with open_bundle(bundle_of("ltx20"), backend="onnxruntime") as vae:
        time, space = vae.grid.temporal, vae.grid.spatial
        clip = RANDOM.integers(0, 256, (1, 1 + 2 * time, 2 * space, 2 * space, 3), np.uint8)
        wanted = vae.encode(to_samples(clip)).latent_dist.parameters
        np.testing.assert_array_equal(vae.encode(clip).latent_dist.parameters, wanted)
        if not vae.config.causal("encoder"):
            return
        parts = [clip[:, :1], clip[:, 1:]]
        as_floats = np.concatenate(list(vae.encode_stream(map(to_samples, parts))), axis=2)
        np.testing.assert_array_equal(np.concatenate(list(vae.encode_stream(parts)), axis=2), as_floats)
        np.testing.assert_array_equal(np.concatenate(list(vae.encode_stream(clip)), axis=2), as_floats)
        with pytest.raises(InputError, match=r"x / 127\.5 - 1"):
            list(vae.encode_stream(clip.transpose(0, 4, 1, 2, 3).astype(np.float32)))
        assert to_pixels(to_samples(clip)).tobytes() == clip.tobytes()


def test_a_caller_without_check_range_does_not_name_it(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    from latentrt.runtime import encode_file
    from latentrt.runtime.files.sources import read_sample

    bright = np.linspace(0, 1, 3 * 16 * 16, dtype=np.float32).reshape(1, 3, 16, 16)
    np.save(tmp_path / "bright.npy", bright)
    with open_bundle(bundle_of("sd"), backend="onnxruntime") as vae:
        with pytest.raises(InputError, match=r"convert it with x \* 2 - 1$"):
            read_sample(tmp_path / "bright.npy", vae)
        with pytest.raises(InputError, match=r"\(or give check_range=False if it is that bright\)$"):
            encode_file(vae, tmp_path / "bright.npy", tmp_path / "z.safetensors")
        latents = encode_file(vae, tmp_path / "bright.npy", tmp_path / "z.safetensors", check_range=False).latents
        np.testing.assert_array_equal(latents, vae.encode(bright, check_range=False).latent_dist.mode())
