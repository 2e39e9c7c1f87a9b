"""OpenVINO on the CPU: diffusers' numbers in float32, near them in bfloat16, and never a precision that nobody asked
for. Streaming stages and tiles run through it as through ONNX Runtime."""

import locale
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from architectures import ALL, picture, relative_error
from cancelling import a_cancelled_decode_stops_early

from latentrt.export.verify.quality import psnr
from latentrt.runtime import (
    AutoencoderKL,
    AutoencoderKLLTX2Video,
    BackendUnavailable,
    EngineError,
    InputError,
    MissingExtra,
    open_bundle,
)
from latentrt.runtime.arrays.kinds import Dtype
from latentrt.runtime.backends.backend import BackendRequest
from latentrt.runtime.backends.choose import backends_here
from latentrt.runtime.backends.component import CallScope, ComponentCapabilities
from latentrt.runtime.backends.openvino import compiler as openvino_compiler
from latentrt.runtime.backends.openvino import component as openvino_backend
from latentrt.runtime.backends.openvino import models as openvino_models
from latentrt.runtime.backends.openvino.backend import OpenVinoBackend
from latentrt.runtime.backends.openvino.component import OpenVinoComponent
from latentrt.runtime.backends.openvino.graph import rewrite_for_cpu
from latentrt.runtime.backends.openvino.models import Models
from latentrt.runtime.backends.openvino.shared_model import SharedModel, WorkingMemory
from latentrt.runtime.backends.sessions import Sessions
from latentrt.runtime.bundle.graph import Graph
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.calls.chunks import with_last
from latentrt.runtime.calls.conditions import neutral_conditions
from latentrt.runtime.errors import Cancelled
from latentrt.runtime.execution.streaming import run_stages

BundleOf = Callable[[str], Path]
IMAGES = ["sd", "flux", "odd_groups", "mish", "flux2"]
VIDEOS = ["ltx20", "ltx23", "causal_decoder", "noise", "patch_2"]


def sample_of(name: str) -> np.ndarray:
    cells = 1 if name in IMAGES else 2
    return picture(ALL[name], batch=2, frames=17, height=64 * cells, width=96 * cells)


def latents_of(vae: Any, *, seed: int = 0, batch: int = 2, size: tuple[int, ...] | None = None) -> np.ndarray:
    size = size or ((3, 4, 5) if vae.video else (9, 12))
    shape = (batch, vae.config.latent_channels, *size)
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGES + VIDEOS)
def test_float32_gives_what_diffusers_gives(name: str, bundle_of: BundleOf, checkpoint_of: BundleOf) -> None:
    import diffusers
    import torch

    model: Any = getattr(diffusers, ALL[name]["_class_name"]).from_pretrained(checkpoint_of(name)).eval()
    sample = sample_of(name)
    with open_bundle(bundle_of(name), backend="openvino", threads=1) as vae, torch.no_grad():
        wanted = np.asarray(model.encode(torch.from_numpy(sample)).latent_dist.parameters)
        assert relative_error(vae.encode(sample).latent_dist.parameters, wanted) < 1e-4
        if name != "noise":  # there diffusers draws its own
            latents = latents_of(vae)
            wanted = np.asarray(model.decode(torch.from_numpy(latents)).sample)
            assert relative_error(vae.decode(latents).sample, wanted) < 1e-4


@pytest.mark.parametrize("name", ["sd", "ltx20", "noise"])
def test_every_size_gives_what_onnx_runtime_gives(name: str, bundle_of: BundleOf) -> None:
    sizes = [(2, 2, 3), (3, 4, 2), (2, 2, 3)] if name in VIDEOS else [(4, 6), (9, 3), (4, 6)]
    with (
        open_bundle(bundle_of(name), backend="openvino", threads=1) as vae,
        open_bundle(bundle_of(name), backend="onnxruntime", threads=1) as other,
    ):
        for seed, size in enumerate(sizes):
            latents = latents_of(vae, seed=seed, batch=1 + seed, size=size)
            options: dict[str, Any] = {"rng": 0} if name == "noise" else {}
            wanted = other.decode(latents, **options).sample
            assert relative_error(vae.decode(latents, **options).sample, wanted) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd", "ltx20", "ltx23", "noise"])
def test_the_smallest_sizes_that_were_warmed_up_give_what_onnx_runtime_gives(name: str, bundle_of: BundleOf) -> None:
    """At some sizes a node behind an input does nothing: OpenVINO drops it, and gives the input both names. (The input
    of one latent frame was not given to the model then, and pixels came from memory that nothing had written.)"""
    sizes = [(1, 2, 2), (1, 3, 2), (2, 2, 2)] if name in VIDEOS else [(1, 1), (1, 2), (2, 1)]
    options: dict[str, Any] = {"rng": 0} if name == "noise" else {}
    with (
        open_bundle(bundle_of(name), backend="openvino", threads=1) as vae,
        open_bundle(bundle_of(name), backend="onnxruntime", threads=1) as other,
    ):
        for size in sizes:
            latents = latents_of(vae, size=size)
            wanted = other.decode(latents, **options).sample
            sample = np.clip(wanted, -1, 1)
            moments = other.encode(sample).latent_dist.parameters
            vae.warmup([sample.shape])
            for _ in range(2):
                assert relative_error(vae.decode(latents, **options).sample, wanted) < 1e-4
                assert relative_error(vae.encode(sample).latent_dist.parameters, moments) < 1e-4


def test_an_input_that_a_call_does_not_give_is_an_error(bundle_of: BundleOf) -> None:
    component: Any = OpenVinoComponent(bundle_of("sd") / "decoder.onnx", threads=1)
    with pytest.raises(EngineError, match="has the input latents, and the call gives other"):
        component.run({"other": np.zeros((1, 4, 2, 2), np.float32)}, call=CallScope())


@pytest.mark.slow
def test_exact_strips_run_too(bundle_of: BundleOf) -> None:
    with open_bundle(bundle_of("odd_groups"), backend="openvino", threads=1) as vae:
        assert isinstance(vae, AutoencoderKL)
        latents = latents_of(vae)
        whole = vae.decode(latents).sample
        vae.enable_tiling(exact=True, strip=8)
        assert relative_error(vae.decode(latents).sample, whole) < 1e-4


@pytest.mark.slow
@pytest.mark.usefixtures("needs_bfloat16")
@pytest.mark.parametrize("name", ["sd", "flux2", "ltx20", "ltx23"])
def test_bfloat16_is_asked_for_by_name_and_runs_the_float32_graph(name: str, bundle_of: BundleOf) -> None:
    sample = sample_of(name)
    with (
        open_bundle(bundle_of(name), backend="openvino", threads=1) as exact,
        open_bundle(bundle_of(name), dtype="bfloat16", threads=1) as vae,
    ):
        assert vae.backend == "openvino", "nothing else runs bfloat16 on a CPU"
        latents = latents_of(vae)
        for got, wanted in (
            (vae.decode(latents).sample, exact.decode(latents).sample),
            (vae.encode(sample).latent_dist.parameters, exact.encode(sample).latent_dist.parameters),
        ):
            assert 45 < psnr(got, wanted) < 80, "near, and lowered indeed"


def test_the_precision_asked_for_is_the_one_that_is_compiled(bundle_of: BundleOf) -> None:
    component: Any = OpenVinoComponent(bundle_of("sd") / "decoder.onnx")
    assert component.models.for_every_size().compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


def test_a_precision_that_it_would_not_run_is_refused(bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendUnavailable, match="openvino cannot run: on the CPU it runs float32 and bfloat16, not f"):
        open_bundle(bundle_of("sd"), backend="openvino", dtype="float16")

    class OldCpu:
        def get_property(self, *_: str) -> list[str]:
            return ["FP32"]

    monkeypatch.setattr(openvino_compiler, "_shared", SimpleNamespace(core=OldCpu, is_stuck=False))
    with pytest.raises(BackendUnavailable, match="this CPU has no bfloat16 instructions"):
        open_bundle(bundle_of("sd"), backend="openvino", dtype="bfloat16")


def test_options_of_onnx_runtime_are_refused(bundle_of: BundleOf) -> None:
    with pytest.raises(InputError, match="provider is ONNX Runtime's: backend 'openvino' takes none, got 'cpu'"):
        open_bundle(bundle_of("sd"), backend="openvino", provider="cpu")
    with pytest.raises(BackendUnavailable, match="openvino cannot run: session_options are ONNX Runtime's"):
        open_bundle(bundle_of("sd"), backend="openvino", session_options={"enable_mem_pattern": False})


def test_auto_takes_it_for_video_and_leaves_it_where_its_options_are_not_known(bundle_of: BundleOf) -> None:
    assert open_bundle(bundle_of("ltx20")).backend == "openvino"
    assert open_bundle(bundle_of("sd")).backend == "onnxruntime:cpu"
    assert open_bundle(bundle_of("ltx20"), session_options={"enable_mem_pattern": False}).backend == "onnxruntime:cpu"


def test_without_it_the_sentence_holds_the_pip_line(bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match=r'run `pip install "latentrt\[openvino\]"`'):
        open_bundle(bundle_of("sd"), backend="openvino")
    assert open_bundle(bundle_of("ltx20")).backend == "onnxruntime:cpu"
    assert "latentrt[openvino]" in str(dict(backends_here())["openvino"])


@pytest.mark.slow
def test_nobody_is_told_that_openvino_was_imported(bundle_of: BundleOf) -> None:
    code = """
import sys
from latentrt.runtime import open_bundle
open_bundle(sys.argv[1], backend="openvino").warmup()
assert "openvino" in sys.modules
others = {"diffusers", "onnx", "onnxruntime", "openvino_telemetry", "torch"}
print(sorted(others & {name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(bundle_of("sd"))], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.slow
def test_results_are_the_callers_own_and_out_is_written_in_place(bundle_of: BundleOf) -> None:
    with open_bundle(bundle_of("sd"), backend="openvino", threads=1) as vae:
        first, second = latents_of(vae, seed=0), latents_of(vae, seed=1)
        first.flags.writeable = False
        given = second.copy()
        one = vae.decode(first).sample
        kept = one.copy()
        out = np.full_like(one, np.nan)
        assert vae.decode(second, out=out).sample is out
        assert np.array_equal(second, given)
        assert np.array_equal(one, kept), "a later call does not write into an earlier result"
        one[:] = 0
        assert np.array_equal(vae.decode(second).sample, out)
        vae.release()
        assert np.array_equal(vae.decode(first).sample, kept)


def test_eight_threads_get_bitwise_what_they_get_one_after_the_other(bundle_of: BundleOf) -> None:
    with open_bundle(bundle_of("ltx20"), backend="openvino", threads=1, contexts=4) as vae:
        inputs = [latents_of(vae, seed=seed, batch=1, size=(2, 2, 3 + seed % 2)) for seed in range(8)]
        wanted = [vae.decode(z).sample for z in inputs]
        together = threading.Barrier(8)

        def decode_often(index: int) -> bool:
            together.wait()
            return all(np.array_equal(vae.decode(inputs[index]).sample, wanted[index]) for _ in range(3))

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(decode_often, range(8)))


@pytest.mark.slow
def test_a_call_cancelled_while_the_engine_runs_stops_early_and_the_next_one_is_right(bundle_of: BundleOf) -> None:
    with open_bundle(bundle_of("no_attention"), backend="openvino", threads=1) as vae:
        small, large = latents_of(vae), latents_of(vae, batch=1, size=(64, 64))
        wanted = vae.decode(small).sample
        assert a_cancelled_decode_stops_early(vae, large)
        assert np.array_equal(vae.decode(small).sample, wanted)


def test_a_call_that_was_cancelled_before_the_engine_started_does_not_run(bundle_of: BundleOf) -> None:
    component = OpenVinoComponent(bundle_of("sd") / "decoder.onnx", threads=1)
    call = CallScope()
    call.cancel()
    with pytest.raises(Cancelled):
        component.run({"latents": np.zeros((1, 4, 4, 4), np.float32)}, call=call)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ltx20", "ltx23", "causal_decoder"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_clip_through_the_streaming_stages_is_the_whole_clip(
    name: str, dtype: Dtype, bundle_of: BundleOf, request: pytest.FixtureRequest
) -> None:
    if dtype == "bfloat16":
        request.getfixturevalue("needs_bfloat16")
    manifest = Manifest.open(bundle_of(name))
    with open_bundle(bundle_of(name), backend="openvino", dtype=dtype, threads=1) as vae:
        latents = latents_of(vae, batch=1, size=(7, 3, 2))
        whole = vae.decode(latents).sample
        sessions = Sessions(manifest, vae.opened.engines.own.backend, 1)
        stages = [(graph, 8) for graph in manifest.streams if graph.component == "decoder"]
        pieces = (latents[:, :, start : start + 2] for start in range(0, 7, 2))
        chunks = list(run_stages(sessions, CallScope(), stages, with_last(pieces), None, (3, 2), temporal_ratio=8))
        assert isinstance(vae, AutoencoderKLLTX2Video)
        own = np.concatenate(list(vae.decode_stream(latents)), axis=2)
    streamed = np.concatenate([chunk.frames for chunk in chunks], axis=2)
    assert len(chunks) > 1
    assert relative_error(own, whole) < (1e-5 if dtype == "float32" else 0.1)
    if dtype == "float32":
        assert relative_error(streamed, whole) < 1e-5
    else:
        assert psnr(streamed, whole) > 45


@pytest.mark.parametrize("name", ["ltx20", "timestep"])
def test_pixel_norms_are_rewritten_and_nothing_else(name: str, bundle_of: BundleOf) -> None:
    import openvino

    for component in ("encoder", "decoder"):
        model = openvino.Core().read_model(str(bundle_of(name) / f"{component}.onnx"))
        kinds = [node.get_type_name() for node in model.get_ordered_ops()]
        found = rewrite_for_cpu(model)
        left = [node.get_type_name() for node in model.get_ordered_ops()]
        assert found == left.count("ReduceL2") == kinds.count("ReduceMean") - left.count("ReduceMean") > 0
        assert found == kinds.count("Sqrt"), "every norm, while the means of samplers stay"
        assert rewrite_for_cpu(model) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd", "no_attention"])
def test_convolutions_after_doubling_are_rewritten_and_nothing_else(name: str, bundle_of: BundleOf) -> None:
    import openvino

    path, core = bundle_of(name) / "decoder.onnx", openvino.Core()
    model = core.read_model(str(path))
    kinds = [node.get_type_name() for node in model.get_ordered_ops()]
    found = rewrite_for_cpu(model)
    left = [node.get_type_name() for node in model.get_ordered_ops()]
    assert found == left.count("DepthToSpace") == kinds.count("Interpolate") > 0
    assert left.count("Convolution") == kinds.count("Convolution") + 3 * found
    assert "Interpolate" not in left
    latents = np.random.default_rng(0).standard_normal((2, model.inputs[0].partial_shape[1].get_length(), 5, 7))
    own, wanted = (
        core.compile_model(each, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(latents.astype(np.float32))[0]
        for each in (model, core.read_model(str(path)))
    )
    assert relative_error(own, wanted) < 1e-5


def test_warm_sizes_get_a_model_of_their_own_and_the_same_numbers(bundle_of: BundleOf) -> None:
    with open_bundle(bundle_of("ltx20"), backend="openvino", threads=1) as vae:
        one, other = latents_of(vae, batch=1, size=(2, 2, 3)), latents_of(vae, batch=1, size=(3, 2, 2))
        before = vae.decode(one).sample
        vae.warmup([one.shape])
        component: Any = vae.opened.engines.own.component(
            next(graph for graph in vae.graphs if graph.component == "decoder")
        )
        assert [model.sizes.shapes for model in component.models.held if model.sizes] == [(("latents", one.shape),)]
        component.models.for_every_size = None  # whatever would run on it now fails
        assert relative_error(vae.decode(one).sample, before) < 1e-5
        with pytest.raises(TypeError):
            vae.decode(other)


def stages_of(vae: Any) -> list[Any]:
    """The streaming engines of its decoder."""
    graphs = [graph for graph in vae.manifest.streams if graph.component == "decoder"]
    assert graphs
    return [vae.opened.engines.own.component(graph) for graph in graphs]


def fitted_frames(vae: Any) -> list[list[int]]:
    """The frames of the steps that have models of their own, stage by stage."""
    return [
        [dict(model.sizes.shapes)["chunk"][2] for model in stage.models.held if model.sizes] for stage in stages_of(vae)
    ]


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of every step since: whether it ran in a model of its own."""
    noted: list[bool] = []
    choose = Models.of_step

    def noting(self: Any, inputs: Any, call: CallScope) -> Any:
        model = choose(self, inputs, call)
        noted.append(model is not self.for_every_size())
        return model

    monkeypatch.setattr(Models, "of_step", noting)
    return noted


@pytest.mark.slow
@pytest.mark.usefixtures("every_layer_is_large")
@pytest.mark.parametrize("name", ["ltx20", "causal_decoder", "noise_timestep"])
def test_warm_streams_have_models_of_their_own_for_the_steps_of_most_frames(
    name: str, bundle_of: BundleOf, chosen: list[bool]
) -> None:
    with open_bundle(bundle_of(name), backend="openvino", threads=1) as vae:
        assert isinstance(vae, AutoencoderKLLTX2Video)
        shorter, latents = (latents_of(vae, batch=1, size=(frames, 2, 3)) for frames in (30, 40))
        options: dict[str, Any] = neutral_conditions(vae.config, 1) | ({"rng": 0} if "noise" in name else {})
        vae.enable_streaming()
        before = vae.decode(latents, memory="8GiB", **options).sample
        assert chosen
        assert not any(chosen)
        vae.warmup([shorter.shape])
        assert any(fitted_frames(vae))
        assert all(len(stage) <= 1 for stage in fitted_frames(vae)), "each holds what it computes in"
        chosen.clear()
        after = vae.decode(latents, **options).sample  # longer than what was warmed up
        assert any(chosen)
        assert not all(chosen), "first and last steps come once"
        assert 0 < relative_error(after, before) < 2e-5
        chosen.clear()
        assert np.array_equal(vae.decode(latents, memory="8GiB", **options).sample, before)
        assert not any(chosen), "a call within a budget keeps to what was measured"


@pytest.mark.slow
@pytest.mark.usefixtures("every_layer_is_large")
def test_a_warm_stream_of_the_encoder_gives_the_same_numbers(bundle_of: BundleOf, chosen: list[bool]) -> None:
    with open_bundle(bundle_of("ltx20"), backend="openvino", threads=1) as vae:
        assert isinstance(vae, AutoencoderKLLTX2Video)
        clip = picture(ALL["ltx20"], batch=1, frames=41, height=64, width=96)
        vae.enable_streaming(8)
        before = vae.encode(clip).latent_dist.parameters
        vae.warmup([clip.shape])
        chosen.clear()
        after = vae.encode(clip).latent_dist.parameters
        assert any(chosen)
        assert 0 < relative_error(after, before) < 2e-5


@pytest.mark.slow
@pytest.mark.usefixtures("every_layer_is_large", "needs_bfloat16")
def test_a_warm_stream_in_bfloat16_is_near_to_float32(bundle_of: BundleOf, chosen: list[bool]) -> None:
    with (
        open_bundle(bundle_of("ltx20"), backend="openvino", dtype="bfloat16", threads=1) as vae,
        open_bundle(bundle_of("ltx20"), backend="openvino", threads=1) as exact,
    ):
        assert isinstance(vae, AutoencoderKLLTX2Video)
        latents = latents_of(vae, batch=1, size=(30, 2, 3))
        vae.enable_streaming()
        vae.warmup([latents.shape])
        chosen.clear()
        assert psnr(vae.decode(latents).sample, exact.decode(latents).sample) > 50
        assert any(chosen)


@pytest.mark.slow
def test_the_last_warm_up_of_a_stream_counts_and_tiles_have_one_model_too(bundle_of: BundleOf) -> None:
    with open_bundle(bundle_of("ltx20"), backend="openvino", threads=1) as vae:
        assert isinstance(vae, AutoencoderKLLTX2Video)
        shape = (1, vae.config.latent_channels, 30, 4, 4)
        last_stage = []
        for frames_per_chunk in (8, 4, 8):
            vae.enable_streaming(frames_per_chunk)
            vae.warmup([shape])
            last_stage.append(fitted_frames(vae)[-1])
        assert last_stage == [[4], [2], [4]], "of its frames, of which each gives two"
        vae.release()
        vae.enable_tiling(96, 96, tile_sample_stride_height=64, tile_sample_stride_width=64)
        before = vae.decode(np.ones(shape, np.float32)).sample
        vae.warmup([shape])
        assert fitted_frames(vae)[-1] == [4], "tiles of one size take their steps side by side"
        assert relative_error(vae.decode(np.ones(shape, np.float32)).sample, before) < 2e-5


@pytest.mark.slow
@pytest.mark.usefixtures("every_layer_is_large")
def test_a_step_of_known_sizes_may_write_its_states_over_those_before(bundle_of: BundleOf) -> None:
    with open_bundle(bundle_of("ltx20"), backend="openvino", threads=1) as vae:
        rng = np.random.default_rng(0)
        graphs = [graph for graph in vae.manifest.streams if graph.component == "decoder"]
        for graph, component in zip(graphs, stages_of(vae), strict=True):
            shapes = {t.name: t.shape_for({"batch": 1, "height": 4, "width": 8, "frames": 3}) for t in graph.inputs}
            given = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
            given |= {"first": np.zeros(1, np.int64), "last": np.zeros(1, np.int64)}
            copy = {name: array.copy() for name, array in given.items()}
            call = CallScope(specialise=True)
            common, apart = (component.step(copy, call=call) for _ in range(2))
            assert [model.sizes is not None for model in component.models.held] == [False, True]
            assert all(np.array_equal(copy[name], given[name]) for name in given)
            over = component.step(copy, call=CallScope(), in_place=True)
            for name, array in apart.items():
                assert np.array_equal(over[name], array), name
                assert relative_error(array, common[name]) < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("frames_between", [None, 4])
def test_a_stream_gets_small_models_for_its_steps_and_the_same_numbers_each_time(
    frames_between: int | None, bundle_of: BundleOf, chosen: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        open_bundle(bundle_of("ltx20"), backend="openvino", threads=1) as vae,
        open_bundle(bundle_of("ltx20"), backend="onnxruntime", threads=1) as other,
    ):
        assert isinstance(vae, AutoencoderKLLTX2Video)
        assert isinstance(other, AutoencoderKLLTX2Video)
        latents = latents_of(vae, batch=1, size=(30, 2, 3))
        common = np.concatenate(list(vae.decode_stream(latents)), axis=2)
        assert not any(chosen), "the weights are large next to such chunks"
        monkeypatch.setattr(openvino_models, "_MOST_WEIGHTS_OVER_CHUNK", 1 << 30)
        first = np.concatenate(list(vae.decode_stream(latents)), axis=2)
        assert any(chosen)
        for _ in vae.decode_stream(latents, frames_between):
            pass
        assert np.array_equal(np.concatenate(list(vae.decode_stream(latents)), axis=2), first)
        assert all(len(stage) <= 1 for stage in fitted_frames(vae))
        wanted = np.concatenate(list(other.decode_stream(latents)), axis=2)
        assert relative_error(first, wanted) < 2e-5
        assert relative_error(common, wanted) < 2e-5


def test_of_the_models_of_streams_only_the_last_one_keeps_its_working_memory() -> None:
    freed: list[str] = []

    def model(name: str, **options: Any) -> SharedModel:
        return SharedModel(SimpleNamespace(release_memory=lambda: freed.append(name)), **options)

    one, other, kept, memory = model("one"), model("other"), model("kept", keeps_memory=True), WorkingMemory()
    for each in (one, one, other, kept, one):
        memory.begin(each, anew=False)
    assert freed == ["one", "other"]
    memory.begin(one, anew=True)
    assert freed == ["one", "other", "one"], "for a step of another size"
    with one.turn(CallScope()):
        memory.begin(other, anew=False)
    assert freed == ["one", "other", "one"], "it computes now"
    memory.end()
    memory.end()
    assert freed == ["one", "other", "one", "other"]
    memory.begin(model("gone"), anew=False)
    memory.begin(one, anew=False)
    assert freed == ["one", "other", "one", "other"], "a model that was freed holds nothing"


@pytest.mark.slow
def test_a_stream_leaves_no_working_memory_behind(bundle_of: BundleOf) -> None:
    code = (
        "import sys, numpy as np\n"
        "from latentrt.runtime import open_bundle\n"
        "from latentrt.runtime.system.process_memory import peak_bytes, resident_bytes\n"
        "vae = open_bundle(sys.argv[1], backend='openvino', threads=1)\n"
        "def run(height):\n"
        "    z = np.zeros((1, vae.config.latent_channels, 20, height, 4), np.float32)\n"
        "    for _ in vae.decode_stream(z):\n"
        "        pass\n"
        "run(2)\n"
        "before = resident_bytes()\n"
        "run(32)\n"
        "print((resident_bytes() - before) / (peak_bytes() - before))\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(bundle_of("ltx20"))], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 0.4


@pytest.mark.slow
def test_large_weights_are_not_written_to_the_cache(
    bundle_of: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path))
    monkeypatch.setattr("latentrt.runtime.backends.openvino.backend._MOST_CACHED_BYTES", 1000)
    with open_bundle(bundle_of("odd_groups"), backend="openvino", threads=1) as vae:
        vae.decode(latents_of(vae))
    assert not list(tmp_path.rglob("*.blob"))


def test_tiles_run_through_it(bundle_of: BundleOf) -> None:
    results = []
    for backend in ("openvino", "onnxruntime"):
        with open_bundle(bundle_of("ltx20"), backend=backend, threads=1) as vae:
            assert isinstance(vae, AutoencoderKLLTX2Video)
            vae.enable_tiling(tile_sample_min_height=96, tile_sample_min_width=96, tile_sample_min_num_frames=16)
            results.append(vae.decode(latents_of(vae, batch=1, size=(4, 4, 5))).sample)
    assert relative_error(*results) < 1e-4


@pytest.mark.slow
def test_a_compiled_model_is_kept_and_found_by_what_it_holds(
    bundle_of: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path))
    with open_bundle(bundle_of("odd_groups"), backend="openvino", threads=1) as vae:
        wanted = vae.decode(latents_of(vae)).sample
        [blob] = tmp_path.glob("openvino/*/*.blob")
        written = blob.stat().st_mtime_ns
        vae.release()
        assert np.array_equal(vae.decode(latents_of(vae)).sample, wanted)
        assert [path.stat().st_mtime_ns for path in tmp_path.glob("openvino/*/*.blob")] == [written]
        blob.write_bytes(blob.read_bytes()[: blob.stat().st_size // 2])  # as an interrupted write leaves it
        vae.release()
        assert np.array_equal(vae.decode(latents_of(vae)).sample, wanted)


@pytest.mark.slow
def test_compiling_in_several_threads_leaves_the_processs_locale_alone(bundle_of: BundleOf) -> None:
    """OpenVINO sets the locale to "C" while it compiles with a cache, and sets back what it found: two at once would
    leave "C", in which Python reads text as ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    graphs = [bundle_of("odd_groups") / f"{name}.onnx" for name in ("encoder", "decoder")] * 2
    keys = [f"locale-{number}" for number in range(len(graphs))]
    with ThreadPoolExecutor(len(graphs)) as pool:
        for _ in range(10):
            list(pool.map(lambda graph, key: OpenVinoComponent(graph, key=key), graphs, keys))
            assert locale.setlocale(locale.LC_ALL) == before


@pytest.mark.slow
def test_without_a_cache_folder_it_compiles_and_says_so(
    bundle_of: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "file"))
    with open_bundle(bundle_of("sd"), backend="openvino", threads=1) as vae:
        assert vae.decode(latents_of(vae)).sample.shape == (2, 3, 72, 96)
    assert "OpenVINO compiles anew each time: " in caplog.text


def test_a_file_that_is_no_graph_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "decoder.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineError, match=r"OpenVINO does not load .*decoder\.onnx: ") as caught:
        OpenVinoComponent(tmp_path / "decoder.onnx")
    assert len(str(caught.value).splitlines()) == 1


def test_a_result_with_nan_is_run_again_in_float32(
    bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """bfloat16 has float32's range, so no narrow model overflows in it: the engine's first result is spoiled here."""
    monkeypatch.setattr(openvino_backend, "missing_openvino", lambda dtype="float32": None)
    manifest = Manifest.open(bundle_of("sd"))
    with open_bundle(bundle_of("sd"), backend="openvino", threads=1) as exact:
        latents = latents_of(exact)
        wanted = exact.decode(latents).sample

    class Spoiled:
        capabilities = ComponentCapabilities()

        def run(self, inputs: Any, *, call: CallScope, out: Any = None, keep_on_device: bool = False) -> Any:
            return np.full_like(wanted, np.nan)

    class SpoiledInBfloat16(OpenVinoBackend):
        def open(self, graph: Graph, file: Path, *, dtype: str) -> Any:
            return Spoiled() if dtype == "bfloat16" else super().open(graph, file, dtype=dtype)

    backend = SpoiledInBfloat16(BackendRequest(manifest, "bfloat16", threads=1))
    with open_bundle(bundle_of("sd"), backend=backend, dtype="bfloat16") as vae, caplog.at_level(logging.WARNING):
        assert np.array_equal(vae.decode(latents).sample, wanted)
    assert "values are NaN or infinite in bfloat16: run again in float32" in caplog.text
