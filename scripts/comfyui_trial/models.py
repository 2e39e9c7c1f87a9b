"""The models of the trial: random weights in their original layouts, as checkpoints and as bundles."""

import json
from pathlib import Path
from typing import Any

import torch
from architectures import FLUX_2, LTX_20, diffusers_model
from originals import FULL_SDXL, description_of, ldm_tensors, ltx2_tensors
from safetensors.torch import save_file

from comfyui_trial.stand_ins import stand_in
from latentrt.export.bundle import ExportSettings, export_bundle

__all__ = ["PICTURES", "make_models"]

PICTURES: dict[str, dict[str, Any]] = {
    "flux1": FULL_SDXL
    | {
        "latent_channels": 16,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
    },
    "sdxl": FULL_SDXL,
}
"""The image models, as configs of diffusers. They have their real width."""
_CLIPS: dict[str, dict[str, Any]] = {
    "ltx2-narrow": LTX_20
    | {
        "latent_channels": 128,  # the fewest channels that ComfyUI's class takes, here and below
        "block_out_channels": [128] * 4,
        "decoder_block_out_channels": [128] * 3,
        "upsample_factor": [1] * 3,
    }
}
_FLUX_2: dict[str, dict[str, Any]] = {"flux2-narrow": FLUX_2 | {"latent_channels": 32}}


def make_models(folder: Path) -> None:
    """Write NAME.safetensors and the bundle NAME of each model to `folder`."""
    stand_in()  # diffusers imports torchvision
    for name, config in (PICTURES | _CLIPS | _FLUX_2).items():
        model = diffusers_model(config)
        tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
        metadata = {}
        if name in PICTURES:
            written = ldm_tensors({key: value.numpy() for key, value in tensors.items()})
            tensors = {key: torch.from_numpy(value.copy()) for key, value in written.items()}
        elif name in _CLIPS:
            tensors = {key: value.clone() for key, value in ltx2_tensors(tensors, config, prefix="").items()}
            metadata = {"config": json.dumps({"vae": description_of(config)})}
        save_file(tensors, folder / f"{name}.safetensors", metadata)
        source = folder / f".{name}"
        model.save_pretrained(source)
        export_bundle(source, folder / name, ExportSettings())
