"""Where the training of the video model begins: a network that already passes on averages.

From random weights the model spends most of its steps on one grey average before it finds colour. So the encoder
begins with the colour averages that its residual paths carry down, and each enlargement of the decoder begins as
nearest neighbour (Aitken et al.'s ICNR), with noise around both for all the rest.
"""

from typing import Any

import torch
from torch import Tensor

NOISE = 0.3


@torch.no_grad()
def begin_with_averages(model: Any, patch_size: int) -> None:
    """Change freshly initialised weights in place: what they hold stays in as noise."""
    _begin_encoder(model.encoder.conv_in.conv.weight, patch_size)
    for block in model.decoder.up_blocks:
        for upsampler in block.upsamplers:
            _begin_upsampler(upsampler.conv.conv.weight)


def _begin_encoder(weight: Tensor, patch_size: int) -> None:
    """(C, 3 * patch_size^2, 3, 3, 3): eight runs of channels, the first three red, green and blue averages.

    The first downsampler averages neighbouring channels, so neighbours carry the same.
    """
    area = patch_size**2
    runs, size = 8, weight.shape[0] // 8
    weight.mul_(NOISE)
    slope = torch.linspace(-1, 1, patch_size)
    columns, rows = slope.repeat_interleave(patch_size), slope.repeat(patch_size)  # columns are slower than rows
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
    """(8 * Cout, Cin, 3, 3, 3): all eight new cells begin as the same mixture of the old one's channels.

    The residual path puts channel (c % (Cin / 8)) * 8 + cell there; it is taken away, to be learnt where it helps.
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
