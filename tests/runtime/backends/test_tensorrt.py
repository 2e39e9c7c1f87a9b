"""Running engines, as far as a machine without a GPU shows it: what is missing is said precisely, the engine that fits
is found, and the libraries have every name that the backend uses. What needs a GPU is marked and at the end."""

import contextlib
import dataclasses
import inspect
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import latentrt.runtime.backends.cuda.devices as devices
from latentrt.cli.main import cli
from latentrt.export.bundle import ExportSettings, export_bundle
from latentrt.export.engines.build import build_engines
from latentrt.export.engines.settings import BuildSettings, Extent
from latentrt.export.verify.quality import psnr
from latentrt.runtime import BackendUnavailable, EngineError, InputError, open_bundle
from latentrt.runtime.arrays.kinds import Dtype
from latentrt.runtime.arrays.pixels import to_pixels
from latentrt.runtime.backends.backend import BackendRequest
from latentrt.runtime.backends.choose import backends_here
from latentrt.runtime.backends.component import CallScope
from latentrt.runtime.backends.cuda import captured
from latentrt.runtime.backends.onnxruntime import component as onnxruntime
from latentrt.runtime.backends.onnxruntime.backend import refusal_to_build
from latentrt.runtime.backends.sessions import Sessions
from latentrt.runtime.backends.tensorrt import component as tensorrt_component
from latentrt.runtime.backends.tensorrt import engine_context as lane
from latentrt.runtime.backends.tensorrt import engine_log, engine_tensors, jit_cache, shared_device
from latentrt.runtime.backends.tensorrt import opener as tensorrt
from latentrt.runtime.backends.tensorrt.jit_cache import JitCache
from latentrt.runtime.backends.tensorrt.opener import (
    EngineOpener,
    find_engines,
    missing_library,
    unknown_gpu,
    unusable_engines,
)
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.errors import DeviceMemoryError

RTX: Final = "tensorrt-rtx"
HAS_GPU = devices.has_nvidia_driver()
without_gpu = pytest.mark.skipif(HAS_GPU, reason="says what is missing where there is no GPU")


@pytest.fixture(scope="module")
def built(checkpoint_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle in two precisions with engines of its float32 graphs for 8.9."""
    bundle = tmp_path_factory.mktemp("built") / "bundle"
    export_bundle(checkpoint_of("relu_one_block"), bundle, ExportSettings(dtypes=("float32", "float16")))
    tiles = (Extent(1, 64, 64),)
    build_engines(bundle, BuildSettings(RTX, tiles=tiles, compute_capabilities=("8.9",), optimization_level=0))
    return bundle


@pytest.mark.slow
@without_gpu
def test_without_a_gpu_the_driver_is_what_is_missing(built: Path) -> None:
    assert missing_library(RTX) == "no NVIDIA driver answers on this machine"
    with pytest.raises(BackendUnavailable, match="backend tensorrt-rtx cannot run: no NVIDIA driver answers on this"):
        open_bundle(built, backend=RTX)
    with pytest.raises(BackendUnavailable, match="no NVIDIA GPU 0 answers on this machine"):
        devices.compute_capability()
    with pytest.raises(BackendUnavailable, match="no NVIDIA GPU 0 answers on this machine"):
        devices.Gpu()


def test_without_the_library_the_pip_line_is_what_is_missing(built: Path) -> None:
    reason = 'tensorrt is not installed: run `pip install "latentrt[tensorrt]"`'
    assert missing_library("tensorrt") == reason
    with pytest.raises(BackendUnavailable, match=re.escape(f"backend tensorrt cannot run: {reason}")):
        open_bundle(built, backend="tensorrt")


def test_the_gpu_that_is_asked_for_decides(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = Manifest.open(built).engines[0].library_version
    library = SimpleNamespace(__version__=version, ComputeCapability=SimpleNamespace(SM89=1, SM120=2))
    monkeypatch.setattr(tensorrt, "_is_installed", lambda module: True)
    monkeypatch.setattr(tensorrt, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(tensorrt, "require", lambda name, extra: library)
    monkeypatch.setattr(tensorrt, "compute_capability", lambda device=0: ("7.0", "8.9")[device])
    assert "has kernels for compute capability 8.9, 12.0, and this GPU has 7.0" in str(missing_library(RTX))
    assert missing_library(RTX, 1) is None
    with pytest.raises(BackendUnavailable, match=r"this GPU has 7\.0"):
        open_bundle(built, backend=RTX)
    with open_bundle(built, backend=RTX, session_options={"device": 1}) as vae:
        assert vae.backend == RTX


@without_gpu
def test_auto_falls_back_to_onnx_runtime_with_one_line_that_names_each_lack(
    built: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "latentrt"), open_bundle(built, threads=1) as vae:
        assert vae.backend == "onnxruntime:cpu"
        assert np.isfinite(vae.decode(np.zeros((1, 4, 8, 8), np.float32)).sample).all()
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("backend onnxruntime:cpu; skipped tensorrt (tensorrt is not installed: run `pip install")
    assert "; skipped tensorrt-rtx (no NVIDIA driver answers on this machine); skipped onnxruntime:cuda (" in line


@without_gpu
def test_doctor_lists_both_libraries(built: Path) -> None:
    rows = dict(backends_here())
    assert set(rows) >= {"tensorrt", RTX, "onnxruntime:cpu"}
    text = CliRunner().invoke(cli, ["doctor"], catch_exceptions=False).stdout
    assert "GPU: none (no NVIDIA driver answers)" in text
    assert re.search(r"tensorrt-rtx +no: no NVIDIA driver answers on this machine", text)
    assert re.search(r"tensorrt +no: tensorrt is not installed: run `pip install \"latentrt\[tensorrt\]\"`", text)
    assert re.search(r"tensorrt-rtx-cu13 +1\.\d", text)
    assert re.search(r"build +ready", text)


def test_a_provider_is_not_for_tensorrt(built: Path) -> None:
    with pytest.raises(InputError, match="provider is ONNX Runtime's: backend 'tensorrt-rtx' takes none, got 'cuda'"):
        open_bundle(built, backend=RTX, provider="cuda")


def test_the_engine_that_fits_is_found_and_others_are_refused_with_both_values(built: Path) -> None:
    manifest = Manifest.open(built)
    encoder, decoder = (manifest.find_graphs(component)[0] for component in ("encoder", "decoder"))
    record = manifest.engines[1]
    version = record.library_version
    here: dict[str, Any] = {"library_version": version, "capability": "8.9"}
    assert find_engines(manifest, decoder, RTX, **here) == (record,)
    assert find_engines(manifest, encoder, RTX, **here) == manifest.engines[:1]
    assert unusable_engines(manifest, RTX, "float32", **here) is None
    with pytest.raises(
        EngineError, match=rf"holds no tensorrt engine of decoder.onnx: run `latentrt build {built} --ba"
    ):
        find_engines(manifest, decoder, "tensorrt", **here)
    with pytest.raises(EngineError, match=r"for compute capability 8.9, and this GPU has 9.0"):
        find_engines(manifest, decoder, RTX, **here | {"capability": "9.0"})
    with pytest.raises(EngineError, match=rf"with tensorrt-rtx {version}, and 2.0 is installed"):
        find_engines(manifest, decoder, RTX, **here | {"library_version": "2.0"})
    reason = unusable_engines(manifest, RTX, "float16", **here)
    assert reason is not None
    assert reason.startswith("the bundle holds no tensorrt-rtx engine of encoder.float16.onnx: run `latentrt build")
    alone = dataclasses.replace(manifest, engines=(record,))
    assert "engine of encoder.onnx" in str(unusable_engines(alone, RTX, "float32", **here))


def test_engines_that_fit_are_found_the_newest_first(built: Path) -> None:
    manifest = Manifest.open(built)
    record = manifest.engines[1]
    newer = dataclasses.replace(record, key="newer")
    other_gpu = dataclasses.replace(record, key="other", compute_capabilities=("12.0",))
    manifest = dataclasses.replace(manifest, engines=(record, newer, other_gpu))
    graph = manifest.find_graphs("decoder")[0]
    options: dict[str, Any] = {"library_version": record.library_version}
    assert find_engines(manifest, graph, RTX, capability="8.9", **options) == (newer, record)
    assert find_engines(manifest, graph, RTX, capability="12.0", **options) == (other_gpu,)


def test_a_damaged_engine_is_refused_before_the_library_sees_it(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Path(shutil.copytree(built, tmp_path / "bundle"))
    manifest = Manifest.open(bundle)
    record = manifest.engines[1]
    path = bundle / record.file
    path.write_bytes(path.read_bytes()[:-1])

    class Untouched:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} was asked for")

    untouched: Any = Untouched()
    monkeypatch.setattr(tensorrt, "compute_capability", lambda device: record.compute_capabilities[0])
    monkeypatch.setattr(EngineOpener, "shared", lambda self: untouched)
    opener = EngineOpener(manifest, RTX)
    with pytest.raises(EngineError, match="bytes and its record says"):
        opener.open(bundle / record.graph)


def test_a_gpu_that_a_library_has_no_kernels_for_is_named() -> None:
    import tensorrt_rtx as library

    sentence = f"{RTX} {library.__version__} has kernels for compute capability 7.5, 8.0, 8.6, 8.9, 12.0"
    reason = unknown_gpu(RTX, library, "9.0")
    assert reason is not None
    assert reason.startswith(sentence)
    assert reason.endswith("and this GPU has 9.0: take tensorrt")
    assert [unknown_gpu(RTX, library, known) for known in ("8.0", "8.9", "12.0")] == [None] * 3
    assert unknown_gpu("tensorrt", SimpleNamespace(__version__="11.0"), "9.0") is None, "it does not say"


def test_compatible_engines_run_with_later_versions_and_on_ampere_and_later(built: Path) -> None:
    record = dataclasses.replace(
        Manifest.open(built).engines[0],
        library_version="11.2.0",
        compute_capabilities=("8.9",),
        settings={"version_compatible": True, "hardware_compatible": True},
    )
    for version, capability in (("11.2.0", "8.9"), ("11.10.0", "8.0"), ("12.0.1", "12.0")):
        record.check_machine(version, capability)
    with pytest.raises(EngineError, match=r"built with tensorrt-rtx 11.2.0, and 11.1.9 is installed"):
        record.check_machine("11.1.9", "8.9")
    with pytest.raises(EngineError, match=r"built for compute capability 8.9, and this GPU has 7.5"):
        record.check_machine("11.2.0", "7.5")


class RuntimeCache:
    """TensorRT-RTX's, of kernels by name. Whether reading adds to what is there (`adds`), it does not say."""

    def __init__(self, accepts: bool = True, adds: bool = True) -> None:
        self.kernels, self.accepts, self.adds = set[str](), accepts, adds

    def deserialize(self, content: bytes) -> bool:
        if self.accepts:
            self.kernels = set(content.decode().split()) | (self.kernels if self.adds else set())
        return self.accepts

    def serialize(self) -> bytes | None:
        return " ".join(sorted(self.kernels)).encode()


def jit(record: Any, make: Callable[[], RuntimeCache] = RuntimeCache) -> Any:
    cache = JitCache(record)
    cache.attach(SimpleNamespace(create_runtime_cache=make, set_runtime_cache=lambda cache: None))
    return cache


def test_kernels_are_kept_for_the_sizes_that_were_run(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path))
    record = Manifest.open(built).engines[0]
    small, large = {"latents": (1, 4, 8, 8)}, {"latents": (1, 4, 16, 16)}
    first = jit(record)
    assert not first.knows(small)
    first.keep(small)
    path = next((tmp_path / "jit").glob("*.cache"))
    written = path.stat().st_mtime_ns
    first.keep(small)
    assert path.stat().st_mtime_ns == written, "the second call of a size compiled nothing"
    second = jit(record)
    assert (second.knows(small), second.knows(large)) == (True, False)
    second.keep(small)
    assert path.stat().st_mtime_ns == written
    second.keep(large)
    assert jit(record).knows(large)
    assert not jit(record, partial(RuntimeCache, accepts=False)).knows(small), "a file of another GPU or driver"
    path.write_bytes(b"damaged")
    assert not jit(record).knows(small)
    path.with_suffix(".json").write_text("{")
    assert not jit(record).knows(small)
    assert {one.suffix for one in (tmp_path / "jit").iterdir()} == {".cache", ".json"}, "nothing half-written"


@pytest.mark.parametrize("adds", [True, False])
def test_processes_that_compile_beside_each_other_add_to_what_is_kept(
    adds: bool, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path))
    record = Manifest.open(built).engines[0]
    made: list[RuntimeCache] = []

    def make() -> RuntimeCache:
        made.append(RuntimeCache(adds=adds))
        return made[-1]

    def opened() -> tuple[Any, RuntimeCache]:
        """The cache of a new process, with the library's cache within it."""
        return jit(record, make), made[-1]

    sizes = [{"latents": (1, 4, side, side)} for side in (8, 16, 24)]
    both = [opened() for _ in range(2)]  # opened before the other one has kept anything
    for (cache, library), size, kernel in zip((*both, both[0]), sizes, ("first", "second", "third"), strict=True):
        library.kernels.add(kernel)
        cache.keep(size)
    later, library = opened()
    known = [later.knows(size) for size in sizes]
    assert known == ([True] * 3 if adds else [True, False, True]), "and none is listed without its kernels"
    assert library.kernels == ({"first", "second", "third"} if adds else {"first", "third"})


def test_kernels_that_cannot_be_kept_cost_no_result(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record, size = Manifest.open(built).engines[0], {"latents": (1, 4, 8, 8)}
    (tmp_path / "file").touch()
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "file"))
    cache = jit(record)
    assert "TensorRT-RTX compiles its kernels anew in each process" in caplog.text
    cache.keep(size)
    assert cache.knows(size)
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path))
    cache = jit(record)
    monkeypatch.setattr(RuntimeCache, "serialize", lambda self: None)
    cache.keep(size)
    assert cache.knows(size)
    assert not jit(record).knows(size)


def test_kernels_are_compiled_at_once_and_kept_ones_are_read_before_anything_is(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path))
    record, size, attached = Manifest.open(built).engines[0], {"latents": (1, 4, 8, 8)}, list[Any]()
    jit(record).keep(size)
    config = SimpleNamespace(
        create_runtime_cache=RuntimeCache,
        set_execution_context_allocation_strategy=lambda strategy: None,
        set_runtime_cache=attached.append,
    )
    names = ("ExecutionContextAllocationStrategy", "CudaGraphStrategy", "DynamicShapesKernelSpecializationStrategy")
    values = SimpleNamespace(USER_MANAGED="ours", WHOLE_GRAPH_CAPTURE="whole", EAGER="eager")
    component = object.__new__(tensorrt_component.TensorRTComponent)
    component.__dict__ |= {
        "_record": record,
        "_shared": SimpleNamespace(library=SimpleNamespace(**dict.fromkeys(names, values))),
        "_engine": SimpleNamespace(create_runtime_config=lambda: config),
        "_jit": JitCache(record),
    }
    assert component._context_options() is config
    assert config.dynamic_shapes_kernel_specialization_strategy == "eager"
    assert len(attached) == 1
    assert component._jit is not None
    assert component._jit.knows(size)


def test_a_call_that_would_compile_is_refused_where_that_is_forbidden(built: Path) -> None:
    record = Manifest.open(built).engines[1]
    component = object.__new__(tensorrt_component.TensorRTComponent)
    lanes: list[Any] = []

    def lane() -> Any:
        lanes.append(EngineContext())
        return contextlib.nullcontext(lanes[-1])

    gpu = SimpleNamespace(current=lambda: contextlib.nullcontext())
    known = {"latents": (1, 4, 8, 8)}
    component.__dict__ |= {
        "_record": record,
        "_shared": SimpleNamespace(gpu=gpu, may_compile=False),
        "_tensors": SimpleNamespace(result="sample", counts_nonfinite=False, outputs=("sample",)),
        "_jit": SimpleNamespace(knows=lambda sizes: sizes == known),
        "_engine_context": lane,
    }

    class EngineContext:
        def take(self, profile: int, inputs: Any) -> None:
            raise LookupError("it runs")

    asked = {"latents": np.zeros((1, 4, 4, 8), np.float32)}
    options: dict[Any, str] = {"whole": "", "stream": " --stream", "exact": " --strips"}
    for kind, option in options.items():
        component._record = dataclasses.replace(record, kind=kind)
        command = f"`latentrt warmup BUNDLE --backend {RTX} --dtype {record.dtype}{option} --size HEIGHTxWIDTH"
        with pytest.raises(EngineError, match=rf"latents \(1, 4, 4, 8\): its kernels would be compiled now.*{command}"):
            component.run(asked, call=CallScope())
    assert lanes == [], "making a context compiles"
    component._record = record
    for inputs, call in (
        (asked, CallScope(specialise=True)),
        ({"latents": np.zeros(known["latents"], np.float32)}, CallScope()),
    ):
        with pytest.raises(LookupError, match="it runs"):
            component.run(inputs, call=call)


def test_onnx_runtimes_providers_compute_float32_as_such(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def session(graph: str, options: Any, providers: Any) -> None:
        asked.append(providers)
        raise RuntimeError("nothing is loaded here")

    with monkeypatch.context() as patch:
        patch.setattr(onnxruntime, "missing_provider", lambda provider: None)
        patch.setattr("onnxruntime.InferenceSession", session)
        for provider, cache in (("cuda", None), ("cpu", None), ("tensorrt", tmp_path)):
            with pytest.raises(EngineError, match="nothing is loaded here"):
                onnxruntime.OnnxRuntimeComponent(built / "decoder.onnx", provider=provider, cache=cache)
    cuda, tensorrt_ep, cpu = (onnxruntime.PROVIDERS[name] for name in ("cuda", "tensorrt", "cpu"))
    of_cuda, of_cpu, chain = asked
    assert of_cuda == [(cuda, {"use_tf32": "0"}), (cpu, {})]
    assert of_cpu == [(cpu, {})]
    assert [name for name, _ in chain] == [tensorrt_ep, cuda, cpu]
    assert chain[0][1]["trt_engine_cache_path"] == chain[0][1]["trt_timing_cache_path"] == str(tmp_path)
    manifest = Manifest.open(built)
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    assert "TF32's 10 bits" in str(refusal_to_build(BackendRequest(manifest), "tensorrt"))
    assert refusal_to_build(BackendRequest(manifest, "float16"), "tensorrt") is None
    monkeypatch.setitem(os.environ, "NVIDIA_TF32_OVERRIDE", "0")
    assert refusal_to_build(BackendRequest(manifest), "tensorrt") is None
    forbidden = BackendRequest(manifest, allow_build=False)
    assert "allow_build=False forbids that" in str(refusal_to_build(forbidden, "tensorrt"))
    assert refusal_to_build(forbidden, "cuda") is None


def test_allow_build_is_taken_by_every_way_to_open(built: Path) -> None:
    with open_bundle(built, backend="onnxruntime", allow_build=False) as vae:
        assert vae.decode(np.zeros((1, 4, 8, 8), np.float32)).sample.shape[1] == 3
        type(vae).from_pretrained(built, backend="onnxruntime", allow_build=False).close()


def test_the_library_has_every_name_that_the_backend_uses() -> None:
    import tensorrt_rtx as library

    used = {
        library.Runtime: ["deserialize_cuda_engine"],
        library.ICudaEngine: [
            "create_execution_context",
            "create_runtime_config",
            "get_tensor_dtype",
            "get_tensor_location",
            "get_tensor_mode",
            "get_tensor_name",
            "num_io_tensors",
        ],
        library.IExecutionContext: [
            "execute_async_v3",
            "get_tensor_shape",
            "infer_shapes",
            "set_device_memory",
            "set_input_shape",
            "set_optimization_profile_async",
            "set_tensor_address",
            "update_device_memory_size_for_shapes",
        ],
        library.IRuntimeConfig: [
            "create_runtime_cache",
            "cuda_graph_strategy",
            "dynamic_shapes_kernel_specialization_strategy",
            "set_execution_context_allocation_strategy",
            "set_runtime_cache",
        ],
        library.IRuntimeCache: ["deserialize", "serialize"],
        library.Refitter: ["get_missing_weights", "refit_cuda_engine"],
        library.OnnxParserRefitter: ["refit_from_file"],
        library.ExecutionContextAllocationStrategy: ["USER_MANAGED"],
        library.CudaGraphStrategy: ["WHOLE_GRAPH_CAPTURE"],
        library.DynamicShapesKernelSpecializationStrategy: ["EAGER"],
        library.TensorIOMode: ["OUTPUT"],
        library.TensorLocation: ["HOST"],
        library: ["nptype"],
        library.ILogger.Severity: ["WARNING", "INFO", "ERROR", "INTERNAL_ERROR"],
    }
    assert [f"{kind}.{name}" for kind, names in used.items() for name in names if not hasattr(kind, name)] == []
    modules = (captured, engine_log, engine_tensors, jit_cache, lane, shared_device, tensorrt_component)
    source = "".join(map(inspect.getsource, modules))
    assert [name for names in used.values() for name in names if name not in source] == [], "the list is of this code"


def test_the_cuda_packages_have_every_name_that_the_backend_uses() -> None:
    from cuda import core
    from cuda.bindings import runtime

    for kind, names in {
        core.Device: ["compute_capability", "create_stream", "name", "set_current"],
        core.DeviceMemoryResource: ["allocate"],
        core: ["DeviceMemoryResourceOptions", "LEGACY_DEFAULT_STREAM", "PER_THREAD_DEFAULT_STREAM"],
        core.Stream: ["from_handle", "handle", "record", "sync", "wait"],
        core.Event: ["sync"],
        core.Buffer: ["handle", "set_deallocation_stream"],
        core.LegacyPinnedMemoryResource: ["allocate"],
        core.utils.StridedMemoryView: [
            "__dlpack__",
            "__dlpack_device__",
            "device_id",
            "dtype",
            "from_any_interface",
            "from_buffer",
            "from_dlpack",
            "is_device_accessible",
            "ptr",
            "shape",
            "strides",
        ],
        runtime: [
            "cudaGetDevice",
            "cudaGraphDestroy",
            "cudaGraphExecDestroy",
            "cudaGraphInstantiate",
            "cudaGraphLaunch",
            "cudaMemGetInfo",
            "cudaMemcpy2DAsync",
            "cudaMemcpyAsync",
            "cudaMemcpyKind",
            "cudaSetDevice",
            "cudaStreamBeginCapture",
            "cudaStreamCaptureMode",
            "cudaStreamEndCapture",
        ],
    }.items():
        assert [name for name in names if not hasattr(kind, name)] == [], kind


def test_the_librarys_errors_are_kept_for_ours_and_its_words_are_log_records(caplog: pytest.LogCaptureFixture) -> None:
    import tensorrt_rtx as library

    logger = engine_log.engine_log(library)
    with caplog.at_level(logging.DEBUG, "latentrt"):
        assert library.Runtime(logger).deserialize_cuda_engine(b"not an engine") is None
    assert logger.last_error != "it does not say why"
    assert "\n" not in logger.last_error
    assert logger.last_error.split()[0] in caplog.text


def test_warmup_loads_and_runs_and_never_builds(built: Path) -> None:
    def warm(*options: str) -> Any:
        return CliRunner().invoke(cli, ["warmup", str(built), "--threads", "1", *options], catch_exceptions=False)

    before = sorted(path.name for path in built.rglob("*"))
    report = json.loads(warm("--size", "32x30", "--batch", "2", "--provider", "cpu", "--json").stdout)
    assert report["backend"] == "onnxruntime:cpu"
    assert report["shapes"] == [[2, 3, 32, 30]], "one block: every size is on the grid"
    assert report["first_seconds"] > 0
    assert warm("--provider", "cpu").stdout.startswith("onnxruntime:cpu: ")
    with pytest.raises(InputError, match="--size: AutoencoderKL takes HEIGHTxWIDTH, got 32x32x9"):
        warm("--size", "32x32x9", "--provider", "cpu")
    with pytest.raises(BackendUnavailable, match="backend tensorrt cannot run"):
        warm("--backend", "tensorrt")
    assert sorted(path.name for path in built.rglob("*")) == before


@pytest.mark.slow
def test_warmup_loads_what_streams_strips_and_tiles_run_on(
    bundle_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[str] = []
    open_once = Sessions.open_once

    def spied(self: Sessions, graph: Any, **options: Any) -> Any:
        kinds.append(graph.kind)
        return open_once(self, graph, **options)

    monkeypatch.setattr(Sessions, "open_once", spied)

    def warm(name: str, *options: str) -> Any:
        kinds.clear()
        asked = ["warmup", str(bundle_of(name)), "--threads", "1", "--backend", "onnxruntime", *options]
        return CliRunner().invoke(cli, asked, catch_exceptions=False)

    for name, options, kind in (
        ("ltx20", ("--stream", "--size", "64x64x9"), "stream"),
        ("ltx20", ("--stream", "--tile", "64x64", "--size", "64x96x9"), "stream"),
        ("ltx20", ("--stream",), "stream"),
        ("sd", ("--strips", "--strip", "32", "--size", "64x64"), "exact"),
        ("sd", ("--tile", "64x64", "--size", "96x64"), "whole"),
    ):
        assert warm(name, *options).exit_code == 0
        assert set(kinds) == {kind}, options
    refused = warm("sd", "--strips")
    assert refused.exit_code == 2
    assert "--strips needs --size HEIGHTxWIDTH: the steps of strips are loaded one by one" in refused.output
    with pytest.raises(InputError, match="--stream is for video models"):
        warm("sd", "--stream", "--size", "64x64")


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ["sd", "ltx20", "noise_timestep"])
def test_an_engine_gives_what_onnx_runtime_gives(
    name: str, dtype: Dtype, checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    export_bundle(checkpoint_of(name), bundle, ExportSettings(dtypes=("float32", dtype)[: 1 + (dtype != "float32")]))
    tile = Extent(2, 128, 128, 9 if name != "sd" else 1)
    capability = devices.compute_capability()
    build_engines(bundle, BuildSettings(RTX, (dtype,), tiles=(tile,), compute_capabilities=(capability,)))
    options: dict[str, Any] = {"temb": 0.05, "rng": 0} if name == "noise_timestep" else {}
    with open_bundle(bundle, provider="cpu") as wanted, open_bundle(bundle, backend=RTX, dtype=dtype) as vae:
        size = (2, 64, 96) if name == "sd" else (2, 9, 64, 96)
        sample = np.tanh(np.random.default_rng(0).standard_normal((size[0], 3, *size[1:]), np.float32))
        moments = wanted.encode(sample).latent_dist
        assert psnr(vae.encode(sample).latent_dist.parameters, moments.parameters) >= 45
        latents = np.ascontiguousarray(moments.mean)
        decoded = wanted.decode(latents, **options).sample
        assert psnr(vae.decode(latents, **options).sample, decoded) >= 45
        on_device = vae.decode(latents, output="device", **options).sample
        assert on_device.__dlpack_device__()[0] == 2
        with pytest.raises(InputError, match="the engine was built for"):
            vae.decode(np.concatenate([latents] * 3), **options)
        vae.release()
        assert psnr(vae.decode(latents, **options).sample, decoded) >= 45


@pytest.fixture(scope="module")
def on_gpu(
    checkpoint_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Any, Any]]:
    """`on_gpu(name)`: a model by ONNX Runtime on the CPU and by TensorRT-RTX, with engines of every kind."""

    def opened(name: str, dtype: Dtype = "float32", **options: Any) -> tuple[Any, Any]:
        bundle = tmp_path_factory.mktemp("gpu") / "bundle"
        export_bundle(checkpoint_of(name), bundle, ExportSettings(dtypes=tuple({"float32": 0, dtype: 0})))
        video = name != "sd"
        kinds: dict[str, Any] = {"stream": True, "chunk": 8} if video else {"exact": True, "picture": (256, 256)}
        tiles = (Extent(1, 128, 128, 9 if video else 1),)
        capability = devices.compute_capability()
        build_engines(bundle, BuildSettings(RTX, (dtype,), tiles=tiles, compute_capabilities=(capability,), **kinds))
        return open_bundle(bundle, provider="cpu"), open_bundle(bundle, backend=RTX, dtype=dtype, **options)

    return opened


def latents(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(("dtype", "least_db"), [("float32", 60), ("float16", 45), ("bfloat16", 35)])
@pytest.mark.parametrize("name", ["ltx20", "causal_decoder", "noise_timestep"])
def test_streams_on_engines_give_what_onnx_runtime_gives(
    name: str, dtype: str, least_db: int, on_gpu: Callable[..., tuple[Any, Any]]
) -> None:
    wanted, vae = on_gpu(name, dtype)
    options: dict[str, Any] = {"temb": 0.05, "rng": 0} if name == "noise_timestep" else {}
    z = latents(1, 16, 5, 3, 4)
    frames = np.concatenate(list(vae.decode_stream(z, frames_per_chunk=8, **options)), axis=2)
    assert psnr(frames, wanted.decode(z, **options).sample) >= least_db
    pixels = np.concatenate(list(vae.decode_stream(z, frames_per_chunk=8, output="uint8", **options)), axis=1)
    assert np.abs(pixels.astype(int) - to_pixels(frames)).max() <= 1
    x = np.tanh(latents(1, 3, 25, 96, 128))
    moments = np.concatenate(list(vae.encode_stream(x, frames_per_chunk=8)), axis=2)
    assert psnr(moments, wanted.encode(x).latent_dist.parameters) >= least_db


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(("dtype", "least_db"), [("float32", 60), ("float16", 45), ("bfloat16", 35)])
def test_exact_strips_on_engines_give_what_onnx_runtime_gives_whole(
    dtype: str, least_db: int, on_gpu: Callable[..., tuple[Any, Any]]
) -> None:
    wanted, vae = on_gpu("sd", dtype)
    vae.enable_tiling(exact=True)
    z, x = latents(1, 4, 24, 28), np.tanh(latents(1, 3, 200, 168))
    assert psnr(vae.decode(z).sample, wanted.decode(z).sample) >= least_db
    assert psnr(vae.encode(x).latent_dist.parameters, wanted.encode(x).latent_dist.parameters) >= least_db


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("name", ["sd", "ltx20"])
def test_pixels_tiles_streams_and_memory_on_a_gpu(name: str, on_gpu: Callable[..., tuple[Any, Any]]) -> None:
    wanted, vae = on_gpu(name, session_options={"device_memory_bytes": 2**31})
    z = latents(1, 4, 16, 16) if name == "sd" else latents(1, 16, 2, 4, 4)
    sample = wanted.decode(z).sample
    pixels = wanted.decode(z, output="uint8").sample
    assert np.abs(vae.decode(z, output="uint8").sample.astype(int) - pixels).max() <= 1
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        on_device = vae.decode(torch.from_numpy(z).cuda(), output="device", stream=stream.cuda_stream).sample
        assert psnr(torch.utils.dlpack.from_dlpack(on_device).cpu().numpy(), sample) >= 60
    for each in (wanted, vae):
        each.enable_tiling(tile_sample_min_height=64, tile_sample_min_width=64)
    assert psnr(vae.decode(z).sample, wanted.decode(z).sample) >= 60
    _, small = on_gpu(name, session_options={"device_memory_bytes": 2**20})
    with pytest.raises(DeviceMemoryError, match="device_memory_bytes"):
        small.decode(z)
