"""The arena that ONNX Runtime's sessions on the CPU share."""

import gc
import itertools
import multiprocessing
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from latentrt.runtime import open_bundle
from latentrt.runtime.backends.choose import choose_backend
from latentrt.runtime.backends.memory_model import Reopening
from latentrt.runtime.backends.onnxruntime import component
from latentrt.runtime.backends.onnxruntime.arena import BLOCK_BYTES, Arena, block_bytes, table_bytes
from latentrt.runtime.backends.onnxruntime.component import shared_arena
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.calls.strategy import WHOLE
from latentrt.runtime.calls.workload import Workload
from latentrt.runtime.planner.probe import Point, Probe, measure


def test_there_is_one_arena_while_somebody_holds_it() -> None:
    arena = shared_arena("cpu")
    assert arena is not None
    assert Arena.of_process(onnxruntime) is arena
    assert shared_arena("cuda") is None


def test_an_arena_that_nobody_holds_is_gone() -> None:
    gc.collect()
    seen = weakref.ref(Arena(onnxruntime))
    gc.collect()
    assert seen() is None


def test_an_opened_bundle_holds_the_arena_until_it_is_released(
    bundle_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    arenas: list[weakref.ref[Arena]] = []

    def fresh(provider: str) -> Arena:  # other tests may hold the arena of the process
        arena = Arena(onnxruntime)
        arenas.append(weakref.ref(arena))
        return arena

    monkeypatch.setattr(component, "shared_arena", fresh)
    with open_bundle(bundle_of("sd"), backend="onnxruntime") as vae:
        vae.decode(np.zeros((1, vae.config.latent_channels, 8, 8), np.float32))
        gc.collect()
        assert [arena() is not None for arena in arenas] == [True]
        vae.release()
        gc.collect()
        assert [arena() is not None for arena in arenas] == [False]


def test_the_arena_outlives_engines_that_are_let_go_one_by_one(bundle_of: Callable[[str], Path]) -> None:
    backend = choose_backend(Manifest.open(bundle_of("sd")), backend="onnxruntime", provider="cpu")
    assert backend.shared() is Arena.of_process(onnxruntime)


@pytest.mark.parametrize("name", ["sd", "ltx20"])
def test_sessions_compute_in_the_arena(bundle_of: Callable[[str], Path], name: str) -> None:
    manifest, choice = Manifest.open(bundle_of(name)), Reopening("onnxruntime", "cpu", "float32", 1)
    own = Reopening("onnxruntime", "cpu", "float32", 1, {"enable_cpu_mem_arena": False})
    probe = Probe("decoder", (2, 4, 4) if name == "ltx20" else (8, 8), WHOLE)

    def beyond_engine(point: Point) -> int:
        return point.peak_bytes - point.loaded_bytes

    shared, unshared = (beyond_engine(measure(manifest.folder, engine, probe)) for engine in (choice, own))
    assert shared > table_bytes(BLOCK_BYTES)  # the block's account, which nothing else would write
    assert unshared < table_bytes(BLOCK_BYTES) // 2


def test_a_block_has_twice_what_a_call_holds_at_once() -> None:
    assert [block_bytes(room) for room in (0, 1 << 30, 3 << 30)] == [BLOCK_BYTES, BLOCK_BYTES, 6 << 30]


def _spread(rooms: list[int]) -> list[tuple[int, int]]:
    """In a process of its own: addresses and memory, in MiB, that each room adds."""
    import onnxruntime as runtime

    def sizes() -> tuple[int, int]:
        pages = Path("/proc/self/statm").read_text().split()
        return int(pages[0]) >> 8, int(pages[1]) >> 8

    arena, seen = Arena.of_process(runtime), [sizes()]
    for room in rooms:
        arena.free_for_call(room)
        seen.append(sizes())
    return [(after[0] - before[0], after[1] - before[1]) for before, after in itertools.pairwise(seen)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's account of a process")
def test_room_is_addresses_and_their_account_once() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        usual, larger, same, less, much = pool.submit(_spread, [1 << 30, 3 << 30, 3 << 30, 1 << 30, 1 << 60]).result()
    assert usual == pytest.approx((2048 + 64, 64), abs=8)
    assert larger == pytest.approx((6144 + 192, 192), abs=8)
    assert same == less == (0, 0)
    assert much[0] < 1024, "no machine has those addresses: the arena grows as it needs"


def test_a_call_makes_room_for_what_it_holds(bundle_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    rooms: list[int] = []
    monkeypatch.setattr(Arena, "free_for_call", lambda self, room: rooms.append(room))
    vae: Any = open_bundle(bundle_of("sd"), backend="onnxruntime")
    with vae:
        z = np.zeros((2, vae.config.latent_channels, 24, 16), np.float32)
        whole = Workload(vae.config, vae.grid, "decoder", 2, (24, 16)).peak_estimate_bytes
        assert whole > 4 * 4 * 2 * vae.config.block_out_channels[0] * 192 * 128
        vae.decode(z)
        vae.enable_slicing()
        vae.decode(z)
        vae.disable_slicing()
        vae.enable_tiling(tile_sample_min_height=64, tile_sample_min_width=64)
        vae.decode(z)
    assert rooms[:3] == pytest.approx([whole, whole / 2, whole / 2], abs=4)
    assert len(rooms) > 4
    assert rooms[3:] == pytest.approx([whole * 8 * 8 / (24 * 16)] * len(rooms[3:]), abs=4)


def test_a_stream_makes_room_for_its_steps(bundle_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    rooms: list[int] = []
    monkeypatch.setattr(Arena, "free_for_call", lambda self, room: rooms.append(room))
    vae: Any = open_bundle(bundle_of("ltx20"), backend="onnxruntime", selftest="never")
    with vae:
        z = np.zeros((1, vae.config.latent_channels, 5, 4, 4), np.float32)
        vae.decode(z)
        whole = rooms.pop()
        vae.enable_streaming(frames_per_chunk=8)
        vae.decode(z)
        long = set(rooms)
        rooms.clear()
        vae.decode(np.concatenate([z, z], axis=2))
    assert len(long) == 1
    assert 0 < long.pop() < whole
    assert len(set(rooms)) == 1


class Old:
    """An ONNX Runtime that allocates nothing in an arena for others, and keeps the first one that it is given."""

    OrtMemoryInfo, OrtAllocatorType, OrtMemType = (
        onnxruntime.OrtMemoryInfo,
        onnxruntime.OrtAllocatorType,
        onnxruntime.OrtMemType,
    )
    OrtArenaCfg = dict

    def __init__(self) -> None:
        self.given: list[dict[str, int]] = []

    class OrtValue:
        @staticmethod
        def ortvalue_from_shape_and_type(shape: Any, element_type: Any, device_type: str = "cpu") -> Any:
            raise AssertionError("it makes no room")

    def create_and_register_allocator(self, memory: Any, settings: dict[str, int]) -> None:
        if self.given:
            raise RuntimeError("An allocator for this device has already been registered for sharing.")
        self.given.append(settings)


def test_an_old_onnxruntime_has_one_arena_for_good_whose_first_block_is_the_usual_one() -> None:
    old = Old()
    for _ in range(2):
        arena = Arena(old)
        arena.free_for_call(8 << 30)
        del arena
        gc.collect()
    assert [settings["initial_chunk_size_bytes"] for settings in old.given] == [BLOCK_BYTES - 256]
