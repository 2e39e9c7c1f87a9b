"""Latents of a padded sample remember its size, as long as every cell stays at its place."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from latentrt.runtime.arrays.grid import Grid
from latentrt.runtime.arrays.padded_latents import (
    PaddedLatents,
    cut_chunks,
    original_size_of,
    size_before_padding,
    with_original_size,
)
from latentrt.runtime.arrays.posterior import DiagonalGaussian

SIZE = (100, 53)
GRID = Grid(spatial=8, temporal=1, encoder_minimum=1, decoder_minimum=1, video=False)


def latents(size: tuple[int, ...] | None = SIZE) -> Any:
    rng = np.random.default_rng(0)
    return with_original_size(rng.standard_normal((2, 4, 13, 7)).astype(np.float32), size)


@pytest.mark.parametrize(
    "keeping",
    [
        lambda z: z * 2.0,
        lambda z: 0.5 * z + np.ones((2, 4, 13, 7), np.float32),
        lambda z: z - z,
        np.sqrt,
        lambda z: z.copy(),
        lambda z: z.astype(np.float16),
        lambda z: z[:1],
        copy.copy,
        copy.deepcopy,
        lambda z: pickle.loads(pickle.dumps(z)),
        lambda z: np.add(z, 1, out=z),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt")
def test_the_size_stays_where_cells_stay(keeping: Callable[[Any], Any]) -> None:
    z = latents()
    wanted = np.asarray(keeping(np.array(z)))
    got = keeping(z)
    assert original_size_of(got) == SIZE
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(np.asarray(got), wanted)


@pytest.mark.parametrize(
    "moving",
    [
        lambda z: z[..., ::-1],
        lambda z: z[:, :, 1:],
        lambda z: z[:, :, :, :4],
        lambda z: z[0],
        lambda z: np.roll(z, 1, axis=3),
        lambda z: np.flip(z, 2),
        lambda z: z.transpose(0, 1, 3, 2),
        lambda z: z.reshape(2, 4, 7, 13),
        lambda z: np.concatenate([z, z], axis=3),
        lambda z: z + latents((99, 53)),
        lambda z: z.mean(axis=1, keepdims=True),
        np.array,
        np.asarray,
    ],
)
def test_the_size_goes_where_cells_may_move(moving: Callable[[Any], Any]) -> None:
    z = latents()
    got = moving(z)
    assert original_size_of(got) is None
    np.testing.assert_array_equal(np.asarray(got), np.asarray(moving(np.array(z))))


def test_without_a_size_latents_are_plain_arrays() -> None:
    assert type(latents(None)) is np.ndarray
    plain = DiagonalGaussian(np.zeros((1, 8, 2, 2), np.float32))
    assert type(plain.mode()) is type(plain.sample(0)) is type(plain.mean) is np.ndarray
    padded = DiagonalGaussian(np.zeros((1, 8, 2, 2), np.float32), (10, 9))
    assert {original_size_of(of) for of in (padded.mode(), padded.sample(0), padded.mean)} == {(10, 9)}
    assert (type(padded.std), type(padded.kl()), type(padded.nll(padded.mode()))) == (np.ndarray,) * 3


@pytest.mark.parametrize(
    ("remembered", "decoded", "out", "wanted"),
    [
        ((100, 53), (104, 56), None, (100, 53)),
        ((100, 53), (104, 64), None, None),
        ((3, 100, 53), (104, 56), None, None),
        ((100, 53), (104, 56), (1, 3, 104, 56), None),
        ((100, 53), (104, 56), (1, 104, 56, 3), None),
        ((100, 53), (104, 56), (1, 3, 100, 53), (100, 53)),
    ],
)
def test_a_size_counts_if_it_agrees_with_the_latents_and_the_callers_array(
    remembered: tuple[int, ...], decoded: tuple[int, ...], out: tuple[int, ...] | None, wanted: tuple[int, ...] | None
) -> None:
    given = None if out is None else np.zeros(out, np.float32)
    z = np.zeros((1, 4, *(length // 8 for length in decoded)), np.float32)
    assert size_before_padding(with_original_size(z, remembered), GRID, given) == wanted


@pytest.mark.parametrize("pixels", [True, False])
def test_the_frames_of_a_stream_are_cut(pixels: bool) -> None:
    clip = np.arange(9 * 8 * 8 * 3).reshape(1, 9, 8, 8, 3)
    wanted = clip[:, :7, :5, :6]
    if not pixels:
        clip, wanted = clip.transpose(0, 4, 1, 2, 3), wanted.transpose(0, 4, 1, 2, 3)
    axis = 1 if pixels else 2
    chunks = np.split(clip, [1, 5, 7], axis)
    got = list(cut_chunks(chunks, (7, 5, 6), pixels=pixels))
    np.testing.assert_array_equal(np.concatenate(got, axis), wanted)
    assert len(got) == 3


def test_a_padded_array_says_its_kind() -> None:
    assert isinstance(latents(), PaddedLatents)
