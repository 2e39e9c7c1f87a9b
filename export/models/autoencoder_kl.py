"""The image VAE of Stable Diffusion, SDXL, SD3 and FLUX.1.

Architecture: Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models" (2022), the convolutional
autoencoder of VQGAN with Gaussian latents. Parameters have the names of diffusers' `AutoencoderKL`, so the weights of a
diffusers folder load with `strict=True`.
"""

from itertools import pairwise

from torch import Tensor, nn

from ...runtime.config.image import ImageConfig
from .attention import Attention

__all__ = ["AutoencoderKL"]

_EPS = 1e-6
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "mish": nn.Mish,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
}


class ResnetBlock(nn.Module):
    """Norm, activation and convolution, twice, plus the input. (B, Cin, H, W) -> (B, Cout, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, config: ImageConfig) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(config.norm_num_groups, in_channels, eps=_EPS)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(config.norm_num_groups, out_channels, eps=_EPS)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.nonlinearity = _ACTIVATIONS[config.act_fn.lower()]()
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, hidden: Tensor) -> Tensor:
        skip = hidden if self.conv_shortcut is None else self.conv_shortcut(hidden)
        hidden = self.conv1(self.nonlinearity(self.norm1(hidden)))
        hidden = self.conv2(self.nonlinearity(self.norm2(hidden)))
        return skip + hidden


class Downsample(nn.Module):
    """Halve height and width: a convolution of stride 2, padded only at the right and the bottom."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.conv(nn.functional.pad(hidden, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double height and width: nearest neighbour, then a convolution. (B, C, H, W) -> (B, C, 2 H, 2 W).

    With `surrounded`, the input (B, C, H + 2, W + 2) has one more row and column at each side, and the doubled picture
    is not padded with zeros.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, hidden: Tensor, surrounded: bool = False) -> Tensor:
        double = nn.functional.interpolate(hidden, scale_factor=2.0, mode="nearest")
        if surrounded:
            return nn.functional.conv2d(double[:, :, 1:-1, 1:-1], self.conv.weight, self.conv.bias)
        return self.conv(double)


class DownBlock(nn.Module):
    """diffusers' `DownEncoderBlock2D`."""

    def __init__(self, in_channels: int, out_channels: int, downsample: bool, config: ImageConfig) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * config.layers_per_block
        self.resnets = nn.ModuleList(ResnetBlock(a, b, config) for a, b in pairwise(widths))
        self.downsamplers = nn.ModuleList([Downsample(out_channels)] if downsample else [])

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.downsamplers):
            hidden = layer(hidden)
        return hidden


class UpBlock(nn.Module):
    """diffusers' `UpDecoderBlock2D`: one more residual block than in a down block."""

    def __init__(self, in_channels: int, out_channels: int, upsample: bool, config: ImageConfig) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * (config.layers_per_block + 1)
        self.resnets = nn.ModuleList(ResnetBlock(a, b, config) for a, b in pairwise(widths))
        self.upsamplers = nn.ModuleList([Upsample(out_channels)] if upsample else [])

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.upsamplers):
            hidden = layer(hidden)
        return hidden


class MidBlock(nn.Module):
    """A residual block, attention if the config has it, and a residual block."""

    def __init__(self, channels: int, config: ImageConfig) -> None:
        super().__init__()
        attention = [Attention(channels, config.norm_num_groups)] if config.mid_block_add_attention else []
        self.attentions = nn.ModuleList(attention)
        self.resnets = nn.ModuleList(ResnetBlock(channels, channels, config) for _ in range(2))

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in (self.resnets[0], *self.attentions, self.resnets[1]):
            hidden = layer(hidden)
        return hidden


class Encoder(nn.Module):
    """Picture (B, Cin, H, W) -> (B, 2 * latent_channels, h, w), before `quant_conv`."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        widths = config.block_out_channels
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            DownBlock(widths[max(index - 1, 0)], width, index != last, config) for index, width in enumerate(widths)
        )
        self.mid_block = MidBlock(widths[-1], config)
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[-1], eps=_EPS)
        self.conv_act = nn.SiLU()
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, sample: Tensor) -> Tensor:
        hidden = self.conv_in(sample)
        for block in self.down_blocks:
            hidden = block(hidden)
        hidden = self.mid_block(hidden)
        return self.conv_out(self.conv_act(self.conv_norm_out(hidden)))


class Decoder(nn.Module):
    """Latents (B, latent_channels, h, w) after `post_quant_conv` -> picture (B, Cout, H, W)."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        widths = config.decoder_widths[::-1]
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = MidBlock(widths[0], config)
        self.up_blocks = nn.ModuleList(
            UpBlock(widths[max(index - 1, 0)], width, index != last, config) for index, width in enumerate(widths)
        )
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[-1], eps=_EPS)
        self.conv_act = nn.SiLU()
        self.conv_out = nn.Conv2d(widths[-1], config.out_channels, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        hidden = self.mid_block(self.conv_in(latents))
        for block in self.up_blocks:
            hidden = block(hidden)
        return self.conv_out(self.conv_act(self.conv_norm_out(hidden)))


class AutoencoderKL(nn.Module):
    """The reference model. `encode` returns moments and `decode` a picture; the runtime samples and scales latents."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * channels, 2 * channels, 1) if config.use_quant_conv else None
        self.post_quant_conv = nn.Conv2d(channels, channels, 1) if config.use_post_quant_conv else None

    def encode(self, sample: Tensor) -> Tensor:
        """Picture (B, Cin, H, W) in [-1, 1] -> moments (B, 2 * latent_channels, h, w): mean, then log-variance."""
        moments = self.encoder(sample)
        return moments if self.quant_conv is None else self.quant_conv(moments)

    def decode(self, latents: Tensor) -> Tensor:
        """Model latents (B, latent_channels, h, w) -> picture (B, Cout, H, W), about [-1, 1], not clipped."""
        return self.decoder(latents if self.post_quant_conv is None else self.post_quant_conv(latents))

    def forward(self, sample: Tensor) -> Tensor:
        """Encode, take the mean, decode."""
        return self.decode(self.encode(sample).chunk(2, dim=1)[0])
