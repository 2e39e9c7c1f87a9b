"""Threads of engines: as many as were asked for or may be used, and not more from call to call."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentrt.runtime.backends.openvino.component import OpenVinoComponent

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="this system does not list threads")
BundleOf = Callable[[str], Path]
CALLS = 20
BACKENDS = ["onnxruntime", "openvino"]

COUNTED = """
import os, sys
import numpy as np
from latentrt.runtime import open_bundle
os.cpu_count = lambda: 8
if sys.argv[3] != "all":
    os.sched_getaffinity = lambda process: set(range(int(sys.argv[3])))
vae = open_bundle(sys.argv[1], backend=sys.argv[2])
before = len(os.listdir("/proc/self/task"))
vae.decode(np.zeros((1, 4, 16, 16), np.float32))
print(len(os.listdir("/proc/self/task")) - before)
"""


def threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def by_strips(vae: Any) -> None:
    vae.enable_tiling(exact=True, strip=16)


def by_tiles(vae: Any) -> None:
    if vae.video:
        vae.enable_tiling(tile_sample_min_height=64, tile_sample_min_width=64)
    else:
        vae.enable_tiling(32, 32)


WAYS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "a picture in one pass": ("sd", lambda vae: None),
    "a batch in slices": ("sd", lambda vae: vae.enable_slicing()),
    "a picture in tiles": ("sd", by_tiles),
    "a picture in strips": ("sd", by_strips),
    "a clip in one pass": ("ltx20", lambda vae: vae.disable_streaming()),
    "a clip in tiles": ("ltx20", by_tiles),
    "a clip as a stream": ("ltx20", lambda vae: vae.enable_streaming()),
}


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("way", [pytest.param(way, marks=[] if "strips" in way else pytest.mark.long) for way in WAYS])
def test_calls_leave_no_threads_behind(way: str, backend: str, opened: Callable[..., Any]) -> None:
    """The engines of strips are opened for each call. They are freed with their last reference, not by the collector of
    garbage."""
    name, enable = WAYS[way]
    vae = opened(name, backend=backend)
    enable(vae)
    cells = (3, 4, 4) if vae.video else (8, 8)
    latents = np.zeros((1, vae.config.latent_channels, *cells), np.float32)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            vae.decode(latents)
        counts = []
        for _ in range(8 if enable is by_strips else CALLS):  # each call of strips opens every engine
            vae.decode(latents)
            counts.append(threads())
    finally:
        gc.enable()
    assert max(counts) <= counts[0] + 2, counts  # a thread of the call before may just be ending


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bundle_that_is_closed_leaves_no_threads_behind(backend: Any, bundle_of: BundleOf) -> None:
    from latentrt.runtime import open_bundle

    counts = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(6):
            with open_bundle(bundle_of("sd"), backend=backend, threads=2) as vae:
                vae.decode(np.zeros((1, 4, 8, 8), np.float32))
            del vae
            counts.append(threads())
    finally:
        gc.enable()
    assert max(counts) <= counts[0] + 2, counts


@pytest.mark.slow
def test_onnxruntime_takes_as_many_threads_as_cores_may_be_used(bundle_of: BundleOf) -> None:
    """A machine of 8 cores by name, of which the affinity mask allows some. The caller's thread computes too."""

    def taken(cores: int) -> int:
        command = [sys.executable, "-c", COUNTED, str(bundle_of("sd")), "onnxruntime", str(cores)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert taken(3) - taken(1) == 2


def test_openvino_computes_with_as_many_threads_as_cores_may_be_used(
    bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts threads for all cores of the machine in any case, and computes with the number that it is given."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    compiled: Any = OpenVinoComponent(bundle_of("sd") / "decoder.onnx").models.for_every_size().compiled
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
