"""`blend="diffusers"` gives diffusers' own numbers; where diffusers goes wrong, ours are right or refused."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import ALL, diffusers_model, latents_of, picture, relative_error

from latentrt.runtime import InputError, open_bundle

TOLERANCE = 2e-5
SMALL = {"tile_sample_min_height": 64, "tile_sample_min_width": 96}
KL_CASES = [
    # latents (height, width), the settings of diffusers' attributes
    ((9, 8), {"tile_sample_min_size": 64}),  # stubs of three cells
    ((13, 19), {"tile_sample_min_size": 64}),  # stubs of one cell
    ((20, 7), {"tile_sample_min_size": 64}),  # one axis within a tile but beyond its stride
    ((17, 12), {"tile_sample_min_size": 64, "tile_overlap_factor": 0.5}),
    ((17, 12), {"tile_sample_min_size": 80, "tile_overlap_factor": 0.6}),  # three tiles over one another
    ((11, 15), {"tile_sample_min_size": 48, "tile_overlap_factor": 0.0}),
]
KL_DEFAULTS: tuple[Any, ...] = ("no_attention", (9, 70), {})  # 512 pixels, a quarter; large, so once is enough
LTX_SPACE = {
    "tile_sample_min_height": 96,
    "tile_sample_min_width": 128,
    "tile_sample_stride_height": 64,
    "tile_sample_stride_width": 96,
}
LTX_TIME = {"tile_sample_min_num_frames": 24, "tile_sample_stride_num_frames": 16}
LTX_CASES = [
    # latents (frames, height, width), framewise, settings
    ((2, 4, 6), False, LTX_SPACE),
    ((1, 5, 5), False, LTX_SPACE),
    ((2, 6, 3), False, LTX_SPACE | {"tile_sample_stride_height": 32}),
    ((5, 2, 3), True, {}),
    ((6, 2, 2), True, LTX_TIME),
    ((7, 2, 2), True, {"tile_sample_min_num_frames": 24, "tile_sample_stride_num_frames": 8}),
    ((4, 4, 6), True, LTX_SPACE),
    ((6, 3, 5), True, LTX_SPACE | LTX_TIME),
]
LTX_DEFAULTS: tuple[Any, ...] = ("ltx23", (2, 3, 18), False, {})  # 512 pixels every 448


@pytest.fixture(scope="module")
def pair(bundle_of: Callable[[str], Path]) -> Callable[[str], tuple[Any, Any]]:
    """Our autoencoder and diffusers' model of the same weights, with diffusers' tiling at its defaults."""

    @cache
    def open_pair(name: str) -> tuple[Any, Any]:
        return open_bundle(bundle_of(name), threads=1), diffusers_model(ALL[name])

    return open_pair


def fresh(model: Any) -> Any:
    """The model with diffusers' default tiling, whatever the test before set."""
    model.disable_tiling()
    if hasattr(model, "tile_latent_min_size"):
        model.tile_sample_min_size = model.config.sample_size
        model.tile_latent_min_size = model.config.sample_size // 2 ** (len(model.config.block_out_channels) - 1)
        model.tile_overlap_factor = 0.25
    else:
        model.tile_sample_min_height = model.tile_sample_min_width = 512
        model.tile_sample_stride_height = model.tile_sample_stride_width = 448
        model.tile_sample_min_num_frames, model.tile_sample_stride_num_frames = 16, 8
        model.use_framewise_decoding = False
    return model


def sample_of(vae: Any, name: str, size: tuple[int, ...]) -> np.ndarray:
    frames, height, width = (1, *vae.grid.sample_size(size))[-3:]
    return picture(ALL[name], batch=1, frames=frames, height=height, width=width)


@torch.no_grad()
def theirs_decoded(model: Any, z: np.ndarray, **options: Any) -> np.ndarray:
    return model.decode(torch.from_numpy(z), **options).sample.numpy()  # type: ignore[no-any-return]


@torch.no_grad()
def theirs_encoded(model: Any, x: np.ndarray) -> np.ndarray:
    return model.encode(torch.from_numpy(x)).latent_dist.parameters.numpy()  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "settings"),
    [KL_DEFAULTS, *((name, *case) for case in KL_CASES for name in ("no_attention", "sd", "odd_groups"))],
)
def test_images_decode_and_encode_as_in_diffusers(
    name: str, size: tuple[int, int], settings: dict[str, Any], pair: Callable[[str], tuple[Any, Any]]
) -> None:
    vae, model = pair(name)
    ratio = vae.grid.spatial
    if settings:
        settings = settings | {"tile_sample_min_size": settings["tile_sample_min_size"] // 8 * ratio}
    vae.enable_tiling(blend="diffusers", **settings)
    fresh(model).enable_tiling()
    if settings:
        model.tile_sample_min_size = settings["tile_sample_min_size"]
        model.tile_latent_min_size = settings["tile_sample_min_size"] // ratio
        model.tile_overlap_factor = settings.get("tile_overlap_factor", 0.25)
    z = latents_of(vae, size, batch=2 if settings else 1)
    assert relative_error(vae.decode(z).sample, theirs_decoded(model, z)) < TOLERANCE
    x = sample_of(vae, name, size)
    assert relative_error(vae.encode(x).latent_dist.parameters, theirs_encoded(model, x)) < TOLERANCE
    assert vae.tile_plan("decoder", x.shape[2:]).count > 1, "else this compared nothing"


def test_a_tiled_call_loops_over_tiles_where_the_whole_would_fit_into_one(
    pair: Callable[[str], tuple[Any, Any]],
) -> None:
    vae, model = pair("no_attention")
    fresh(model).enable_tiling()
    model.tile_sample_min_size, model.tile_latent_min_size = 64, 8
    vae.enable_tiling(blend="diffusers", tile_sample_min_size=64)
    z = latents_of(vae, (7, 8))
    with torch.no_grad():
        wanted = model.tiled_decode(torch.from_numpy(z)).sample.numpy()
    assert relative_error(vae.tiled_decode(z).sample, wanted) < TOLERANCE
    assert relative_error(vae.decode(z).sample, theirs_decoded(model, z)) < TOLERANCE
    assert relative_error(vae.decode(z).sample, wanted) > 1e-3, "a stub tile makes a difference"
    x = sample_of(vae, "no_attention", (7, 8))
    with torch.no_grad():
        moments = model._tiled_encode(torch.from_numpy(x)).numpy()  # noqa: SLF001 # `tiled_encode` is deprecated
    assert relative_error(vae.tiled_encode(x).latent_dist.parameters, moments) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "framewise", "settings"),
    [LTX_DEFAULTS, *((name, *case) for case in LTX_CASES for name in ("ltx23", "causal_decoder", "ltx20"))],
)
def test_clips_decode_and_encode_as_in_diffusers(
    name: str,
    size: tuple[int, int, int],
    framewise: bool,
    settings: dict[str, Any],
    pair: Callable[[str], tuple[Any, Any]],
) -> None:
    vae, model = pair(name)
    vae.enable_tiling(blend="diffusers", framewise=framewise, compat_shift=framewise, **settings)
    fresh(model).enable_tiling(**settings)
    model.use_framewise_decoding = framewise
    x = sample_of(vae, name, size)
    plan = vae.tile_plan("decoder", x.shape[2:])
    assert plan.count > 1, "else this compares nothing"
    z = latents_of(vae, size, batch=2 if name == "ltx23" else 1)
    decodes = plan.lines[1].pieces, plan.lines[2].pieces
    if model.config.decoder_spatial_padding_mode == "zeros" or all(p.skip == 0 for line in decodes for p in line):
        assert relative_error(vae.decode(z).sample, theirs_decoded(model, z)) < TOLERANCE
    else:
        with pytest.raises(RuntimeError, match=r"[Pp]adding"):  # reflect padding of one row
            theirs_decoded(model, z)
        assert np.isfinite(vae.decode(z).sample).all()
    assert relative_error(vae.encode(x).latent_dist.parameters, theirs_encoded(model, x)) < TOLERANCE


def test_framewise_tiles_line_up_unless_the_shift_is_asked_for(pair: Callable[[str], tuple[Any, Any]]) -> None:
    vae, model = pair("ltx23")
    z = latents_of(vae, (6, 2, 2))
    fresh(model).use_framewise_decoding = True
    shifted = theirs_decoded(model, z)
    vae.enable_tiling(blend="diffusers", framewise=True, compat_shift=True)
    assert relative_error(vae.decode(z).sample, shifted) < TOLERANCE
    vae.enable_tiling(blend="diffusers", framewise=True)
    aligned = vae.decode(z).sample
    wanted, previous = [], None
    with torch.no_grad():
        for start in range(6):  # diffusers' loop, but a later tile loses its first frame, the one that is decoded wrong
            tile = model.decoder(torch.from_numpy(z[:, :, start : start + 3]))[:, :, int(start > 0) :]
            if previous is not None:
                tile = model.blend_t(previous, tile, 8)
            wanted.append(tile[:, :, : 8 if start else 9])
            previous = tile
    assert relative_error(aligned, torch.cat(wanted, dim=2).numpy()) < TOLERANCE


def test_a_tail_of_one_row_is_right_where_reflect_padding_makes_diffusers_fail(
    pair: Callable[[str], tuple[Any, Any]],
) -> None:
    """832x480 has 15 latent rows: with diffusers' defaults a last tile of one row, which reflect padding refuses."""
    vae, model = pair("ltx20")
    settings = {"tile_sample_min_height": 96, "tile_sample_stride_height": 64}
    fresh(model).enable_tiling(**settings)
    z = latents_of(vae, (2, 5, 3))
    with pytest.raises(RuntimeError):
        theirs_decoded(model, z)
    vae.enable_tiling(blend="diffusers", **settings)
    sample = vae.decode(z).sample
    assert sample.shape == (1, 3, 9, 160, 96)
    assert np.isfinite(sample).all()
    model.disable_tiling()
    whole = theirs_decoded(model, z)
    seam = np.abs(sample - whole)[:, :, :, 128:].mean() / np.abs(sample - whole)[:, :, :, 64:128].mean()
    assert seam < 3, "the last row is as close to the whole picture as the rest is"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"tile_sample_min_size": 512, "tile_overlap_factor": 1 / 3}, "the nearest that do: 0.328125 or 0.34375"),
        ({"tile_sample_min_size": 500}, "wanted a multiple of 8 .* the nearest are 496 or 504"),
        ({"tile_sample_min_size": 64, "tile_overlap_factor": 1.0}, "from 0 up to and without 1, got 1.0"),
        ({"tile_sample_min_size": 64, "tile_sample_min_height": 64}, "not both"),
        ({"tile_sample_min_height": 256, "tile_sample_stride_height": 264}, "from 8 to 256, .* got 264"),
        ({"framewise": True}, "framewise"),
    ],
)
def test_image_settings_with_which_diffusers_goes_wrong_are_refused(
    settings: dict[str, Any], sentence: str, pair: Callable[[str], tuple[Any, Any]]
) -> None:
    vae, _ = pair("sd")
    vae.enable_tiling(tile_sample_min_size=64)
    before = vae.settings
    with pytest.raises((InputError, TypeError), match=sentence):
        vae.enable_tiling(blend="diffusers", **settings)
    assert vae.settings is before, "the settings before it stay"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"tile_sample_min_height": 500}, "tile_sample_min_height: wanted a multiple of 32 .* nearest are 480 or 512"),
        ({"tile_sample_stride_width": 10}, "tile_sample_stride_width: wanted a multiple of 32 .* nearest are 32"),
        ({"tile_sample_min_height": 256}, "tile_sample_stride_height: wanted from 32 to 256, .* got 448"),
        ({"compat_shift": True}, "give framewise=True"),
        ({"tile_sample_min_num_frames": 4}, "at least 8"),
        ({"tile_sample_min_num_frames": 24, "tile_sample_stride_num_frames": 4}, "from 8 to 24"),
        ({"framewise": True, "compat_shift": True, "tile_sample_min_num_frames": 17}, "multiple of 8"),
    ],
)
def test_video_settings_with_which_diffusers_goes_wrong_are_refused(
    settings: dict[str, Any], sentence: str, pair: Callable[[str], tuple[Any, Any]]
) -> None:
    vae, _ = pair("ltx20")
    with pytest.raises(InputError, match=sentence):
        vae.enable_tiling(blend="diffusers", **settings)


def test_calling_enable_tiling_again_replaces_every_setting(pair: Callable[[str], tuple[Any, Any]]) -> None:
    vae, _ = pair("ltx20")
    vae.enable_tiling(blend="diffusers", framewise=True, **LTX_SPACE)
    vae.enable_tiling(blend="diffusers")
    again = vae.settings.tiling
    vae.disable_tiling()
    vae.enable_tiling(blend="diffusers")
    assert vae.settings.tiling == again
    assert [tiles.size for tiles in again.tiles] == [3, 16, 16]
