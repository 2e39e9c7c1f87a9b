"""Measures the cost of tiling apart from the engine: blending speed, the host's share of a decode, and memory."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from .exporting import peak_gib
from .tiling_quality import demo_bundle
from .worker import in_own_process

__all__ = ["measure_blending", "measure_host", "measure_memory"]

_REPEATS = 7
_MEMORY_LIMIT_GIB = 3.0
_HOST_LIMIT = 0.05


def measure_blending() -> list[dict[str, Any]]:
    """Measure the GB of tiles per second that are blended into an existing output.

    Copying the same tiles with NumPy, without blending, is the upper bound.
    """
    return in_own_process(_blending)  # type: ignore[no-any-return]


def measure_host(name: str, bundle: Path, cells: tuple[int, ...], settings: dict[str, Any], threads: int) -> Any:
    """Measure the host's share of a tiled decode: time outside of engine calls over the whole time."""
    return in_own_process(_host, name, bundle, cells, settings, threads)


def measure_memory(work: Path, threads: int) -> list[dict[str, Any]]:
    """Measure the peak memory of whole processes, with imports, weights, input and output."""
    cases = (
        ("4096x4096 picture, demo image model", "image", (1, 4096, 4096), "float32"),
        ("257 frames of 512x512, demo video model", "video", (257, 512, 512), "float32"),
        ("257 frames of 512x512, frame by frame as pixels", "video", (257, 512, 512), "frames"),
    )
    rows = []
    for name, kind, size, output in cases:
        print(f"memory: {name}", flush=True)
        seconds, gib = in_own_process(_memory, demo_bundle(work, kind), size, output, threads)
        rows.append({"case": name, "seconds": seconds, "peak_gib": gib, "wanted_gib": _MEMORY_LIMIT_GIB})
        rows[-1]["passed"] = gib < _MEMORY_LIMIT_GIB
    return rows


def _blending() -> list[dict[str, Any]]:
    from latentrt.tiling import Axis, Line, Plan, Span, last_slid_back, with_stubs
    from latentrt.tiling.blend import blend_of
    from latentrt.tiling.canvas import Canvas

    image = (Axis("height", 8), Axis("width", 8))
    video = (Axis("num_frames", 8, leading=True), Axis("height", 32), Axis("width", 32))
    cases = (
        ("2048x2048 picture, 512 every 384", image, (256, 256), (64, 64), (48, 48)),
        ("121 frames of 512x768, defaults", video, (16, 16, 24), (10, 16, 16), (7, 12, 12)),
    )
    rows = []
    for name, axes, cells, sizes, strides in cases:
        for blend, spans in (("linear", last_slid_back), ("diffusers", with_stubs)):
            lines = tuple(
                Line.of(axis, n, spans(n, size, stride), direction="decode", feed_forward=blend == "diffusers")
                for axis, n, size, stride in zip(axes, cells, sizes, strides, strict=True)
            )
            plan = Plan(lines, blend == "diffusers")
            output = np.zeros((1, 3, *plan.target_size), np.float32)
            tiles = [np.ones((1, 3, *tile.result_shape), np.float32) for tile in plan.tiles]
            total = sum(tile.nbytes for tile in tiles)

            def view(span: Span, output: Any = output) -> Any:
                return output[:, :, span.as_slice()]

            def blended(plan: Plan = plan, tiles: Any = tiles, view: Any = view) -> None:
                own = blend_of(plan, Canvas(plan.groups, view))
                for tile, result in zip(plan.tiles, tiles, strict=True):
                    own.put(tile, result)

            def copied(plan: Plan = plan, tiles: Any = tiles, output: Any = output) -> None:
                for tile, result in zip(plan.tiles, tiles, strict=True):
                    target = tuple(piece.target.as_slice() for piece in tile.pieces)
                    own = tuple(slice(p.skip, p.skip + len(p.target)) for p in tile.pieces)
                    output[(..., *target)] = result[(..., *own)]

            seconds = {"blended": [], "copied": []}  # type: dict[str, list[float]]
            for _ in range(_REPEATS):
                for what, run in (("blended", blended), ("copied", copied)):
                    started = time.perf_counter()
                    run()
                    seconds[what].append(time.perf_counter() - started)
            rate = {what: total / float(np.median(spent)) / 1e9 for what, spent in seconds.items()}
            rows.append({"case": name, "blend": blend, **{f"{what}_gb_s": value for what, value in rate.items()}})
    return rows


def _host(name: str, bundle: Path, cells: tuple[int, ...], settings: dict[str, Any], threads: int) -> dict[str, Any]:
    from latentrt.runtime import open_bundle

    from .timed_backend import timed_backend

    backend = timed_backend(bundle, threads=threads)
    with open_bundle(bundle, backend=backend) as vae:
        vae.enable_tiling(**settings)
        z = np.random.default_rng(0).standard_normal((1, vae.config.latent_channels, *cells), np.float32)
        vae.load("decoder")
        plan = vae.tile_plan("decoder", vae.grid.sample_size(cells))
        started = time.perf_counter()
        vae.decode(z)
        seconds = time.perf_counter() - started
    spent = sum(end - start for start, end in backend.spans)
    share = 1 - spent / seconds
    row = {"case": name, "tiles": plan.count, "seconds": seconds, "engine_seconds": spent, "host_share": share}
    return row | {"wanted_share": _HOST_LIMIT, "passed": share < _HOST_LIMIT}


def _memory(bundle: Path, size: tuple[int, int, int], output: str, threads: int) -> tuple[float, float]:
    from latentrt.runtime import AutoencoderKLLTX2Video, open_bundle

    with open_bundle(bundle, threads=threads) as vae:
        vae.enable_tiling()
        cells = vae.grid.latent_size(size if vae.video else size[1:])
        z = np.random.default_rng(0).standard_normal((1, vae.config.latent_channels, *cells), np.float32)
        started = time.perf_counter()
        if output == "frames":
            assert isinstance(vae, AutoencoderKLLTX2Video)
            for frames in vae.decode_frames(z, output="uint8"):
                del frames
        else:
            vae.decode(z)
        return time.perf_counter() - started, peak_gib()
