"""Seeds for decoders that inject noise, drawn from PyTorch's generators."""

from collections.abc import Sequence

import torch

__all__ = ["drawn_seed"]

_SEEDS = 2**63 - 1


def drawn_seed(generator: torch.Generator | Sequence[torch.Generator] | None) -> int:
    """A seed for the runtime's noise.

    diffusers draws this noise with PyTorch's global generator, and its pipelines give none to `decode`. So without a
    generator the seed comes from the global generator too: `torch.manual_seed` makes it repeatable. The noise itself
    differs from the noise that diffusers would draw.

    Args:
        generator: a generator, or a list of them, of which the first one counts.
    """
    if isinstance(generator, Sequence):
        generator = generator[0] if generator else None
    device = None if generator is None else generator.device
    return int(torch.randint(_SEEDS, (), generator=generator, device=device))
