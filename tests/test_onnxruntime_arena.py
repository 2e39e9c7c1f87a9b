"""The arena that ONNX Runtime's sessions on the CPU share."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from latentrt.runtime import open_bundle
from latentrt.runtime.backends import choose_backend
from latentrt.runtime.backends.onnxruntime import shared_arena
from latentrt.runtime.backends.onnxruntime_arena import TABLE_BYTES, Arena
from latentrt.runtime.manifest import Manifest
from latentrt.runtime.probe import EngineChoice, Point, Probe, measure
from latentrt.runtime.strategy import WHOLE


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


def test_an_opened_bundle_holds_the_arena_until_it_is_released(bundle_of: Callable[[str], Path]) -> None:
    with open_bundle(bundle_of("sd"), backend="onnxruntime") as vae:
        vae.decode(np.zeros((1, vae.config.latent_channels, 8, 8), np.float32))
        component: Any = next(iter(vae._sessions._open.values()))
        assert component._arena is Arena.of_process(onnxruntime)


def test_the_arena_outlives_engines_that_are_let_go_one_by_one(bundle_of: Callable[[str], Path]) -> None:
    backend = choose_backend(Manifest.open(bundle_of("sd")), backend="onnxruntime", provider="cpu")
    assert backend.shared() is Arena.of_process(onnxruntime)


@pytest.mark.parametrize("name", ["sd", "ltx20"])
def test_sessions_compute_in_the_arena(bundle_of: Callable[[str], Path], name: str) -> None:
    manifest, choice = Manifest.open(bundle_of(name)), EngineChoice("onnxruntime", "cpu", "float32", 1)
    own = EngineChoice("onnxruntime", "cpu", "float32", 1, {"enable_cpu_mem_arena": False})
    probe = Probe("decoder", (2, 4, 4) if name == "ltx20" else (8, 8), WHOLE)

    def beyond_engine(point: Point) -> int:
        return point.peak_bytes - point.loaded_bytes

    shared, unshared = (beyond_engine(measure(manifest.folder, engine, probe)) for engine in (choice, own))
    assert shared > TABLE_BYTES  # the block's account, which nothing else would write
    assert unshared < TABLE_BYTES // 2
