"""The image VAE cut into stages for strips. A stage needs a tile of its source with one row and column around it. The
layers are the model's own, and tiles of any size give the numbers of a single pass.

Group norm and attention are the only layers that need the whole picture. So a stage begins with the normalisation,
given the statistics of the whole picture, and ends with a convolution. It also gives the mean and variance of each row
of its result, from which the statistics of the whole result follow. Attention is two stages: the first makes keys and
values, and the second uses them. The zeros of the padding stand outside the picture only, and after the normalisation,
so a stage takes their number at each side: `top`, `left`, `bottom`, `right`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .attention import Attention
from .autoencoder_kl import Upsample

__all__ = ["AttentionStage", "ConvolutionStage", "KeysStage"]


class ConvolutionStage(nn.Module):
    """Normalise, activate, resize, convolve, add. Only the convolution is in every stage.

    Inputs: the tile (B, Cin, h, w) with the rows and columns around it that the convolution needs; the zeros at each
    side (whole numbers); with a norm, mean and variance (B, groups); with `adds`, the skip (B, Cskip, H, W). Outputs:
    the result (B, Cout, H, W) and, except in the `last` stage, mean and variance of its rows, (B, Cout, H) each.
    """

    def __init__(
        self,
        model: nn.Module,
        convolution: nn.Conv2d,
        *,
        norm: nn.GroupNorm | None = None,
        activation: nn.Module | None = None,
        before: nn.Module | None = None,
        after: nn.Module | None = None,
        upsample: Upsample | None = None,
        adds: bool = False,
        last: bool = False,
        shortcut: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.model = model  # registered first: weights keep the names that they have in the model
        self.convolution = convolution
        self.norm = norm
        self.activation = activation
        self.before = before
        self.after = after
        self.upsample = upsample
        self.adds = adds
        self.last = last
        self.shortcut = shortcut

    def forward(self, tile: Tensor, top: int, left: int, bottom: int, right: int, *rest: Tensor) -> tuple[Tensor, ...]:
        hidden = tile if self.before is None else self.before(tile)
        if self.norm is not None and self.activation is not None:
            hidden = self.activation(normalise(hidden, self.norm, rest[0], rest[1]))
        hidden = nn.functional.pad(hidden, (left, right, top, bottom))
        if self.upsample is not None:
            hidden = self.upsample(hidden, True)
        else:
            layer = self.convolution
            hidden = nn.functional.conv2d(hidden, layer.weight, layer.bias, layer.stride)
        if self.adds:
            skip = rest[0 if self.norm is None else 2]
            hidden = (skip if self.shortcut is None else self.shortcut(skip)) + hidden
        result = hidden if self.after is None else self.after(hidden)
        return (result,) if self.last else (result, *row_statistics(result))


class KeysStage(nn.Module):
    """tile (B, C, h, w), mean and variance (B, groups) -> keys and values (B, h * w, C) of its positions."""

    def __init__(self, model: nn.Module, attention: Attention) -> None:
        super().__init__()
        self.model = model
        self.attention = attention

    def forward(self, tile: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        tokens = _tokens(normalise(tile, self.attention.group_norm, mean, variance))
        return self.attention.to_k(tokens), self.attention.to_v(tokens)


class AttentionStage(nn.Module):
    """tile (B, C, h, w), mean and variance (B, groups), keys and values (B, N, C) of all positions -> the tile after
    attention, and mean and variance of its rows, (B, C, h) each."""

    def __init__(self, model: nn.Module, attention: Attention) -> None:
        super().__init__()
        self.model = model
        self.attention = attention

    def forward(
        self, tile: Tensor, mean: Tensor, variance: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        layer = self.attention
        query = layer.to_q(_tokens(normalise(tile, layer.group_norm, mean, variance)))
        tokens = layer.to_out[0](layer.product(query, keys, values))
        result = tokens.transpose(1, 2).reshape(tile.shape) + tile
        return result, *row_statistics(result)


def normalise(hidden: Tensor, norm: nn.GroupNorm, mean: Tensor, variance: Tensor) -> Tensor:
    """`norm` of a part (B, C, h, w) of a picture whose groups have this mean and variance, (B, groups) each."""
    groups, channels = norm.num_groups, norm.num_channels
    weight, bias = (parameter.reshape(groups, channels // groups) for parameter in (norm.weight, norm.bias))
    scale = weight / torch.sqrt(variance + norm.eps).reshape(-1, groups, 1)
    shift = bias - mean.reshape(-1, groups, 1) * scale
    return hidden * scale.reshape(-1, channels, 1, 1) + shift.reshape(-1, channels, 1, 1)


def row_statistics(result: Tensor) -> Sequence[Tensor]:
    """Mean and variance of each row of (B, C, H, W), (B, C, H) each. Rows are short enough for sums in float32; the
    host merges them in float64."""
    mean = torch.mean(result, dim=3, keepdim=True)
    deviation = result - mean
    return mean.flatten(2), torch.mean(deviation * deviation, dim=3)


def _tokens(hidden: Tensor) -> Tensor:
    return hidden.flatten(2).transpose(1, 2)
