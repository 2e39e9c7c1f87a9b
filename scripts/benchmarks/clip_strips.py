"""Measures clips in strips: time and peak memory of streams with and without strips, each in a process of its own, and
the error of strips of several heights."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .exporting import peak_gib
from .worker import in_own_process

__all__ = ["Size", "equality", "measure_clip"]

Size = tuple[int, int, int]
"""Height, width and frames."""
_CHUNK = 8  # frames per chunk


def measure_clip(
    bundle: Path, component: str, size: Size, threads: int, strips: dict[str, Any] | None, rounds: int = 1
) -> dict[str, Any]:
    """Run a stream of a clip that is read and dropped in chunks, as from file to file.

    Args:
        bundle: an LTX-2 bundle.
        component: "encoder" or "decoder".
        size: of the clip.
        threads: of the engine.
        strips: arguments of `enable_tiling` in addition to `exact`. None: whole frames.
        rounds: number of runs.

    Returns:
        Seconds of each run, the process's largest peak memory in GiB, and the number of frames that came out.
    """
    runs = []
    for _ in range(rounds):
        print(f"{component}, {'x'.join(map(str, size))}, {strips or 'whole frames'}", flush=True)
        runs.append(in_own_process(_measured, bundle, component, size, threads, strips))
    return {
        "component": component,
        "size": list(size),
        "strips": None if strips is None else {key: value for key, value in strips.items() if key != "folder"},
        "seconds": [run["seconds"] for run in runs],
        "peak_gib": max(run["peak_gib"] for run in runs),
        "frames": runs[0]["frames"],
    }


def equality(bundle: Path, size: Size, heights: tuple[int, ...], threads: int, folder: Path) -> list[dict[str, Any]]:
    """Return, by component and height of strips, the largest difference to the stream of whole frames, relative to the
    largest value of the stream. Everything that waits is in a file."""
    found: list[dict[str, Any]] = in_own_process(_differences, bundle, size, heights, threads, folder)
    return found


def _differences(
    bundle: Path, size: Size, heights: tuple[int, ...], threads: int, folder: Path
) -> list[dict[str, Any]]:
    rows = []
    for component in ("decoder", "encoder"):
        with _opened(bundle, threads) as vae:
            vae.enable_streaming(_CHUNK)
            whole = np.concatenate(list(_stream(vae, component, size, "float32")), axis=2)
            for height in heights:
                vae.enable_tiling(exact=True, strip=height, memory_bytes=0, folder=folder)
                strips = np.concatenate(list(_stream(vae, component, size, "float32")), axis=2)
                error = float(np.abs(strips - whole).max() / np.abs(whole).max())
                same = bool(np.array_equal(strips, whole))
                rows.append({"component": component, "strip": height, "relative_error": error, "identical": same})
    return rows


def _measured(bundle: Path, component: str, size: Size, threads: int, strips: dict[str, Any] | None) -> dict[str, Any]:
    with _opened(bundle, threads) as vae:
        if strips is not None:
            vae.enable_tiling(exact=True, **strips)
        started, frames = time.perf_counter(), 0
        for chunk in _stream(vae, component, size, "uint8"):
            frames += chunk.shape[1] if component == "decoder" else chunk.shape[2]
            del chunk
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_gib": peak_gib(), "frames": frames}


def _opened(bundle: Path, threads: int) -> Any:
    from latentrt.runtime import open_bundle

    return open_bundle(bundle, backend="onnxruntime", provider="cpu", threads=threads)


def _stream(vae: Any, component: str, size: Size, output: str) -> Iterator[NDArray[Any]]:
    height, width, frames = size
    if component == "encoder":
        return iter(vae.encode_stream(_frames(size), _CHUNK))
    cells = ((frames - 1) // 8 + 1, height // 32, width // 32)
    latents = np.random.default_rng(0).standard_normal((1, vae.config.latent_channels, *cells), np.float32)
    return iter(vae.decode_stream(latents, _CHUNK, output=output))


def _frames(size: Size) -> Iterator[NDArray[np.float32]]:
    """The frames of a clip, one by one: coarse random pixels, so that making them costs little."""
    height, width, frames = size
    for index in range(frames):
        coarse = np.random.default_rng(index).uniform(-1, 1, (1, 3, 1, height // 8, width // 8)).astype(np.float32)
        yield np.repeat(np.repeat(coarse, 8, 3), 8, 4)
