"""The calls of video models on every autoencoder: declared alike, and refused by image models."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from latentrt.runtime import AutoencoderKL, AutoencoderKLLTX2Video, InputError
from latentrt.runtime.autoencoders.video_calls import VideoCalls

CALLS = sorted(name for name, one in vars(VideoCalls).items() if callable(one) and not name.startswith("_"))


@pytest.mark.parametrize("call", CALLS)
def test_a_call_is_declared_as_video_models_have_it(call: str) -> None:
    declared, own = (inspect.signature(getattr(kind, call)) for kind in (VideoCalls, AutoencoderKLLTX2Video))
    assert declared == own
    assert call in vars(AutoencoderKLLTX2Video)


@pytest.mark.parametrize("call", CALLS)
def test_an_image_model_refuses_a_call_of_video_models(call: str, opened: Callable[..., Any]) -> None:
    vae = opened("relu_one_block")
    assert isinstance(vae, AutoencoderKL)
    arguments = [None] if call.endswith("_stream") else []
    with pytest.raises(InputError, match=f"{call} is for video models, and this is AutoencoderKL: "):
        getattr(vae, call)(*arguments)
