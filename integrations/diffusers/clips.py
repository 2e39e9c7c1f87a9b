"""Clips chunk by chunk: latents to frames and frames to moments, with tensors at both ends.

Only the engine's own memory and one chunk are held besides the input and the result, for clips of any length.
"""

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from ...runtime.autoencoders.autoencoder import Autoencoder
from ...runtime.autoencoders.clip_calls import ClipCalls
from ...runtime.calls.options import Progress
from .tensors import TensorPlace, given_tensor

__all__ = ["ClipOptions", "decode_clip", "encode_clip", "streams"]


@dataclass(frozen=True)
class ClipOptions:
    """The options of one call with a clip.

    Attributes:
        streaming: run the clip chunk by chunk, with the numbers of a single pass. A memory budget replaces it.
        frames_per_chunk: the most frames of a chunk, or None as for `decode_stream`.
        memory: the memory budget of the call, in bytes or such as "8GiB", or None.
        causal: as for `decode`.
        progress: called with (frames done, frames in all).
    """

    streaming: bool
    frames_per_chunk: int | None = None
    memory: int | str | None = None
    causal: bool | None = None
    progress: Progress | None = None


def streams(vae: Autoencoder, component: str, causal: bool | None) -> bool:
    """Whether a component runs chunk by chunk: the bundle has streaming graphs of it, and they have that causality."""
    own = vae.config.causal(component)
    if causal not in (None, own) or (component == "encoder" and not own):
        return False
    return bool(vae.manifest.find_streams(component, vae.opened.backend.graph_dtype))


def decode_clip(
    vae: Autoencoder, calls: ClipCalls, z: torch.Tensor, options: ClipOptions, **conditions: Any
) -> torch.Tensor:
    """Model latents (B, latent_channels, t, h, w) to frames (B, out_channels, T, H, W) of about [-1, 1], in the dtype
    and on the device of the latents.

    Args:
        conditions: `temb` and `rng`, as for `decode`.

    Raises:
        InputError, BundleError, EngineError, Cancelled: as `decode`.
    """
    latents, place = given_tensor(z, on_device=False), TensorPlace.of(z)
    size = vae.grid.sample_size(latents.shape[2:])
    result_bytes = z.element_size() * z.shape[0] * vae.config.out_channels * math.prod(size)
    if options.streaming and options.memory is None:
        frames = calls.decode_stream(latents, options.frames_per_chunk, causal=options.causal, **conditions)
        progress = options.progress
    else:
        frames = calls.decode_frames(
            latents,
            causal=options.causal,
            memory=options.memory,
            caller_bytes=result_bytes if z.device.type == "cpu" else 0,
            progress=options.progress,
            **conditions,
        )
        progress = None  # the runtime reports it
    return _joined(frames, size[0], place, progress)


def encode_clip(vae: Autoencoder, calls: ClipCalls, x: torch.Tensor, options: ClipOptions) -> torch.Tensor:
    """Frames (B, in_channels, T, H, W) in [-1, 1] to moments (B, 2 * latent_channels, t, h, w), chunk by chunk, in the
    dtype and on the device of the frames.

    Raises:
        InputError, BundleError, EngineError, Cancelled: as `encode`.
    """
    vae.grid.check_sample(tuple(x.shape[2:]))
    ratio = vae.config.temporal_ratio
    # Frames become float32 on the host chunk by chunk: a clip in bfloat16 is never held twice.
    chunks = (given_tensor(x[:, :, start : start + ratio], on_device=False) for start in range(0, x.shape[2], ratio))
    moments = calls.encode_stream(chunks, options.frames_per_chunk, causal=options.causal)
    cells = vae.grid.latent_size(tuple(x.shape[2:]))[0]
    return _joined(moments, cells, TensorPlace.of(x), options.progress)


def _joined(pieces: Iterator[Any], length: int, place: TensorPlace, progress: Progress | None) -> torch.Tensor:
    """Pieces (B, C, t, ...) that follow each other in time, as one tensor (B, C, length, ...)."""
    result, done = None, 0
    with closing(pieces) as made:  # type: ignore[type-var] # the runtime's iterators are generators
        for piece in made:
            if result is None:
                result = place.empty((*piece.shape[:2], length, *piece.shape[3:]))
            result[:, :, done : done + piece.shape[2]] = torch.from_numpy(piece).to(place.device)
            done += piece.shape[2]
            if progress is not None:
                progress(done, length)
    assert result is not None
    assert done == length
    return result
