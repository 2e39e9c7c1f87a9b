"""Tiling through the runtime: what `enable_tiling` makes of encode and decode, on engines."""

import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architectures import ALL, latents_of, picture

from latentrt.runtime import AutoencoderKL, AutoencoderKLLTX2Video, Cancelled, InputError, LatentRTError

IMAGE, VIDEO = "no_attention", "ltx20"
SPACE = {
    "tile_sample_min_height": 96,
    "tile_sample_min_width": 128,
    "tile_sample_stride_height": 64,
    "tile_sample_stride_width": 96,
}
TIME = {"tile_sample_min_num_frames": 24, "tile_sample_stride_num_frames": 16}
SIZES = {IMAGE: (21, 33), VIDEO: (7, 5, 7)}
Open = Callable[..., Any]


def enable(vae: Any, **options: Any) -> None:
    vae.enable_tiling(**(SPACE | TIME if vae.video else SPACE) | options)


def decibels(ours: np.ndarray, wanted: np.ndarray) -> float:
    return float(10 * np.log10(np.ptp(wanted) ** 2 / np.mean(np.square(ours.astype(np.float64) - wanted))))


@pytest.mark.slow
@pytest.mark.parametrize("name", [IMAGE, VIDEO])
def test_decode_is_the_weighted_sum_of_its_tiles(name: str, opened: Open) -> None:
    """The plan is the definition: the sum over tiles of weights times the tile's own decode."""
    vae = opened(name)
    z = latents_of(vae, SIZES[name], batch=2)
    vae.disable_tiling()
    enable(vae)
    size = vae.grid.sample_size(SIZES[name])
    plan = vae.tile_plan("decoder", size)
    assert min(plan.shape) > 1
    tiled = vae.decode(z).sample
    vae.disable_tiling()
    wanted = np.zeros((2, 3, *size))
    for tile in plan.tiles:
        part = vae.decode(np.ascontiguousarray(z[(slice(None), slice(None), *tile.source)])).sample.astype(np.float64)
        own = tuple(slice(piece.skip, piece.skip + len(piece.target)) for piece in tile.pieces)
        weights = np.ones(())
        for piece in tile.pieces:
            weights = np.multiply.outer(weights, piece.weights)
        target = tuple(piece.target.as_slice() for piece in tile.pieces)
        wanted[(slice(None), slice(None), *target)] += part[(slice(None), slice(None), *own)] * weights
    np.testing.assert_allclose(tiled, wanted, atol=2e-6 * np.abs(wanted).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", [IMAGE, VIDEO])
def test_encode_blends_moments(name: str, opened: Open) -> None:
    vae = opened(name)
    frames, height, width = (1, *vae.grid.sample_size(SIZES[name]))[-3:]
    x = picture(ALL[name], batch=1, frames=frames, height=height, width=width)
    whole = vae.encode(x).latent_dist
    enable(vae)
    told: list[tuple[int, int]] = []
    tiled = vae.encode(x, progress=lambda *counts: told.append(counts)).latent_dist
    assert told[-1] == (vae.tile_plan("encoder", x.shape[2:]).count,) * 2
    assert tiled.parameters.shape == whole.parameters.shape
    assert decibels(tiled.mean, whole.mean) > 20
    assert not np.array_equal(tiled.mean, whole.mean)
    vae.disable_tiling()
    assert np.array_equal(vae.tiled_encode(x).latent_dist.parameters, tiled.parameters), "the settings stay"
    assert np.array_equal(vae.encode(x).latent_dist.parameters, whole.parameters)


@pytest.mark.slow
@pytest.mark.parametrize("name", [IMAGE, VIDEO])
def test_every_form_of_output_agrees(name: str, opened: Open, tmp_path: Path) -> None:
    vae = opened(name)
    enable(vae)
    z = latents_of(vae, SIZES[name], batch=2)
    wanted = vae.decode(z).sample
    size = vae.grid.sample_size(SIZES[name])
    crop = tuple(length - 5 for length in size)
    window = (slice(None), slice(None), *(slice(0, length) for length in crop))

    garbage = np.full(wanted.shape, np.nan, np.float32)
    assert vae.decode(z, out=garbage).sample is garbage
    assert np.array_equal(garbage, wanted), "what out= held does not count"
    strided = np.empty((*wanted.shape[:-1], 2 * wanted.shape[-1]), np.float32)[..., ::2]
    assert np.array_equal(vae.decode(z, out=strided).sample, wanted)
    mapped = np.lib.format.open_memmap(tmp_path / "out.npy", mode="w+", dtype=np.float32, shape=wanted.shape)
    vae.decode(z, out=mapped)
    del mapped
    assert np.array_equal(np.load(tmp_path / "out.npy"), wanted)
    np.testing.assert_allclose(vae.decode(z, crop=crop).sample, wanted[window], atol=1e-6)

    from latentrt.runtime.arrays.pixels import to_pixels

    assert np.array_equal(vae.decode(z, output="uint8").sample, to_pixels(wanted))
    pixels = np.empty(to_pixels(wanted[window]).shape, np.uint8)
    vae.decode(z, output="uint8", out=pixels, crop=crop)
    assert np.abs(pixels.astype(int) - to_pixels(wanted[window])).max() <= 1
    vae.enable_slicing()
    np.testing.assert_allclose(vae.decode(z).sample, wanted, atol=1e-5)
    vae.disable_slicing()
    enable(vae, tiles_per_call=3)
    np.testing.assert_allclose(vae.decode(z).sample, wanted, atol=1e-5 * np.abs(wanted).max())
    with pytest.raises(InputError, match="not with tiling"):
        vae.decode(z, output="device")


def test_tiles_run_as_one_batch_where_that_is_asked_for(opened: Open) -> None:
    vae = opened(IMAGE)
    z = latents_of(vae, SIZES[IMAGE])
    batches: list[int] = []
    component = vae.opened.engines.own.component(vae.opened.jobs.graph("decoder", None))
    run = component.run

    def counting(inputs: Any, **options: Any) -> Any:
        batches.append(len(inputs["latents"]))
        return run(inputs, **options)

    component.run = counting
    enable(vae, tiles_per_call=4)
    vae.decode(z)
    count = vae.tile_plan("decoder", vae.grid.sample_size(SIZES[IMAGE])).count
    assert batches == [4] * (count // 4) + [count % 4] * (count % 4 > 0)


def test_noise_and_timesteps_are_those_of_the_whole_clip(opened: Open) -> None:
    """Where one tile alone decides, it must have seen the noise that the whole clip has there."""
    vae = opened("noise")
    z = latents_of(vae, (1, 2, 9))
    enable(vae, tile_sample_min_width=128, tile_sample_stride_width=96, tiles_per_call=4)
    tiled = vae.decode(z, rng=7).sample
    assert np.array_equal(tiled, vae.decode(z, rng=7).sample)
    vae.disable_tiling()
    whole = vae.decode(z, rng=7).sample
    other = vae.decode(z, rng=8).sample
    assert decibels(tiled, whole) > decibels(other, whole) + 3
    timed = opened("timestep")
    z = latents_of(timed, (5, 2, 2), batch=2)
    enable(timed, tiles_per_call=2)
    both = timed.decode(z, temb=[0.05, 0.9]).sample
    alone = timed.decode(z[1:], temb=[0.9]).sample
    np.testing.assert_allclose(both[1:], alone, atol=1e-5)
    timed.enable_slicing()
    np.testing.assert_allclose(timed.decode(z, temb=[0.05, 0.9]).sample, both, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [IMAGE, VIDEO])
def test_linear_is_closer_to_the_whole_than_diffusers_at_the_same_tiles(name: str, opened: Open) -> None:
    vae = opened(name)
    z = latents_of(vae, SIZES[name])
    whole = vae.decode(z).sample
    options = {"framewise": True, "compat_shift": True} if vae.video else {}
    enable(vae, blend="diffusers", **options)
    theirs = decibels(vae.decode(z).sample, whole)
    enable(vae)
    ours = decibels(vae.decode(z).sample, whole)
    assert ours > theirs + (3 if vae.video else 0)


@pytest.mark.slow
def test_linear_beats_diffusers_defaults_by_5_db_for_less_work(opened: Open) -> None:
    for name in (VIDEO, "ltx23"):
        vae = opened(name)
        z = latents_of(vae, (14, 2, 3))
        size = vae.grid.sample_size(z.shape[2:])
        whole = vae.decode(z).sample
        vae.enable_tiling(blend="diffusers", framewise=True, compat_shift=True)
        theirs, their_work = decibels(vae.decode(z).sample, whole), vae.tile_plan("decoder", size).work
        vae.enable_tiling()
        assert vae.tile_plan("decoder", size).work < their_work
        assert decibels(vae.decode(z).sample, whole) > theirs + 5
        vae.enable_tiling(tile_sample_min_num_frames=24, tile_sample_stride_num_frames=16)  # 4 latents every 2
        assert vae.tile_plan("decoder", size).work < their_work
        assert decibels(vae.decode(z).sample, whole) > theirs + 5


def test_enable_tiling_alone_tiles_space_and_time(opened: Open) -> None:
    vae = opened(VIDEO)
    vae.enable_tiling()
    plan = vae.tile_plan("decoder", (121, 704, 1216))
    assert min(plan.shape) > 1
    for line in plan.lines:
        assert len({len(piece.cells) for piece in line.pieces}) == 1, "every tile has one shape"
    assert vae.tile_plan("decoder", (9, 256, 256)).count == 1
    vae.enable_tiling(blend="diffusers")
    assert vae.tile_plan("decoder", (121, 704, 1216)).shape == (1, 2, 3)
    vae.enable_tiling(blend="ltx2")
    assert vae.tile_plan("decoder", (121, 1088, 1920)).shape == (2, 2, 3)
    image = opened(IMAGE)
    image.enable_tiling(tile_sample_min_size=256, tile_overlap_factor=0.25)
    assert [len(piece.cells) for piece in image.tile_plan("decoder", (600, 800)).lines[0].pieces] == [32, 32, 32]
    with pytest.raises(InputError, match="sample: height and width must be multiples"):
        image.tile_plan("decoder", (601, 800))
    with pytest.raises(InputError, match="got 'middle'"):
        image.tile_plan("middle", (600, 800))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"blend": "cubic"}, "blend: wanted one of linear, diffusers, ltx2, got 'cubic'"),
        ({"tile_sample_min_height": 32}, "at least 64 .2 latent cells, which the model needs., got 32"),
        ({"tile_sample_min_height": 100}, "multiple of 32 .* got 100; the nearest are 96 or 128"),
        ({"tile_sample_min_height": 128, "tile_sample_stride_height": 160}, "from 32 to 128"),
        ({"tile_sample_min_num_frames": 16, "tile_sample_stride_num_frames": 24}, "from 8 to 16"),
        ({"tile_sample_min_num_frames": 7}, "at least 8 .2 latent cells"),
        ({"framewise": True}, 'for blend="diffusers"'),
        ({"tiles_per_call": 0}, "tiles_per_call: wanted a whole number of at least 1, got 0"),
        (
            {"tile_sample_min_width": 0},
            "tile_sample_min_width: wanted a positive whole number, the smallest is 32, got 0",
        ),
        ({"tile_sample_min_width": 96.5}, "wanted a positive whole number, the smallest is 32, got 96.5"),
        ({"tile_sample_min_width": "wide"}, "wanted a positive whole number, the smallest is 32, got 'wide'"),
    ],
)
def test_illegal_tiles_are_refused_in_one_sentence(settings: dict[str, Any], sentence: str, opened: Open) -> None:
    vae = opened(VIDEO)
    with pytest.raises(InputError, match=sentence) as caught:
        vae.enable_tiling(**settings)
    assert "\n" not in str(caught.value)


def test_image_and_video_models_take_their_own_arguments(opened: Open) -> None:
    with pytest.raises(InputError, match="blend: wanted one of linear, diffusers, got 'ltx2'"):
        opened(IMAGE).enable_tiling(blend="ltx2")
    assert isinstance(opened(IMAGE), AutoencoderKL)
    assert isinstance(opened(VIDEO), AutoencoderKLLTX2Video)


class TestFrames:
    @pytest.mark.slow
    def test_they_come_in_groups_that_make_the_whole(self, opened: Open) -> None:
        vae = opened(VIDEO)
        enable(vae)
        z = latents_of(vae, SIZES[VIDEO], batch=2)
        wanted = vae.decode(z).sample
        groups = list(vae.decode_frames(z))
        assert [group.shape[2] for group in groups] == [17, 8, 24], "the last tile slides back"
        assert all(group.flags.c_contiguous and group.dtype == np.float32 for group in groups)
        np.testing.assert_array_equal(np.concatenate(groups, axis=2), wanted)
        pixels = np.concatenate(list(vae.decode_frames(z, output="uint8", crop=(45, 150, 200))), axis=1)
        np.testing.assert_array_equal(pixels, vae.decode(z, output="uint8", crop=(45, 150, 200)).sample)
        vae.disable_tiling()
        assert [group.shape for group in vae.decode_frames(z)] == [wanted.shape], "without tiles it is one group"

    def test_arguments_are_checked_at_once_and_tiles_counted(self, opened: Open) -> None:
        vae = opened(VIDEO)
        with pytest.raises(InputError, match="latents: wanted 16 channels"):
            vae.decode_frames(np.zeros((1, 3, 2, 2, 2), np.float32))
        with pytest.raises(InputError, match="output must be one of"):
            vae.decode_frames(latents_of(vae, (2, 2, 2)), output="float16")
        enable(vae)
        told: list[tuple[int, int]] = []
        list(vae.decode_frames(latents_of(vae, SIZES[VIDEO]), progress=lambda *counts: told.append(counts)))
        assert told == [(number + 1, 12) for number in range(12)]

    @pytest.mark.slow
    def test_other_calls_get_their_turn_while_a_generator_is_open(self, opened: Open) -> None:
        vae = opened(VIDEO)
        enable(vae)
        z, small = latents_of(vae, SIZES[VIDEO]), latents_of(vae, (1, 2, 2))
        wanted, alone = vae.decode(z).sample, vae.decode(small).sample
        groups = vae.decode_frames(z)
        first = next(groups)
        assert np.array_equal(vae.decode(small).sample, alone)
        np.testing.assert_array_equal(np.concatenate([first, *groups], axis=2), wanted)

    @pytest.mark.slow
    def test_an_iterator_that_is_closed_early_leaves_nothing_running(self, opened: Open) -> None:
        vae = opened(VIDEO)
        enable(vae)
        z = latents_of(vae, SIZES[VIDEO])
        wanted = vae.decode(z).sample
        groups = vae.decode_frames(z)
        next(groups)
        groups.close()
        assert not vae.opened.engines.calls
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("latentrt-tiles")]
        assert np.array_equal(vae.decode(z).sample, wanted)

    def test_cancel_and_close_stop_it(self, opened: Open) -> None:
        vae = opened(VIDEO)
        enable(vae)
        z = latents_of(vae, SIZES[VIDEO])
        groups = vae.decode_frames(z)
        next(groups)
        vae.cancel()
        with pytest.raises(Cancelled):
            list(groups)
        groups = vae.decode_frames(z)
        next(groups)
        vae.close()
        with pytest.raises(LatentRTError, match="was closed"):
            list(groups)

    def test_no_more_than_two_groups_are_held(self, opened: Open) -> None:
        vae = opened(VIDEO)
        vae.enable_tiling(**TIME)
        z = latents_of(vae, (15, 3, 4))
        group_bytes = 16 * 3 * 96 * 128 * 4
        for _ in vae.decode_frames(z[:, :, :4]):
            pass  # what is loaded once is not counted
        tracemalloc.start()
        try:
            for frames in vae.decode_frames(z):
                del frames
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        # Two groups, and the two results of which one is being blended while the other is made.
        assert peak < (2 + 2 * 25 / 16 + 0.5) * group_bytes


def test_progress_may_stop_a_call_and_the_next_one_is_right(opened: Open) -> None:
    vae = opened(IMAGE)
    enable(vae)
    z = latents_of(vae, SIZES[IMAGE])
    wanted = vae.decode(z).sample

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        vae.decode(z, progress=stop)
    assert np.array_equal(vae.decode(z).sample, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("blend", ["linear", "diffusers"])
def test_memory_beside_input_and_output_is_at_most_four_tiles(blend: str, opened: Open) -> None:
    vae = opened(IMAGE)
    enable(vae, blend=blend)
    z = latents_of(vae, (36, 48))
    out = np.empty((1, 3, 288, 384), np.float32)
    vae.decode(z, out=out)
    tracemalloc.start()
    try:
        vae.decode(z, out=out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    tile = 3 * 96 * 128 * 4
    strips = 3 * 32 * 384 * 4 if blend == "diffusers" else 0  # of the row of tiles above
    assert peak < 4 * tile + strips + 100_000  # and the plan itself


def test_the_table_of_the_command_line_lists_the_plan(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    from click.testing import CliRunner

    from latentrt.cli.main import cli

    runner = CliRunner()

    def run(*arguments: str) -> Any:
        return runner.invoke(cli, ["plan", str(bundle_of(VIDEO)), *arguments])

    result = run("--size", "300x400x97", "--tile", "128x128x24", "--overlap", "32x32x8", "--json")
    assert result.exit_code == 0, result.output
    import json

    report = json.loads(result.output)
    assert report["size"] == [97, 320, 416]
    assert [axis["axis"] for axis in report["axes"]] == ["num_frames", "height", "width"]
    assert report["axes"][1]["tiles"][1] == {"cells": [3, 7], "reads": [3, 7], "writes": [96, 224]}
    drawing = tmp_path / "plan.svg"
    result = run("--size", "300x400x97", "--tile", "128x128x24", "--draw", str(drawing))
    assert "times the cells of a single pass" in result.output
    assert drawing.read_text(encoding="utf-8").count("<path") > 20
    assert "end its name in" in str(run("--size", "64x64x9", "--draw", str(tmp_path / "a.txt")).exception)
    assert "takes HEIGHTxWIDTHxFRAMES, got 64x64" in str(run("--size", "64x64").exception)
    assert run("--size", "64x").exit_code == 2
    assert run("--size", "64x64x9", "--overlap", "32").exit_code == 2
