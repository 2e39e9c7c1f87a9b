"""Pixels and samples: the round trip is exact, and no second clip is made."""

import tracemalloc

import numpy as np
import pytest

from latentrt.runtime.arrays.pixels import to_pixels, to_samples
from latentrt.runtime.errors import InputError


def colour_bars(level: int) -> np.ndarray:
    """Eight bars, uint8 (32, 64, 3)."""
    on_off = [(1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0)]
    return np.tile(np.repeat(np.array(on_off, np.uint8) * np.uint8(level), 8, axis=0), (32, 1, 1))


def test_every_value_survives_the_round_trip() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 4, 64, 1)
    samples = to_samples(every)
    assert samples.dtype == np.float32
    assert (samples.min(), samples.max()) == (-1, 1)
    np.testing.assert_array_equal(to_pixels(samples), every)


@pytest.mark.parametrize("level", [255, 191])
def test_colour_bars_survive_the_round_trip(level: int) -> None:
    bars = colour_bars(level)[None]
    np.testing.assert_array_equal(to_pixels(to_samples(bars)), bars)


def test_samples_follow_the_formula_and_layout() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 7, 4), np.uint8)
    expected = pixels.transpose(0, 4, 1, 2, 3).astype(np.float32) / np.float32(127.5) - np.float32(1)
    np.testing.assert_array_equal(to_samples(pixels), expected)
    np.testing.assert_array_equal(to_samples(pixels[:, 0]), expected[:, :, 0])


def test_pixels_follow_the_formula_and_layout() -> None:
    samples = np.random.default_rng(0).uniform(-1.2, 1.2, (2, 3, 4, 5, 7)).astype(np.float32)
    expected = np.clip(np.rint((samples + 1) * np.float32(127.5)), 0, 255).astype(np.uint8).transpose(0, 2, 3, 4, 1)
    np.testing.assert_array_equal(to_pixels(samples), expected)
    np.testing.assert_array_equal(to_pixels(samples[:, :, 0]), expected[:, 0])


def test_halves_round_to_even() -> None:
    samples = np.array([0.0, 2 / 255 * 0.5 - 1, -1.0], np.float32).reshape(1, 1, 1, 3)  # 127.5, 0.5 and 0
    np.testing.assert_array_equal(to_pixels(samples).ravel(), [128, 0, 0])


def test_nan_and_infinities_become_pixels_without_a_warning() -> None:
    samples = np.array([np.nan, np.inf, -np.inf, 3e38], np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(to_pixels(samples).ravel(), [0, 255, 0, 255])


def test_large_planes_are_worked_on_in_blocks_with_a_short_last_one() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 1, 131, 1000, 3), np.uint8)
    np.testing.assert_array_equal(to_pixels(to_samples(pixels)), pixels)


def test_out_is_written_and_returned() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 2, 4, 6, 3), np.uint8)
    buffer = np.zeros((1, 3, 9, 4, 6), np.float32)
    out = buffer[:, :, 3:5]
    assert to_samples(pixels, out) is out
    back = np.zeros((1, 2, 4, 12, 3), np.uint8)[:, :, :, ::2]
    assert to_pixels(out, back) is back
    np.testing.assert_array_equal(back, pixels)
    assert not buffer[:, :, :3].any()


def test_what_does_not_fit_is_one_sentence() -> None:
    pixels, samples = np.zeros((1, 4, 6, 3), np.uint8), np.zeros((1, 3, 4, 6), np.float32)
    frozen = np.zeros((1, 4, 6, 3), np.uint8)
    frozen.flags.writeable = False
    for call in (
        lambda: to_samples(pixels[0]),
        lambda: to_samples(samples),  # type: ignore[arg-type]
        lambda: to_samples(pixels, np.zeros((1, 4, 6, 3), np.float32)),
        lambda: to_pixels(samples.astype(np.float64)),
        lambda: to_pixels(samples, samples),  # type: ignore[arg-type]
        lambda: to_pixels(samples, frozen),
        lambda: to_pixels([1.0]),  # type: ignore[arg-type]
    ):
        with pytest.raises(InputError, match=r"must be .* got .*: "):
            call()


def test_no_second_clip_is_made() -> None:
    pixels = np.zeros((1, 16, 128, 128, 3), np.uint8)
    samples, back = to_samples(pixels), np.empty_like(pixels)
    tracemalloc.start()
    try:
        to_samples(pixels, samples)
        to_pixels(samples, back)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 512 * 1024 < samples.nbytes
