"""How PyTorch behaves as a backend: precisions, memory, threads, cancelling, and what it refuses."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import ALL, diffusers_model, latents_of, relative_error
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.dlpack import from_dlpack
from torch_calls import STRATEGIES, opened_in_torch

from latentrt.export import ExportSettings, export_bundle
from latentrt.export.weights.safetensors_file import SafetensorsFile
from latentrt.integrations.torch_backend import TorchBackend, models
from latentrt.integrations.torch_backend.component import TorchComponent
from latentrt.integrations.torch_backend.time_axis import EagerStream
from latentrt.runtime import BackendUnavailable, BundleError, Cancelled, EngineError, InputError, open_bundle
from latentrt.runtime.arrays.pixels import to_pixels
from latentrt.runtime.backends.component import CallScope
from latentrt.runtime.backends.wrapped import WrappedBackend
from latentrt.runtime.bundle.manifest import Manifest

BundleOf = Callable[[str], Path]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The weights files that were read, in their order."""
    read: list[str] = []

    class Noted(SafetensorsFile):
        def __init__(self, path: Path) -> None:
            read.append(path.name)
            super().__init__(path)

    monkeypatch.setattr(models, "SafetensorsFile", Noted)
    return read


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The models that are in memory, by their identity."""
    found: set[int] = set()

    class Counted(models.LoadedModel):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            found.add(id(self))

        def __del__(self) -> None:
            super().__del__()
            found.discard(id(self))

    monkeypatch.setattr(models, "LoadedModel", Counted)
    return found


def rms(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(np.mean((one.astype(np.float64) - other) ** 2)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", [pytest.param("sd", marks=pytest.mark.long), "ltx20"])
def test_low_precision_is_nearer_to_float32_than_diffusers_in_that_precision(
    name: str, dtype: str, bundle_of: BundleOf
) -> None:
    with opened_in_torch(bundle_of(name)) as wide, opened_in_torch(bundle_of(name), dtype=dtype) as low:
        z = latents_of(wide, (2, 4, 6) if wide.video else (4, 6))
        wanted = wide.decode(z).sample
        whole = low.decode(z).sample
        if low.video:
            low.enable_streaming(frames_per_chunk=4)
        else:
            low.enable_tiling(exact=True, strip=(16, 24))
        parts = low.decode(z).sample
    model = diffusers_model(ALL[name]).to(getattr(torch, dtype))
    with torch.no_grad():
        theirs = model.decode(torch.from_numpy(z).to(model.dtype)).sample.float().numpy()
    assert 0 < rms(whole, wanted) < rms(theirs, wanted)
    assert 0 < rms(parts, wanted) < rms(theirs, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd", "ltx20"])
def test_what_overflows_in_float16_is_computed_again_in_float32(name: str, bundle_of: BundleOf) -> None:
    with opened_in_torch(bundle_of(name)) as wide, opened_in_torch(bundle_of(name), dtype="float16") as low:
        z = latents_of(wide, (2, 4, 6) if wide.video else (4, 6)) * np.float32(1e6)
        wanted = wide.decode(z).sample
        assert np.isfinite(wanted).all()
        assert np.array_equal(low.decode(z).sample, wanted)
        assert np.array_equal(low.decode(z, output="uint8").sample, to_pixels(wanted))
        if low.video:
            low.enable_streaming(frames_per_chunk=4)
            assert relative_error(low.decode(z).sample, wanted) <= 1e-2


@pytest.mark.slow
def test_a_bundle_of_one_low_precision_runs_in_that_precision_alone(checkpoint_of: BundleOf, tmp_path: Path) -> None:
    export_bundle(checkpoint_of("sd"), tmp_path / "bundle", ExportSettings(dtypes=("float16",)))
    with opened_in_torch(tmp_path / "bundle", dtype="float16") as vae:
        assert vae.graphs[0].dtype == "float16"
        whole = STRATEGIES["whole"](vae)
        strips = STRATEGIES["exact"](vae)
        for one, other in zip(strips, whole, strict=True):
            assert relative_error(one, other) <= 1e-2
    with pytest.raises(InputError, match="holds no float32 graphs"):
        opened_in_torch(tmp_path / "bundle")


def test_an_autocast_and_a_default_dtype_of_the_caller_change_nothing(bundle_of: BundleOf) -> None:
    z = np.random.default_rng(0).standard_normal((1, 16, 2, 2, 3)).astype(np.float32)
    with opened_in_torch(bundle_of("timestep")) as vae:
        wanted = vae.decode(z, temb=0.05).sample
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16), opened_in_torch(bundle_of("timestep")) as vae:
            assert np.array_equal(vae.decode(z, temb=0.05).sample, wanted)
    finally:
        torch.set_default_dtype(torch.float32)


def test_results_go_where_the_caller_wants_them(bundle_of: BundleOf) -> None:
    z = np.random.default_rng(0).standard_normal((2, 4, 4, 6)).astype(np.float32)
    with opened_in_torch(bundle_of("sd"), channels_last=True) as vae:
        wanted = vae.decode(z).sample
        out = np.empty_like(wanted)
        assert vae.decode(z, out=out).sample is out
        assert np.array_equal(out, wanted)
        assert np.array_equal(from_dlpack(vae.decode(z, output="device").sample).numpy(), wanted)
        assert np.array_equal(vae.decode(z, output="uint8").sample, to_pixels(wanted))
        z.flags.writeable = False
        assert np.array_equal(vae.decode(z).sample, wanted)
        assert np.array_equal(vae.decode(torch.from_numpy(z.copy())).sample, wanted)
        with pytest.raises(InputError, match="the backend torch:cpu takes no stream of the caller's"):
            vae.decode(z, stream=1)


def test_a_component_takes_tensors_and_gives_pixels(bundle_of: BundleOf) -> None:
    manifest = Manifest.open(bundle_of("sd"))
    (graph,) = (one for one in manifest.find_graphs("decoder"))
    component = TorchBackend("cpu").open(graph, manifest.path_of(graph.file), dtype="float32")
    z = torch.randn((1, 4, 4, 6), generator=torch.Generator().manual_seed(0))
    sample = component.run({"latents": z}, call=CallScope())
    pixels = component.run({"latents": z.requires_grad_()}, call=CallScope(), pixels=True)
    assert np.array_equal(pixels, to_pixels(sample))


def test_strips_read_the_weights_once(bundle_of: BundleOf, loads: list[str]) -> None:
    with opened_in_torch(bundle_of("sd")) as vae:
        STRATEGIES["exact"](vae)
    assert loads == ["encoder.safetensors", "decoder.safetensors"]


def test_autoencoders_of_one_object_share_weights(bundle_of: BundleOf, loads: list[str], tmp_path: Path) -> None:
    backend, z = TorchBackend("cpu"), np.ones((1, 4, 2, 2), np.float32)
    with open_bundle(bundle_of("sd"), backend=backend) as one, open_bundle(bundle_of("sd"), backend=backend) as other:
        assert np.array_equal(one.decode(z).sample, other.decode(z).sample)
        assert loads == ["decoder.safetensors"]
        with open_bundle(bundle_of("odd_groups"), backend=backend) as another:
            another.decode(z)
        assert len(loads) == 2


def test_release_frees_the_weights_and_the_next_call_loads_them_again(bundle_of: BundleOf, alive: set[int]) -> None:
    z = np.ones((1, 4, 2, 2), np.float32)
    vae = opened_in_torch(bundle_of("sd"))
    first = vae.decode(z).sample
    assert len(alive) == 1
    vae.release()
    assert not alive
    STRATEGIES["exact"](vae)
    assert not alive, "strips keep no weights"
    vae.disable_tiling()
    assert np.array_equal(vae.decode(z).sample, first)
    vae.close()
    assert not alive


def test_a_cancelled_call_stops_before_the_next_layer(bundle_of: BundleOf) -> None:
    ran: list[nn.Module] = []
    z = np.ones((1, 4, 2, 2), np.float32)
    with opened_in_torch(bundle_of("sd")) as vae:

        def note(layer: nn.Module, inputs: Any, result: Any) -> None:
            if isinstance(layer, nn.Conv2d):
                ran.append(layer)
                vae.cancel()

        hook = register_module_forward_hook(note)
        try:
            with pytest.raises(Cancelled):
                vae.decode(z)
        finally:
            hook.remove()
        assert len(ran) == 1
        assert vae.decode(z).sample.shape == (1, 3, 16, 16)


@pytest.mark.parametrize("name", ["sd", "ltx20"])
def test_threads_share_an_autoencoder(name: str, bundle_of: BundleOf) -> None:
    with open_bundle(bundle_of(name), backend=TorchBackend("cpu"), contexts=2) as opened:
        vae: Any = opened
        if vae.video:
            vae.enable_streaming(frames_per_chunk=4)
        inputs = [latents_of(vae, (2, 2, size) if vae.video else (2, size)) for size in (2, 3, 4, 5)]
        wanted = [vae.decode(z).sample for z in inputs]
        with ThreadPoolExecutor(4) as pool:
            for _ in range(2):
                for made, one in zip(pool.map(lambda z: vae.decode(z).sample, inputs), wanted, strict=True):
                    assert np.array_equal(made, one)


@pytest.mark.parametrize("causal", [False, True])
def test_a_state_holds_two_frames_and_not_the_chunk(causal: bool) -> None:
    stream = EagerStream(causal, None, 1, 0)
    window = stream.window(torch.randn(1, 2, 9, 4, 4), 1)
    stream.delayed(torch.randn(1, 2, 9, 4, 4), 1)
    assert torch.equal(stream.states[0], window[:, :, -2:])
    assert len(stream.states) == (1 if causal else 2)
    assert {state.untyped_storage().nbytes() for state in stream.states} == {4 * 2 * 2 * 16}
    states = [state.clone() for state in stream.states]
    after = EagerStream(causal, states, 0, 0, in_place=True)
    window = after.window(torch.randn(1, 2, 9, 4, 4), 1)
    assert after.states[0] is states[0]
    assert torch.equal(states[0], window[:, :, -2:])
    ended = EagerStream(causal, states, 0, 1, keeps=False)
    ended.window(torch.randn(1, 2, 9, 4, 4), 1)
    assert ended.states == []


def test_a_wrapped_backend_is_bound_to_its_bundle(bundle_of: BundleOf) -> None:
    graphs: list[str] = []

    def noted(graph: Any, component: Any) -> Any:
        graphs.append(graph.file)
        assert isinstance(component, TorchComponent)
        return component

    backend = WrappedBackend(TorchBackend("cpu", "bfloat16"), noted)
    with open_bundle(bundle_of("sd"), backend=backend, dtype="bfloat16") as vae:
        assert vae.backend == "torch:cpu"
        assert vae.opened.backend.graph_dtype == "float32"
        vae.decode(np.ones((1, 4, 2, 2), np.float32))
    assert graphs == ["decoder.onnx"]


def test_memory_is_refused_with_a_sentence_that_names_what_to_do(bundle_of: BundleOf) -> None:
    with (
        opened_in_torch(bundle_of("sd")) as vae,
        pytest.raises(BackendUnavailable, match="it is not known how much a call takes on torch:cpu: enable tiling"),
    ):
        vae.decode(np.ones((1, 4, 2, 2), np.float32), memory="1GiB")


def test_altered_weights_are_refused(bundle_of: BundleOf, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_of("sd"), folder)
    weights = folder / "decoder.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with opened_in_torch(folder) as vae, pytest.raises(BundleError, match=r"decoder\.safetensors was altered"):
        vae.decode(np.ones((1, 4, 2, 2), np.float32))


def test_weights_of_another_model_are_refused(bundle_of: BundleOf) -> None:
    manifest = Manifest.open(bundle_of("sd"))
    config: Any = manifest.config
    other = replace(manifest, config=replace(config, layers_per_block=3))
    (graph,) = other.find_graphs("decoder")
    with pytest.raises(EngineError, match=r"decoder\.safetensors does not hold decoder\..* export the bundle again"):
        TorchBackend("cpu").for_bundle(other).open(graph, other.path_of(graph.file), dtype="float32")


@pytest.mark.parametrize(("name", "what"), [("ltx20", "streams"), ("sd", "strip_graphs")])
def test_stages_that_this_version_does_not_have_are_refused(name: str, what: str, bundle_of: BundleOf) -> None:
    manifest = Manifest.open(bundle_of(name))
    graphs = [one for one in getattr(manifest, what) if one.component == "decoder"]
    if what == "streams":
        other = replace(manifest, streams=tuple(one for one in manifest.streams if one is not graphs[-1]))
        graph = graphs[0]
    else:
        other, graph = manifest, replace(graphs[0], inputs=graphs[0].inputs[:-1])
    with pytest.raises(EngineError, match="that PyTorch's stages of this version do not have: export the bundle again"):
        TorchBackend("cpu").for_bundle(other).open(graph, other.path_of(graph.file), dtype="float32")


def test_an_error_of_pytorch_is_one_sentence(bundle_of: BundleOf) -> None:
    manifest = Manifest.open(bundle_of("sd"))
    (graph,) = manifest.find_graphs("decoder")
    component = TorchBackend("cpu").open(graph, manifest.path_of(graph.file), dtype="float32")
    with pytest.raises(EngineError, match=r"PyTorch failed while running decoder\.onnx on cpu: ") as caught:
        component.run({"latents": np.ones((1, 5, 2, 2), np.float32)}, call=CallScope())
    assert len(str(caught.value).splitlines()) == 1

    def runs_out(layer: nn.Module, inputs: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.\nmore")

    hook = torch.nn.modules.module.register_module_forward_pre_hook(runs_out)
    try:
        with pytest.raises(EngineError, match=r"decoder\.onnx on cpu ran out of memory: give a smaller picture"):
            component.run({"latents": np.ones((1, 4, 2, 2), np.float32)}, call=CallScope())
    finally:
        hook.remove()
