"""Measures the cost of tiling and the visibility of tiles: tiled results against a single pass, on the same engines."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.arrays.pixels import to_pixels, to_samples
from ...runtime.arrays.size_text import size_text
from ...runtime.autoencoders.autoencoder import Autoencoder
from ...runtime.calls.conditions import DECODE_TIMESTEP
from ...runtime.errors import InputError
from ...runtime.files.sources import list_inputs, read_sample
from ...runtime.media.pictures.picture_file import write_picture
from ..figures.drawn_samples import demo_clip, demo_picture
from ..figures.side_by_side import side_by_side
from ..memory_errors import memory_errors
from .quality import psnr, seam_ratio

__all__ = ["TiledComparison", "compare_tiling"]

Array = NDArray[np.float32]
_SEED = 0
_DRAWN_SIZE = (49, 512, 640)  # frames, height and width of the sample that is drawn if the user gives no sample
_GAIN = 8  # factor of the difference in the picture


@dataclass(frozen=True)
class TiledComparison:
    """The comparison of a tiled result with a single pass, for one component on one sample.

    Attributes:
        sample: "drawn", or the file name of the sample.
        component: "encoder" or "decoder".
        blend: name of the tiling settings.
        tiles: number of tiles along each axis.
        work: latent cells that run in tiles over the latent cells of the sample.
        psnr_db: PSNR in dB; the range of the single pass is the peak.
        seam: visibility of tile borders, as `quality.seam_ratio` returns it.
        whole_seconds: time of the single pass, in seconds.
        tiled_seconds: time of the tiled call, in seconds.
    """

    sample: str
    component: str
    blend: str
    tiles: tuple[int, ...]
    work: float
    psnr_db: float
    seam: float
    whole_seconds: float
    tiled_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as values for JSON."""
        return asdict(self)


def compare_tiling(
    vae: Autoencoder,
    settings: Sequence[tuple[str, Callable[[], object]]],
    *,
    samples: Sequence[Path] = (),
    max_frames: int = 49,
    draw: Path | None = None,
) -> Iterator[TiledComparison]:
    """Encode and decode each sample in a single pass and in tiles.

    Args:
        vae: the autoencoder.
        settings: pairs of a name and a function that enables that tiling on `vae`.
        samples: picture files, clip files, or folders of them. Without samples, one of 512x640 pixels is drawn, with
            49 frames for video.
        max_frames: number of frames to which clips are cut.
        draw: file for a picture of the first decoded sample: single pass, tiles of the first settings, and their
            difference, multiplied by 8.

    Raises:
        InputError: a sample fits into one tile.
        EngineError: memory ran out.
        OutputError: a file cannot be written.
        MediaError: a sample cannot be read.
    """
    for label, sample in _samples(vae, samples, max_frames):
        conditioned = vae.config.timestep_conditioning
        vae.disable_tiling()
        encode = partial(_encode, vae, sample)
        encoded, encode_seconds = _timed(f"{label}: the encoder in a single pass", encode)
        latents = np.ascontiguousarray(encoded[:, : vae.config.latent_channels])
        decode = partial(_decode, vae, latents, DECODE_TIMESTEP if conditioned else None)
        decoded, decode_seconds = _timed(f"{label}: the decoder in a single pass", decode)
        for name, enable in settings:
            enable()
            for component, whole, seconds, run in (
                ("encoder", encoded, encode_seconds, encode),
                ("decoder", decoded, decode_seconds, decode),
            ):
                plan = vae.tile_plan(component, sample.shape[2:])
                if plan.count == 1:
                    size = size_text(sample.shape[2:])
                    raise InputError(f"{label}, {size}, fits into one tile of {name}: give a smaller --tile")
                tiled, tiled_seconds = _timed(f"{label}: the {component} in tiles", run)
                if draw is not None and component == "decoder":
                    _draw(draw, whole, tiled, name)
                    draw = None
                yield TiledComparison(
                    label,
                    component,
                    name,
                    plan.shape,
                    plan.work,
                    psnr(tiled, whole),
                    seam_ratio(tiled, whole, plan),
                    seconds,
                    tiled_seconds,
                )
        vae.disable_tiling()


def _samples(vae: Autoencoder, paths: Sequence[Path], max_frames: int) -> Iterator[tuple[str, Array]]:
    for path in paths:
        for file in list_inputs(path, vae) or [path]:
            yield file.name, read_sample(file, vae, max_frames=max_frames).sample
    if not paths:
        frames, height, width = _DRAWN_SIZE
        channels = vae.config.in_channels
        pixels = (
            np.stack(list(demo_clip(min(frames, max_frames), height, width)))
            if vae.video
            else demo_picture(height, width)
        )
        opaque = np.full((*pixels.shape[:-1], 1), 255, np.uint8)
        yield "drawn", vae.grid.pad(to_samples(np.concatenate([pixels, opaque], axis=-1)[np.newaxis, ..., :channels]))


def _encode(vae: Autoencoder, sample: Array) -> Array:
    return np.asarray(vae.encode(sample, check_range=False).latent_dist.parameters)


def _decode(vae: Autoencoder, latents: Array, temb: float | None) -> Array:
    return np.asarray(vae.decode(latents, temb=temb, rng=_SEED).sample)


def _draw(path: Path, whole: Array, tiled: Array, name: str) -> None:
    """Draw the first sample of a batch; of a clip, the frame with the largest difference."""
    difference = tiled[:1] - whole[:1]
    if whole.ndim == 5:
        worst = int(np.square(difference).mean(axis=(0, 1, 3, 4)).argmax())
        whole, tiled, difference = (array[:1, :, worst] for array in (whole, tiled, difference))
    labels = ("whole", f"tiled, {name}", f"difference, {_GAIN} times")
    arrays = (whole[:1, :3], tiled[:1, :3], _GAIN * difference[:, :3])
    panels = [(label, to_pixels(array)[0]) for label, array in zip(labels, arrays, strict=True)]
    write_picture(path, side_by_side(panels))


def _timed(task: str, function: Callable[[], Array]) -> tuple[Array, float]:
    started = time.perf_counter()
    with memory_errors(task):
        result = function()
    return result, time.perf_counter() - started
