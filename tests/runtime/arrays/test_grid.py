"""Legal sizes: the grid of latent cells, the nearest legal size, and padding up to it."""

import numpy as np
import pytest
from architectures import ALL
from hypothesis import given, settings
from hypothesis import strategies as st

from latentrt.runtime.arrays.grid import Grid
from latentrt.runtime.config.families import config_from_dict
from latentrt.runtime.errors import InputError

IMAGE = Grid(8, 1, 1, 1, video=False)
VIDEO = Grid(32, 8, 1, 2, video=True)
sizes = st.tuples(st.integers(1, 60), st.integers(1, 300), st.integers(1, 300))


@pytest.mark.parametrize("name", ALL)
def test_a_config_gives_its_grid(name: str) -> None:
    config = config_from_dict(ALL[name])
    grid = Grid.of(config)
    assert grid.video == config.family.endswith("Video")
    assert (grid.spatial, grid.temporal) == (config.spatial_ratio, config.temporal_ratio)
    assert grid.decoder_minimum == (2 if getattr(config, "decoder_spatial_padding_mode", "") == "reflect" else 1)
    assert grid.encoder_minimum == (2 if getattr(config, "encoder_spatial_padding_mode", "") == "reflect" else 1)


@settings(deadline=None)
@given(sizes)
def test_latents_and_samples_map_onto_each_other(cells: tuple[int, int, int]) -> None:
    for grid, size in ((VIDEO, cells), (IMAGE, cells[1:])):
        sample = grid.sample_size(size)
        assert grid.latent_size(sample) == size
        if min(size[-2:]) >= grid.encoder_minimum:
            grid.check_sample(sample)
        assert grid.padded_size(sample) == grid.sample_size(
            (*size[:-2], *(max(cell, grid.decoder_minimum) for cell in size[-2:]))
        )


@settings(deadline=None)
@given(sizes)
def test_padding_reaches_the_smallest_legal_size_that_holds_the_sample(size: tuple[int, int, int]) -> None:
    for grid, wanted in ((VIDEO, size), (IMAGE, size[1:])):
        padded = grid.padded_size(wanted)
        grid.check_sample(padded)
        grid.check_latents(grid.latent_size(padded))
        assert all(legal >= length for legal, length in zip(padded, wanted, strict=True))
        steps = ([grid.temporal] if grid.video else []) + [grid.spatial] * 2
        smallest = ([1] if grid.video else []) + [grid.spatial * grid.decoder_minimum] * 2
        for axis, (legal, length) in enumerate(zip(padded, wanted, strict=True)):
            assert legal - steps[axis] < length or legal == smallest[axis], "one step less would cut the sample"


@settings(deadline=None)
@given(sizes)
def test_off_the_grid_is_an_error_that_names_the_nearest_legal_size(size: tuple[int, int, int]) -> None:
    legal = size[0] % 8 == 1 and size[1] % 32 == 0 and size[2] % 32 == 0
    if legal:
        VIDEO.check_sample(size)
        return
    with pytest.raises(InputError) as caught:
        VIDEO.check_sample(size)
    message = str(caught.value)
    assert str(size) in message
    assert str(VIDEO.padded_size(size)) in message
    assert "multiples of 32 (at least 32) and frames 1 + a multiple of 8" in message


def test_an_encoder_takes_one_cell_where_its_decoder_needs_two() -> None:
    VIDEO.check_sample((1, 32, 32))
    with pytest.raises(InputError, match=r"at least 2 cells .* \(frames, height, width\) = \(1, 1, 2\)"):
        VIDEO.check_latents((1, 1, 2))
    assert VIDEO.padded_size((1, 32, 32)) == (1, 64, 64), "pad=True pads for the decoder that comes after"


@pytest.mark.parametrize("size", [(0, 64, 64), (9, 0, 64)])
def test_empty_axes_are_refused(size: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="every axis needs at least one element"):
        VIDEO.check_sample(size)
    with pytest.raises(InputError, match="no axis may be empty"):
        VIDEO.check_latents(size)


def test_padding_repeats_the_last_row_column_and_frame() -> None:
    clip = np.random.default_rng(0).standard_normal((1, 2, 3, 40, 70)).astype(np.float32)
    padded = VIDEO.pad(clip)
    assert padded.shape == (1, 2, 9, 64, 96)
    np.testing.assert_array_equal(padded[:, :, :3, :40, :70], clip)
    for frame, row, column in [(8, 39, 69), (2, 63, 69), (2, 39, 95), (8, 63, 95)]:
        np.testing.assert_array_equal(padded[:, :, frame, row, column], clip[:, :, -1, -1, -1])


def test_a_sample_on_the_grid_is_not_copied() -> None:
    picture = np.zeros((1, 3, 16, 24), np.float32)
    assert IMAGE.pad(picture) is picture
