"""`accelerate` exchanges a pipeline's VAE for a bundle in the cache, and `restore` brings it back."""

import gc
import importlib
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from architectures import ALL
from double_backend import DoubleBackend
from tiny_pipelines import PIPELINES, noise

from latentrt.integrations.diffusers import LatentRTAutoencoder, accelerate, restore
from latentrt.integrations.diffusers.bundle_cache import bundle_of as cached_bundle
from latentrt.integrations.diffusers.comparison import Comparison
from latentrt.integrations.diffusers.own_vae import content_of
from latentrt.runtime import BackendUnavailable, InputError
from latentrt.runtime.backends.choices import JudgedBackend

pytestmark = pytest.mark.filterwarnings("ignore")  # of diffusers and its schedulers

Load = Callable[..., Any]
accelerate_module = importlib.import_module("latentrt.integrations.diffusers.accelerate")
"""The module: its name in the package is that of the function."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture
def load(checkpoint_of: Callable[[str], Path]) -> Load:
    """A fresh VAE of diffusers of an architecture."""

    def one(name: str, dtype: torch.dtype = torch.float32) -> Any:
        kind = getattr(diffusers, ALL[name]["_class_name"])
        return kind.from_pretrained(checkpoint_of(name), torch_dtype=dtype).eval()

    return one


def decoded(pipe: Any) -> torch.Tensor:
    size = (2, 2, 2) if "2" in type(pipe).__name__ and "LTX" in type(pipe).__name__ else (8, 8)
    z = noise(1, pipe.vae.config.latent_channels, *size).to(pipe.vae.dtype)
    with torch.no_grad():
        return pipe.vae.decode(z, return_dict=False)[0]  # type: ignore[no-any-return]


def test_a_pipeline_is_accelerated_and_restored(load: Load, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    vae = load("sd")
    pipe = PIPELINES["sd"].made(vae)
    wanted = decoded(pipe)
    caplog.set_level(logging.INFO, "latentrt.integrations")
    assert accelerate(pipe, cache=cache, backend="onnxruntime", always=True, threads=1) is pipe
    assert isinstance(pipe.vae, LatentRTAutoencoder)
    [line] = [one.message for one in caplog.records if one.message.startswith("accelerate:")]
    assert "onnxruntime:cpu runs the vae, in " in line
    assert "of the time" in line
    assert "exported now" in line
    torch.testing.assert_close(decoded(pipe), wanted, atol=1e-4, rtol=1e-4)
    assert accelerate(pipe, cache=cache) is pipe
    assert restore(pipe) is pipe
    assert pipe.vae is vae
    assert restore(pipe).vae is vae

    caplog.clear()
    accelerate(pipe, cache=cache, backend="onnxruntime", always=True, threads=1)
    [line] = [one.message for one in caplog.records if one.message.startswith("accelerate:")]
    assert "found in the cache" in line


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("flux2", torch.bfloat16), pytest.param("sd", torch.float16, marks=pytest.mark.slow)],
)
def test_a_vae_that_was_freed_comes_back_with_the_same_weights(
    name: str, dtype: torch.dtype, load: Load, cache: Path
) -> None:
    pipe = PIPELINES[name].made(load(name, dtype))
    wanted = {key: value.clone() for key, value in pipe.vae.state_dict().items()}
    accelerate(pipe, cache=cache, backend="onnxruntime", always=True, threads=1)
    assert pipe.vae.dtype == dtype
    gc.collect()
    assert pipe.vae.replaced.alive() is None
    vae = restore(pipe).vae
    assert type(vae).__name__ == ALL[name]["_class_name"]
    assert vae.dtype == dtype
    got = vae.state_dict()
    assert got.keys() == wanted.keys()
    assert [key for key in wanted if not torch.equal(got[key], wanted[key])] == []
    assert not any(tensor.is_meta for tensor in (*vae.parameters(), *vae.buffers()))


@pytest.mark.long
@pytest.mark.slow
def test_a_bundle_that_is_not_faster_leaves_the_pipeline_alone(
    load: Load, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Slow(DoubleBackend):
        def open(self, *arguments: Any, **options: Any) -> Any:
            component = super().open(*arguments, **options)
            run = component.run

            def late(*inputs: Any, **rest: Any) -> Any:
                time.sleep(4)  # more than the VAE takes on a busy core
                return run(*inputs, **rest)

            component.run = late  # type: ignore[method-assign]
            return component

    vae = load("sd")
    pipe = PIPELINES["sd"].made(vae)
    accelerate(pipe, cache=cache, backend=Slow())
    assert pipe.vae is vae
    [line] = [one for one in caplog.records if "keeps its own vae" in one.message]
    assert line.levelno == logging.WARNING
    assert "double" in line.message


def test_pytorch_is_tried_where_no_engine_can_run(
    load: Load, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    absent = JudgedBackend("onnxruntime:cpu", None, "it is not installed")
    monkeypatch.setattr(accelerate_module, "judged_backends", lambda *_: (absent,))
    caplog.set_level(logging.INFO, "latentrt.integrations")
    vae = load("relu_one_block")
    pipe = SimpleNamespace(vae=vae)
    accelerate(pipe, cache=cache, always=True)
    assert isinstance(pipe.vae, LatentRTAutoencoder)
    assert pipe.vae.runtime.backend == "torch:cpu"
    assert "torch:cpu runs the vae, in " in caplog.text
    z = noise(1, vae.config.latent_channels, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(pipe.vae.decode(z).sample, vae.decode(z).sample, atol=1e-5, rtol=1e-5)
    assert restore(pipe).vae is vae
    with pytest.raises(BackendUnavailable, match=r"onnxruntime:cpu cannot run: it is not installed; threads"):
        accelerate(pipe, cache=cache, always=True, threads=1)


def test_pytorch_is_taken_by_its_name(load: Load, cache: Path) -> None:
    pipe = SimpleNamespace(vae=load("relu_one_block"))
    assert accelerate(pipe, cache=cache, backend="torch", always=True).vae.runtime.backend == "torch:cpu"


def test_a_comparison_pays_if_it_is_faster_and_not_larger() -> None:
    large = 1 << 30
    assert Comparison(1.0, 2.0, large, 2 * large).pays
    assert Comparison(1.0, 2.0).pays
    assert not Comparison(2.0, 1.0, large, 2 * large).pays
    assert not Comparison(1.0, 2.0, 3 * large, 2 * large).pays
    assert Comparison(1.0, 2.0, 30, 20).pays  # so little that the engine's library decides
    assert str(Comparison(1.0, 2.0, large, 4 * large)) == "0.50 of the time and 0.25 of the memory"
    assert str(Comparison(1.0, 2.0, 30, 20)) == "0.50 of the time"


def test_the_cache_tells_weights_configs_and_precisions_apart(load: Load) -> None:
    vae = load("sd")
    first = content_of(vae)
    assert content_of(load("sd")) == first
    with torch.no_grad():
        vae.decoder.conv_out.bias[0] += 2**-20
    assert content_of(vae) != first
    again = load("sd")
    again.register_to_config(scaling_factor=0.5)
    assert content_of(again) != first
    assert content_of(load("sd", torch.bfloat16)) != first
    swapped = load("sd")  # two tensors of one shape that change places
    one, other = swapped.decoder.conv_norm_out, swapped.decoder.up_blocks[-1].resnets[-1].norm2
    one.weight, other.weight = other.weight, one.weight
    assert content_of(swapped) != first


def test_a_damaged_bundle_in_the_cache_is_made_again(load: Load, tmp_path: Path) -> None:
    vae = load("relu_one_block")
    folder, is_new = cached_bundle(vae, "float32", tmp_path)
    assert is_new
    assert cached_bundle(vae, "float32", tmp_path) == (folder, False)
    (folder / "decoder.onnx").unlink()
    assert cached_bundle(vae, "float32", tmp_path) == (folder, True)
    assert cached_bundle(vae, "float16", tmp_path)[0] != folder
    assert json.loads((folder / "manifest.json").read_text())["produced_by"]["source"] == "AutoencoderKL"


@pytest.mark.slow
def test_two_processes_export_a_bundle_once(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, diffusers\n"
        "from latentrt.integrations.diffusers.bundle_cache import bundle_of\n"
        "vae = diffusers.AutoencoderKL.from_pretrained(sys.argv[1])\n"
        "print(bundle_of(vae, 'float32', pathlib.Path(sys.argv[2]))[1])\n"
    )
    command = [sys.executable, "-c", code, str(checkpoint_of("relu_one_block")), str(tmp_path / "cache")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(one.communicate()[0].split()[-1] for one in both) == ["False", "True"]
    assert [one.suffix for one in (tmp_path / "cache").iterdir()] == [""]


def test_a_wrong_pipeline_or_argument_is_one_sentence(load: Load, tmp_path: Path) -> None:
    pipe = PIPELINES["sd"].made(load("sd"))
    with pytest.raises(InputError, match=r"dtype: wanted one of float32, float16, bfloat16"):
        accelerate(pipe, dtype="int8")
    with pytest.raises(InputError, match="wanted a pipeline whose vae is one of AutoencoderKL"):
        accelerate(SimpleNamespace(vae=torch.nn.Linear(1, 1)))
    with pytest.raises(InputError, match="wanted a pipeline whose vae"):
        accelerate(object())
    with pytest.raises(InputError, match="the weights of the vae are offloaded"):
        accelerate(PIPELINES["sd"].made(load("sd").to("meta")))
    with pytest.raises(BackendUnavailable, match="must be one of"):
        accelerate(pipe, cache=tmp_path / "b", backend="abacus")
    assert type(pipe.vae).__name__ == "AutoencoderKL"


def test_settings_and_hooks_of_the_vae_go_on_with_the_bundle(load: Load, cache: Path) -> None:
    vae = load("sd")
    vae.enable_slicing()
    vae.enable_tiling()
    moved: list[Any] = []

    class Hook:
        execution_device = torch.device("cpu")

        def pre_forward(self, module: Any, *_: Any) -> None:
            moved.append(module)

    vae.__dict__["_hf_hook"] = Hook()
    pipe = PIPELINES["sd"].made(vae)
    accelerate(pipe, cache=cache, backend="onnxruntime", always=True, threads=1)
    moved.clear()
    assert (pipe.vae.use_slicing, pipe.vae.use_tiling) == (True, True)
    decoded(pipe)
    assert moved == [pipe.vae]
    x = torch.from_numpy(np.zeros((1, 3, 64, 64), np.float32))
    pipe.vae.encode(x)
    assert moved == [pipe.vae, pipe.vae]
