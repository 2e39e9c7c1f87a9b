"""Published VAE files, recognised by size and SHA-256: their names and shapes do not determine the model.

Each digest occurs in several public repositories that download the file and check it. One of them is named per row.
"""

from pathlib import Path

from ...runtime.system.hashing import sha256_of

__all__ = ["PUBLISHED_FILES", "model_of_file"]

# (size in bytes, SHA-256) -> model.
PUBLISHED_FILES: dict[tuple[int, str], str] = {
    # stabilityai/sd-vae-ft-mse-original, vae-ft-mse-840000-ema-pruned.safetensors
    (334_641_190, "735e4c3a447a3255760d7f86845f09f937809baa529c17370d83e4c3758f3c75"): "Stable Diffusion 1.x or 2.x",
    # stabilityai/sdxl-vae, sdxl_vae.safetensors
    (334_641_164, "63aeecb90ff7bc1c115395962d3e803571385b61938377bc7089b36e81e92e2e"): "SDXL",
    # madebyollin/sdxl-vae-fp16-fix, sdxl_vae.safetensors and sdxl.vae.safetensors
    (334_641_162, "235745af8d86bf4a4c1b5b4f529868b37019a10f7c0b2e79ad0abca3a22bc6e1"): "SDXL",
    # stabilityai/stable-diffusion-3.5-large, -large-turbo and -medium, vae/diffusion_pytorch_model.safetensors
    (167_666_902, "8f53304a79335b55e13ec50f63e5157fee4deb2f30d5fae0654e2b2653c109dc"): "SD3",
    # black-forest-labs/FLUX.1-schnell, -dev and Comfy-Org/z_image_turbo, ae.safetensors
    (335_304_388, "afc8e28272cd15db3919bacdb6918ce9c1ed22e96cb12c4d5ed0fba823529e38"): "FLUX.1",
    # black-forest-labs/FLUX.1-schnell, -dev and Tongyi-MAI/Z-Image-Turbo, vae/diffusion_pytorch_model.safetensors
    (167_666_902, "f5b59a26851551b67ae1fe58d32e76486e1e812def4696a4bea97f16604d40a3"): "FLUX.1",
}


def model_of_file(path: Path) -> str | None:
    """Return the published model whose file this is, byte for byte, or None.

    The file is read only if it has the size of a published file.
    """
    size = path.stat().st_size
    if all(size != known for known, _ in PUBLISHED_FILES):
        return None
    return PUBLISHED_FILES.get((size, sha256_of(path)))
