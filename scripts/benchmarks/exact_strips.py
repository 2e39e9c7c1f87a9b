"""Measures time, peak memory and error of a decode in one pass and in strips, each in a process of its own."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoints import write_checkpoint
from .exporting import peak_gib
from .worker import in_own_process

__all__ = ["measure_strips", "prepare", "prepare_both"]


def prepare(work: Path, name: str, config: dict[str, Any]) -> Path:
    """Return a folder with `checkpoint` (random weights) and `bundle` of the decoder, made if it is missing."""
    folder = work / name
    if not (folder / "bundle").exists():
        in_own_process(_export, folder, config)
    return folder


def prepare_both(work: Path, name: str, config: dict[str, Any]) -> Path:
    """Return a folder as `prepare` does, with encoder and decoder in the bundle."""
    folder = work / name
    if not (folder / "bundle").exists():
        in_own_process(_export, folder, config, ("encoder", "decoder"))
    return folder


def measure_strips(
    folder: Path, pixels: int, cases: dict[str, dict[str, Any] | None], rounds: int, threads: int
) -> list[dict[str, Any]]:
    """Decode latents of a square picture. The cases take turns.

    Args:
        folder: folder made by `prepare`.
        pixels: height and width of the picture.
        cases: by name, the arguments of `enable_tiling`, or None for one pass. The case "diffusers" runs diffusers, and
            is the reference of the others.
        rounds: number of rounds.
        threads: number of threads of each engine.
    """
    rows: dict[str, dict[str, Any]] = {}
    result = folder / "result.npy"
    for _ in range(rounds):
        for name, options in cases.items():
            print(f"{folder.name}, {pixels}x{pixels}: {name}", flush=True)
            function, extra = (_diffusers, ()) if name == "diffusers" else (_latentrt, (options,))
            seconds, gib = in_own_process(function, folder, pixels, threads, result, *extra)
            row = rows.setdefault(name, {"case": name, "pixels": pixels, "model": folder.name, "seconds": []})
            row["seconds"].append(round(seconds, 2))
            row["peak_gib"] = round(max(gib, row.get("peak_gib", 0.0)), 2)
            sample = np.load(result, mmap_mode="r")
            if name == "diffusers":
                reference = np.array(sample)
            elif "diffusers" in cases:
                error = np.abs(sample - reference).max() / np.abs(reference).max()
                row["relative_error"] = float(error)
    result.unlink()
    for row in rows.values():
        row["median_seconds"] = float(np.median(row["seconds"]))
    return list(rows.values())


def _export(folder: Path, config: dict[str, Any], components: tuple[str, ...] = ("decoder",)) -> None:
    from latentrt.export.bundle import ExportSettings, export_bundle

    if not (folder / "checkpoint").exists():
        write_checkpoint(folder / "checkpoint", config)
    export_bundle(folder / "checkpoint", folder / "bundle", ExportSettings(components=components))


def _latents(channels: int, pixels: int) -> Any:
    return np.random.default_rng(0).standard_normal((1, channels, pixels // 8, pixels // 8), np.float32)


def _latentrt(
    folder: Path, pixels: int, threads: int, result: Path, options: dict[str, Any] | None
) -> tuple[float, float]:
    from latentrt.runtime import AutoencoderKL

    with AutoencoderKL.from_pretrained(folder / "bundle", backend="onnxruntime", threads=threads) as vae:
        if options is None:
            vae.warmup()  # strip graphs are loaded one by one instead, within the measured time
        else:
            vae.enable_tiling(exact=True, **options)
        latents = _latents(vae.config.latent_channels, pixels)
        started = time.perf_counter()
        sample = vae.decode(latents).sample
        seconds = time.perf_counter() - started
    gib = peak_gib()
    np.save(result, sample)
    return seconds, gib


def _diffusers(folder: Path, pixels: int, threads: int, result: Path) -> tuple[float, float]:
    import diffusers
    import torch

    torch.set_num_threads(threads)
    model_class: Any = diffusers.AutoencoderKL  # its from_pretrained has no types
    model = model_class.from_pretrained(folder / "checkpoint").eval()
    latents = torch.from_numpy(_latents(model.config.latent_channels, pixels))
    started = time.perf_counter()
    with torch.no_grad():
        sample = model.decode(latents).sample.numpy()
    seconds = time.perf_counter() - started
    gib = peak_gib()
    np.save(result, sample)
    return seconds, gib
