"""What every model config answers: its shape, its latents and what its family can do.

Code that works for all families asks these questions of a config. A family's config overrides an answer where the
family differs. Nothing asks whether a config is of a certain class.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar, Self

from .fields import FromDict

__all__ = ["ModelConfig", "NoiseStack", "PassMemory"]

_MOST_SHOWN = 8  # entries of a list in a config's repr


@dataclass(frozen=True)
class NoiseStack:
    """Noise for one decoder block: float32 (maps, scale * latent height, scale * latent width), standard normal, shared
    by all frames and the whole batch.

    Attributes:
        block: 0 is the mid block, and 1 the first up block.
        maps: two per residual block.
        scale: cells of the block per latent cell, along height and width.
    """

    block: int
    maps: int
    scale: int


@dataclass(frozen=True)
class PassMemory:
    """The activations of one pass, in values per latent cell of a picture, or per latent cell and frame of a clip.
    Attention's scores are not included.

    Attributes:
        widest: values of the largest activation.
        peak: values of all activations that are held at once, as measured with ONNX Runtime.
    """

    widest: int
    peak: float


@dataclass(frozen=True, kw_only=True, repr=False)
class ModelConfig(FromDict, ABC):
    """A model's config: frozen, checked, with the field names of diffusers.

    Attributes:
        family: the name of the model's class in diffusers.
        video: whether samples are clips, (B, C, T, H, W), instead of pictures, (B, C, H, W).
        supports_streams: whether a clip can run chunk by chunk.
        supports_strips: whether a picture can run in strips, with the numbers of a single pass.
        scaled_in_comfyui: whether ComfyUI's VAE of this family gives diffusion latents. For most families it gives
            model latents.
    """

    family: ClassVar[str]
    video: ClassVar[bool] = False
    supports_streams: ClassVar[bool] = False
    supports_strips: ClassVar[bool] = False
    scaled_in_comfyui: ClassVar[bool] = False

    def __repr__(self) -> str:
        """The fields that differ from their defaults. Long lists are named by their length."""
        given = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) != one.default}
        texts = (
            f"{name}=<{len(value)} values>"
            if isinstance(value, tuple) and len(value) > _MOST_SHOWN
            else f"{name}={value!r}"
            for name, value in given.items()
        )
        return f"{type(self).__name__}({', '.join(texts)})"

    # The shape of samples and latents

    @property
    @abstractmethod
    def in_channels(self) -> int:
        """Channels of the encoder's sample."""

    @property
    @abstractmethod
    def out_channels(self) -> int:
        """Channels of the decoder's sample."""

    @property
    @abstractmethod
    def latent_channels(self) -> int:
        """Channels of model latents."""

    @property
    @abstractmethod
    def spatial_ratio(self) -> int:
        """Pixels per latent cell along height and width."""

    @property
    def temporal_ratio(self) -> int:
        """Frames per latent frame after the first."""
        return 1

    def min_latent_size(self, component: str) -> int:
        """The fewest latent cells along height or width that a component takes."""
        return 1

    @property
    def trained_size(self) -> int | None:
        """The side of diffusers' default tile in pixels: the size of picture that the model is trained for, or None."""
        return None

    # The statistics of latents

    @property
    def scaling_factor(self) -> float | None:
        """The number that model latents are multiplied by, or None for 1."""
        return None

    @property
    def shift_factor(self) -> float | None:
        """The number that is subtracted from model latents first, or None for 0."""
        return None

    @property
    def latents_mean(self) -> tuple[float, ...] | None:
        """The mean of each channel of the latents, packed if the family packs them, or None."""
        return None

    @property
    def latents_std(self) -> tuple[float, ...] | None:
        """The standard deviation of each channel of the latents, packed if the family packs them, or None."""
        return None

    @property
    def missing_statistics(self) -> tuple[str, ...]:
        """The fields that scaling latents needs and this config lacks."""
        return ()

    @property
    def packing(self) -> tuple[int, int] | None:
        """Rows and columns of the latent cells that one cell of diffusion latents holds side by side as channels, or
        None where both latents have one layout."""
        return None

    @property
    def diffusion_channels(self) -> int:
        """Channels of diffusion latents."""
        return self.latent_channels * math.prod(self.packing or ())

    # What a call needs

    def causal(self, component: str) -> bool | None:
        """Whether a component of a video model looks at earlier frames only; None for image models."""
        return None

    @property
    def timestep_conditioning(self) -> bool:
        """Whether the decoder takes timesteps."""
        return False

    @property
    def inject_noise(self) -> tuple[bool, ...]:
        """Whether the decoder's mid block and then each up block adds noise, in decoding order."""
        return ()

    @property
    def noise_stacks(self) -> tuple[NoiseStack, ...]:
        """The noise that one decode consumes, in order: one stack of maps per block that adds noise."""
        return ()

    def without_conditions(self) -> Self:
        """The config of the same decoder without timesteps and noise, which change no shape."""
        return self

    # What a pass takes

    @abstractmethod
    def pass_memory(self, component: str) -> PassMemory:
        """The activations of one pass of a component."""

    @property
    def attention_channels(self) -> int:
        """Channels of attention over all latent cells, whose scores grow with the square of the latents' area; 0 for a
        model without such attention."""
        return 0

    # What the exporter asks

    @property
    @abstractmethod
    def layer_count(self) -> int:
        """A lower bound for the number of tensors in the model's checkpoint. It is known before a model is built."""

    @property
    def force_upcast(self) -> bool:
        """Whether diffusers computes in float32 because float16 overflows."""
        return False
