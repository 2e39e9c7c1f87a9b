"""The timestep embedding of decoders with timestep conditioning."""

import math

import torch
from torch import Tensor, nn

__all__ = ["TimestepEmbedding"]

_FREQUENCIES = 256  # cosines and sines together
_MAX_PERIOD = 10000.0  # period of the lowest frequency over 2 pi, in timesteps


class Projection(nn.Module):
    """Two linear layers with SiLU in between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(_FREQUENCIES, channels)
        self.act = nn.SiLU()
        self.linear_2 = nn.Linear(channels, channels)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.linear_2(self.act(self.linear_1(hidden)))


class TimestepEmbedding(nn.Module):
    """Timesteps (B,) -> embeddings (B, channels).

    Cosines and sines of 128 geometric frequencies (Vaswani et al., 2017, in the cosine-first order of PixArt-alpha),
    then a small network. Parameters have the names of diffusers' `PixArtAlphaCombinedTimestepSizeEmbeddings` without
    sizes.

    Attributes:
        device: where the frequencies are made. It is "cpu" for a model on the "meta" device, too: a traced graph holds
            the frequencies as numbers.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.timestep_embedder = Projection(channels)
        self.device: torch.device | str = "cpu"

    def forward(self, timesteps: Tensor) -> Tensor:
        half = _FREQUENCIES // 2
        exponents = torch.arange(half, dtype=torch.float32, device=self.device) * (-math.log(_MAX_PERIOD)) / half
        angles = timesteps.reshape(-1, 1) * torch.exp(exponents).reshape(1, half)
        return self.timestep_embedder(torch.cat([torch.cos(angles), torch.sin(angles)], dim=1))
