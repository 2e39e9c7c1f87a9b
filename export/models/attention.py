"""The self-attention of the mid block: one head over all channels, across all positions of the latent grid."""

import math

import torch
from torch import Tensor, nn

__all__ = ["ATTENTION_KINDS", "Attention", "ScaledDotProduct"]

ATTENTION_KINDS = ("sdpa", "eager", "sliced")
_QUERIES_PER_SLICE = 1024  # default for "sliced" attention


class ScaledDotProduct(nn.Module):
    """softmax(q k^T / sqrt(channels)) v for q, k, v of shape (B, N, C).

    Args:
        channels: number of channels C.
        kind: "sdpa" for PyTorch's fused kernel, which becomes the four-dimensional pattern that engines recognise and
            fuse; "eager" for products in three dimensions; "sliced" for slices of the queries, which limit the score
            matrix to queries_per_slice x N.
        queries_per_slice: number of queries in a slice of "sliced" attention.
    """

    def __init__(self, channels: int, kind: str = "sdpa", queries_per_slice: int = _QUERIES_PER_SLICE) -> None:
        super().__init__()
        self.channels = channels
        self.scale = 1.0 / math.sqrt(channels)
        self.kind = kind
        self.queries_per_slice = queries_per_slice

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.kind == "sdpa":
            query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
            return nn.functional.scaled_dot_product_attention(query, key, value).squeeze(1)
        step = self.queries_per_slice if self.kind == "sliced" else query.shape[1]
        keys = key.transpose(1, 2)
        pieces = [torch.softmax(piece * self.scale @ keys, dim=2) @ value for piece in torch.split(query, step, dim=1)]
        return torch.cat(pieces, dim=1)


class Attention(nn.Module):
    """Normalise, attend over all positions, project, add the input. (B, C, H, W) -> (B, C, H, W).

    Parameters have the names of diffusers' `Attention`.

    Attributes:
        fuse_qkv: True runs the three projections as one.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])
        self.product = ScaledDotProduct(channels)
        self.fuse_qkv = True

    def forward(self, hidden: Tensor) -> Tensor:
        shape = hidden.shape
        tokens = self.group_norm(hidden).flatten(2).transpose(1, 2)
        if self.fuse_qkv:
            projections = (self.to_q, self.to_k, self.to_v)
            weight = torch.cat([projection.weight for projection in projections], dim=0)
            bias = torch.cat([projection.bias for projection in projections], dim=0)
            query, key, value = nn.functional.linear(tokens, weight, bias).chunk(3, dim=2)
        else:
            query, key, value = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        tokens = self.to_out[0](self.product(query, key, value))
        return tokens.transpose(1, 2).reshape(shape) + hidden
