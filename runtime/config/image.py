"""What the configs of the image VAEs share: the convolutional autoencoder of Stable Diffusion and its descendants."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ...tiling.plain_text import shown
from ..errors import ConfigError
from .fields import require_bools, require_choices, require_int_tuple, require_ints
from .model_config import ModelConfig, PassMemory

__all__ = ["ACTIVATIONS", "ImageConfig"]

_LIVE_TENSORS: Mapping[str, float] = {"decoder": 4.0, "encoder": 3.2}
"""Tensors of the widest one's size that a pass holds at once. Measured with ONNX Runtime: 3.8, and 2.0 to 3.1."""

ACTIVATIONS = ("gelu", "mish", "relu", "silu", "swish")


@dataclass(frozen=True, kw_only=True, repr=False)
class ImageConfig(ModelConfig):
    """The structure of an image VAE. Each family adds how its latents are scaled."""

    supports_strips: ClassVar[bool] = True

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",)
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    act_fn: str = "silu"
    latent_channels: int = 4
    norm_num_groups: int = 32
    sample_size: int | tuple[int, ...] = 32
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    def __post_init__(self) -> None:
        require_ints(self, ("in_channels", "out_channels", "layers_per_block", "latent_channels", "norm_num_groups"))
        require_bools(self, ("use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"))
        require_int_tuple(self, "block_out_channels")
        require_choices(self, "down_block_types", ("DownEncoderBlock2D",))
        require_choices(self, "up_block_types", ("UpDecoderBlock2D",))
        self._check_activation()
        blocks = len(self.block_out_channels)
        for name in ("down_block_types", "up_block_types"):
            if len(getattr(self, name)) != blocks:
                raise ConfigError(
                    f"config: {name} must name one block per entry of block_out_channels ({blocks}), "
                    f"got {len(getattr(self, name))}; correct config.json"
                )
        self._check_groups("block_out_channels", self.block_out_channels)

    @property
    def decoder_widths(self) -> tuple[int, ...]:
        """The decoder's channels, in the order of `block_out_channels`: from the picture to the latents."""
        return self.block_out_channels

    @property
    def spatial_ratio(self) -> int:
        """Pixels per latent cell along height and width."""
        return int(2 ** (len(self.block_out_channels) - 1))

    @property
    def trained_size(self) -> int:
        """`sample_size`, or its height."""
        return self.sample_size if isinstance(self.sample_size, int) else self.sample_size[0]

    def pass_memory(self, component: str) -> PassMemory:
        """The widest activation stands at one of the two finest resolutions; the finer one may take the coarser one's
        channels."""
        widths, ratio = self.decoder_widths if component == "decoder" else self.block_out_channels, self.spatial_ratio
        finest = (*widths[1:2], *widths)[:2]
        widest = max(channels * (ratio >> level) ** 2 for level, channels in enumerate(finest))
        widest = max(widest, widths[0] * ratio**2)
        return PassMemory(widest, _LIVE_TENSORS[component] * widest)

    @property
    def attention_channels(self) -> int:
        """The mid block attends over all cells, unless the config leaves attention out."""
        return self.block_out_channels[-1] if self.mid_block_add_attention else 0

    @property
    def layer_count(self) -> int:
        """Each layer has tensors of its own."""
        return self.layers_per_block

    def _check_groups(self, name: str, widths: tuple[int, ...]) -> None:
        for width in widths:
            if width % self.norm_num_groups:
                raise ConfigError(
                    f"config: every entry of {name} must be a multiple of norm_num_groups "
                    f"({self.norm_num_groups}), got {width}; correct config.json"
                )

    def _check_activation(self) -> None:
        if not isinstance(self.act_fn, str) or self.act_fn.lower() not in ACTIVATIONS:
            raise ConfigError(
                f"config: act_fn names {shown(self.act_fn)}, which is not supported; supported: "
                f"{', '.join(ACTIVATIONS)}"
            )
