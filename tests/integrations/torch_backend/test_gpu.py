"""What only a GPU shows of PyTorch as a backend: the caller's streams, device arrays, exact float32, freed memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import relative_error
from torch_calls import STRATEGIES

from latentrt.integrations.torch_backend import TorchBackend
from latentrt.runtime import open_bundle
from latentrt.runtime.arrays.pixels import to_pixels

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]

BundleOf = Callable[[str], Path]
BOUND = 1e-5


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ["sd", "flux2_small_decoder", "noise_timestep"])
def test_a_gpu_gives_the_numbers_of_onnx_runtime(
    name: str, strategy: str, channels_last: bool, bundle_of: BundleOf
) -> None:
    run, backend = STRATEGIES[strategy], TorchBackend("cuda", channels_last=channels_last)
    with (
        open_bundle(bundle_of(name), backend="onnxruntime", provider="cpu") as theirs,
        open_bundle(bundle_of(name), backend=backend) as ours,
    ):
        assert ours.backend == "torch:cuda:0"
        for one, other in zip(run(ours), run(theirs), strict=True):
            assert relative_error(one, other) <= BOUND


def test_a_call_runs_in_the_callers_stream_and_its_result_stays_on_the_gpu(bundle_of: BundleOf) -> None:
    host = torch.randn((1, 4, 32, 32), generator=torch.Generator().manual_seed(0))
    with open_bundle(bundle_of("sd"), backend=TorchBackend("cuda")) as vae:
        wanted = vae.decode(host).sample
        cuda: Any = torch.cuda  # its classes have no types
        stream = cuda.Stream()
        for _ in range(10):
            with torch.cuda.stream(stream):
                made = vae.decode(host.cuda() * 1, output="device", stream=stream.cuda_stream).sample
                result = (made + 0).cpu().numpy()
            assert np.array_equal(result, wanted)
        assert np.array_equal(vae.decode(host.cuda(), output="uint8").sample, to_pixels(wanted))


def test_release_gives_gpu_memory_back(bundle_of: BundleOf) -> None:
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    with open_bundle(bundle_of("sd"), backend=TorchBackend("cuda")) as vae:
        vae.decode(np.ones((1, 4, 64, 64), np.float32))
        assert torch.cuda.memory_reserved() > before
        vae.release()
        assert torch.cuda.memory_reserved() == before
