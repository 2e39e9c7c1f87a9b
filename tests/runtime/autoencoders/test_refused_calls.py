"""A call that will be refused is refused before anything is planned or measured."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from latentrt.runtime import CancelToken, InputError
from latentrt.runtime.planner.calibration import Calibration

Open = Callable[..., Any]
IMAGE, VIDEO, CONDITIONED = "sd", "ltx20", "noise_timestep"


class Measured(Exception):
    """The planner was asked, or measured something."""


@pytest.fixture(autouse=True)
def nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every plan and every measurement raises. Calls without `memory` look as if they might not fit."""

    def entered(*_: Any, **__: Any) -> None:
        raise Measured

    monkeypatch.setattr(Calibration, "point", entered)
    monkeypatch.setattr(Calibration, "__init__", entered)
    monkeypatch.setattr("latentrt.runtime.planner.policy.CallPlanner.decide", entered)
    monkeypatch.setattr("latentrt.runtime.planner.policy.ALWAYS_FITS_BYTES", 0)
    monkeypatch.setattr("latentrt.runtime.planner.policy.default_budget", lambda: 0)


def latents_of(vae: Any, **changes: Any) -> np.ndarray:
    shape = {"batch": 1, "channels": vae.config.latent_channels, "frames": 2, "height": 4, "width": 4} | changes
    sizes = [shape[axis] for axis in ("batch", "channels", *(["frames"] if vae.video else []), "height", "width")]
    return np.zeros(sizes, np.float32)


def sample_of(vae: Any, **changes: Any) -> np.ndarray:
    shape = {"batch": 1, "channels": vae.config.in_channels, "frames": 9, "height": 64, "width": 64} | changes
    sizes = [shape[axis] for axis in ("batch", "channels", *(["frames"] if vae.video else []), "height", "width")]
    return np.zeros(sizes, np.float32)


def spoiled(array: np.ndarray) -> np.ndarray:
    array.flat[3] = np.nan
    return array


WRONG_LATENTS: dict[str, Callable[[Any], Any]] = {
    "no array": lambda vae: 3.5,
    "rank": lambda vae: latents_of(vae)[0],
    "channels": lambda vae: latents_of(vae, channels=3),
    "dtype": lambda vae: latents_of(vae).astype(np.complex64),
    "an empty batch": lambda vae: latents_of(vae, batch=0),
    "an empty axis": lambda vae: latents_of(vae, height=0),
    "NaN": lambda vae: spoiled(latents_of(vae)),
}
WRONG_SAMPLES: dict[str, Callable[[Any], Any]] = {
    "no array": lambda vae: 3.5,
    "rank": lambda vae: sample_of(vae)[0],
    "channels": lambda vae: sample_of(vae, channels=7),
    "dtype": lambda vae: sample_of(vae).astype(np.int16),
    "an empty batch": lambda vae: sample_of(vae, batch=0),
    "a size off the grid": lambda vae: sample_of(vae, height=63),
    "NaN": lambda vae: spoiled(sample_of(vae)),
}
WRONG_OPTIONS: dict[str, dict[str, Any]] = {
    "output": {"output": "float64"},
    "out of another shape": {"out": np.empty((1, 2, 3), np.float32)},
    "out and device": {"out": np.empty((1, 2, 3), np.float32), "output": "device"},
    "stream of the caller's": {"stream": 7},
    "token": {"cancel": "no token"},
}
WRONG_TO_DECODE = WRONG_OPTIONS | {
    "crop beyond the sample": {"crop": (10_000, 10_000)},
    "crop of no size": {"crop": (0, 4)},
    "crop of text": {"crop": ("a", 4)},
    "crop that is one number": {"crop": 4},
    "temb": {"temb": 0.5},
}
WRONG_TO_ENCODE = WRONG_OPTIONS | {"uint8": {"output": "uint8"}}


def refused(call: Callable[[], Any]) -> None:
    """An iterator may say so when it is first read, if its input is one too."""
    with pytest.raises(InputError):
        call()


@pytest.mark.parametrize("memory", [None, "2GiB"])
@pytest.mark.parametrize("wrong", WRONG_LATENTS)
@pytest.mark.parametrize("name", [IMAGE, VIDEO])
def test_wrong_latents_are_refused_before_a_plan(name: str, wrong: str, memory: str | None, opened: Open) -> None:
    vae = opened(name, backend="onnxruntime")
    z = WRONG_LATENTS[wrong](vae)
    refused(lambda: vae.decode(z, memory=memory))
    refused(lambda: vae.tiled_decode(z))
    if vae.video:
        refused(lambda: vae.decode_frames(z, memory=memory))
        refused(lambda: vae.decode_stream(z))


@pytest.mark.parametrize("memory", [None, "2GiB"])
@pytest.mark.parametrize("wrong", WRONG_SAMPLES)
@pytest.mark.parametrize("name", [IMAGE, VIDEO])
def test_wrong_samples_are_refused_before_a_plan(name: str, wrong: str, memory: str | None, opened: Open) -> None:
    vae = opened(name, backend="onnxruntime")
    x = WRONG_SAMPLES[wrong](vae)
    refused(lambda: vae.encode(x, memory=memory))
    refused(lambda: vae.tiled_encode(x))
    refused(lambda: vae(x, memory=memory))
    if wrong != "a size off the grid":
        refused(lambda: vae(x, memory=memory, pad=True))
    if vae.video and wrong != "a size off the grid":
        refused(lambda: vae.encode_stream(x))


@pytest.mark.parametrize("memory", [None, "2GiB"])
@pytest.mark.parametrize("wrong", WRONG_TO_DECODE)
@pytest.mark.parametrize("name", [IMAGE, VIDEO])
def test_wrong_options_of_decode_are_refused_before_a_plan(
    name: str, wrong: str, memory: str | None, opened: Open
) -> None:
    vae = opened(name, backend="onnxruntime")
    z, options = latents_of(vae), WRONG_TO_DECODE[wrong]
    refused(lambda: vae.decode(z, memory=memory, **options))
    refused(lambda: vae.tiled_decode(z, **options))
    refused(lambda: vae(sample_of(vae), memory=memory, **options))
    if vae.video and not options.keys() & {"out", "stream"}:
        refused(lambda: vae.decode_frames(z, memory=memory, **options))
    if vae.video and not options.keys() & {"crop", "temb"}:
        refused(lambda: vae.decode_stream(z, **options))


@pytest.mark.parametrize("memory", [None, "2GiB"])
@pytest.mark.parametrize("wrong", WRONG_TO_ENCODE)
@pytest.mark.parametrize("name", [IMAGE, VIDEO])
def test_wrong_options_of_encode_are_refused_before_a_plan(
    name: str, wrong: str, memory: str | None, opened: Open
) -> None:
    vae = opened(name, backend="onnxruntime")
    x, options = sample_of(vae), WRONG_TO_ENCODE[wrong]
    refused(lambda: vae.encode(x, memory=memory, **options))
    refused(lambda: vae.tiled_encode(x, **options))
    if vae.video and options.keys() == {"cancel"}:
        refused(lambda: vae.encode_stream(x, **options))


@pytest.mark.parametrize("memory", [None, "2GiB"])
def test_a_causality_that_the_bundle_lacks_is_refused_before_a_plan(memory: str | None, opened: Open) -> None:
    image, video = opened(IMAGE, backend="onnxruntime"), opened(VIDEO, backend="onnxruntime")
    other = not video.config.decoder_causal
    refused(lambda: image.decode(latents_of(image), causal=True, memory=memory))
    refused(lambda: video.decode(latents_of(video), causal=other, memory=memory))
    refused(lambda: video.decode_frames(latents_of(video), causal=other, memory=memory))
    refused(lambda: video.decode_stream(latents_of(video), causal=other))
    refused(lambda: video.encode(sample_of(video), causal=not video.config.encoder_causal, memory=memory))


@pytest.mark.parametrize("causal", ["yes", 1, np.zeros(2)])
def test_a_causality_that_is_no_bool_is_refused_with_a_sentence(causal: Any, opened: Open) -> None:
    vae = opened(VIDEO, backend="onnxruntime")
    calls: list[Callable[[], Any]] = [
        lambda: vae.decode(latents_of(vae), causal=causal, memory="2GiB"),
        lambda: vae.encode(sample_of(vae), causal=causal, memory="2GiB"),
        lambda: vae.decode_stream(latents_of(vae), causal=causal),
    ]
    for call in calls:
        with pytest.raises(InputError, match="causal: wanted True, False or None"):
            call()


def test_a_seed_that_is_none_is_refused_before_the_sample_is_encoded(opened: Open) -> None:
    vae = opened(IMAGE, backend="onnxruntime")
    refused(lambda: vae(sample_of(vae), sample_posterior=True, memory="2GiB"))
    refused(lambda: vae(sample_of(vae), sample_posterior=True, rng="seven", memory="2GiB"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": (64,)}, "wanted a size"),
        ({"size": (9, 9, 64, 64)}, "wanted a size"),
        ({"component": "unet"}, "the component is 'encoder' or 'decoder'"),
        ({"output": "picture"}, "output must be one of"),
        ({"batch": 0}, "batch: wanted a whole number"),
    ],
)
@pytest.mark.parametrize("name", [IMAGE, VIDEO])
def test_a_plan_of_wrong_arguments_is_refused_before_it_is_made(
    name: str, wrong: dict[str, Any], message: str, opened: Open
) -> None:
    vae = opened(name, backend="onnxruntime")
    options = {"size": (9, 64, 64) if vae.video else (64, 64)} | wrong
    with pytest.raises(InputError, match=message):
        vae.plan(options.pop("size"), memory="2GiB", **options)


@pytest.mark.parametrize("wrong", [{"rng": 0}, {"temb": 0.05}, {"temb": np.zeros(3, np.float32), "rng": 0}])
def test_conditions_that_are_missing_or_wrong_are_refused_before_a_plan(wrong: dict[str, Any], opened: Open) -> None:
    vae = opened(CONDITIONED, backend="onnxruntime")
    refused(lambda: vae.decode(latents_of(vae), memory="2GiB", **wrong))
    refused(lambda: vae.decode_frames(latents_of(vae), memory="2GiB", **wrong))


@pytest.mark.parametrize("memory", ["a lot", -1, 0.5])
def test_a_budget_that_is_none_is_refused_before_a_plan(memory: Any, opened: Open) -> None:
    vae = opened(IMAGE, backend="onnxruntime")
    refused(lambda: vae.decode(latents_of(vae), memory=memory))


def test_a_call_that_is_right_is_planned(opened: Open) -> None:
    """Without this the tests above would prove nothing."""
    image, video = opened(IMAGE, backend="onnxruntime"), opened(VIDEO, backend="onnxruntime")
    calls: list[Callable[[], Any]] = [
        lambda: image.decode(latents_of(image), memory="2GiB", crop=(5, 5), output="uint8", cancel=CancelToken()),
        lambda: image.encode(sample_of(image), memory="2GiB"),
        lambda: image.decode(latents_of(image), memory="2GiB"),
        lambda: video.decode(latents_of(video), memory="2GiB"),
        lambda: video.decode_frames(latents_of(video), memory="2GiB"),
        lambda: video.encode(sample_of(video), memory="2GiB"),
    ]
    for call in calls:
        with pytest.raises(Measured):
            call()
