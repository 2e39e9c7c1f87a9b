"""A bundle as a module: what pipelines and their users ask of a VAE besides the pictures."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers as library
import numpy as np
import pytest
import torch
from architectures import ALL
from diffusers.utils.torch_utils import get_module_execution_device
from tiny_pipelines import PIPELINES, noise, seeded

from latentrt.integrations.diffusers import LatentRTAutoencoder
from latentrt.runtime import Cancelled, InputError, LatentRTError

diffusers: Any = library  # most of its classes have no types

pytestmark = pytest.mark.filterwarnings("ignore")  # of diffusers and its schedulers

Adapted = Callable[..., Any]


@pytest.fixture
def adapted(bundle_of: Callable[[str], Path]) -> Iterator[Adapted]:
    made: list[Any] = []

    def open_one(name: str, **options: Any) -> Any:
        made.append(LatentRTAutoencoder(bundle_of(name), **{"backend": "onnxruntime", "threads": 1, **options}))
        return made[-1]

    yield open_one
    for vae in made:
        vae.close()


def theirs(checkpoint_of: Callable[[str], Path], name: str) -> Any:
    return getattr(diffusers, ALL[name]["_class_name"]).from_pretrained(checkpoint_of(name)).eval()


@pytest.mark.parametrize("name", ["sd", "sdxl", "playground", "flux", "flux2", "ltx20", "timestep"])
def test_the_config_and_the_statistics_are_those_of_diffusers(
    name: str, adapted: Adapted, checkpoint_of: Callable[[str], Path]
) -> None:
    ours, own = adapted(name), theirs(checkpoint_of, name)
    wanted = {key: value for key, value in own.config.items() if not key.startswith("_")}
    got = {key: ours.config[key] for key in wanted}
    assert {key: (got[key], value) for key, value in wanted.items() if not same(got[key], value)} == {}
    assert [key for key in ours.config if not key.startswith("_") and key not in wanted] == []
    for path in ("latents_mean", "latents_std", "bn.running_mean", "bn.running_var"):
        assert torch_equal(buffer(ours, path), buffer(own, path)), path
    if ours.video:
        for ratio in ("spatial_compression_ratio", "temporal_compression_ratio"):
            assert getattr(ours, ratio) == getattr(own, ratio)


def same(mine: Any, wanted: Any) -> bool:
    return bool(
        (list(mine) if isinstance(mine, tuple | list) else mine)
        == (list(wanted) if isinstance(wanted, tuple | list) else wanted)
    )


def buffer(module: torch.nn.Module, path: str) -> torch.Tensor | None:
    return dict(module.named_buffers()).get(path)


def torch_equal(mine: torch.Tensor | None, wanted: torch.Tensor | None) -> bool:
    if mine is None or wanted is None:
        return mine is wanted
    return torch.equal(mine, wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["sd", "flux2", "ltx20"])
def test_narrow_pipelines_come_nearer_to_the_float32_pixels_than_with_diffusers(
    name: str, dtype: torch.dtype, adapted: Adapted, checkpoint_of: Callable[[str], Path]
) -> None:
    ours, own = adapted(name, torch_dtype=dtype), theirs(checkpoint_of, name)
    size = (2, 2, 2) if ours.video else (4, 4)
    z = noise(1, own.config.latent_channels, *size)
    with torch.no_grad():
        exact = own.decode(z).sample
        narrow = own.to(dtype).decode(z.to(dtype)).sample.float()
    mine = ours.decode(z.to(dtype)).sample
    assert mine.dtype == ours.dtype == dtype
    assert (mine.float() - exact).abs().mean() < (narrow - exact).abs().mean()


def test_sdxl_in_float16_upcasts_and_comes_back(adapted: Adapted, checkpoint_of: Callable[[str], Path]) -> None:
    case = PIPELINES["sdxl"]
    ours = adapted("sdxl")
    wanted = case.run(case.made(theirs(checkpoint_of, "sdxl")))
    pipe = case.made(ours)
    ours.to(torch.float16)
    seen: list[torch.dtype] = []
    decode = ours.decode

    def noted(z: torch.Tensor, **options: Any) -> Any:
        seen.append(z.dtype)
        return decode(z, **options)

    ours.decode = noted
    got = case.run(pipe)
    assert seen == [torch.float32]
    assert ours.dtype == torch.float16
    assert next(iter(ours.post_quant_conv.parameters())).dtype == torch.float16
    assert float((got.float() - wanted).abs().max()) <= 1e-5


def test_a_bfloat16_pipeline_runs(adapted: Adapted) -> None:
    case = PIPELINES["sd"]
    pipe = case.made(adapted("sd"))
    pipe.vae.to(torch.bfloat16)
    assert case.run(pipe).shape == (1, 3, 64, 64)


def test_posteriors_draw_with_generators_and_lists_of_them(
    adapted: Adapted, checkpoint_of: Callable[[str], Path]
) -> None:
    ours, own = adapted("sd"), theirs(checkpoint_of, "sd")
    x = noise(2, 3, 64, 64).tanh()
    with torch.no_grad():
        mine, wanted = ours.encode(x).latent_dist, own.encode(x).latent_dist
    for draw in (lambda: seeded(4), lambda: [seeded(4), seeded(5)]):
        torch.testing.assert_close(mine.sample(draw()), wanted.sample(draw()), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(mine.mode(), wanted.mode(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours(x).sample, own(x).sample, atol=1e-3, rtol=1e-3)


def test_the_call_forms_of_diffusers(adapted: Adapted) -> None:
    ours = adapted("sd")
    z, x = noise(1, 4, 4, 4), noise(1, 3, 32, 32).tanh()
    (sample,) = ours.decode(z, return_dict=False)
    for again in (ours.decode(z).sample, ours.decode(z)[0], ours.decode(z, False)[0]):
        assert torch.equal(again, sample)
    assert torch.equal(ours.encode(x, False)[0].mode(), ours.encode(x).latent_dist.mode())
    video = adapted("timestep")
    clip = noise(1, 16, 2, 2, 2)
    steps = torch.tensor([0.05])
    assert torch.equal(video.decode(clip, steps, return_dict=False)[0], video.decode(clip, temb=steps).sample)


def test_bright_pictures_and_gradients_are_no_matter(adapted: Adapted) -> None:
    ours = adapted("sd")
    bright = torch.linspace(0, 1, 3 * 32 * 32).reshape(1, 3, 32, 32).requires_grad_()
    mean = ours.encode(bright).latent_dist.mode()
    assert mean.shape == (1, 4, 4, 4)
    assert not mean.requires_grad


@pytest.mark.parametrize("frames", [1, 9, 33])
def test_clips_stream_with_the_numbers_of_a_single_pass(frames: int, adapted: Adapted) -> None:
    ours = adapted("ltx20")
    x = noise(1, 3, frames, 64, 64).tanh()
    streamed = ours.encode(x).latent_dist.parameters
    z = streamed[:, :16].contiguous()
    seen: list[tuple[int, int]] = []
    ours.progress = lambda done, total: seen.append((done, total))
    clip = ours.decode(z).sample
    assert seen[-1] == (frames, frames)
    ours.progress = None
    ours.disable_streaming()
    torch.testing.assert_close(ours.encode(x).latent_dist.parameters, streamed, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.decode(z).sample, clip, atol=1e-4, rtol=1e-4)
    ours.enable_streaming(frames_per_chunk=8)
    torch.testing.assert_close(ours.decode(z).sample, clip, atol=1e-4, rtol=1e-4)
    half = ours.decode(z.bfloat16()).sample
    assert half.dtype == torch.bfloat16
    assert half.shape == clip.shape


def test_an_encoder_that_looks_ahead_runs_whole(adapted: Adapted) -> None:
    assert adapted("non_causal_encoder").encode(noise(1, 3, 9, 64, 64).tanh()).latent_dist.mode().shape[2] == 2


def test_tiling_slicing_and_budgets_have_the_names_of_diffusers(adapted: Adapted) -> None:
    ours = adapted("sd")
    z = noise(2, 4, 16, 16)
    whole = ours.decode(z).sample
    ours.enable_slicing()
    torch.testing.assert_close(ours.decode(z).sample, whole, atol=1e-4, rtol=1e-4)
    ours.disable_slicing()
    ours.enable_tiling(tile_sample_min_size=64)
    assert ours.use_tiling
    assert not torch.equal(ours.decode(z).sample, whole)
    ours.enable_tiling(exact=True, strip=64)
    torch.testing.assert_close(ours.decode(z).sample, whole, atol=1e-4, rtol=1e-4)
    ours.use_tiling = False
    assert torch.equal(ours.decode(z).sample, whole)
    ours.memory = "1B"
    with pytest.raises(InputError, match="1"):
        ours.decode(z)
    ours.memory = None
    assert torch.equal(ours.decode(z).sample, whole)


def test_noise_comes_from_the_generator_or_from_torchs_global_one(adapted: Adapted) -> None:
    ours, z = adapted("noise"), noise(1, 16, 2, 2, 2)
    first = ours.decode(z, generator=seeded(3)).sample
    assert torch.equal(ours.decode(z, generator=seeded(3)).sample, first)
    assert not torch.equal(ours.decode(z, generator=seeded(4)).sample, first)
    both = []
    for _ in range(2):
        torch.manual_seed(9)
        both.append(ours.decode(z).sample)
    assert torch.equal(*both)


def test_pipelines_move_it_and_find_its_place(adapted: Adapted) -> None:
    ours = adapted("flux2")
    assert (ours.device, ours.dtype) == (torch.device("cpu"), torch.float32)
    assert get_module_execution_device(ours) == torch.device("cpu")
    assert ours in list(ours.modules())
    ours.half()
    assert (ours.dtype, ours.bn.running_mean.dtype) == (torch.float16, torch.float16)
    z = noise(1, 8, 4, 4)
    wanted = ours.float().decode(z).sample
    released: list[bool] = []
    release = ours.runtime.release

    def noted() -> None:
        released.append(True)
        release()

    ours.runtime.release = noted
    ours.to("meta")
    assert released == [True]
    assert torch.equal(ours.decode(z).sample, wanted)


def test_a_pipeline_is_saved_without_it_and_loaded_with_it(adapted: Adapted, tmp_path: Path) -> None:
    case, ours = PIPELINES["flux2"], adapted("flux2")
    pipe = case.made(ours)
    wanted = case.run(pipe)
    pipe.save_pretrained(tmp_path)
    assert not (tmp_path / "vae").exists()
    again = diffusers.Flux2Pipeline.from_pretrained(tmp_path, vae=ours, text_encoder=None, tokenizer=None)
    again.set_progress_bar_config(disable=True)
    assert again.vae is ours
    torch.testing.assert_close(case.run(again), wanted)


def test_pipelines_made_from_one_another_keep_it(adapted: Adapted) -> None:
    ours = adapted("sd")
    pipe = diffusers.StableDiffusionImg2ImgPipeline.from_pipe(PIPELINES["sd"].made(ours))
    assert pipe.vae is ours


def test_modular_pipelines_take_it(adapted: Adapted, checkpoint_of: Callable[[str], Path]) -> None:
    decoders: Any = import_module("diffusers.modular_pipelines.flux2.decoders")
    results = []
    for vae in (theirs(checkpoint_of, "flux2"), adapted("flux2")):
        pipe = decoders.Flux2DecodeStep().init_pipeline()
        pipe.update_components(vae=vae)
        results.append(pipe(latents=noise(1, 32, 4, 4), output_type="pt").get("images"))
    assert float((results[0] - results[1]).abs().max()) <= 1e-5


def test_errors_are_one_sentence(adapted: Adapted) -> None:
    ours = adapted("sd")
    for wrong in (noise(1, 3, 4, 4), torch.full((1, 4, 4, 4), float("nan")), noise(4, 4, 4)):
        with pytest.raises(LatentRTError) as error:
            ours.decode(wrong)
        assert "\n" not in str(error.value)
    assert ours.decode(noise(1, 4, 4, 4)).sample.shape == (1, 3, 32, 32)


def test_cancelling_and_raising_progress_leave_it_usable(adapted: Adapted) -> None:
    ours, z = adapted("ltx20"), noise(1, 16, 9, 2, 2)
    wanted = ours.decode(z).sample

    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise StopError

    ours.progress = stop
    with pytest.raises(StopError):
        ours.decode(z)
    ours.progress = lambda done, total: ours.cancel()
    ours.enable_streaming(frames_per_chunk=8)
    with pytest.raises(Cancelled):
        ours.decode(z)
    ours.progress = None
    torch.testing.assert_close(ours.decode(z).sample, wanted, atol=1e-4, rtol=1e-4)


def test_control_c_stops_a_call_and_leaves_it_usable(adapted: Adapted) -> None:
    ours, z = adapted("ltx20"), noise(1, 16, 9, 2, 2)
    ours.enable_streaming(frames_per_chunk=8)
    wanted = ours.decode(z).sample
    assert threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        ours.progress = lambda done, total: signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            ours.decode(z)
    finally:
        signal.signal(signal.SIGINT, previous)
    ours.progress = None
    assert torch.equal(ours.decode(z).sample, wanted)


def test_importing_the_package_imports_neither_torch_nor_diffusers() -> None:
    code = (
        "import sys, latentrt.integrations.diffusers as door\n"
        "assert not {'torch', 'diffusers', 'numpy'} & set(sys.modules), 'heavy'\n"
        "assert 'accelerate' in dir(door)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_numpy_view_of_the_input_is_left_as_it_was(adapted: Adapted) -> None:
    ours, z = adapted("sd"), noise(1, 4, 4, 4)
    before = z.clone()
    ours.decode(z)
    assert np.array_equal(z.numpy(), before.numpy())
