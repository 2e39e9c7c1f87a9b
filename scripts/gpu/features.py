"""Features of a backend beyond plain calls: tiles with overlapped copies, streams, strips, and the caller's stream."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calls import clip_written
from .cases import Case
from .clock import median_seconds
from .engines import CHUNK
from .processes import Measures
from .subject import Subject

__all__ = ["feature_measures", "tiled"]

Call = Callable[[], Any]


def feature_measures(subject: Subject, folder: Path) -> Measures:
    by = subject.contender.name
    return {
        ("tiles, overlapped", by): lambda: _tiles(subject, one_by_one=False),
        ("tiles, one by one", by): lambda: _tiles(subject, one_by_one=True),
        ("caller's stream", by): lambda: _callers_stream(subject),
        ("stream", by): lambda: _stream(subject),
        ("stream to a clip", by): lambda: _stream_to_clip(subject, folder),
        ("exact strips", by): lambda: _strips(subject),
    }


def _measured(subject: Subject, call: Call, least_db: float) -> dict[str, Any]:
    result = call()
    return {
        "seconds": median_seconds(call, subject.device),
        "psnr_db": subject.psnr_db(result),
        "least": {"psnr_db": least_db},
    }


@contextmanager
def tiled(vae: Any, case: Case) -> Iterator[None]:
    """Let the autoencoder run in the tiles of the case while the body runs."""
    tile = case.tile
    frames = {"tile_sample_min_num_frames": tile.frames} if case.video else {}
    vae.enable_tiling(tile_sample_min_height=tile.height, tile_sample_min_width=tile.width, **frames)
    try:
        yield
    finally:
        vae.disable_tiling()


def _tiles(subject: Subject, *, one_by_one: bool) -> dict[str, Any]:
    """Measure a call in tiles. Tiles are an approximation, so no PSNR is required."""
    backend = subject.backend()
    if one_by_one:
        backend.capabilities = replace(backend.capabilities, calls_in_flight=1)
    with subject.opened_on(backend) as vae, tiled(vae, subject.case):
        measured = _measured(subject, lambda: subject.run(vae, subject.array), 0)
    return measured | {"in_flight": backend.capabilities.calls_in_flight}


def _callers_stream(subject: Subject) -> dict[str, Any]:
    """Pass latents and sample by DLPack in a stream of torch; later work in that stream must find the result."""
    subject.need_engines("stream of the caller's")
    import torch
    from torch.utils.dlpack import from_dlpack

    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    vae = subject.vae

    def call() -> Any:
        with torch.cuda.stream(stream):
            latents = torch.from_numpy(subject.array).pin_memory().to("cuda", non_blocking=True)
            sample = subject.run(vae, latents, "device", stream=stream.cuda_stream)
            return from_dlpack(sample).mul(1.0)  # work that follows in the same stream

    def checked() -> Any:
        result = call()
        stream.synchronize()
        return result

    return _measured(subject, checked, subject.contender.least_db())


def _stream(subject: Subject) -> dict[str, Any]:
    """Stream a whole clip, and measure the time to its first frames as pixels."""
    vae, array = subject.vae, subject.array

    def call() -> NDArray[np.float32]:
        return np.concatenate(list(vae.decode_stream(array, frames_per_chunk=CHUNK)), axis=2)

    def first_frames() -> None:
        frames = vae.decode_stream(array, frames_per_chunk=CHUNK, output="uint8")
        next(frames)
        frames.close()

    found = _measured(subject, call, subject.contender.least_db())
    first_frames()
    return found | {"first_frame_seconds": median_seconds(first_frames, subject.device)}


def _stream_to_clip(subject: Subject, folder: Path) -> dict[str, Any]:
    """Stream latents to an MP4; its frames are encoded while the next frames are computed."""
    frames = subject.vae.decode_stream(subject.array, frames_per_chunk=CHUNK, output="uint8")
    return clip_written(frames, folder / f"{subject.contender.name} stream.mp4")


def _strips(subject: Subject) -> dict[str, Any]:
    subject.vae.enable_tiling(exact=True)
    try:
        return _measured(subject, subject.on_host, subject.contender.least_db())
    finally:
        subject.vae.disable_tiling()
