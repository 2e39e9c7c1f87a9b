"""Make exhibits with the code that is installed: python tests/museum/make.py FOLDER [NAME ...]

FOLDER must not exist. Without names, every exhibit is made. --options replaces the options of the exports.
tests/museum/README.md says how this is used, and from which commit.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import numpy as np
import torch
from architectures import diffusers_model
from safetensors.numpy import save_file

from latentrt.runtime import AutoencoderKLLTX2Video, open_bundle

IMAGE: dict[str, Any] = {
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "block_out_channels": [4, 8],
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "sample_size": 32,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "autoencoder-kl": IMAGE | {"_class_name": "AutoencoderKL", "scaling_factor": 0.18215},
    "autoencoder-kl-rgba": IMAGE
    | {"_class_name": "AutoencoderKL", "scaling_factor": 0.3611, "shift_factor": 0.1159, "act_fn": "gelu"}
    | {"in_channels": 4, "out_channels": 4, "use_quant_conv": False, "use_post_quant_conv": False},
    "autoencoder-kl-flux2": IMAGE | {"_class_name": "AutoencoderKLFlux2", "decoder_block_out_channels": [4, 4]},
    "autoencoder-kl-ltx2-video": {
        "_class_name": "AutoencoderKLLTX2Video",
        "latent_channels": 4,
        "patch_size": 2,
        "spatial_compression_ratio": 4,
        "temporal_compression_ratio": 2,
        "block_out_channels": [8],
        "down_block_types": ["LTX2VideoDownBlock3D"],
        "downsample_type": ["spatiotemporal"],
        "layers_per_block": [1, 1],
        "spatio_temporal_scaling": [True],
        "decoder_block_out_channels": [8],
        "decoder_causal": False,
        "decoder_inject_noise": [True, True],
        "decoder_layers_per_block": [1, 1],
        "decoder_spatio_temporal_scaling": [True],
        "timestep_conditioning": True,
        "upsample_factor": [2],
        "upsample_residual": [True],
        "upsample_type": ["spatiotemporal"],
    },
}
EXPORT_OPTIONS = {
    "autoencoder-kl": "--dtype float32 --dtype float16 --exact-tiles --check-range sample.npy",
    "autoencoder-kl-rgba": "--dtype float32 --dtype bfloat16 --no-exact-tiles --attention eager --no-fuse-qkv",
    "autoencoder-kl-flux2": "--dtype float32 --exact-tiles",
    "autoencoder-kl-ltx2-video": "--dtype float32 --dtype float16 --stream --causal true --causal false",
}
VERIFIED = ("autoencoder-kl",)
"""Their manifests also hold what `latentrt verify` found."""

TILES = {"tile_sample_min_height": 8, "tile_sample_min_width": 8}
TILES |= {"tile_sample_stride_height": 4, "tile_sample_stride_width": 4}
TILES_IN_TIME = {"tile_sample_min_num_frames": 4, "tile_sample_stride_num_frames": 2}
SEED = 7
"""Of the noise that the video decoder injects."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--options")
    given = parser.parse_args()
    folder = given.folder.absolute()
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        np.save(Path(scratch) / "sample.npy", random_sample((1, 3, 32, 32)))
        for name in given.names or ARCHITECTURES:
            architecture = ARCHITECTURES[name]
            (folder / name).mkdir()
            bundle = folder / name / "bundle"
            save_checkpoint(Path(scratch) / name, architecture, overflows=name == "autoencoder-kl")
            latentrt(scratch, "export", name, bundle, *(given.options or EXPORT_OPTIONS[name]).split())
            if name in VERIFIED:
                latentrt(scratch, "verify", bundle, "--source", name, "--samples", "sample.npy", "--threads", 1)
            record_results(bundle, folder / name / "results.safetensors")


def random_sample(shape: tuple[int, ...]) -> np.ndarray:
    """float32 in [-1, 1]."""
    return np.tanh(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def save_checkpoint(folder: Path, architecture: dict[str, Any], *, overflows: bool) -> None:
    """A diffusers folder with random weights. `overflows`: its decoder passes 65504 in the middle and comes back, as
    SDXL's does, so that --check-range keeps something in float32."""
    model = diffusers_model(architecture)
    if overflows:
        with torch.no_grad():
            model.decoder.mid_block.attentions[0].to_out[0].weight.mul_(4e5)
            model.decoder.up_blocks[1].resnets[0].conv_shortcut.weight.mul_(1e-5)
    model.save_pretrained(folder)


def latentrt(folder: str, *arguments: object) -> None:
    code = "from latentrt.export.cli import main; main()"
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], cwd=folder, check=True)


def record_results(bundle: Path, path: Path) -> None:
    """Write a sample, latents and what the bundle makes of them on ONNX Runtime's CPU, float32, with one thread."""
    vae: Any  # the families differ in what enable_tiling takes
    with open_bundle(bundle, backend="onnxruntime", provider="cpu", threads=1) as vae:
        video = isinstance(vae, AutoencoderKLLTX2Video)
        frames, batch = ((9,), 1) if video else ((), 2)
        sample = random_sample((batch, vae.config.in_channels, *frames, 12, 16))
        conditions: dict[str, Any] = {}
        results = {"sample": sample, "moments": vae.encode(sample).latent_dist.parameters}
        latents = np.ascontiguousarray(vae.encode(sample).latent_dist.mode())
        results["latents"] = latents
        if video:
            results["temb"] = np.full(batch, 0.05, np.float32)
            conditions = {"temb": results["temb"], "rng": SEED}
            results["moments_non_causal"] = vae.encode(sample, causal=False).latent_dist.parameters
            results["decoded_causal"] = vae.decode(latents, causal=True, **conditions).sample
        results["decoded"] = vae.decode(latents, **conditions).sample
        results["scaled_latents"] = vae.scale_latents(latents)
        tiles = TILES | (TILES_IN_TIME if video else {})
        vae.enable_tiling(**tiles)
        results["tiled_moments"] = vae.encode(sample).latent_dist.parameters
        results["tiled_decoded"] = vae.decode(latents, **conditions).sample
    arrays = {name: np.ascontiguousarray(array) for name, array in results.items()}
    save_file(arrays, path, metadata={"tiles": json.dumps(tiles), "seed": str(SEED)})


if __name__ == "__main__":
    main()
