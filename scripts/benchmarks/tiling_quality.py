"""Measures the picture quality of tiled results against a single pass, over tile sizes and overlaps."""

import importlib.resources
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoints import write_checkpoint
from .worker import in_own_process

__all__ = ["demo_bundle", "measure_quality", "promises"]

_NARROW_KL: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [32, 64, 64, 64],
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
_NARROW_LTX: dict[str, Any] = {
    "_class_name": "AutoencoderKLLTX2Video",
    "latent_channels": 16,
    "block_out_channels": [16, 32, 64, 128],
    "decoder_block_out_channels": [16, 32, 64],
    "layers_per_block": [2, 1, 1, 1, 1],
    "decoder_layers_per_block": [2, 2, 2, 2],
    "decoder_causal": False,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
_NARROW_LTX_23 = _NARROW_LTX | {
    "block_out_channels": [16, 32, 64, 64],
    "decoder_block_out_channels": [16, 32, 32, 64],
    "decoder_layers_per_block": [2, 2, 2, 2, 2],
    "decoder_spatio_temporal_scaling": [True] * 4,
    "decoder_inject_noise": [False] * 5,
    "upsample_type": ["spatiotemporal", "spatiotemporal", "temporal", "spatial"],
    "upsample_residual": [False] * 4,
    "upsample_factor": [2, 2, 1, 2],
    "decoder_spatial_padding_mode": "zeros",
}
_RANDOM = {"random SD": _NARROW_KL, "random LTX-2.0": _NARROW_LTX, "random LTX-2.3": _NARROW_LTX_23}
_KINDS = {"demo image": "image", "demo video": "video"}
_TIME = ((16, 8), (24, 16), (24, 8), (32, 24), (32, 16), (40, 24), (56, 40), (56, 32), (72, 56), (72, 40), (80, 56))
_SPACE = ((256, 224), (256, 192), (384, 320), (384, 288), (512, 448), (512, 416), (512, 384), (512, 320))
_WHOLE = 1 << 14  # pixels of a tile that is larger than all inputs


@dataclass(frozen=True)
class _Case:
    """A model and the axes that are tiled.

    Attributes:
        model: name of the model.
        along: "time" (97 frames of 256x384) or "space" (9 frames of 704x1216; pictures of 1024x1536).
    """

    model: str
    along: str

    @property
    def video(self) -> bool:
        return self.model != "demo image" and self.model != "random SD"

    @property
    def size(self) -> tuple[int, int, int]:
        """Frames, height, width."""
        if not self.video:
            return (1, 1024, 1536)
        return (97, 256, 384) if self.along == "time" else (9, 704, 1216)


_CASES = (
    *(
        _Case(model, along)
        for model in ("demo video", "random LTX-2.0", "random LTX-2.3")
        for along in ("time", "space")
    ),
    *(_Case(model, "space") for model in ("demo image", "random SD")),
)


def measure_quality(work: Path, threads: int) -> list[dict[str, Any]]:
    """Decode each case in a single pass, with diffusers' default tiles, and with each tile and overlap."""
    rows: list[dict[str, Any]] = []
    for case in _CASES:
        print(f"quality: {case.model}, {case.along}", flush=True)
        rows += in_own_process(_rows, case, work, threads)
    return rows


def promises(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the default is held to, row by row: PSNR and work against those of diffusers' defaults, and PSNR at the
    same tile and stride."""
    held = []
    for case in _CASES:
        own = [row for row in rows if (row["model"], row["along"]) == (case.model, case.along)]
        theirs = next(row for row in own if row["blend"] == "diffusers defaults")
        ours = next(row for row in own if row["blend"] == "linear default")
        gain = 5.0 if case.along == "time" else 0.0
        more = ours["psnr_db"] - theirs["psnr_db"]
        kept = more >= gain and (case.along == "space" or ours["work"] <= theirs["work"])
        held.append(
            {
                "case": f"{case.model}, {case.along}",
                "against": "diffusers' defaults",
                "more_db": more,
                "wanted_db": gain,
                "work": ours["work"] / theirs["work"],
                "passed": kept,
            }
        )
        for row in own:
            if row["blend"] == "diffusers":
                same = next(r for r in own if r["blend"] == "linear" and r["tile"] == row["tile"])
                more = same["psnr_db"] - row["psnr_db"]
                held.append(
                    {
                        "case": f"{case.model}, {case.along}",
                        "against": f"diffusers at {row['tile']}",
                        "more_db": more,
                        "wanted_db": 0.0,
                        "work": same["work"] / row["work"],
                        "passed": more >= 0,
                    }
                )
    return held


def demo_bundle(work: Path, kind: str) -> Path:
    """Return the bundle of the embedded demo model "image" or "video", exported if it is missing."""
    from latentrt.export.bundle import export_bundle

    bundle = work / f"demo-{kind}"
    if not bundle.exists():
        model = work / f"demo-{kind}-model"
        with importlib.resources.as_file(importlib.resources.files("latentrt.export.demo") / kind) as embedded:
            shutil.copytree(embedded, model, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
        export_bundle(model, bundle)
    return bundle


def _bundle(work: Path, model: str) -> Path:
    from latentrt.export.bundle import export_bundle

    if model in _KINDS:
        return demo_bundle(work, _KINDS[model])
    bundle = work / model.replace(" ", "-")
    if not bundle.exists():
        checkpoint = bundle.with_name(f"{bundle.name}-checkpoint")
        write_checkpoint(checkpoint, _RANDOM[model])
        export_bundle(checkpoint, bundle)
    return bundle


def _rows(case: _Case, work: Path, threads: int) -> list[dict[str, Any]]:
    from latentrt.export.verify.quality import psnr, seam_ratio
    from latentrt.runtime import open_bundle

    rows: list[dict[str, Any]] = []
    with open_bundle(_bundle(work, case.model), threads=threads) as vae:
        z = _latents(vae, case)
        whole = np.asarray(vae.decode(z).sample)

        def measure(label: str, tile: str, **settings: Any) -> None:
            vae.enable_tiling(**settings)
            plan = vae.tile_plan("decoder", whole.shape[2:])
            tiled = np.asarray(vae.decode(z).sample)
            quality = {"psnr_db": psnr(tiled, whole), "seam": seam_ratio(tiled, whole, plan)}
            shape = "x".join(map(str, plan.shape))
            rows.append({"model": case.model, "along": case.along, "blend": label, "tile": tile, "tiles": shape})
            rows[-1] |= {"work": plan.work, **quality}

        theirs: dict[str, Any] = {"blend": "diffusers"}
        if case.along == "time":
            theirs |= {"framewise": True, "compat_shift": True}
        measure("diffusers defaults", "its own", **theirs)
        measure("linear default", "its own")
        for size, stride in _TIME if case.along == "time" else _SPACE:
            tile = f"{size} every {stride}"
            settings = _settings(case, size, stride)
            measure("diffusers", tile, **settings, **theirs)
            measure("linear", tile, **settings)
    return rows


def _settings(case: _Case, size: int, stride: int) -> dict[str, int]:
    space = {
        f"tile_sample_{what}_{axis}": value
        for axis in ("height", "width")
        for what, value in (("min", size), ("stride", stride))
    }
    if case.along == "space":
        return space
    whole = dict.fromkeys(space, _WHOLE)
    return {**whole, "tile_sample_min_num_frames": size, "tile_sample_stride_num_frames": stride}


def _latents(vae: Any, case: _Case) -> Any:
    from latentrt.export.figures.drawn_samples import demo_clip, demo_picture
    from latentrt.runtime.arrays.pixels import to_samples

    frames, height, width = case.size
    if case.model in _KINDS:
        pixels = np.stack(list(demo_clip(frames, height, width))) if case.video else demo_picture(height, width)
        return vae.encode(to_samples(pixels[np.newaxis])).latent_dist.mode()
    size = vae.grid.latent_size((frames, height, width) if case.video else (height, width))
    return np.random.default_rng(0).standard_normal((1, vae.config.latent_channels, *size), np.float32)
