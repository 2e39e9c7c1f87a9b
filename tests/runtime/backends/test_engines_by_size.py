"""Several engines of one graph: which of them a call runs in, and what is in memory. The device and the library are
stand-ins in host memory (support/host_device.py)."""

import dataclasses
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import host_device
import numpy as np
import pytest
from command_line import invoke
from host_device import HostGpu

from latentrt.export.engines.planning import plan_profiles
from latentrt.export.engines.settings import BuildSettings, Extent
from latentrt.export.engines.stream_profiles import stream_profiles
from latentrt.export.engines.strip_profiles import strip_profiles
from latentrt.runtime import EngineError, InputError, open_bundle
from latentrt.runtime.backends.tensorrt.component import TensorRTComponent
from latentrt.runtime.bundle.added_outputs import added_outputs
from latentrt.runtime.bundle.engine_records import EngineRecord
from latentrt.runtime.bundle.graph import Graph
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.bundle.profiles import Profile
from latentrt.runtime.errors import DeviceMemoryError

pytestmark = pytest.mark.slow

SMALL, LARGE = (
    BuildSettings("tensorrt", tiles=(Extent(1, 64, 64),)),
    BuildSettings("tensorrt", tiles=(Extent(1, 128, 128),)),
)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The engines that calls ran in, by the key of their build, one after the other."""
    host_device.install(monkeypatch)
    found: list[str] = []
    for name in ("run", "step"):
        method = getattr(TensorRTComponent, name)

        def spied(self: Any, *arguments: Any, method: Any = method, **options: Any) -> Any:
            found.append(self._record.key)
            return method(self, *arguments, **options)

        monkeypatch.setattr(TensorRTComponent, name, spied)
    return found


@pytest.fixture
def bundle(bundle_of: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """`bundle(name, small=settings, ...)`: a bundle with an engine of every graph for each of the settings, the last
    one the newest; its key is the name it has here."""

    def build(name: str, **builds: BuildSettings) -> Path:
        folder = Path(shutil.copytree(bundle_of(name), tmp_path / f"bundle-{len(list(tmp_path.iterdir()))}"))
        manifest = Manifest.open(folder)
        records = [engine for key, settings in builds.items() for engine in engines(manifest, key, settings)]
        dataclasses.replace(manifest, engines=tuple(records)).write()
        return folder

    return build


def engines(manifest: Manifest, key: str, settings: BuildSettings) -> Iterable[EngineRecord]:
    config: Any = manifest.config

    def profiles(graph: Graph) -> tuple[Profile, ...]:
        if graph.stage is not None:
            return stream_profiles(config, graph, settings)
        return (strip_profiles if graph.strip_stage else plan_profiles)(config, graph, settings)

    host_device.with_engines(manifest.folder, profiles, partial(added_outputs, manifest))
    for record in Manifest.open(manifest.folder).engines:
        file = f"{key}.{record.file}"
        (manifest.folder / record.file).rename(manifest.folder / file)
        yield dataclasses.replace(record, key=key, file=file)


def latents(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape, np.float32)


@pytest.mark.parametrize("order", list(permutations(("small", "large", "static"))))
def test_a_call_runs_in_the_engine_that_was_built_closest_to_its_size(
    order: tuple[str, ...], bundle: Callable[..., Path], ran: list[str]
) -> None:
    static = dataclasses.replace(SMALL, static=True)
    settings = {"small": SMALL, "large": LARGE, "static": static}
    folder = bundle("sd", **{name: settings[name] for name in order})
    with (
        open_bundle(folder, backend="tensorrt", selftest="never") as vae,
        open_bundle(folder, backend="onnxruntime") as wanted,
    ):
        for size in ((8, 8), (4, 8), (9, 8), (16, 16), (8, 8)):
            z = latents(1, 4, *size)
            np.testing.assert_allclose(vae.decode(z).sample, wanted.decode(z).sample, atol=1e-5)
        x = np.tanh(latents(1, 3, 64, 64))
        moments = wanted.encode(x).latent_dist.parameters
        np.testing.assert_allclose(vae.encode(x).latent_dist.parameters, moments, atol=1e-5)
        assert ran == ["static", "small", "large", "large", "static", "static"], "whatever came before, and first"
        with pytest.raises(
            InputError, match=r"built for latents .*; or latents .*, and this call has latents \(1, 4, 17, 8\)"
        ):
            vae.decode(latents(1, 4, 17, 8))


def test_of_engines_for_the_same_sizes_the_newest_runs(bundle: Callable[..., Path], ran: list[str]) -> None:
    with open_bundle(bundle("sd", older=SMALL, newer=SMALL), backend="tensorrt", selftest="never") as vae:
        vae.decode(latents(1, 4, 8, 8))
    assert ran == ["newer"]


def test_only_engines_that_calls_need_are_loaded_and_where_both_do_not_fit_one_goes(
    bundle: Callable[..., Path], ran: list[str]
) -> None:
    folder = bundle("sd", small=SMALL, large=LARGE)
    manifest = Manifest.open(folder)
    weights = 1 << 30  # what a real engine's would be: these come without
    heavy = [dataclasses.replace(record, stripped_bytes=weights) for record in manifest.engines]
    dataclasses.replace(manifest, engines=tuple(heavy)).write()
    small, large = latents(1, 4, 8, 8), latents(1, 4, 16, 16)

    def taken(options: dict[str, int]) -> list[int]:
        found = []
        with open_bundle(folder, backend="tensorrt", selftest="never", session_options=options) as vae:
            for z in (small, large, small):
                vae.decode(z)
                found.append(HostGpu.latest.ledger.taken // weights)
        return found

    assert taken({"device_memory_bytes": 4 * weights}) == [1, 2, 2]
    assert taken({"device_memory_bytes": 2 * weights - 1}) == [1, 1, 1]
    assert ran == ["small", "large", "small"] * 2
    with pytest.raises(DeviceMemoryError, match="device_memory_bytes leaves"):
        taken({"device_memory_bytes": weights - 1})


def test_a_damaged_engine_among_several_is_refused_when_a_call_needs_it(
    bundle: Callable[..., Path], ran: list[str]
) -> None:
    folder = bundle("sd", small=SMALL, large=LARGE)
    (folder / "small.decoder.onnx.engine").write_bytes(b"foreign")
    with open_bundle(folder, backend="tensorrt", selftest="never") as vae:
        vae.decode(latents(1, 4, 16, 16))
        with pytest.raises(EngineError, match="has 7 bytes and its record says"):
            vae.decode(latents(1, 4, 8, 8))


def test_pixels_come_from_the_device_where_every_engine_makes_them(bundle: Callable[..., Path], ran: list[str]) -> None:
    folder = bundle("sd", small=SMALL, large=LARGE)
    z = latents(1, 4, 8, 8)
    with open_bundle(folder, backend="onnxruntime") as wanted:
        pixels = wanted.decode(z, output="uint8").sample

    def copied() -> set[str]:
        with open_bundle(folder, backend="tensorrt", selftest="never") as vae:
            assert np.abs(vae.decode(z, output="uint8").sample.astype(int) - pixels).max() <= 1
        return {line.partition(": ")[2] for line in HostGpu.latest.log}

    assert f"copy {pixels.nbytes}" in copied()
    manifest = Manifest.open(folder)
    older = [
        dataclasses.replace(one, settings={"adds": []} if one.key == "large" else one.settings)
        for one in manifest.engines
    ]
    dataclasses.replace(manifest, engines=tuple(older)).write()
    assert f"copy {4 * pixels.nbytes}" in copied(), "as floats: a call does not know beforehand where it will run"
    replaced = [engine for engine in older if engine.key == "large"]
    again = [dataclasses.replace(engine, key="again") for engine in manifest.engines if engine.key == "large"]
    small = [engine for engine in manifest.engines if engine.key == "small"]
    dataclasses.replace(manifest, engines=(*replaced, *small, *again)).write()
    assert f"copy {pixels.nbytes}" in copied(), "what was built again counts, not what it replaces"


def test_a_stream_runs_in_engines_for_its_size_in_chunks_that_they_take(
    bundle: Callable[..., Path], ran: list[str]
) -> None:
    narrow = BuildSettings("tensorrt", tiles=(Extent(1, 64, 96, 17),), chunk=32)
    wide = BuildSettings("tensorrt", tiles=(Extent(1, 128, 128, 17),), chunk=8)
    folder = bundle("ltx20", narrow=narrow, wide=wide)
    vae: Any = open_bundle(folder, backend="tensorrt", selftest="never")
    with vae, open_bundle(folder, backend="onnxruntime") as wanted:
        for size, engine in (((2, 3), "narrow"), ((4, 4), "wide")):
            z = latents(1, 16, 6, *size)
            ran.clear()
            frames = np.concatenate(list(vae.decode_stream(z, frames_per_chunk=32)), axis=2)
            np.testing.assert_allclose(frames, wanted.decode(z).sample, atol=1e-4)
            assert set(ran) == {engine}


def test_attention_over_a_large_picture_runs_in_the_engine_that_takes_its_keys(
    bundle: Callable[..., Path], ran: list[str]
) -> None:
    large = BuildSettings("tensorrt", tiles=(Extent(1, 8, 8),), picture=(256, 256))
    small = dataclasses.replace(SMALL, picture=(64, 64))
    folder = bundle("sd", large=large, small=small)  # the newest one takes more queries over fewer keys
    vae: Any = open_bundle(folder, backend="tensorrt", selftest="never")
    with vae, open_bundle(folder, backend="onnxruntime") as wanted:
        vae.enable_tiling(exact=True)
        for size, engines_of in (((10, 12), {"small", "large"}), ((8, 8), {"small"})):
            z = latents(1, 4, *size)
            ran.clear()
            np.testing.assert_allclose(vae.decode(z).sample, wanted.decode(z).sample, atol=1e-4)
            assert set(ran) >= engines_of
        with pytest.raises(InputError, match="`latentrt build --strips --tile HEIGHTxWIDTH --picture HEIGHTxWIDTH`"):
            vae.decode(latents(1, 4, 40, 32))


def test_inspect_lists_every_engine_with_its_sizes(bundle: Callable[..., Path]) -> None:
    text = invoke("inspect", bundle("sd", small=SMALL, large=LARGE), "--files").stdout
    for key, side in (("small", 8), ("large", 16)):
        assert f"{key}.decoder.onnx.engine: tensorrt 0.0, float32, compute capability 0.0" in text
        assert f"latents (1, 4, 1, 1) to (1, 4, {side}, {side})" in text
