"""What the TensorRT backend does around engine calls: buffers, order, streams, states, strips, pixels, memory. The
device and the library are stand-ins in host memory (support/host_device.py); real ones need a GPU."""

import contextlib
import dataclasses
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import host_device
import numpy as np
import pytest
from architectures import ALL, picture
from host_device import HostGpu, OnDevice, Stream, values_at

from latentrt.export.bundle import ExportSettings, export_bundle
from latentrt.export.engines.planning import plan_profiles
from latentrt.export.engines.settings import BuildSettings, Extent
from latentrt.export.engines.stream_profiles import stream_profiles
from latentrt.export.engines.strip_profiles import strip_profiles
from latentrt.runtime import BackendUnavailable, EngineError, InputError, open_bundle
from latentrt.runtime.arrays.kinds import Dtype
from latentrt.runtime.backends.component import CallScope, ComponentCapabilities, NotFinite
from latentrt.runtime.backends.cuda import devices
from latentrt.runtime.backends.cuda.device_memory import MemoryLedger
from latentrt.runtime.backends.cuda.workspaces import Workspaces
from latentrt.runtime.backends.nonfinite_retry import RetriesInFloat32
from latentrt.runtime.backends.tensorrt.component import TensorRTComponent
from latentrt.runtime.backends.tensorrt.engine_context import EngineContext
from latentrt.runtime.backends.tensorrt.smaller_tiles import smaller_tiles
from latentrt.runtime.bundle.added_outputs import added_outputs
from latentrt.runtime.bundle.engine_records import EngineRecord
from latentrt.runtime.bundle.graph import Graph
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.bundle.profiles import Profile
from latentrt.runtime.errors import DeviceMemoryError

SETTINGS = {
    "sd": BuildSettings("tensorrt", tiles=(Extent(2, 64, 64),), picture=(128, 128)),
    "ltx20": BuildSettings("tensorrt", tiles=(Extent(1, 128, 128, 17),), chunk=8),
}
SETTINGS["causal_decoder"] = SETTINGS["ltx20"]


@pytest.fixture(scope="module")
def bundles(
    bundle_of: Callable[[str], Path], checkpoint_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A bundle of each model with stand-ins for engines; "sd16" and "ltx20_16" are in float16 too."""
    folder = tmp_path_factory.mktemp("device")
    found = {name: Path(shutil.copytree(bundle_of(name), folder / name)) for name in SETTINGS}
    for name, model in (("sd16", "sd"), ("ltx20_16", "ltx20")):
        found[name] = folder / name
        export_bundle(checkpoint_of(model), found[name], ExportSettings(dtypes=("float32", "float16")))
    for name, bundle in found.items():
        manifest, settings = Manifest.open(bundle), SETTINGS[name.removesuffix("16").removesuffix("_")]

        def profiles(graph: Graph, manifest: Manifest = manifest, settings: Any = settings) -> tuple[Profile, ...]:
            config: Any = manifest.config
            if graph.stage is not None:
                return stream_profiles(config, graph, settings)
            return (strip_profiles if graph.strip_stage else plan_profiles)(config, graph, settings)

        def adds(graph: Graph, manifest: Manifest = manifest) -> tuple[str, ...]:
            added = added_outputs(manifest, graph)
            return (*added, "not_finite")[:2] if graph.kind == "whole" else added  # float32 ones count here too

        host_device.with_engines(bundle, profiles, adds)
    return found


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    host_device.install(monkeypatch)


@pytest.fixture
def pair(bundles: dict[str, Path], device: None) -> Iterator[Callable[..., tuple[Any, Any]]]:
    """`pair(name)`: the bundle by ONNX Runtime and by the backend under test."""
    opened: list[Any] = []

    def open_two(name: str, dtype: Dtype = "float32", **options: Any) -> tuple[Any, Any]:
        opened.append(open_bundle(bundles[name], backend="onnxruntime", threads=1, dtype=dtype))
        opened.append(open_bundle(bundles[name], backend="tensorrt", selftest="never", dtype=dtype, **options))
        return opened[-2], opened[-1]

    yield open_two
    for vae in opened:
        vae.close()


def latents(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape, np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd", "ltx20"])
def test_encode_decode_and_tiles_give_what_onnx_runtime_gives(name: str, pair: Callable[..., Any]) -> None:
    wanted, vae = pair(name)
    x = picture(ALL[name], batch=1, frames=9, height=64, width=64)
    moments = wanted.encode(x).latent_dist.parameters
    np.testing.assert_allclose(vae.encode(x).latent_dist.parameters, moments, atol=1e-5)
    z = latents(1, 4, 24, 16) if name == "sd" else latents(1, 16, 3, 8, 4)
    with pytest.raises(InputError, match="the engine was built for"):
        vae.decode(z)
    for each in (wanted, vae):
        each.enable_tiling(tile_sample_min_height=64, tile_sample_min_width=64)
    np.testing.assert_allclose(vae.decode(z).sample, wanted.decode(z).sample, atol=1e-4)
    assert np.abs(vae.decode(z, output="uint8").sample.astype(int) - wanted.decode(z, output="uint8").sample).max() <= 1


def test_copies_of_one_tile_do_not_wait_for_the_computation_of_the_other(pair: Callable[..., Any]) -> None:
    _, vae = pair("sd")
    vae.enable_tiling(tile_sample_min_height=64, tile_sample_min_width=64)
    vae.decode(latents(1, 4, 24, 24))
    log = HostGpu.latest.log
    lanes = {line.partition(":")[0] for line in log}
    assert len(lanes) == 2, "two calls are in flight"
    for lane in lanes:
        done = "".join(f"{line.split()[1]} " for line in log if line.startswith(f"{lane}:"))
        # What the other lane waits for stands behind the computation and before the copies out.
        assert re.fullmatch("(copy (wait )?compute record copy copy record )+", done)
    assert sum(": wait for " in line for line in log) == sum(line.endswith("compute") for line in log) - 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ltx20", "causal_decoder"])
def test_streams_keep_their_states_on_the_device(
    name: str, pair: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, vae = pair(name)
    seen: list[set[str]] = []
    chunks: list[str] = []
    step = TensorRTComponent.step

    def spied(self: Any, inputs: Any, **options: Any) -> Any:
        seen.append({type(value).__name__ for key, value in inputs.items() if key.startswith("state_")})
        chunks.append(type(inputs["chunk"]).__name__)
        return step(self, inputs, **options)

    monkeypatch.setattr(TensorRTComponent, "step", spied)
    z = latents(1, 16, 5, 2, 3)
    frames = np.concatenate(list(vae.decode_stream(z, frames_per_chunk=8)), axis=2)
    np.testing.assert_allclose(frames, wanted.decode(z).sample, atol=1e-4)
    assert set(chunks) == {"ndarray", "DeviceFrames"}, "latents come from the host, and frames stay between two stages"
    joins = any(": rows " in line for line in HostGpu.latest.log)
    assert joins == (name == "ltx20"), "a causal stage gives as many frames as the next one takes"
    assert {"ndarray"} in seen, "zeros, at first"
    assert {"DeviceArray"} in seen
    assert all(len(kinds) == 1 for kinds in seen)
    x = picture(ALL[name], batch=1, frames=25, height=64, width=96)
    moments = np.concatenate(list(vae.encode_stream(x, frames_per_chunk=8)), axis=2)
    np.testing.assert_allclose(moments, wanted.encode(x).latent_dist.parameters, atol=1e-4)
    again = np.concatenate(list(vae.encode_stream(x, frames_per_chunk=16)), axis=2)
    np.testing.assert_array_equal(again, moments, "as many at a time as the engines take")
    with pytest.raises(
        InputError, match=r"stream in tiles, or build for this size with `latentrt build --stream --tile"
    ):
        next(vae.decode_stream(latents(1, 16, 5, 2, 5)))


@pytest.mark.slow
def test_exact_strips_run_within_what_the_engines_take(pair: Callable[..., Any]) -> None:
    wanted, vae = pair("sd")
    z = latents(1, 4, 12, 16)
    whole = wanted.decode(z).sample
    vae.enable_tiling(exact=True)
    made = HostGpu.made
    np.testing.assert_allclose(vae.decode(z).sample, whole, atol=1e-4)
    assert HostGpu.made == made + 1, "the steps share what is not theirs, although each engine is let go"
    x = picture(ALL["sd"], batch=1, frames=1, height=104, width=72)
    np.testing.assert_allclose(vae.encode(x).latent_dist.parameters, wanted.encode(x).latent_dist.parameters, atol=1e-4)
    with pytest.raises(InputError, match="`latentrt build --strips --tile HEIGHTxWIDTH --picture HEIGHTxWIDTH`"):
        vae.decode(latents(1, 4, 24, 24))


def test_streams_in_float16_keep_float16_states_and_end_where_a_result_is_not_finite(
    pair: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, vae = pair("ltx20_16", dtype="float16")
    seen: set[str] = set()
    step = TensorRTComponent.step

    def spied(self: Any, inputs: Any, **options: Any) -> Any:
        seen.update(f"{type(value).__name__} {value.dtype}" for key, value in inputs.items() if "state_" in key)
        return step(self, inputs, **options)

    monkeypatch.setattr(TensorRTComponent, "step", spied)
    z = latents(1, 16, 5, 2, 3)
    frames, close = (np.concatenate([*each.decode_stream(z, 8)], axis=2) for each in (vae, wanted))
    np.testing.assert_allclose(frames, close, atol=2e-3)
    assert seen == {"ndarray float16", "DeviceArray float16"}
    with pytest.raises(
        EngineError, match=r"of .* values are NaN or infinite in float16, and a stream cannot go back to"
    ):
        list(vae.decode_stream(1e6 * z, 8))


@pytest.mark.slow
def test_strips_in_float16_run_again_in_float32_where_a_tile_is_not_finite(pair: Callable[..., Any]) -> None:
    wanted, vae = pair("sd16", dtype="float16")
    z = latents(1, 4, 12, 16)
    whole, large = wanted.decode(z).sample, pair("sd16")[0].decode(1e6 * z).sample
    vae.enable_tiling(exact=True)
    np.testing.assert_allclose(vae.decode(z).sample, whole, atol=2e-3 * np.abs(whole).max())
    np.testing.assert_allclose(vae.decode(1e6 * z).sample, large, atol=2e-3 * np.abs(large).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype"), [("ltx20", "float32"), ("causal_decoder", "float32"), ("ltx20_16", "float16")]
)
def test_pixels_of_a_stream_come_from_the_device(name: str, dtype: str, pair: Callable[..., Any]) -> None:
    wanted, vae = pair(name, dtype=dtype)
    z = latents(2, 16, 4, 2, 3)[:1]
    whole = wanted.decode(z, output="uint8").sample
    parts = list(vae.decode_stream(z, 3, output="uint8"))
    assert {(part.dtype.name, part.shape[1] <= 3, part.flags.c_contiguous) for part in parts} == {("uint8", True, True)}
    assert np.abs(np.concatenate(parts, axis=1).astype(int) - whole).max() <= 1
    frame = whole[:, 0].nbytes
    copied = {int(line.split()[2]) for line in HostGpu.latest.log if line.split()[1] == "copy"}
    assert {frame * frames for frames in range(1, 9)} & copied, "a byte a value"
    assert not {4 * frame * frames for frames in range(1, whole.shape[1] + 1)} & copied, "and no floats"
    vae.enable_streaming(8)
    cropped = vae.decode(z, output="uint8", crop=(22, 60, 90)).sample
    assert np.abs(cropped.astype(int) - whole[:, :22, :60, :90]).max() <= 1
    np.testing.assert_array_equal(
        np.concatenate([*vae.decode_frames(z, output="uint8")], axis=1)[:, :22, :60, :90], cropped
    )
    assert vae.decode(z).sample.dtype == np.float32
    vae.enable_tiling(tile_sample_min_height=64, tile_sample_min_width=64)  # blended on the host
    wanted.enable_streaming(8)
    wanted.enable_tiling(tile_sample_min_height=64, tile_sample_min_width=64)
    tiled = [each.decode(z, output="uint8").sample.astype(int) for each in (vae, wanted)]
    assert np.abs(tiled[0] - tiled[1]).max() <= 1


@pytest.mark.parametrize("name", ["sd", "ltx20"])
def test_pixels_come_from_the_device(name: str, pair: Callable[..., Any]) -> None:
    wanted, vae = pair(name)
    z = latents(2, 4, 8, 6) if name == "sd" else latents(1, 16, 2, 4, 3)
    pixels = vae.decode(z, output="uint8").sample
    assert np.abs(pixels.astype(int) - wanted.decode(z, output="uint8").sample).max() <= 1
    assert f"copy {pixels.nbytes}" in {line.partition(": ")[2] for line in HostGpu.latest.log}
    assert f"copy {4 * pixels.nbytes}" not in {line.partition(": ")[2] for line in HostGpu.latest.log}
    out = np.zeros_like(pixels)
    assert vae.decode(z, output="uint8", out=out).sample is out
    np.testing.assert_array_equal(out, pixels)
    crop = (60, 41) if name == "sd" else (9, 100, 90)
    cropped = vae.decode(z, output="uint8", crop=crop).sample
    np.testing.assert_array_equal(cropped, pixels[:, *(slice(0, length) for length in crop)])
    vae.enable_slicing()
    np.testing.assert_array_equal(vae.decode(z, output="uint8").sample, pixels)


def test_device_arrays_go_in_and_come_out_in_the_order_of_the_callers_stream(pair: Callable[..., Any]) -> None:
    wanted, vae = pair("sd")
    z = latents(1, 4, 8, 8)
    sample = wanted.decode(z).sample
    theirs = Stream([])
    late = OnDevice(np.zeros_like(z))
    theirs.put("late", lambda: np.copyto(late.values, z))  # the latents come when the stream gets there
    on_device = vae.decode(late, output="device", stream=theirs.handle).sample
    assert on_device.__dlpack_device__()[0] == 2
    assert on_device.shape == sample.shape
    np.testing.assert_allclose(on_device.numpy(), sample, atol=1e-5)
    np.testing.assert_allclose(vae.decode(on_device_of(z), stream=theirs.handle).sample, sample, atol=1e-5)
    np.testing.assert_allclose(vae.decode(z, output="device").sample.numpy(), sample, atol=1e-5)
    vae.enable_tiling(tile_sample_min_height=32, tile_sample_min_width=32)
    with pytest.raises(InputError, match="stream: tiles are joined on the host"):
        vae.decode(z, stream=theirs.handle)
    with pytest.raises(InputError, match="the backend onnxruntime:cpu takes no stream of the caller's"):
        wanted.decode(z, stream=theirs.handle)


@pytest.fixture
def unhurried(bundles: dict[str, Path], device: None, tmp_path: Path) -> Iterator[Any]:
    """Engines that count nothing, so that a call whose result stays on the device ends before it is there."""
    bundle = Path(shutil.copytree(bundles["sd"], tmp_path / "bundle"))
    config: Any = Manifest.open(bundle).config
    host_device.with_engines(
        bundle,
        lambda graph: (strip_profiles if graph.strip_stage else plan_profiles)(config, graph, SETTINGS["sd"]),
        partial(added_outputs, Manifest.open(bundle)),
    )
    with open_bundle(bundle, backend="tensorrt", selftest="never", contexts=2) as vae:
        yield vae


def test_whoever_takes_a_result_waits_for_it(unhurried: Any, bundles: dict[str, Path]) -> None:
    vae, z = unhurried, latents(1, 4, 8, 8)
    with open_bundle(bundles["sd"], backend="onnxruntime") as wanted:
        sample = wanted.decode(z).sample
    theirs, taker = Stream([]), Stream([])
    for asked, waits in ((taker.handle, taker), (None, HostGpu), (-1, None)):
        made = vae.decode(z, output="device", stream=theirs.handle).sample
        capsule = made.__dlpack__(stream=asked)
        assert capsule is not None
        stream: Any = HostGpu.latest.default if waits is HostGpu else waits
        if stream is not None:
            stream.sync()  # what the taker does with it comes behind this
            np.testing.assert_allclose(values_at(made.address, made.shape, made.dtype), sample, atol=1e-5)
        assert HostGpu.latest.handed_over[-1] == (made.address, theirs.handle if asked == -1 else asked)


def test_a_result_goes_into_the_next_call_before_it_is_there(unhurried: Any, bundles: dict[str, Path]) -> None:
    vae, z = unhurried, latents(1, 4, 8, 8)
    theirs = Stream([])
    made = vae.decode(z, output="device", stream=theirs.handle).sample
    with open_bundle(bundles["sd"], backend="onnxruntime") as wanted:
        moments = wanted.encode(wanted.decode(z).sample).latent_dist.parameters
    np.testing.assert_allclose(vae.encode(made).latent_dist.parameters, moments, atol=1e-5)


def test_half_precision_latents_on_the_device_are_widened(pair: Callable[..., Any]) -> None:
    wanted, vae = pair("sd")
    half = latents(1, 4, 8, 8).astype(np.float16)
    theirs, late = Stream([]), OnDevice(np.zeros_like(half))
    theirs.put("late", lambda: np.copyto(late.values, half))
    sample = vae.decode(late, stream=theirs.handle).sample
    np.testing.assert_allclose(sample, wanted.decode(half.astype(np.float32)).sample, atol=1e-5)


class _View:
    ptr, is_device_accessible = 4096, True

    def __init__(
        self,
        dtype: Any = np.float32,
        device_id: int = 1,
        shape: tuple[int, ...] = (1, 4, 8, 8),
        strides: tuple[int, ...] | None = None,
    ) -> None:
        self.dtype, self.device_id, self.shape, self.strides = np.dtype(dtype), device_id, shape, strides


class _Cuda:
    """Stands where cuda-core and cuda-bindings do.

    Args:
        reads: the names of its functions that read arrays. They take arrays as they are, and raise exceptions.

    Attributes:
        device: the number of the thread's current GPU.
    """

    def __init__(self, *reads: str) -> None:
        self.device, self._reads = 0, reads

    def gpu(self, patch: pytest.MonkeyPatch, allocate: Callable[..., Any] | None = None) -> devices.Gpu:
        """The second GPU, whose memory comes from `allocate`."""

        def read(array: Any, stream_ptr: int) -> Any:
            if isinstance(array, Exception):
                raise array
            return array

        def device(index: int) -> SimpleNamespace:
            return SimpleNamespace(compute_capability=(9, 0), set_current=lambda: self.make_current(index))

        views = SimpleNamespace(**dict.fromkeys(self._reads, read))
        core = SimpleNamespace(
            Device=device,
            DeviceMemoryResource=lambda index, options: SimpleNamespace(allocate=allocate),
            DeviceMemoryResourceOptions=SimpleNamespace,
            utils=SimpleNamespace(StridedMemoryView=views),
        )
        runtime = SimpleNamespace(
            cudaGetDevice=lambda: (0, self.device),
            cudaSetDevice=self.make_current,
            cudaMemGetInfo=lambda: (0, 5 << 20, 10 << 20),
        )
        modules = {"cuda.core": core, "cuda.bindings.runtime": runtime}
        patch.setattr(devices, "require", lambda name, extra: modules[name])
        return devices.Gpu(1)

    def make_current(self, index: int) -> None:
        self.device = index


@pytest.mark.parametrize(
    ("view", "sentence"),
    [
        (_View(np.int32), "latents: a device array must be float32 or float16 and C-contiguous, got int32"),
        (_View(device_id=0), "latents: the array lies on GPU 0 and the engine on GPU 1: copy it"),
        (BufferError("requires grad"), r"latents: the array cannot be read \(requires grad\): give float32 or"),
    ],
)
def test_device_arrays_that_an_engine_does_not_take(view: Any, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = _Cuda("from_dlpack").gpu(monkeypatch)
    assert gpu.view_input(_View(), Stream([]), "latents")[1:] == (4096, (1, 4, 8, 8))
    with pytest.raises(InputError, match=sentence):
        gpu.view_input(view, Stream([]), "latents")


@pytest.mark.parametrize(
    ("shape", "strides", "contiguous"),
    [
        ((2, 3, 4), None, True),
        ((2, 3, 4), (12, 4, 1), True),
        ((1, 3, 4), (99, 4, 1), True),
        ((2, 3, 4), (12, 1, 3), False),
        ((2, 3, 4), (24, 8, 2), False),
    ],
)
def test_what_is_contiguous(
    shape: tuple[int, ...], strides: tuple[int, ...] | None, contiguous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu, view = _Cuda("from_dlpack", "from_any_interface").gpu(monkeypatch), _View(shape=shape, strides=strides)
    refused = contextlib.nullcontext() if contiguous else pytest.raises(InputError, match="contiguous")
    with refused:
        assert gpu.view_input(view, Stream([]), "latents") == (view, 4096, shape)
    with refused:
        assert gpu.view_memory(view) == (view, 4096, 4 * int(np.prod(shape)))


def test_the_threads_own_device_is_current_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = _Cuda()
    gpu = cuda.gpu(monkeypatch)
    assert cuda.device == 0
    for ending in (None, RuntimeError("within")):
        with contextlib.suppress(RuntimeError), gpu.current():
            assert cuda.device == 1
            if ending is not None:
                raise ending
        assert cuda.device == 0


def on_device_of(array: np.ndarray) -> OnDevice:
    return OnDevice(array.copy())


def test_memory_that_an_engine_does_not_work_in(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = _Cuda("from_any_interface").gpu(monkeypatch)
    assert gpu.view_memory(_View(np.uint8))[1:] == (4096, 256)
    for array, sentence in (
        (_View(np.uint8, device_id=0), "workspace: the array lies on GPU 0 and the engines on GPU 1: give one there"),
        (BufferError("no stream"), r"workspace: the array cannot be used \(no stream\): give bytes on GPU 1"),
    ):
        with pytest.raises(InputError, match=sentence):
            gpu.view_memory(array)


@pytest.mark.parametrize(
    ("said", "kind", "sentence"),
    [
        (
            "CUDA_ERROR_OUT_OF_MEMORY: too much",
            DeviceMemoryError,
            "the GPU has no memory for 1 MiB of activations: 5 MiB",
        ),
        ("CUDA_ERROR_ILLEGAL_ADDRESS: wrong", EngineError, "CUDA gives no 1 MiB for activations: CUDA_ERROR_ILLEGAL_A"),
    ],
)
def test_only_a_lack_of_room_is_told_as_one(
    said: str, kind: type[EngineError], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def allocate(size: int, stream: Any) -> Any:
        raise RuntimeError(said)

    gpu = _Cuda().gpu(monkeypatch, allocate)
    with pytest.raises(EngineError, match=sentence) as caught:
        gpu.allocate(1 << 20, Stream([]), "activations")
    assert caught.type is kind
    assert gpu.ledger.taken == 0


def test_what_failed_in_the_call_before_is_an_error_of_ours() -> None:
    class Failed(Stream):
        def record(self) -> Any:
            return SimpleNamespace(sync=self.sync)

        def sync(self) -> None:
            raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")

    lane: Any = object.__new__(EngineContext)
    lane.stream = Failed([])
    lane.end()
    with pytest.raises(EngineError, match="the GPU failed in the call before: CUDA_ERROR_ILLEGAL_ADDRESS"):
        lane.take(0, {})
    workspaces = Workspaces(HostGpu())
    with workspaces.turn(8, lane.stream):
        pass
    with pytest.raises(EngineError, match="the GPU failed in the call before"), workspaces.turn(16, Stream([])):
        pass


def test_a_wrong_input_costs_no_context(pair: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, vae = pair("sd")
    made: list[Any] = []
    create = host_device.Engine.create_execution_context

    def counted(self: Any, strategy: str) -> Any:
        made.append(create(self, strategy))
        return made[-1]

    def refuses(self: Any, array: Any, stream: Any, what: str) -> Any:
        raise InputError(f"{what}: the array lies on GPU 1")

    monkeypatch.setattr(host_device.Engine, "create_execution_context", counted)
    z = latents(1, 4, 8, 8)
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(HostGpu, "view_input", refuses)
            with pytest.raises(InputError, match="the array lies on GPU 1"):
                vae.decode(on_device_of(z))
        np.testing.assert_allclose(vae.decode(on_device_of(z)).sample, wanted.decode(z).sample, atol=1e-5)
    assert len(made) == 1


@pytest.mark.parametrize("end", ["release", "close"])
def test_engines_go_when_the_gpu_is_done_with_them(end: str, unhurried: Any, bundles: dict[str, Path]) -> None:
    vae, z = unhurried, latents(1, 4, 8, 8)
    made = vae.decode(z, output="device", stream=Stream([]).handle).sample
    getattr(vae, end)()
    with open_bundle(bundles["sd"], backend="onnxruntime") as wanted:
        values = values_at(made.address, made.shape, made.dtype)
        np.testing.assert_allclose(values, wanted.decode(z).sample, atol=1e-5)


@pytest.mark.parametrize("fails", [False, True])
def test_a_workspace_goes_when_the_gpu_is_done_with_it(fails: bool) -> None:
    ran: list[int] = []
    workspaces, stream = Workspaces(HostGpu()), Stream([])
    with contextlib.suppress(LookupError), workspaces.turn(64, stream) as buffer:
        stream.put("compute", lambda: ran.append(64))
        if fails:
            raise LookupError
    assert ran == [64] * fails, "a buffer is let go at once where a call failed"
    del workspaces
    assert ran == [64]
    assert buffer.size == 64


def test_results_that_were_handed_out_count_beyond_a_release(pair: Callable[..., Any]) -> None:
    _, vae = pair("sd", session_options={"device_memory_bytes": 1 << 20})
    made = vae.decode(latents(1, 4, 8, 8), output="device").sample
    vae.release()
    held = 4 * 3 * 64 * 64
    assert HostGpu.latest.ledger.taken == held
    shared = vae.opened.engines.own.backend.shared()
    assert shared.gpu.available == (1 << 20) - held
    del made
    assert shared.gpu.available == 1 << 20


def test_an_engine_that_the_library_does_not_read_is_no_lack_of_room(
    pair: Callable[..., Any], bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads_none = SimpleNamespace(deserialize_cuda_engine=lambda content: None)
    monkeypatch.setattr(host_device.LIBRARY, "Runtime", lambda log: reads_none)
    weights = max(record.bytes for record in Manifest.open(bundles["sd"]).engines)
    _, vae = pair("sd", session_options={"device_memory_bytes": weights + 1})
    with pytest.raises(EngineError, match=r"tensorrt does not read decoder.onnx.engine: nothing") as caught:
        vae.decode(latents(1, 4, 8, 8))
    assert caught.type is EngineError
    monkeypatch.setattr(HostGpu, "room", 1)
    with pytest.raises(DeviceMemoryError, match=r"the GPU has no memory for the 0 MiB of decoder.onnx.engine"):
        pair("sd")[1].decode(latents(1, 4, 8, 8))


@pytest.mark.parametrize("output", ["float32", "uint8", "device"])
def test_nan_is_seen_wherever_the_result_stays(output: str, pair: Callable[..., Any]) -> None:
    _, vae = pair("sd")
    z = on_device_of(latents(1, 4, 8, 8))
    vae.decode(z, output=output)
    z.values[0, 0, 0, 0] = np.nan
    with pytest.raises(EngineError, match="of 12288 values are NaN or infinite"):
        vae.decode(z, output=output)


@pytest.mark.parametrize(("contexts", "recorded", "launched"), [(1, 1, 5), (2, 2, 4)])
def test_calls_of_one_size_are_recorded_once(
    contexts: int, recorded: int, launched: int, bundles: dict[str, Path], device: None, tmp_path: Path
) -> None:
    z = [latents(1, 4, 8, 8) + index for index in range(6)]
    with (
        static_engines(bundles, tmp_path, contexts) as vae,
        open_bundle(bundles["sd"], backend="onnxruntime") as wanted,
    ):
        for one in z:
            np.testing.assert_allclose(vae.decode(one).sample, wanted.decode(one).sample, atol=1e-5)
    assert HostGpu.latest.recorded == recorded, "one for each workspace"
    assert [line.partition(": ")[2] for line in HostGpu.latest.log].count("launch") == launched


def test_what_cuda_does_not_record_runs_as_it_is(
    bundles: dict[str, Path], device: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HostGpu, "records_graphs", False)
    z = [latents(1, 4, 8, 8) + index for index in range(4)]
    with static_engines(bundles, tmp_path) as vae, open_bundle(bundles["sd"], backend="onnxruntime") as wanted:
        for one in z:
            np.testing.assert_allclose(vae.decode(one).sample, wanted.decode(one).sample, atol=1e-5)
    assert "launch" not in "".join(HostGpu.latest.log)


def static_engines(bundles: dict[str, Path], folder: Path, contexts: int = 1) -> Any:
    bundle = Path(shutil.copytree(bundles["sd"], folder / "bundle"))
    static = BuildSettings("tensorrt", tiles=(Extent(1, 64, 64),), static=True)
    config = Manifest.open(bundle).config
    host_device.with_engines(
        bundle,
        lambda graph: plan_profiles(config, graph, static) if graph.kind == "whole" else (),
        partial(added_outputs, Manifest.open(bundle)),
    )
    return open_bundle(bundle, backend="tensorrt", selftest="never", contexts=contexts)


def test_an_engine_file_is_read_whole_once(
    bundles: dict[str, Path], device: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Path(shutil.copytree(bundles["sd"], tmp_path / "bundle"))
    hashed: list[str] = []
    check = EngineRecord.check_file

    def counted(self: EngineRecord, folder: Path) -> None:
        hashed.append(self.file)
        check(self, folder)

    monkeypatch.setattr(EngineRecord, "check_file", counted)
    z = latents(1, 4, 8, 8)
    with open_bundle(bundle, backend="tensorrt", selftest="never") as vae:
        for _ in range(3):
            vae.decode(z)
            vae.release()
        assert hashed == ["decoder.onnx.engine"]
        path = bundle / hashed[0]
        path.write_bytes(path.read_bytes().replace(b"{", b"["))  # of the same length
        with pytest.raises(EngineError, match="it is not the engine that was built"):
            vae.decode(z)


def test_engines_of_one_component_or_of_streams_alone_run_where_the_backend_is_named(
    bundles: dict[str, Path], device: None, tmp_path: Path
) -> None:
    def only(name: str, keep: Callable[[Any], bool]) -> Path:
        bundle = Path(shutil.copytree(bundles[name], tmp_path / name))
        manifest = Manifest.open(bundle)
        dataclasses.replace(manifest, engines=tuple(filter(keep, manifest.engines))).write()
        return bundle

    decoders = only("sd", lambda one: one.component == "decoder")
    with open_bundle(decoders, backend="tensorrt", selftest="never") as vae:
        assert vae.decode(latents(1, 4, 8, 8)).sample.shape == (1, 3, 64, 64)
        with pytest.raises(EngineError, match=r"holds no tensorrt engine of encoder.onnx: run `latentrt build"):
            vae.encode(picture(ALL["sd"], batch=1, frames=1, height=64, width=64))
    with open_bundle(decoders) as vae:
        assert vae.backend != "tensorrt", "auto takes what runs everything"
    video: Any = open_bundle(only("ltx20", lambda one: one.kind == "stream"), backend="tensorrt", selftest="never")
    with video:
        assert next(video.decode_stream(latents(1, 16, 2, 2, 2))).shape[1] == 3
    with pytest.raises(BackendUnavailable, match="holds no tensorrt engine"):
        open_bundle(only("causal_decoder", lambda one: False), backend="tensorrt", selftest="never")


def test_what_does_not_fit_names_the_tile_that_does(pair: Callable[..., Any]) -> None:
    limit = 5 * 4 * 3 * 64 * 64  # of the stand-in's calls: activations of four results, and the result
    _, vae = pair("sd", session_options={"device_memory_bytes": limit})
    vae.decode(latents(1, 4, 4, 8))
    vae.release()
    with pytest.raises(
        DeviceMemoryError, match=r"device_memory_bytes leaves.*; tiles of 32x64 pixels need .* would fit"
    ):
        vae.decode(latents(1, 4, 8, 8))
    vae.decode(latents(1, 4, 4, 8))
    assert 0 < HostGpu.latest.ledger.taken <= limit
    vae.release()
    assert HostGpu.latest.ledger.taken == 0


@pytest.mark.parametrize(("name", "advice"), [("ltx20", "fewer frames at a time"), ("sd", "take lower strips")])
def test_a_stream_or_strips_that_do_not_fit_say_what_to_make_smaller(
    name: str, advice: str, pair: Callable[..., Any]
) -> None:
    _, vae = pair(name, session_options={"device_memory_bytes": 100_000})
    if name == "sd":
        vae.enable_tiling(exact=True)
    frames = vae.decode_stream(latents(1, 16, 2, 2, 2)) if name == "ltx20" else None
    with pytest.raises(DeviceMemoryError, match=advice):
        vae.decode(latents(1, 4, 8, 8)) if frames is None else next(frames)


def test_encoder_and_decoder_share_one_workspace(pair: Callable[..., Any]) -> None:
    _, vae = pair("sd")
    for _ in range(3):
        vae.decode(vae.encode(picture(ALL["sd"], batch=1, frames=1, height=64, width=64)).latent_dist.mean)
    assert HostGpu.latest.allocated.count("activations") == 2, "the encoder's, then the decoder's, which is larger"


class _Overflows:
    """An engine that says so itself, wherever its result is."""

    capabilities = ComponentCapabilities(pixels=True)

    def run(self, inputs: Any, **options: Any) -> Any:
        raise NotFinite(3, 48)


class _Wide:
    capabilities = ComponentCapabilities()

    def run(self, inputs: Any, *, call: Any, out: Any = None, keep_on_device: bool = False) -> Any:
        return "on the device" if keep_on_device else np.zeros((1, 3, 4, 4), np.float32)


def test_what_an_engine_says_is_not_finite_is_run_again_in_float32() -> None:
    again = RetriesInFloat32(_Overflows(), "decoder.float16.onnx", "float16", _Wide)
    assert again.run({}, call=CallScope(), keep_on_device=True) == "on the device"
    out = np.zeros((1, 4, 4, 3), np.uint8)
    assert again.run({}, call=CallScope(), out=out, pixels=True) is out
    assert (out == 128).all()
    alone = RetriesInFloat32(_Overflows(), "decoder.float16.onnx", "float16", None)
    with pytest.raises(EngineError, match=r"decoder.float16.onnx: 3 of 48 values are NaN or infinite in float16, and"):
        alone.run({}, call=CallScope(), keep_on_device=True)


class _OnDevice:
    """A result of another backend's that stays on the device, with NaN in it or not."""

    def __init__(self, bad: bool) -> None:
        self.values = np.full((1, 3, 4, 4), np.nan if bad else 0, np.float32)

    def numpy(self) -> np.ndarray:
        return self.values


@pytest.mark.parametrize("bad", [False, True])
def test_a_result_that_stays_on_the_device_is_looked_at_where_the_engine_does_not(bad: bool) -> None:
    result = _OnDevice(bad)
    component = SimpleNamespace(run=lambda inputs, **options: result, capabilities=ComponentCapabilities())
    looked = RetriesInFloat32(component, "decoder.float16.onnx", "float16", _Wide)
    assert looked.run({}, call=CallScope(), keep_on_device=True) == ("on the device" if bad else result)
    component.capabilities = ComponentCapabilities(counts_nonfinite=True)
    counted = RetriesInFloat32(component, "decoder.float16.onnx", "float16", _Wide)
    assert counted.run({}, call=CallScope(), keep_on_device=True) is result, "it would have said so"


@pytest.mark.parametrize("limit", [None, 10])
def test_a_ledger_counts(limit: int | None) -> None:
    ledger = MemoryLedger(limit)
    ledger.take(7, "weights")
    assert ledger.left == (None if limit is None else 3)
    if limit is not None:
        with pytest.raises(DeviceMemoryError, match="of activations are more than device_memory_bytes leaves"):
            ledger.take(4, "activations")
    ledger.take(3, "activations")
    ledger.give_back(7)
    assert ledger.taken == 3


def test_smaller_tiles_halve_the_longer_side(bundle_of: Callable[[str], Path]) -> None:
    encoder, decoder = Manifest.open(bundle_of("noise_timestep")).graphs
    (profile,) = plan_profiles(
        Manifest.open(bundle_of("noise_timestep")).config,
        decoder,
        BuildSettings("tensorrt", tiles=(Extent(1, 128, 96, 9),), static=True),
    )
    shapes = {name: of.maximum for name, of in profile.ranges.items()}
    found = list(smaller_tiles(decoder, shapes, 32))
    assert [tile for tile, _ in found] == [(64, 96), (64, 32), (32, 32)]
    assert found[0][1]["latents"] == (1, 16, 2, 2, 3)
    assert found[0][1]["noise_up_block_0"] == (2, 4, 6)
    assert [tile for tile, _ in smaller_tiles(encoder, {"sample": (1, 3, 9, 64, 32)}, 32)] == [(32, 32)]


def test_a_workspace_of_the_callers_is_the_only_one(pair: Callable[..., Any]) -> None:
    workspace = OnDevice(np.zeros(16 * 3 * 64 * 64 + 256, np.uint8))
    wanted, vae = pair("sd", session_options={"workspace": workspace})
    z = latents(1, 4, 8, 8)
    np.testing.assert_allclose(vae.decode(z).sample, wanted.decode(z).sample, atol=1e-5)
    assert (workspace.values == 0xCD).any()
    with pytest.raises(DeviceMemoryError, match=r"the workspace has .* and this call needs .* would fit"):
        vae.decode(latents(2, 4, 8, 8))


@pytest.mark.parametrize(
    ("workspace", "cap", "batch", "tile"),
    [
        (16 * 3 * 64 * 64, 200_000, 2, "32x64"),  # activations take nothing of the cap
        (16 * 3 * 16 * 16, None, 1, "16x16"),  # and no more than the workspace has, whatever is free
    ],
)
def test_the_tile_that_fits_is_of_the_callers_workspace(
    workspace: int, cap: int | None, batch: int, tile: str, pair: Callable[..., Any]
) -> None:
    memory = OnDevice(np.zeros(workspace + 256, np.uint8))
    _, vae = pair("sd", session_options={"workspace": memory, "device_memory_bytes": cap})
    with pytest.raises(DeviceMemoryError, match=f"the workspace has .*; tiles of {tile} pixels need .* would fit"):
        vae.decode(latents(batch, 4, 8, 8))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"device_memory_bytes": 0}, "device_memory_bytes must be a whole number of bytes, got 0"),
        ({"workspace": 7}, "workspace must be a device array, got int"),
        ({"device": -1}, "device must be the number of a GPU, got -1"),
        (
            {"enable_mem_pattern": False},
            "TensorRT takes device, device_memory_bytes, workspace, got enable_mem_pattern",
        ),
    ],
)
def test_options_that_tensorrt_does_not_take(
    options: Any, sentence: str, bundles: dict[str, Path], device: None
) -> None:
    with pytest.raises(BackendUnavailable, match=sentence):
        open_bundle(bundles["sd"], backend="tensorrt", selftest="never", session_options=options)


def test_a_missing_engine_names_the_command(bundles: dict[str, Path], device: None, tmp_path: Path) -> None:
    for name, kind, option in (("ltx20", "stream", "--stream"), ("sd", "exact", "--strips")):
        bundle = Path(shutil.copytree(bundles[name], tmp_path / name))
        manifest = Manifest.open(bundle)
        dataclasses.replace(manifest, engines=tuple(one for one in manifest.engines if one.kind != kind)).write()
        vae: Any = open_bundle(bundle, backend="tensorrt", selftest="never")
        if kind == "exact":
            vae.enable_tiling(exact=True)
        z = latents(1, 4, 8, 8) if kind == "exact" else latents(1, 16, 2, 2, 2)
        with vae, pytest.raises(EngineError, match=f"latentrt build .* {option}`"):
            vae.decode(z) if kind == "exact" else next(vae.decode_stream(z))
