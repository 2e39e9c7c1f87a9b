"""Our VAE object against ComfyUI's own VAE class with the same weights: `python comparison.py CHECKOUT FOLDER`.

FOLDER has a checkpoint NAME.safetensors and a bundle NAME for each model. One line of JSON per model goes to standard
output.
"""

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

sys.path[0] = str(Path(__file__).parents[1])

from comfyui_trial.stand_ins import stand_in  # noqa: E402

__all__: list[str] = []

_SIZES = {"pictures": (1, 70, 100, 3), "clips": (12, 70, 130, 3)}  # no multiples, so that both have to cut
_ATTRIBUTES = ("latent_channels", "latent_dim", "output_channels", "upscale_index_formula", "downscale_index_formula")


def main() -> None:
    """Compare the models."""
    stand_in()
    checkout, folder = sys.argv[1], Path(sys.argv[2])
    os.chdir(checkout)
    sys.path[0] = checkout
    sys.argv = ["main.py", "--cpu"]
    options: Any = import_module("comfy.options")
    options.enable_args_parsing()
    sd: Any = import_module("comfy.sd")
    utils: Any = import_module("comfy.utils")

    from latentrt.integrations.comfyui.vae import LatentRTVAE
    from latentrt.runtime import open_bundle

    with torch.inference_mode():
        for bundle in sorted(path for path in folder.iterdir() if (path / "manifest.json").exists()):
            tensors, metadata = utils.load_torch_file(f"{bundle}.safetensors", return_metadata=True)
            ours = LatentRTVAE(open_bundle(bundle, backend="onnxruntime"))
            try:
                theirs = sd.VAE(sd=tensors, metadata=metadata, dtype=torch.float32)
            except Exception as error:  # this version does not know the model
                result: dict[str, Any] = {"not loaded by this ComfyUI": f"{type(error).__name__}: {error}"[:200]}
            else:
                result = _compared(theirs, ours)
            print(json.dumps({"model": bundle.name, **result}), flush=True)


def _compared(theirs: Any, ours: Any) -> dict[str, Any]:
    clip = ours.latent_dim == 3
    pixels = torch.rand(_SIZES["clips" if clip else "pictures"], generator=torch.Generator().manual_seed(1))
    if clip:
        pixels = pixels[: ours.first_stage_model.space.whole_frames(len(pixels))]  # ComfyUI 0.3 refuses other lengths
    own_latents, our_latents = theirs.encode(pixels), ours.encode(pixels)
    own, our = theirs.decode(own_latents), ours.decode(own_latents)
    result: dict[str, Any] = {
        "encode": _distance(own_latents, our_latents),
        "decode": _distance(own, our),
        "shape": list(our.shape),
        "tiled decode against whole": _distance(ours.decode_tiled(own_latents, 8, 8, 2, 2, 1), our),
        "ComfyUI's tiled decode against its whole decode": _distance(theirs.decode_tiled(own_latents, 8, 8, 2), own),
        "attributes that differ": [name for name in _ATTRIBUTES if getattr(theirs, name) != getattr(ours, name)],
    }
    import comfy.model_management

    loaded = ours.get_ram_usage()
    comfy.model_management.unload_all_models()
    result["bytes that evicting frees"] = loaded - ours.get_ram_usage()
    result["decode after evicting"] = _distance(ours.decode(own_latents), our)
    calls = ("spacial_compression_decode", "spacial_compression_encode", "temporal_compression_decode")
    result["attributes that differ"] += [name for name in calls if getattr(theirs, name)() != getattr(ours, name)()]
    if clip:
        own_statistics = theirs.first_stage_model.per_channel_statistics
        statistics = ours.first_stage_model.per_channel_statistics
        result["un_normalize"] = _distance(
            own_statistics.un_normalize(own_latents), statistics.un_normalize(own_latents)
        )
        result["LTX nodes"] = _ltx_nodes(theirs, ours, pixels)
        result["normalize"] = _distance(own_statistics.normalize(own_latents), statistics.normalize(own_latents))
    return result


def _ltx_nodes(theirs: Any, ours: Any, pixels: torch.Tensor) -> dict[str, Any]:
    """The latents that ComfyUI's nodes for LTX make with either VAE, compared."""
    nodes: Any = import_module("comfy_extras.nodes_lt")
    text = [[torch.zeros(1, 1, 8), {}]]
    image = nodes.LTXVImgToVideo.execute
    guide = nodes.LTXVAddGuide.execute
    first = [image(text, text, pixels[:1], vae, 128, 64, 17, 1, 1.0).args[2] for vae in (theirs, ours)]
    second = [
        guide(text, text, vae, start, pixels, 0, 1.0).args[2] for vae, start in zip((theirs, ours), first, strict=True)
    ]
    pairs = {"LTXVImgToVideo": first, "LTXVAddGuide": second}
    return {name: _distance(own["samples"], our["samples"]) for name, (own, our) in pairs.items()}


def _distance(a: torch.Tensor, b: torch.Tensor) -> float | str:
    return float((a - b).abs().max()) if a.shape == b.shape else f"{tuple(a.shape)} and {tuple(b.shape)}"


if __name__ == "__main__":
    main()
