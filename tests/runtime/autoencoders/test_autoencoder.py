"""The runtime's autoencoders: encode, decode, the array boundary, conditions, and the life of the engines."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from architectures import ALL, picture, relative_error

from latentrt.runtime import AutoencoderKL, AutoencoderKLLTX2Video, DiagonalGaussian, open_bundle
from latentrt.runtime.backends.choose import choose_backend
from latentrt.runtime.backends.component import Component
from latentrt.runtime.backends.wrapped import WrappedBackend
from latentrt.runtime.bundle.graph import Graph
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.errors import BackendUnavailable, BundleError, InputError, LatentRTError

IMAGE, VIDEO = "odd_groups", "ltx23"  # ratio 4, and 32 with 8 frames; both without reflect padding
Open = Callable[[str], Any]


@pytest.fixture(scope="module")
def opened(bundle_of: Callable[[str], Path]) -> Iterator[Open]:
    """An autoencoder that tests share; leave it as it was."""
    vaes: dict[str, Any] = {}

    def open_once(name: str) -> Any:
        if name not in vaes:
            vaes[name] = open_bundle(bundle_of(name), threads=1)
        return vaes[name]

    yield open_once
    for vae in vaes.values():
        vae.close()


def sample_of(name: str, batch: int = 2, frames: int = 9) -> np.ndarray:
    side = 64 if name in ("ltx20", "timestep", "noise", "noise_timestep") else 32
    return picture(ALL[name], batch=batch, frames=frames, height=side, width=side + 32)


def latents_of(vae: Any, batch: int = 2, size: tuple[int, ...] | None = None) -> np.ndarray:
    size = size or ((2, 2, 3) if vae.video else (6, 8))
    shape = (batch, vae.config.latent_channels, *size)
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


# What the calls mean


@pytest.mark.parametrize("name", [IMAGE, VIDEO])
def test_encode_gives_a_distribution_and_decode_its_sample(name: str, opened: Open) -> None:
    vae, sample = opened(name), sample_of(name)
    posterior = vae.encode(sample).latent_dist
    assert isinstance(posterior, DiagonalGaussian)
    size = vae.grid.latent_size(sample.shape[2:])
    assert posterior.mean.shape == posterior.logvar.shape == (2, vae.config.latent_channels, *size)
    decoded = vae.decode(posterior.mode()).sample
    assert decoded.shape == sample.shape
    assert decoded.dtype == np.float32
    assert np.array_equal(vae(sample).sample, decoded)


@pytest.mark.parametrize("name", [IMAGE, VIDEO, "noise"])
def test_calling_it_with_sample_posterior_decodes_a_drawn_sample(name: str, opened: Open) -> None:
    vae, sample = opened(name), sample_of(name, batch=1)
    generator = np.random.default_rng(5)
    wanted = vae.decode(vae.encode(sample).latent_dist.sample(generator), rng=generator).sample
    assert np.array_equal(vae(sample, sample_posterior=True, rng=5).sample, wanted)
    assert np.array_equal(vae(sample, sample_posterior=True, rng=np.random.default_rng(5)).sample, wanted)
    assert not np.array_equal(vae(sample, sample_posterior=True, rng=6).sample, wanted)
    with pytest.raises(InputError, match="sample_posterior=True needs rng"):
        vae(sample, sample_posterior=True)


def test_open_bundle_gives_the_familys_class(opened: Open, bundle_of: Callable[[str], Path]) -> None:
    assert type(opened(IMAGE)) is AutoencoderKL
    assert type(opened(VIDEO)) is AutoencoderKLLTX2Video
    with AutoencoderKL.from_pretrained(str(bundle_of(IMAGE)), backend="onnxruntime", threads=1) as vae:
        assert vae.config.latent_channels == 4
        assert vae.backend == "onnxruntime:cpu"
    with pytest.raises(BundleError, match=r"holds an AutoencoderKLLTX2Video, not an AutoencoderKL: .*open_bundle"):
        AutoencoderKL.from_pretrained(bundle_of(VIDEO))
    with pytest.raises(BundleError, match="holds an AutoencoderKL, not an AutoencoderKLLTX2Video"):
        AutoencoderKLLTX2Video.from_pretrained(bundle_of(IMAGE))


def test_scaling_is_checked_like_any_latents(opened: Open) -> None:
    vae = opened(IMAGE)
    z = latents_of(vae)
    assert np.allclose(vae.unscale_latents(vae.scale_latents(z)), z, atol=1e-5)
    assert np.allclose(vae.scale_latents(torch.from_numpy(z)), z * vae.config.scaling_factor)
    with pytest.raises(InputError, match="wanted 4 channels"):
        vae.scale_latents(z[:, :3])


@pytest.mark.parametrize("name", [IMAGE, VIDEO, "noise_timestep"])
def test_slicing_changes_nothing_but_memory(name: str, bundle_of: Callable[[str], Path]) -> None:
    with open_bundle(bundle_of(name), threads=1) as vae:
        sample, z = sample_of(name, batch=3), latents_of(vae, batch=3)
        options: dict[str, Any] = {"rng": 3}
        if getattr(vae.config, "timestep_conditioning", False):
            options["temb"] = np.array([0.1, 0.5, 0.9], np.float32)
        moments, decoded = vae.encode(sample).latent_dist.parameters, vae.decode(z, **options).sample
        pixels = vae.decode(z, output="uint8", **options).sample
        batches = record_batches(vae)
        vae.enable_slicing()
        assert relative_error(vae.encode(sample).latent_dist.parameters, moments) < 2e-6
        assert relative_error(vae.decode(z, **options).sample, decoded) < 2e-6
        sliced = vae.decode(z, output="uint8", **options).sample
        assert np.abs(sliced.astype(int) - pixels).max() <= 1
        into = np.empty(decoded.shape[::-1], np.float32).transpose()
        assert vae.decode(z, out=into, **options).sample is into
        assert relative_error(into, decoded) < 2e-6
        into = np.empty(decoded.shape, np.float32)
        vae.decode(z, out=into, **options)
        assert relative_error(into, decoded) < 2e-6
        assert set(batches) == {1}
        assert len(batches) == 15
        vae.disable_slicing()
        vae.decode(z, **options)
        assert batches[-1] == 3


def record_batches(vae: Any) -> list[int]:
    """The batch size of every engine call from now on."""
    batches = []
    for component in ("encoder", "decoder"):
        engine = vae.opened.engines.own.component(vae.opened.jobs.graph(component, None))
        original = engine.run

        def run(inputs: Any, original: Any = original, **options: Any) -> Any:
            batches.append(next(iter(inputs.values())).shape[0])
            return original(inputs, **options)

        engine.run = run
    return batches


# Arrays in and out


@pytest.mark.parametrize("name", [IMAGE, VIDEO])
def test_results_are_the_callers_own(name: str, bundle_of: Callable[[str], Path]) -> None:
    with open_bundle(bundle_of(name), threads=1) as vae:
        z = latents_of(vae)
        first = vae.decode(z).sample
        kept = first.copy()
        assert first.flags.writeable
        assert first.flags.c_contiguous
        for _ in range(3):
            again = vae.decode(z * 0.5).sample
            assert not np.shares_memory(first, again)
        assert np.array_equal(first, kept), "a later call does not write into an earlier result"
        first[...] = 7
        assert np.array_equal(vae.decode(z).sample, kept)
        moments = vae.encode(kept).latent_dist.parameters
        copy = moments.copy()
    assert np.array_equal(moments, copy), "results outlive the autoencoder"
    assert (first == 7).all()


@pytest.mark.parametrize("name", [IMAGE, VIDEO])
@pytest.mark.parametrize("output", ["float32", "uint8"])
def test_out_is_filled_whatever_its_layout(name: str, output: str, opened: Open) -> None:
    vae = opened(name)
    z = latents_of(vae)
    wanted = vae.decode(z, output=output).sample
    double = np.zeros((*wanted.shape[:-1], 2 * wanted.shape[-1]), output)
    for out in (
        np.zeros(wanted.shape, output),
        np.zeros(wanted.shape[::-1], output).transpose(),
        double[..., ::2],
        np.zeros(wanted.shape, output)[:, ::-1],
    ):
        result = vae.decode(z, output=output, out=out).sample
        assert result is out
        assert np.array_equal(out, wanted)
    assert not double[..., 1::2].any()
    moments = vae.encode(sample_of(name)).latent_dist.parameters
    out = np.zeros(moments.shape, np.float32)
    assert vae.encode(sample_of(name), out=out).latent_dist.parameters is out
    assert np.array_equal(out, moments)


@pytest.mark.parametrize("name", [IMAGE, VIDEO])
def test_uint8_is_the_rounded_picture_with_channels_last(name: str, opened: Open) -> None:
    vae = opened(name)
    z = latents_of(vae) * 3
    sample = vae.decode(z).sample
    pixels = vae.decode(z, output="uint8").sample
    wanted = np.clip(np.rint((sample + 1) * np.float32(127.5)), 0, 255).astype(np.uint8)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.moveaxis(wanted, 1, -1))


@pytest.mark.parametrize("name", [IMAGE, VIDEO])
def test_output_device_on_the_cpu_is_an_array_with_dlpack(name: str, opened: Open) -> None:
    vae = opened(name)
    z = latents_of(vae)
    result = vae.decode(z, output="device").sample
    assert result.__dlpack_device__()[0] == 1
    assert np.array_equal(torch.utils.dlpack.from_dlpack(result).numpy(), vae.decode(z).sample)


def test_forms_of_output_that_do_not_go_together_are_refused(opened: Open) -> None:
    vae = opened(IMAGE)
    z, sample = latents_of(vae), sample_of(IMAGE)
    shape = vae.decode(z).sample.shape
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: vae.decode(z, output="float16"), "output must be one of float32, uint8, device, got 'float16'"),
        (lambda: vae.decode(z, output="device", out=np.zeros(shape, np.float32)), "give only one"),
        (lambda: vae.decode(z, output="device", crop=(3, 3)), "not with tiling, slicing or crop"),
        (lambda: vae.decode(z, out=np.zeros(shape, np.float64)), "out must be a writeable float32 array of shape"),
        (lambda: vae.decode(z, output="uint8", out=np.zeros(shape, np.uint8)), "out must be a writeable uint8 array"),
        (lambda: vae.decode(z, out=[[]]), "got list"),
        (lambda: vae.encode(sample, output="uint8"), "output='uint8' is for pictures"),
        (lambda: vae.encode(sample, out=np.zeros((1,), np.float32)), "out must be"),
        (lambda: vae.decode(z, stream=0), "stream: the backend onnxruntime:cpu takes no stream"),
        (lambda: vae.decode(z, crop=(0, 5)), r"crop: wanted \(height, width\) of at least 1"),
        (lambda: vae.decode(z, crop=(999, 5)), "crop: wanted"),
        (lambda: vae.decode(z, crop=(1, 5, 5)), "crop: wanted"),
    ]
    for call, sentence in cases:
        with pytest.raises(InputError, match=sentence):
            call()
    assert vae.decode(z).sample.shape == shape, "and the next call is right"


@pytest.mark.parametrize("name", [IMAGE, VIDEO])
def test_anything_with_dlpack_is_taken(name: str, opened: Open) -> None:
    vae, sample = opened(name), sample_of(name)
    wanted = vae.encode(sample).latent_dist.parameters
    tensor = torch.from_numpy(sample)
    assert np.array_equal(vae.encode(tensor).latent_dist.parameters, wanted)
    swapped = tensor.transpose(2, 3).contiguous().transpose(2, 3)
    assert np.array_equal(vae.encode(swapped).latent_dist.parameters, wanted)
    half = vae.encode(tensor.half()).latent_dist.parameters
    assert np.array_equal(half, vae.encode(sample.astype(np.float16).astype(np.float32)).latent_dist.parameters)
    readonly = sample.copy()
    readonly.flags.writeable = False
    assert np.array_equal(vae.encode(readonly).latent_dist.parameters, wanted)
    for same in (tensor.clone().requires_grad_(), sample.astype(np.float64), sample.astype(">f4")):
        assert np.array_equal(vae.encode(same).latent_dist.parameters, wanted)
    narrow = vae.encode(tensor.bfloat16()).latent_dist.parameters
    assert np.array_equal(narrow, vae.encode(tensor.bfloat16().float()).latent_dist.parameters)
    with pytest.raises(InputError, match=r"sample: the torch\.Tensor cannot be read as a NumPy array"):
        vae.encode(tensor.to_sparse())
    with pytest.raises(InputError, match=r"sample: wanted float32, got int64; convert it"):
        vae.encode(sample.astype(np.int64))
    with pytest.raises(InputError, match="sample: wanted a float32 array"):
        vae.encode(sample.tolist())


def test_an_array_of_a_gpu_library_is_refused_without_fetching_it(opened: Open) -> None:
    class OnGpu:
        shape = (1, 4, 6, 8)

        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

        def __dlpack__(self, **_: Any) -> Any:
            raise AssertionError("nobody may fetch this array")

    with pytest.raises(InputError, match=r"latents: the array lies on a device that this backend \(cpu\)"):
        opened(IMAGE).decode(OnGpu())


def test_inputs_are_left_as_they_were(opened: Open) -> None:
    for name in (IMAGE, VIDEO):
        vae, sample = opened(name), sample_of(name)
        z = latents_of(vae)
        before = sample.copy(), z.copy()
        vae(sample)
        vae.encode(sample[..., :-3], pad=True)
        vae.decode(z, output="uint8")
        assert np.array_equal(sample, before[0])
        assert np.array_equal(z, before[1])


# Sizes, content and shapes that are refused


@pytest.mark.parametrize("name", [IMAGE, VIDEO, "ltx20", "non_causal_encoder"])
def test_pad_and_crop_bring_any_size_back(name: str, opened: Open) -> None:
    vae = opened(name)
    size = (3, 45, 70) if vae.video else (13, 23)
    shape = (1, vae.config.in_channels, *size)
    sample = np.tanh(np.random.default_rng(2).standard_normal(shape).astype(np.float32))
    result = vae(sample, pad=True).sample
    assert result.shape == sample.shape
    latents = vae.encode(sample, pad=True).latent_dist.mode()
    whole = vae.decode(np.array(latents)).sample
    assert whole.shape[2:] == vae.grid.padded_size(size), "a plain array remembers no size"
    window = tuple(slice(0, length) for length in size)
    assert np.array_equal(result, whole[(slice(None), slice(None), *window)])
    assert np.array_equal(vae.decode(latents, crop=size).sample, result)
    assert np.array_equal(vae.decode(latents).sample, result)
    pixels = vae(torch.from_numpy(sample), pad=True, output="uint8").sample
    assert pixels.shape == (1, *size, vae.config.out_channels)
    out = np.empty(sample.shape, np.float32)
    assert vae(sample, pad=True, out=out).sample is out
    assert np.array_equal(out, result)
    smallest = np.zeros((1, vae.config.in_channels, *[1] * len(size)), np.float32)
    assert vae(smallest, pad=True).sample.shape == smallest.shape


def test_padding_does_not_touch_a_sample_on_the_grid(opened: Open) -> None:
    vae, sample = opened(IMAGE), sample_of(IMAGE)
    padded = vae.encode(sample, pad=True).latent_dist.parameters
    assert np.array_equal(padded, vae.encode(sample).latent_dist.parameters)


@pytest.mark.parametrize(
    ("name", "size", "nearest"),
    [
        (IMAGE, (30, 32), "(32, 32)"),
        (IMAGE, (32, 33), "(32, 36)"),
        (VIDEO, (8, 32, 32), "(9, 32, 32)"),
        (VIDEO, (9, 31, 65), "(9, 32, 96)"),
        (VIDEO, (2, 32, 32), "(9, 32, 32)"),
        ("non_causal_encoder", (1, 32, 64), "(1, 64, 64)"),
    ],
)
def test_a_size_off_the_grid_names_the_nearest_legal_one(
    name: str, size: tuple[int, ...], nearest: str, opened: Open
) -> None:
    vae = opened(name)
    with pytest.raises(InputError) as caught:
        vae.encode(np.zeros((1, 3, *size), np.float32))
    assert f"got {vae.grid.axes} = {size}; pad=True pads to {nearest}, or resize" in str(caught.value)


def test_arrays_of_the_wrong_family_rank_or_channels_are_refused(opened: Open) -> None:
    image, video = opened(IMAGE), opened(VIDEO)
    cases: list[tuple[Callable[[Any], Any], Any, str]] = [
        (image.decode, (1, 16, 2, 4, 4), r"latents: AutoencoderKL takes \(B, C, H, W\), .* for a video model"),
        (video.decode, (1, 4, 4, 4), r"AutoencoderKLLTX2Video takes \(B, C, T, H, W\), .* for an image model"),
        (image.encode, (1, 3, 1, 32, 32), "sample: AutoencoderKL takes"),
        (image.encode, (3, 32, 32), r"got shape \(3, 32, 32\)$"),
        (image.decode, (), r"got shape \(\)$"),
        (image.decode, (1, 16, 4, 4), r"latents: wanted 4 channels, \(B, C, H, W\), got shape \(1, 16, 4, 4\)"),
        (image.encode, (1, 4, 32, 32), "sample: wanted 3 channels"),
        (image.encode, (1, 32, 32, 3), "sample: wanted 3 channels"),
        (video.decode, (1, 128, 1, 4, 4), "wanted 16 channels"),
        (image.decode, (0, 4, 4, 4), "latents: the batch is empty"),
        (image.encode, (0, 3, 32, 32), "sample: the batch is empty"),
        (image.decode, (1, 4, 0, 4), "no axis may be empty"),
        (image.encode, (1, 3, 32, 0), "every axis needs at least one element"),
        (video.decode, (1, 16, 0, 4, 4), "no axis may be empty"),
    ]
    for call, shape, sentence in cases:
        with pytest.raises(InputError, match=sentence):
            call(np.zeros(shape, np.float32))


def test_reflect_padding_needs_two_latent_cells_in_the_decoder_only(opened: Open) -> None:
    vae = opened("ltx20")
    assert vae.encode(np.zeros((1, 3, 1, 32, 32), np.float32)).latent_dist.mean.shape == (1, 16, 1, 1, 1)
    with pytest.raises(InputError, match="latents: height and width need at least 2 cells"):
        vae.decode(np.zeros((1, 16, 1, 1, 2), np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_and_located(bad: float, opened: Open) -> None:
    for name in (IMAGE, VIDEO):
        vae, sample = opened(name), sample_of(name)
        z = latents_of(vae)
        z[1, 2, 1, 0] = sample[1, 2, 1, 0] = bad
        with pytest.raises(InputError, match=r"latents: \d+ of \d+ values are NaN or infinite, the first at \(1, 2, 1"):
            vae.decode(z)
        with pytest.raises(InputError, match=r"sample: .* NaN or infinite"):
            vae.encode(sample)


# Conditions of video decoders


def test_timesteps_are_asked_for_and_checked(opened: Open) -> None:
    vae = opened("timestep")
    z = latents_of(vae)
    wanted = vae.decode(z, temb=np.array([0.05, 0.05], np.float32)).sample
    for temb in (0.05, [0.05], (0.05, 0.05), np.float32(0.05), np.full(1, 0.05, np.float32), torch.tensor(0.05)):
        assert np.array_equal(vae.decode(z, temb=temb).sample, wanted)
    refused: list[tuple[Any, str]] = [
        (None, "temb: this decoder is timestep-conditioned; give"),
        (np.zeros(3, np.float32), r"temb: wanted one timestep per batch element, \(2,\), got shape \(3,\)"),
        (np.zeros((2, 1), np.float32), "temb: wanted one timestep"),
        ([0.1, 0.2, 0.3], "temb: wanted one timestep"),
        (np.array([0.1, np.nan], np.float32), "temb: 1 of 2 values are NaN"),
        (np.array([1, 2]), "temb: wanted float32, got int64"),
        ("0.05", "temb: wanted a float32 array"),
    ]
    for temb, sentence in refused:
        with pytest.raises(InputError, match=sentence):
            vae.decode(z, temb=temb)
    for name in (IMAGE, VIDEO):
        with pytest.raises(InputError, match="temb: this decoder is not timestep-conditioned"):
            opened(name).decode(latents_of(opened(name)), temb=0.05)


def test_noise_asks_for_a_seed_and_repeats_with_it(opened: Open) -> None:
    vae = opened("noise")
    z = latents_of(vae)
    with pytest.raises(InputError, match=r"rng: this decoder injects noise; give a seed or a numpy\.random\.Generator"):
        vae.decode(z)
    with pytest.raises(InputError, match="rng must be"):
        vae.decode(z, rng="seed")
    wanted = vae.decode(z, rng=3).sample
    assert np.array_equal(vae.decode(z, rng=3).sample, wanted)
    assert np.array_equal(vae.decode(z, rng=np.random.default_rng(3)).sample, wanted)
    assert not np.array_equal(vae.decode(z, rng=4).sample, wanted)
    longer = np.concatenate([z[:1], z[:1]], axis=2)
    assert vae.decode(longer, rng=3).sample.shape[2] == 25


def test_a_causality_that_was_not_exported_is_refused(opened: Open) -> None:
    video, image = opened(VIDEO), opened(IMAGE)
    z = latents_of(video)
    assert np.array_equal(video.decode(z, causal=False).sample, video.decode(z).sample)
    with pytest.raises(InputError, match="causal=True: the bundle's decoder was exported for causal=False only"):
        video.decode(z, causal=True)
    with pytest.raises(InputError, match="causal=False: the bundle's encoder was exported for causal=True only"):
        video.encode(sample_of(VIDEO), causal=False)
    with pytest.raises(InputError, match="causal=True: AutoencoderKL is an image model"):
        image.decode(latents_of(image), causal=True)


# Options, and the life of the engines


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"backend": "tensorflow"}, BackendUnavailable, "backend must be one of auto, onnxruntime"),
        ({"provider": "npu"}, InputError, "provider must be one of cpu, cuda, tensorrt, got 'npu'"),
        ({"dtype": "float64"}, InputError, "dtype must be one of float32, float16, bfloat16, got 'float64'"),
        (
            {"dtype": "float16"},
            InputError,
            r"holds no float16 graphs \(it holds float32\): open it with .* or export with --dtype float16",
        ),
        ({"threads": 0}, InputError, "threads must be a whole number of at least 1, or None"),
        ({"threads": True}, InputError, "threads must be"),
        ({"contexts": 0}, InputError, "contexts must be a whole number of at least 1, got 0"),
        ({"contexts": 1.5}, InputError, "contexts must be"),
    ],
    ids=str,
)
def test_options_with_a_wrong_value_are_refused_at_once(
    options: dict[str, Any], kind: type[LatentRTError], sentence: str, bundle_of: Callable[[str], Path]
) -> None:
    with pytest.raises(kind, match=sentence):
        open_bundle(bundle_of(IMAGE), **options)


def test_unknown_arguments_are_errors_not_ignored(opened: Open, bundle_of: Callable[[str], Path]) -> None:
    vae = opened(IMAGE)
    for call in (
        lambda: open_bundle(bundle_of(IMAGE), device="cpu"),  # type: ignore[call-arg]
        lambda: vae.decode(latents_of(vae), timestep=1),
        lambda: vae.encode(sample_of(IMAGE), sample_posterior=True),
        lambda: vae(sample_of(IMAGE), tiled=True),
    ):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            call()


def test_session_options_reach_onnx_runtime_and_unknown_ones_are_refused(
    bundle_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[Any] = []
    make = onnxruntime.InferenceSession

    def noted(*given: Any, **settings: Any) -> Any:
        sessions.append(make(*given, **settings))
        return sessions[-1]

    monkeypatch.setattr(onnxruntime, "InferenceSession", noted)
    options = {"enable_mem_pattern": False, "session.intra_op.allow_spinning": 0}
    with open_bundle(bundle_of(IMAGE), threads=1, session_options=options) as vae:
        wanted = vae.decode(latents_of(vae)).sample
        found = sessions[-1].get_session_options()
        assert found.enable_mem_pattern is False
        assert found.intra_op_num_threads == 1
        assert found.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    for wrong, message in (
        ({"colour": 1}, "SessionOptions has no 'colour'"),
        ({"enable_mem_pattern": "x"}, "not take"),
    ):
        with open_bundle(bundle_of(IMAGE), session_options=wrong) as vae, pytest.raises(InputError, match=message):
            vae.warmup()
    with open_bundle(bundle_of(IMAGE), threads=1) as vae:
        assert relative_error(vae.decode(latents_of(vae)).sample, wanted) < 1e-6


class Listing(WrappedBackend):
    """The usual backend of a bundle, with a list of the graph files that it opened."""

    def __init__(self, bundle: Path, **options: Any) -> None:
        super().__init__(
            choose_backend(Manifest.open(bundle), threads=1, **options), lambda graph, component: component
        )
        self.opened: list[str] = []

    def open(self, graph: Graph, file: Path, *, dtype: str) -> Component:
        self.opened.append(file.name)
        return super().open(graph, file, dtype=dtype)


def test_decoding_never_loads_the_encoder_and_each_engine_loads_once(bundle_of: Callable[[str], Path]) -> None:
    backend = Listing(bundle_of(IMAGE))
    with open_bundle(bundle_of(IMAGE), backend=backend) as vae:
        for _ in range(2):
            vae.decode(latents_of(vae))
        vae.scale_latents(latents_of(vae))
        assert backend.opened == ["decoder.cpu.onnx"]
        vae.encode(sample_of(IMAGE))
        vae(sample_of(IMAGE))
        assert backend.opened == ["decoder.cpu.onnx", "encoder.onnx"]


@pytest.mark.parametrize("name", [IMAGE, VIDEO])
def test_release_frees_the_engines_and_the_next_call_brings_them_back(
    name: str, bundle_of: Callable[[str], Path]
) -> None:
    backend = Listing(bundle_of(name))
    with open_bundle(bundle_of(name), backend=backend) as vae:
        vae.release()
        wanted = vae.decode(latents_of(vae)).sample
        vae.release()
        vae.release()
        assert np.array_equal(vae.decode(latents_of(vae)).sample, wanted)
        assert backend.opened == ["decoder.cpu.onnx" if name == IMAGE else "decoder.onnx"] * 2


def test_closing_refuses_further_calls_and_may_happen_twice(bundle_of: Callable[[str], Path]) -> None:
    with open_bundle(bundle_of(IMAGE), threads=1) as vae:
        z, sample = latents_of(vae), sample_of(IMAGE)
        vae.decode(z)
        vae.close()
    vae.close()
    for call in (lambda: vae.decode(z), lambda: vae.encode(sample), lambda: vae(sample), vae.warmup):
        with pytest.raises(LatentRTError, match="the autoencoder was closed: open the bundle again"):
            call()
    vae.release()
    vae.cancel()


def test_an_error_within_the_with_block_closes_and_passes_on(bundle_of: Callable[[str], Path]) -> None:
    with pytest.raises(ZeroDivisionError), open_bundle(bundle_of(IMAGE), threads=1) as vae:
        _ = 1 / 0
    with pytest.raises(LatentRTError, match="was closed"):
        vae.decode(latents_of(vae))


@pytest.mark.slow
def test_warmup_loads_and_runs_what_later_calls_need(bundle_of: Callable[[str], Path]) -> None:
    for name in (IMAGE, VIDEO, "noise_timestep"):
        backend = Listing(bundle_of(name))
        with open_bundle(bundle_of(name), backend=backend) as vae:
            sample = sample_of(name, batch=1)
            vae.warmup([sample.shape, latents_of(vae).shape])
            assert sorted(backend.opened) == ["decoder.cpu.onnx" if name == IMAGE else "decoder.onnx", "encoder.onnx"]
            vae.encode(sample)
            assert len(backend.opened) == 2
            with pytest.raises(InputError, match=r"warmup: wanted shapes of samples \(B, 3, \.\.\.\) or latents"):
                vae.warmup([(1, 7, 32, 32)])
            with pytest.raises(InputError, match="warmup: wanted shapes"):
                vae.warmup([(1, 3, 1, 1, 32, 32)])
            with pytest.raises(InputError, match="must be multiples of"):
                vae.warmup([(*sample.shape[:-1], 33)])


def test_warmup_loads_what_calls_run_on(bundle_of: Callable[[str], Path]) -> None:
    backend = Listing(bundle_of(VIDEO), backend="onnxruntime")
    with open_bundle(bundle_of(VIDEO), backend=backend) as vae:
        vae.warmup()
        assert sorted(backend.opened) == ["decoder.onnx", "encoder.onnx"]
        vae.encode(sample_of(VIDEO, batch=1))
        vae.decode(latents_of(vae))
        assert len(backend.opened) == 2
    backend = Listing(bundle_of(VIDEO), backend="onnxruntime")
    with open_bundle(bundle_of(VIDEO), backend=backend) as other:
        assert isinstance(other, AutoencoderKLLTX2Video)
        other.enable_streaming()
        other.warmup()
        assert len(backend.opened) > 4
        assert all(".stream_" in name for name in backend.opened)


def test_the_config_has_the_field_names_of_diffusers_and_is_frozen(opened: Open) -> None:
    config = opened(VIDEO).config
    assert isinstance(config.latents_mean, tuple)
    assert len(config.latents_std) == config.latent_channels
    with pytest.raises(AttributeError):
        config.latent_channels = 5
