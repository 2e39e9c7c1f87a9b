"""Initial weights of the video model: a network that already passes on averages.

From random weights, the model spends most of its steps on a grey average before it learns colour. So the encoder starts
with averages of the colours, which its residual paths pass on, and each upsampler of the decoder starts as nearest
neighbour (ICNR, Aitken et al.). Noise is added to both.
"""

from typing import Any

import torch
from torch import Tensor

NOISE = 0.3  # factor on the random weights


@torch.no_grad()
def begin_with_averages(model: Any, patch_size: int) -> None:
    """Change freshly initialised weights in place. Their random values remain as noise."""
    _begin_encoder(model.encoder.conv_in.conv.weight, patch_size)
    for block in model.decoder.up_blocks:
        for upsampler in block.upsamplers:
            _begin_upsampler(upsampler.conv.conv.weight)


def _begin_encoder(weight: Tensor, patch_size: int) -> None:
    """Change a weight (C, 3 * patch_size^2, 3, 3, 3): of eight runs of channels, the first three become the averages
    of red, green and blue.

    The first downsampler averages neighbouring channels, so all channels of a run are the same.
    """
    area = patch_size**2
    runs, size = 8, weight.shape[0] // 8
    weight.mul_(NOISE)
    slope = torch.linspace(-1, 1, patch_size)
    columns, rows = slope.repeat_interleave(patch_size), slope.repeat(patch_size)  # columns vary more slowly than rows
    for run in range(runs):
        feature = torch.zeros(3, area)
        if run < 3:
            feature[run] = 1.0
        elif run < 5:
            feature[:] = columns if run == 3 else rows
        else:
            continue
        weight[run * size : (run + 1) * size, :, 2, 1, 1] += feature.flatten() / feature.norm()


def _begin_upsampler(weight: Tensor) -> None:
    """Change a weight (8 * Cout, Cin, 3, 3, 3): all eight new cells start as the same mixture of the input channels.

    The residual path adds input channel (c % (Cin / 8)) * 8 + cell. The weight subtracts it at first.
    """
    cells, inputs = 8, weight.shape[1]
    outputs = weight.shape[0] // cells
    mixture = weight[::cells, :, 1, 1, 1].clone()
    left, _, right = torch.linalg.svd(mixture, full_matrices=False)
    weight.mul_(NOISE)
    for channel in range(outputs):
        for cell in range(cells):
            row = weight[channel * cells + cell, :, 1, 1, 1]
            row += (left @ right)[channel]
            row[(channel % (inputs // cells)) * cells + cell] -= 1.0
