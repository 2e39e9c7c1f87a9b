"""Compares streaming a clip with decoding it whole and in diffusers' tiles: time, memory, first frames, quality."""

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from .exporting import peak_gib
from .worker import in_own_process

__all__ = ["QUARTER", "measure_length", "measure_speed", "verdicts"]

QUARTER: dict[str, Any] = {
    "_class_name": "AutoencoderKLLTX2Video",
    "latent_channels": 32,
    "block_out_channels": [64, 128, 256, 512],
    "decoder_block_out_channels": [64, 128, 256],
    "layers_per_block": [4, 6, 6, 2, 2],
    "decoder_layers_per_block": [5, 5, 5, 5],
    "decoder_causal": False,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
"""LTX-2.0 at a quarter of its width."""

_WAYS = ("whole", "stream", "diffusers", "diffusers tiled")
_SEED = 0


def measure_speed(
    checkpoint: Path, bundle: Path, cells: tuple[int, int, int], threads: int, rounds: int
) -> list[dict[str, Any]]:
    """Decode latents (1, C, *cells) in each way, in processes of their own that take turns, round by round.

    Returns:
        A row per way: medians of the seconds, the largest peak memory, and PSNR to the whole decode by our engine.
    """
    seen: dict[str, list[dict[str, Any]]] = {way: [] for way in _WAYS}
    results = {way: bundle.with_name(f"{way.replace(' ', '-')}.npy") for way in _WAYS}
    for number in range(1, rounds + 1):
        for way in _WAYS:
            print(f"streaming: {way}, {cells}, round {number} of {rounds}", flush=True)
            result = results[way] if number == 1 else None
            seen[way].append(in_own_process(_measured, way, checkpoint, bundle, cells, threads, result))
    whole = np.load(results["whole"], mmap_mode="r")
    rows = [{"way": way, **_summary(every), "psnr_db": _psnr(results[way], whole)} for way, every in seen.items()]
    for result in results.values():
        result.unlink()
    return rows


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "seconds": median(run["seconds"] for run in runs),
        "every_seconds": [run["seconds"] for run in runs],
        "first_frames_seconds": median(run["first_frames_seconds"] for run in runs),
        "peak_gib": max(run["peak_gib"] for run in runs),
    }


def _psnr(result: Path, whole: Any) -> float:
    sample = np.load(result, mmap_mode="r")
    error = float(np.mean(np.square(np.subtract(sample, whole, dtype=np.float64))))
    return min(200.0, 10 * float(np.log10(float(np.ptp(whole)) ** 2 / error))) if error else 200.0


def measure_length(checkpoint: Path, bundle: Path, lengths: list[int], size: tuple[int, int], threads: int) -> Any:
    """Measure peak memory over the length of the clip, in latent frames, for latents of a height and width."""
    rows = []
    for frames in lengths:
        for way in ("whole", "diffusers tiled", "stream"):
            if way != "stream" and frames > 40:
                continue  # the machine would run out of memory
            print(f"memory: {way}, {frames} latent frames", flush=True)
            cells = (frames, *size)
            rows.append({"way": way, "frames": 8 * frames - 7})
            rows[-1] |= in_own_process(_measured, way, checkpoint, bundle, cells, threads, None)
    return rows


def verdicts(speed: list[dict[str, Any]], length: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each promise with the measured value."""
    by_way = {row["way"]: row for row in speed}
    stream = by_way["stream"]
    streamed = {row["frames"]: row["peak_gib"] for row in length if row["way"] == "stream"}
    shortest = streamed[min(streamed)]
    first = {row["frames"]: row["first_frames_seconds"] / row["seconds"] for row in length if row["way"] == "stream"}
    rows = [
        ("time of diffusers' tiles over ours", _median_ratio(by_way["diffusers tiled"], stream), 2.2, True),
        ("our time over our whole decode's", _median_ratio(stream, by_way["whole"]), 1.1, False),
        (
            "our memory over diffusers' whole decode's",
            stream["peak_gib"] / by_way["diffusers"]["peak_gib"],
            1 / 3,
            False,
        ),
        *(
            (f"memory at {frames} frames over {min(streamed)}", peak / shortest, 1.05, False)
            for frames, peak in streamed.items()
            if frames > min(streamed)
        ),
    ]
    rows += [
        (f"first of {frames} frames, share of the time", first[frames], 0.25, False)
        for frames in first
        if frames == 257
    ]
    return [
        {"promise": name, "seen": seen, "wanted": wanted, "at_least": least}
        | {"passed": seen >= wanted if least else seen <= wanted}
        for name, seen, wanted, least in rows
    ]


def _median_ratio(row: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the median ratio of times in the same round: the machine has slow and fast phases."""
    return float(median(one / two for one, two in zip(row["every_seconds"], other["every_seconds"], strict=True)))


def _measured(
    way: str, checkpoint: Path, bundle: Path, cells: tuple[int, int, int], threads: int, result: Path | None
) -> dict[str, Any]:
    run = (_diffusers if way.startswith("diffusers") else _ours)(way, checkpoint, bundle, cells, threads)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak_gib()
    started, first, saving = time.perf_counter(), None, 0.0
    parts: list[Path] = []
    for frames in run:  # `enumerate` would hold the last frames while the next are computed
        first = time.perf_counter() - started if first is None else first
        if result is not None:  # on disk, since a clip in memory would count
            begun = time.perf_counter()
            parts.append(result.with_suffix(f".{len(parts)}.npy"))
            np.save(parts[-1], frames)
            saving += time.perf_counter() - begun
        del frames
    seconds = time.perf_counter() - started - saving
    row = {"seconds": seconds, "first_frames_seconds": first, "peak_gib": peak_gib() - before}
    if result is not None:
        np.save(result, np.concatenate([np.load(part) for part in parts], axis=2))
        for part in parts:
            part.unlink()
    return row


def _latents(channels: int, cells: tuple[int, int, int]) -> Any:
    return np.random.default_rng(_SEED).standard_normal((1, channels, *cells), np.float32)


def _ours(way: str, checkpoint: Path, bundle: Path, cells: tuple[int, int, int], threads: int) -> Iterator[Any]:
    from latentrt.runtime import AutoencoderKLLTX2Video, open_bundle

    vae: Any = open_bundle(bundle, backend="onnxruntime", provider="cpu", threads=threads)
    assert isinstance(vae, AutoencoderKLLTX2Video)
    small, z = _latents(vae.config.latent_channels, (3, 2, 2)), _latents(vae.config.latent_channels, cells)
    if way == "whole":
        vae.disable_streaming()  # the default of `decode`
        vae.decode(small)  # loads the engine
        return _lazily(lambda: vae.decode(z).sample)
    for _ in vae.decode_stream(small):
        pass
    return vae.decode_stream(z)


def _lazily(run: Any) -> Iterator[Any]:
    yield run()


def _diffusers(way: str, checkpoint: Path, bundle: Path, cells: tuple[int, int, int], threads: int) -> Iterator[Any]:
    import diffusers
    import torch

    torch.set_num_threads(threads)
    model_class: Any = diffusers.AutoencoderKLLTX2Video  # its from_pretrained has no types
    model = model_class.from_pretrained(checkpoint).eval()
    if way == "diffusers tiled":
        model.enable_tiling()
        model.use_framewise_decoding = True
    z = torch.from_numpy(_latents(model.config.latent_channels, cells))

    def run() -> Any:
        with torch.inference_mode():
            return model.decode(z).sample.numpy()

    return _lazily(run)
