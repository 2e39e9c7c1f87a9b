"""What is asked of a backend beside plain decodes: pixels, tiles with copies beside them, streams, exact strips, and
results that stay on the GPU. Each runs in a process of its own."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cases import Case, Contender
from .measures import extent_of, latents_of, open_vae

__all__ = ["build_parts", "build_refittable", "build_tiles", "feature", "features_of"]

_CALLS = 3
_PARTS_LEVEL = 1  # the lowest at which kernels are timed, and only the likeliest: there are dozens of graphs
_CHUNK = 8  # frames of a stream's step


def features_of(case: Case, contender: Contender, device: str) -> tuple[str, ...]:
    """By name, in the contender's precision. The rest is in float16 alone; the caller's stream is TensorRT's."""
    parts = "stream" if case.video else "exact strips"
    if contender.dtype == "float32":
        return (parts,)
    device_too = ("device array",) if device == "cuda" and contender.kind.startswith("tensorrt") else ()
    return (parts, "uint8", "tiles, overlapped", "tiles, one by one", *device_too)


def build_tiles(case: Case, bundle: Path, backend: str, dtype: str, capabilities: tuple[str, ...]) -> dict[str, Any]:
    """An engine with a static profile for the whole sample and one for a tile."""
    return _build(bundle, backend, capabilities, dtypes=(dtype,), tiles=(extent_of(case), _tile(case)), static=True)


def build_parts(case: Case, bundle: Path, backend: str, dtype: str, capabilities: tuple[str, ...]) -> dict[str, Any]:
    """Engines of the streaming graphs, or of the steps of exact strips: quickly, with little search for fast kernels,
    and as much in both precisions. In float32 the whole graph's too, without which no bundle opens; float16 has it."""
    whole = extent_of(case)
    asked: dict[str, Any] = {"stream": True, "chunk": _CHUNK} if case.video else {"exact": True}
    tile = whole if case.video else _tile(case)
    picture = (whole.height, whole.width)
    return _build(
        bundle,
        backend,
        capabilities,
        dtypes=(dtype,),
        tiles=(tile,),
        picture=picture,
        whole=dtype == "float32",
        optimization_level=_PARTS_LEVEL,
        **asked,
    )


def build_refittable(case: Case, bundle: Path) -> dict[str, Any]:
    """An engine of `tensorrt` without weights, which takes those of any fine-tune."""
    return _build(
        bundle,
        "tensorrt",
        (),
        dtypes=("float16",),
        tiles=(extent_of(case),),
        static=True,
        strip_weights=True,
        refit=True,
    )


def _build(bundle: Path, backend: str, capabilities: tuple[str, ...], **options: Any) -> dict[str, Any]:
    from latentrt.export.engines.build import build_engines
    from latentrt.export.engines.settings import BuildSettings

    started = time.perf_counter()
    settings = BuildSettings(backend, components=("decoder",), compute_capabilities=capabilities, **options)
    built = build_engines(bundle, settings)
    return {"seconds": time.perf_counter() - started, "engine_bytes": sum(one.record.bytes for one in built)}


def _tile(case: Case) -> Any:
    """Half of the sample's height and width, on the grid."""
    whole, ratio = extent_of(case), 32 if case.video else 8
    half = {side: max(getattr(whole, side) // 2 // ratio, 2) * ratio for side in ("height", "width")}
    return dataclasses.replace(whole, **half)


def feature(name: str, case: Case, contender: Contender, bundle: Path, wanted: Path) -> dict[str, Any]:
    """Seconds of a call (median), for a stream also those to its first frames as pixels, and the distance to the
    reference. (Tiles approximate: theirs is only told.)"""
    from latentrt.export.quality import psnr

    reference = np.load(wanted, mmap_mode="r")
    vae, z = open_vae(contender, bundle), latents_of(case)
    run = {
        "refitted": _whole,
        "uint8": _pixels,
        "tiles, overlapped": _tiles,
        "tiles, one by one": _tiles_one_by_one,
        "stream": _stream,
        "exact strips": _strips,
        "device array": _device_array,
    }[name](vae, z, case)
    result = run()
    seconds = _median_seconds(run)
    if name == "uint8":
        reference = np.clip(reference, -1, 1)
    exact = name in ("stream", "exact strips")
    return {
        "seconds": seconds,
        "first_frame_seconds": _median_seconds(lambda: _first_frames(vae, z)) if name == "stream" else None,
        "psnr_db": psnr(result, reference),
        "wanted_db": 0 if name.startswith("tiles") else 45 if exact else 40,
    }


def _median_seconds(run: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(_CALLS):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


Run = Callable[[], NDArray[np.float32]]


def _pixels(vae: Any, z: NDArray[np.float32], case: Case) -> Run:
    from latentrt.runtime.pixels import to_samples

    return lambda: to_samples(vae.decode(z, output="uint8").sample)


def _whole(vae: Any, z: NDArray[np.float32], case: Case) -> Run:
    return lambda: vae.decode(z).sample  # type: ignore[no-any-return]


def _tiles(vae: Any, z: NDArray[np.float32], case: Case) -> Run:
    tile = _tile(case)
    frames = {"tile_sample_min_num_frames": tile.frames} if case.video else {}
    vae.enable_tiling(tile_sample_min_height=tile.height, tile_sample_min_width=tile.width, **frames)
    return lambda: vae.decode(z).sample  # type: ignore[no-any-return]


def _tiles_one_by_one(vae: Any, z: NDArray[np.float32], case: Case) -> Run:
    vae._sessions.backend = dataclasses.replace(vae._sessions.backend, in_flight=1)
    return _tiles(vae, z, case)


def _stream(vae: Any, z: NDArray[np.float32], case: Case) -> Run:
    return lambda: np.concatenate(list(vae.decode_stream(z, frames_per_chunk=_CHUNK)), axis=2)


def _first_frames(vae: Any, z: NDArray[np.float32]) -> None:
    frames = vae.decode_stream(z, frames_per_chunk=_CHUNK, output="uint8")
    next(frames)
    frames.close()


def _strips(vae: Any, z: NDArray[np.float32], case: Case) -> Run:
    vae.enable_tiling(exact=True)
    return lambda: vae.decode(z).sample  # type: ignore[no-any-return]


def _device_array(vae: Any, z: NDArray[np.float32], case: Case) -> Run:
    """In and out by DLPack, in a stream of torch's."""
    import torch

    stream = torch.cuda.Stream()

    def run() -> NDArray[np.float32]:
        with torch.cuda.stream(stream):
            latents = torch.from_numpy(z).cuda()
            sample = vae.decode(latents, output="device", stream=stream.cuda_stream).sample
            return np.asarray(torch.from_dlpack(sample).cpu().numpy())

    return run
