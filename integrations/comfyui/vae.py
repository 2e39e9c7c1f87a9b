"""An opened bundle as ComfyUI's VAE: the methods, layouts and attributes that its nodes use."""

import copy
from typing import Any

import comfy.model_management as model_management
import torch

from ...runtime.autoencoders.autoencoder import Autoencoder
from ...runtime.errors import InputError
from .engine_patcher import EnginePatcher
from .first_stage_model import FirstStageModel
from .tile_sizes import TileSizes

__all__ = ["LatentRTVAE"]


class LatentRTVAE:
    """What nodes call on a VAE.

    It is no subclass of `comfy.sd.VAE`, whose constructor needs a state dict and whose calls split, tile and repeat by
    its own estimates. Here the bundle plans. Pictures are (B, H, W, C), clips (T, H, W, C) or (B, T, H, W, C), float32
    in [0, 1]. Latents are (B, C, h, w) or (B, C, t, h, w).

    Attributes:
        first_stage_model: the inner model.
        patcher: what ComfyUI's memory manager holds.
        seed: of the noise, for decoders that take timesteps or inject noise. Nodes may set it.
        device: where the engines run.
        output_device: where results go.
        vae_dtype: the dtype of results.
    """

    def __init__(self, autoencoder: Autoencoder, *, memory: str | None = None, exact_tiles: bool = False) -> None:
        """`memory` and `exact_tiles` as in `FirstStageModel`."""
        self.first_stage_model = FirstStageModel(autoencoder, memory=memory, exact_tiles=exact_tiles)
        space, config = self.first_stage_model.space, autoencoder.config
        on_gpu = autoencoder.device == "cuda"
        self.device = model_management.get_torch_device() if on_gpu else torch.device("cpu")
        self.output_device = model_management.intermediate_device()
        self.vae_dtype = torch.float32
        self.working_dtypes = [torch.float32]
        self.patcher = EnginePatcher(self.first_stage_model, autoencoder, self.device, torch.device("cpu"))
        self.latent_channels = space.channels
        self.latent_dim = 2 if space.temporal is None else 3
        self.output_channels = config.out_channels
        self.upscale_ratio, self.downscale_ratio = space.upscale_ratio, space.downscale_ratio
        self.upscale_index_formula = self.downscale_index_formula = space.index_formula
        self.not_video = self.disable_offload = False
        self.crop_input = self.handles_tiling = True
        self.extra_1d_channel = None
        self.seed = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "LatentRTVAE":
        """A copy that shares the engines, for nodes that copy a VAE to change a setting."""
        result = copy.copy(self)
        result.first_stage_model = copy.copy(self.first_stage_model)
        return result

    # Decoding

    def decode(self, samples_in: torch.Tensor, vae_options: dict[str, Any] | None = None) -> torch.Tensor:
        """Latents to pictures (B, H, W, C) or clips (B, T, H, W, C)."""
        return self._decode(samples_in, None, **(vae_options or {}))

    def decode_tiled(
        self,
        samples: torch.Tensor,
        tile_x: int | None = None,
        tile_y: int | None = None,
        overlap: int | None = None,
        tile_t: int | None = None,
        overlap_t: int | None = None,
    ) -> torch.Tensor:
        """`decode` in tiles. Sizes are in latent cells and latent frames."""
        return self._decode(samples, TileSizes(tile_y, tile_x, overlap, tile_t, overlap_t))

    def _decode(self, samples: torch.Tensor, tiles: TileSizes | None, **options: Any) -> torch.Tensor:
        if self.latent_dim == 2 and samples.ndim == 5:
            samples = samples[:, :, 0]
        self._make_space("decoder", samples.shape[0] * samples[0, 0].numel())
        decoded = self.first_stage_model.decode(samples, seed=self.seed, tiles=tiles, **options)
        return self.process_output(decoded).to(self.output_device).movedim(1, -1)

    # Encoding

    def encode(self, pixel_samples: torch.Tensor, not_video: bool | None = None) -> torch.Tensor:
        """Pictures (B, H, W, C), or a clip (T, H, W, C), to mean latents. `not_video`: the batch holds pictures, also
        for a video model."""
        return self._encode(pixel_samples, None, not_video)

    def encode_tiled(
        self,
        pixel_samples: torch.Tensor,
        tile_x: int | None = None,
        tile_y: int | None = None,
        overlap: int | None = None,
        tile_t: int | None = None,
        overlap_t: int | None = None,
        not_video: bool | None = None,
    ) -> torch.Tensor:
        """`encode` in tiles. Sizes are in pixels and frames."""
        space = self.first_stage_model.space
        tiles = TileSizes.of_pixels(space, tile_y, tile_x, overlap, tile_t, overlap_t)
        return self._encode(pixel_samples, tiles, not_video)

    def _encode(self, pixels: torch.Tensor, tiles: TileSizes | None, not_video: bool | None) -> torch.Tensor:
        pixels = self.vae_encode_crop_pixels(pixels).movedim(-1, 1)
        if self.latent_dim == 3:
            if pixels.ndim < 5:
                still = self.not_video if not_video is None else not_video
                pixels = pixels.unsqueeze(2) if still else pixels.movedim(1, 0).unsqueeze(0)
            pixels = pixels[:, :, : self.first_stage_model.space.whole_frames(pixels.shape[2])]
        self._make_space("encoder", pixels.shape[0] * pixels[0, 0].numel() // self.spacial_compression_encode() ** 2)
        latents = self.first_stage_model.encode(self.process_input(pixels.float()), tiles=tiles)
        return latents.to(self.output_device)

    def vae_encode_crop_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Cut height and width to multiples of the ratio, from the middle, and fit the channels: more than the encoder
        takes are left out, and a missing alpha channel is opaque."""
        ratio = self.spacial_compression_encode()
        for axis in (pixels.ndim - 3, pixels.ndim - 2):
            size = pixels.shape[axis]
            if size < ratio:
                raise InputError(
                    f"picture: wanted at least {ratio} pixels along each side, got {pixels.shape[-3]} high and "
                    f"{pixels.shape[-2]} wide: use a larger picture"
                )
            pixels = pixels.narrow(axis, (size % ratio) // 2, size // ratio * ratio)
        channels = self.first_stage_model.autoencoder.config.in_channels
        missing = channels - pixels.shape[-1]
        return torch.nn.functional.pad(pixels, (0, missing), value=1.0) if missing > 0 else pixels[..., :channels]

    # Values and memory

    @staticmethod
    def process_input(image: torch.Tensor) -> torch.Tensor:
        """[0, 1] to [-1, 1]."""
        return image * 2.0 - 1.0

    @staticmethod
    def process_output(image: torch.Tensor) -> torch.Tensor:
        """[-1, 1] to [0, 1], clipped, in place."""
        return image.add_(1.0).div_(2.0).clamp_(0.0, 1.0)

    def memory_used_decode(self, shape: tuple[int, ...], dtype: Any) -> int:
        """An estimate of what a decode of latents of this shape takes, in bytes."""
        return self.first_stage_model.estimate_bytes("decoder", torch.Size((shape[0], *shape[2:])).numel())

    def memory_used_encode(self, shape: tuple[int, ...], dtype: Any) -> int:
        """An estimate of what an encode of a sample of this shape, (B, C, ...), takes, in bytes."""
        cells = torch.Size((shape[0], *shape[2:])).numel() // self.spacial_compression_encode() ** 2
        return self.first_stage_model.estimate_bytes("encoder", cells)

    def _make_space(self, component: str, cells: int) -> None:
        """Let ComfyUI evict other models from the engines' device."""
        needed = self.first_stage_model.estimate_bytes(component, cells)
        model_management.load_models_gpu([self.patcher], memory_required=needed)

    # What nodes ask

    def spacial_compression_decode(self) -> int:
        """Pixels per latent cell."""
        return self.first_stage_model.space.spatial

    def spacial_compression_encode(self) -> int:
        """Pixels per latent cell."""
        return self.first_stage_model.space.spatial

    def temporal_compression_decode(self) -> int | None:
        """Frames per latent frame; None for pictures."""
        return self.first_stage_model.space.temporal

    def vae_output_dtype(self) -> torch.dtype:
        """The dtype of results."""
        return torch.float32

    def throw_exception_if_invalid(self) -> None:
        """Do nothing: a bundle is checked when it is opened."""

    def is_dynamic(self) -> bool:
        """Whether ComfyUI moves the weights piece by piece while the model runs."""
        return False

    def model_size(self) -> int:
        """The bytes of the weights."""
        return int(self.patcher.model_size())

    def get_ram_usage(self) -> int:
        """The bytes that the engines take now."""
        return self.patcher.loaded_size()

    def get_sd(self) -> dict[str, torch.Tensor]:
        """Refuse: a bundle holds graphs, and no state dict of the checkpoint."""
        raise InputError("a LatentRT bundle cannot be saved as a VAE: save the checkpoint that it was made from")
