"""An encode and the decode of its latents, checked together before either runs."""

from dataclasses import replace
from typing import Any

import numpy as np

from .jobs import Jobs
from .options import DecodeOptions, EncodeOptions
from .strategy import Strategy

__all__ = ["check_round_trip"]


def check_round_trip(
    jobs: Jobs, x: Any, strategy: Strategy, encoding: EncodeOptions, decoding: DecodeOptions, *, may_stream: bool
) -> None:
    """Refuse wrong options of a decode before the encode that gives its latents runs.

    Raises:
        InputError, BundleError: as `Jobs.encode` and `Jobs.decode`.
    """
    job = jobs.encode(x, strategy, encoding, may_stream=may_stream)
    latents = np.broadcast_to(np.float32(0), (job.result.shape[0], jobs.config.latent_channels, *job.result.size))
    crop = job.original_size if decoding.crop is None else decoding.crop
    jobs.decode(latents, strategy, replace(decoding, crop=crop), may_stream=may_stream)
