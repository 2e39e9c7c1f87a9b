"""Tensors on a GPU stay there if one engine call on the same GPU makes the result. Tested as far as a CPU can."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from latentrt.integrations.diffusers import LatentRTAutoencoder
from latentrt.integrations.diffusers import autoencoder as module
from latentrt.integrations.diffusers.tensors import TensorPlace, given_tensor
from latentrt.runtime.arrays.outputs import AutoencoderKLOutput, DecoderOutput
from latentrt.runtime.arrays.posterior import DiagonalGaussian
from latentrt.runtime.backends.backend import BackendCapabilities
from latentrt.runtime.calls.strategy import WHOLE

STREAM = 4711


class SaysCuda(torch.Tensor):
    """A tensor on the host that says it is on a GPU."""

    is_cuda = True


class Exported:
    """A result on a device: nothing but DLPack."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __dlpack__(self, **options: Any) -> Any:
        return self._values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._values.__dlpack_device__()


class GpuRuntime:
    """Stands for an opened bundle on a GPU, and lists the calls."""

    device, video, clip_calls, settings = "cuda", False, None, WHOLE

    def __init__(self, opened: Any, *, callers_stream: bool = True) -> None:
        self.config, self.calls = opened.config, []  # type: ignore[var-annotated]
        self.opened = SimpleNamespace(
            backend=SimpleNamespace(capabilities=BackendCapabilities(callers_stream=callers_stream))
        )

    def decode(self, z: Any, **options: Any) -> DecoderOutput:
        self.calls.append(("decode", type(z), options["output"], options["stream"]))
        return DecoderOutput(Exported(np.ones((1, 3, 32, 32), np.float32)))

    def encode(self, x: Any, **options: Any) -> AutoencoderKLOutput:
        self.calls.append(("encode", type(x), options["output"], options["stream"]))
        return AutoencoderKLOutput(DiagonalGaussian(Exported(np.zeros((1, 8, 4, 4), np.float32))))


def test_tensors_of_the_engines_gpu_go_in_and_out_on_the_device_in_torchs_stream(
    bundle_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cuda_stream_of", lambda tensor: STREAM)
    with LatentRTAutoencoder(bundle_of("sd"), backend="onnxruntime").runtime as opened:
        vae = LatentRTAutoencoder(bundle_of("sd"), backend="onnxruntime")
        gpu = GpuRuntime(opened)
        vae.runtime = gpu  # type: ignore[assignment]
        z = torch.zeros(1, 4, 4, 4, dtype=torch.bfloat16).as_subclass(SaysCuda)
        sample = vae.decode(z).sample
        assert (sample.dtype, float(sample.sum())) == (torch.bfloat16, 3 * 32 * 32)
        x = torch.zeros(1, 3, 32, 32).as_subclass(SaysCuda)
        assert vae.encode(x).latent_dist.mode().shape == (1, 4, 4, 4)
        assert gpu.calls == [("decode", SaysCuda, "device", STREAM), ("encode", SaysCuda, "device", STREAM)]


def test_a_backend_that_takes_no_stream_gets_arrays_of_the_host(bundle_of: Callable[[str], Path]) -> None:
    vae = LatentRTAutoencoder(bundle_of("sd"), backend="onnxruntime")
    with vae.runtime as opened:
        gpu = GpuRuntime(opened, callers_stream=False)
        gpu.decode = lambda z, **options: gpu.calls.append((type(z), options.get("output"))) or DecoderOutput(z)  # type: ignore[func-returns-value, method-assign]
        vae.runtime = gpu  # type: ignore[assignment]
        vae.decode(torch.zeros(1, 4, 4, 4).as_subclass(SaysCuda))
        assert gpu.calls == [(np.ndarray, None)]


def test_a_tensor_becomes_contiguous_float32_and_shares_memory_where_it_can() -> None:
    tensor = torch.arange(6.0).reshape(1, 2, 3, 1)
    assert np.shares_memory(given_tensor(tensor, on_device=False), tensor.numpy())
    turned = given_tensor(tensor.transpose(1, 2).bfloat16(), on_device=False)
    assert (turned.dtype, turned.flags.c_contiguous, turned.shape) == (np.float32, True, (1, 3, 2, 1))
    assert given_tensor(tensor.half(), on_device=True).dtype == torch.float32
    place = TensorPlace.of(tensor.half())
    assert place.from_host(np.ones((2, 2), np.float32)).dtype == torch.float16
    assert place.empty((2, 3)).shape == (2, 3)
