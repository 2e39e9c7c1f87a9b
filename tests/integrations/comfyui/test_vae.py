"""The VAE object: its numbers against diffusers, its layouts, and what ComfyUI's nodes ask of it."""

import copy
import threading
import time
from collections.abc import Callable
from typing import Any

import comfy.model_management
import numpy as np
import pytest
import torch
from architectures import ALL, diffusers_model
from comfy.utils import ProgressBar

from latentrt.integrations.comfyui.call_watch import CallWatch
from latentrt.integrations.comfyui.vae import LatentRTVAE
from latentrt.runtime.errors import Cancelled, InputError

VaeOf = Callable[..., LatentRTVAE]
RATIO = {"sd": 8, "flux": 8, "flux2": 16, "ltx20": 32}


def pixels_of(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).random(shape, np.float32))


def own_latents(name: str, sample: torch.Tensor) -> torch.Tensor:
    """ComfyUI's latents by diffusers' model: model latents for SD and FLUX.1, and normalised ones for LTX."""
    model = diffusers_model(ALL[name])
    latents: torch.Tensor = model.encode(sample * 2 - 1).latent_dist.mode()
    if name == "ltx20":
        shape = (1, -1, 1, 1, 1)
        latents = (latents - model.latents_mean.view(shape)) / model.latents_std.view(shape)
    return latents


@pytest.mark.parametrize("name", ["sd", "flux"])
def test_pictures_are_what_the_model_gives(name: str, vae_of: VaeOf) -> None:
    vae, pixels = vae_of(name), pixels_of(2, 48, 40, 3)
    latents = vae.encode(pixels)
    torch.testing.assert_close(latents, own_latents(name, pixels.movedim(-1, 1)), atol=2e-5, rtol=0)
    wanted = diffusers_model(ALL[name]).decode(latents).sample.add(1).div(2).clamp(0, 1).movedim(1, -1)
    torch.testing.assert_close(vae.decode(latents), wanted, atol=1e-5, rtol=0)


def test_a_clip_is_a_batch_of_frames_and_its_latents_are_normalised(vae_of: VaeOf) -> None:
    vae, pixels = vae_of("ltx20"), pixels_of(9, 64, 96, 3)
    latents = vae.encode(pixels)
    assert latents.shape == (1, 16, 2, 2, 3)
    torch.testing.assert_close(latents, own_latents("ltx20", pixels.movedim(-1, 0)[None]), atol=2e-5, rtol=0)
    model = diffusers_model(ALL["ltx20"])
    shape = (1, -1, 1, 1, 1)
    raw = latents * model.latents_std.view(shape) + model.latents_mean.view(shape)
    wanted = model.decode(raw).sample.add(1).div(2).clamp(0, 1).movedim(1, -1)
    decoded = vae.decode(latents)
    assert decoded.shape == (1, 9, 64, 96, 3)
    torch.testing.assert_close(decoded, wanted, atol=1e-5, rtol=0)


def test_the_latents_of_flux_2_are_packed_and_normalised(vae_of: VaeOf) -> None:
    vae, pixels = vae_of("flux2"), pixels_of(1, 64, 48, 3)
    latents = vae.encode(pixels)
    assert latents.shape == (1, 32, 4, 3)
    assert (vae.latent_channels, vae.spacial_compression_decode()) == (32, 16)
    raw = vae.first_stage_model.autoencoder.encode((pixels * 2 - 1).movedim(-1, 1).numpy()).latent_dist.mode()
    np.testing.assert_allclose(vae.first_stage_model.autoencoder.unscale_latents(latents.numpy()), raw, atol=1e-5)
    assert vae.decode(latents).shape == pixels.shape


@pytest.mark.parametrize("name", ["sd", "flux2", "ltx20"])
def test_sizes_off_the_grid_are_cut_from_the_middle(name: str, vae_of: VaeOf) -> None:
    vae, ratio = vae_of(name), RATIO[name]
    pixels = pixels_of(12 if name == "ltx20" else 1, 3 * ratio + 5, 2 * ratio + 3, 3)
    frames = 9 if name == "ltx20" else 1
    inner = pixels[:frames, 2 : 2 + 3 * ratio, 1 : 1 + 2 * ratio]
    assert torch.equal(vae.encode(pixels), vae.encode(inner))


def test_a_picture_smaller_than_one_cell_is_refused_in_one_sentence(vae_of: VaeOf) -> None:
    with pytest.raises(InputError, match="wanted at least 8 pixels along each side, got 4 high and 40 wide"):
        vae_of("sd").encode(pixels_of(1, 4, 40, 3))


def test_channels_are_cut_or_filled_with_opaque_alpha(vae_of: VaeOf) -> None:
    pixels = pixels_of(1, 32, 32, 4)
    assert torch.equal(vae_of("sd").encode(pixels), vae_of("sd").encode(pixels[..., :3]))
    opaque = torch.cat([pixels[..., :3], torch.ones(1, 32, 32, 1)], dim=-1)
    rgba = LatentRTVAE(vae_of("rgba_gelu").first_stage_model.autoencoder)
    assert torch.equal(rgba.encode(pixels[..., :3]), rgba.encode(opaque))
    assert rgba.decode(rgba.encode(opaque)).shape == (1, 32, 32, 4)


def test_pictures_for_a_video_model_are_one_frame_each(vae_of: VaeOf) -> None:
    assert vae_of("ltx20").encode(pixels_of(2, 64, 64, 3), not_video=True).shape == (2, 16, 1, 2, 2)


def test_an_image_model_takes_the_first_frame_of_five_dimensions(vae_of: VaeOf) -> None:
    vae, latents = vae_of("sd"), torch.randn(1, 4, 1, 4, 4)
    assert torch.equal(vae.decode(latents), vae.decode(latents[:, :, 0]))


def test_latents_of_another_model_are_refused_in_one_sentence(vae_of: VaeOf) -> None:
    with pytest.raises(InputError, match=r"AutoencoderKL wants \(B, 4, h, w\), got \(1, 16, 4, 4\)"):
        vae_of("sd").decode(torch.zeros(1, 16, 4, 4))
    with pytest.raises(InputError, match=r"wants \(B, 16, t, h, w\), got \(1, 16, 4, 4\)"):
        vae_of("ltx20").decode(torch.zeros(1, 16, 4, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_latents_are_taken(dtype: torch.dtype, vae_of: VaeOf) -> None:
    vae, latents = vae_of("sd"), torch.randn(1, 4, 4, 4).to(dtype)
    assert torch.equal(vae.decode(latents), vae.decode(latents.float()))


# Tiled nodes


def test_tiles_that_hold_everything_give_the_single_pass(vae_of: VaeOf) -> None:
    vae, latents = vae_of("sd"), torch.randn(1, 4, 6, 6)
    torch.testing.assert_close(vae.decode_tiled(latents, 64, 64, 8), vae.decode(latents), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "channels"), [("sd", 4), ("flux2", 32)])
def test_the_tiles_have_the_size_that_the_node_asks_for(name: str, channels: int, vae_of: VaeOf) -> None:
    vae = vae_of(name)
    vae.decode_tiled(torch.randn(1, channels, 12, 12), 6, 6, 2)
    assert ProgressBar.shown[-1][:2] == (9, 9)  # three tiles of 6 cells along each side, 4 apart
    whole = vae.decode_tiled(torch.randn(1, channels, 12, 12))
    assert whole.shape == (1, 12 * RATIO[name], 12 * RATIO[name], 3)


@pytest.mark.parametrize("sizes", [(0, 0, 0), (1, 1, 1), (4, 4, 4), (3, 5, 9), (None, None, None)])
def test_odd_sizes_of_tiles_work(sizes: tuple[int | None, ...], vae_of: VaeOf) -> None:
    assert vae_of("sd").decode_tiled(torch.randn(1, 4, 6, 6), *sizes).shape == (1, 48, 48, 3)


def test_encoding_in_tiles_takes_pixels_and_frames(vae_of: VaeOf) -> None:
    image, clip = vae_of("sd"), vae_of("ltx20")
    assert image.encode_tiled(pixels_of(1, 96, 96, 3), 64, 64, 16).shape == (1, 4, 12, 12)
    assert ProgressBar.shown[-1][1] == 4
    latents = clip.encode_tiled(pixels_of(17, 96, 96, 3), 64, 64, 16, tile_t=16, overlap_t=8)
    assert latents.shape == (1, 16, 3, 3, 3)


def test_a_clip_is_decoded_in_tiles_of_space_and_time(vae_of: VaeOf) -> None:
    vae, latents = vae_of("ltx20"), torch.randn(1, 16, 4, 4, 4)
    assert vae.decode_tiled(latents, 2, 2, 0, 2, 1).shape == (1, 25, 128, 128, 3)
    assert vae.decode_tiled(latents, tile_x=8, tile_y=8, overlap=2).shape == (1, 25, 128, 128, 3)


@pytest.mark.parametrize(("name", "shape"), [("sd", (1, 4, 16, 12)), ("ltx20", (1, 16, 4, 2, 2))])
def test_exact_tiles_have_the_numbers_of_a_single_pass(name: str, shape: tuple[int, ...], vae_of: VaeOf) -> None:
    vae, latents = vae_of(name, exact_tiles=True), torch.randn(shape)
    whole = vae.decode(latents)
    torch.testing.assert_close(vae.decode_tiled(latents, 2, 2, 1, 2, 1), whole, atol=1e-5, rtol=0)
    assert torch.equal(vae.decode(latents), whole), "the settings of the tiled call stayed"
    tiled = vae_of(name).decode_tiled(latents, 4, 4, 1, 2, 1)
    assert float((tiled - whole).abs().max()) > 1e-3, "the check cannot fail"


# What nodes ask


def test_an_image_vae_has_the_attributes_of_comfyuis(vae_of: VaeOf) -> None:
    vae = vae_of("flux")
    assert (vae.latent_channels, vae.latent_dim, vae.output_channels) == (16, 2, 3)
    assert (vae.upscale_ratio, vae.downscale_ratio, vae.upscale_index_formula) == (8, 8, None)
    assert (vae.spacial_compression_encode(), vae.temporal_compression_decode()) == (8, None)
    vae.throw_exception_if_invalid()
    assert not vae.is_dynamic()


def test_a_video_vae_has_the_attributes_of_comfyuis(vae_of: VaeOf) -> None:
    vae = vae_of("ltx20")
    up, down = vae.upscale_ratio, vae.downscale_ratio
    assert isinstance(up, tuple)
    assert isinstance(down, tuple)
    assert [up[0](n) for n in (0, 1, 2, 16)] == [0, 1, 9, 121]
    assert [down[0](n) for n in (1, 8, 9, 121)] == [1, 1, 2, 16]
    assert (up[1:], down[1:]) == ((32, 32), (32, 32))
    assert vae.downscale_index_formula == (8, 32, 32)  # which LTXVAddGuide unpacks
    assert (vae.latent_dim, vae.temporal_compression_decode(), vae.not_video) == (3, 8, False)


def test_the_statistics_are_those_of_the_model(vae_of: VaeOf) -> None:
    vae, latents = vae_of("ltx20"), torch.randn(1, 16, 2, 3, 3)
    statistics = vae.first_stage_model.per_channel_statistics
    model = vae.first_stage_model.autoencoder.unscale_latents(latents.numpy())
    np.testing.assert_allclose(statistics.un_normalize(latents).numpy(), model, atol=1e-5)
    torch.testing.assert_close(statistics.normalize(statistics.un_normalize(latents)), latents, atol=1e-5, rtol=0)
    assert statistics.un_normalize(latents.half()).dtype == torch.float16


def test_a_vae_without_normalised_latents_has_no_statistics(vae_of: VaeOf) -> None:
    assert not hasattr(vae_of("sd").first_stage_model, "per_channel_statistics")


def test_saving_it_as_a_checkpoint_is_refused_in_one_sentence(vae_of: VaeOf) -> None:
    with pytest.raises(InputError, match="save the checkpoint that it was made from"):
        vae_of("sd").get_sd()


def test_timesteps_and_noise_come_from_the_settings_that_nodes_make(vae_of: VaeOf) -> None:
    vae, latents = vae_of("noise_timestep"), torch.randn(1, 16, 2, 2, 2)
    first = vae.decode(latents)
    assert torch.equal(vae.decode(latents), first), "the noise has a seed"
    changed = copy.copy(vae)
    changed.seed = 1
    assert not torch.equal(changed.decode(latents), first)
    changed = copy.deepcopy(vae)
    changed.first_stage_model.decode_timestep = 0.5
    assert not torch.equal(changed.decode(latents), first)
    assert torch.equal(vae.decode(latents), first), "the copy changed the original"
    vae.first_stage_model.decode_noise_scale = 0.0
    raw = vae.first_stage_model.autoencoder.unscale_latents(latents.numpy())
    plain = vae.first_stage_model.autoencoder.decode(raw, temb=np.array([0.05], np.float32), rng=0).sample
    np.testing.assert_allclose(vae.decode(latents).numpy(), np.moveaxis(plain, 1, -1).clip(-1, 1) / 2 + 0.5, atol=1e-6)


# Progress, interrupts and memory


def test_progress_reaches_the_bar(vae_of: VaeOf) -> None:
    vae_of("sd").decode(torch.randn(1, 4, 4, 4))
    assert ProgressBar.shown[-1][:2] == (1, 1)


def test_an_interrupt_before_a_call_stops_it(vae_of: VaeOf) -> None:
    vae = vae_of("sd")
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        vae.decode(torch.zeros(1, 4, 4, 4))
    assert vae.decode(torch.zeros(1, 4, 4, 4)).shape == (1, 32, 32, 3)


def test_an_interrupt_between_two_tiles_stops_the_call(vae_of: VaeOf, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = vae_of("sd")

    def interrupt_after_two(bar: Any, value: int, total: int, preview: Any = None) -> None:
        if value == 2:
            comfy.model_management.interrupt_current_processing()
        assert value <= 3

    with monkeypatch.context() as patch:
        patch.setattr(ProgressBar, "update_absolute", interrupt_after_two)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            vae.decode_tiled(torch.zeros(1, 4, 16, 16), 4, 4, 1)
    assert not comfy.model_management.processing_interrupted()
    assert vae.decode(torch.zeros(1, 4, 4, 4)).shape == (1, 32, 32, 3)


def test_an_interrupt_while_an_engine_runs_stops_the_call(vae_of: VaeOf) -> None:
    vae, latents = vae_of("sd"), torch.zeros(1, 4, 64, 64)
    timer = threading.Timer(0.3, comfy.model_management.interrupt_current_processing)

    def decode_again_and_again() -> None:  # one call may be over before the timer
        timer.start()
        for _ in range(1000):
            vae.first_stage_model.decode(latents)
            ProgressBar.shown.clear()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        decode_again_and_again()
    assert not comfy.model_management.processing_interrupted()
    assert vae.decode(latents[..., :4, :4]).shape == (1, 32, 32, 3)


def test_an_engine_call_that_never_reports_progress_is_cancelled(vae_of: VaeOf) -> None:
    called = threading.Event()

    def wait_to_be_cancelled() -> None:
        with CallWatch() as watch:
            comfy.model_management.interrupt_current_processing()
            for _ in range(500):
                if watch.cancel.cancelled:
                    called.set()
                    raise Cancelled("the call was cancelled")
                time.sleep(0.02)

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        wait_to_be_cancelled()
    assert called.is_set()


def test_a_cancel_that_comfyui_did_not_ask_for_stays_a_cancel(vae_of: VaeOf, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = vae_of("sd")
    cancel = vae.first_stage_model.autoencoder.cancel
    monkeypatch.setattr(ProgressBar, "update_absolute", lambda *_: cancel())
    with pytest.raises(Cancelled):
        vae.decode_tiled(torch.zeros(1, 4, 16, 16), 4, 4, 1)


def test_evicting_releases_the_engines_and_the_next_call_loads_them(
    vae_of: VaeOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae, latents = vae_of("sd"), torch.randn(1, 4, 4, 4)
    released: list[str] = []
    release = vae.first_stage_model.autoencoder.release

    def note_release() -> None:
        released.append("yes")
        release()

    monkeypatch.setattr(vae.first_stage_model.autoencoder, "release", note_release)
    assert vae.get_ram_usage() == 0
    before = vae.decode(latents)
    weights = sum(parameter.numel() * 4 for parameter in diffusers_model(ALL["sd"]).parameters())
    assert 0.9 * weights < vae.get_ram_usage() < 1.1 * weights
    assert comfy.model_management.loaded == [vae.patcher]
    comfy.model_management.unload_all_models()
    assert released == ["yes"]
    assert vae.get_ram_usage() == 0
    assert torch.equal(vae.decode(latents), before)


def test_a_budget_of_memory_reaches_the_runtime(vae_of: VaeOf) -> None:
    with pytest.raises(InputError, match="memory"):
        vae_of("sd", memory="1MiB").decode(torch.zeros(1, 4, 64, 64))
