"""The strategies that a bundle has for a call, the exact ones first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..bundle.manifest import Manifest
from ..calls.strategy import Strategy
from ..calls.strip_settings import StripSettings
from ..calls.tiling_settings import AxisTiles, TilingSettings
from ..calls.workload import Workload
from ..errors import InputError
from ..execution.stream_lengths import most_frames
from ..execution.strips import strip_rows

__all__ = ["TileSizes", "candidates", "strips_within"]

_SHORTER_CHUNKS = (8, 4)  # frames
_LEAST_FRAMES = 3  # latent ones of a tile in time: two that overlap, and one more
_LEAST_OVERLAP = 2  # latent cells of a clip's tiles, which are 64 pixels


@dataclass(frozen=True)
class TileSizes:
    """Of the tiles that are looked at, the largest first: pixels of a side, and latent frames."""

    pixels: tuple[int, ...] = (1024, 768, 512, 384, 256, 192, 128)
    frames: tuple[int, ...] = (10, 7, 5, 4)


def candidates(
    manifest: Manifest, work: Workload, base: Strategy, *, dtype: str, sizes: TileSizes
) -> Iterator[Strategy]:
    """Every strategy but strips, whose memory is a number to choose. `base` is what the user has set: streaming, or
    one element at a time (streams take all elements of a batch at once, whatever is set)."""
    streams = bool(manifest.find_streams(work.component, dtype))
    plain = replace(base, streaming=False, frames_per_chunk=None, tiling=None)
    if not base.streaming:
        yield plain
        if work.batch > 1 and not base.sliced:
            yield replace(plain, sliced=True)
    own = base.frames_per_chunk if base.streaming else None
    chunks = (own,) if own else (most_frames(work.component), *_SHORTER_CHUNKS)
    if streams:
        for frames in chunks:
            yield replace(plain, streaming=True, frames_per_chunk=frames, sliced=False)
    for pixels in sizes.pixels:
        for tiling in _tilings(work, pixels, sizes.frames):
            if base.streaming:
                break
            yield replace(plain, tiling=tiling)
    for pixels in sizes.pixels if streams else ():
        for tiling in _tilings(work, pixels, None):
            for frames in chunks[:2]:
                yield replace(plain, streaming=True, frames_per_chunk=frames, sliced=False, tiling=tiling)


def strips_within(
    manifest: Manifest,
    work: Workload,
    memory_bytes: int,
    settings: StripSettings | None = None,
    *,
    dtype: str = "float32",
) -> Strategy | None:
    """Exact strips that hold about `memory_bytes` beside input and output, or None where the bundle has none.
    `settings`: what else of them was set."""
    graphs = manifest.find_strip_graphs(work.component, dtype)
    if not graphs:
        return None
    settings = replace(settings or StripSettings(), memory_bytes=max(memory_bytes, 0))
    try:
        rows = strip_rows(graphs, settings, work.batch, work.size, work.cells)
    except InputError:
        return None
    return Strategy(replace(settings, rows=rows))


def _tilings(work: Workload, pixels: int, lengths: Sequence[int] | None) -> Iterator[TilingSettings]:
    """Tiles of that many pixels, which overlap by a quarter, and of those lengths of a clip; None: none in time."""
    grid = work.grid
    size = pixels // grid.spatial
    least = grid.decoder_minimum if work.decodes else grid.encoder_minimum
    if size < max(least, 2) or size * grid.spatial != pixels:
        return
    if grid.video and size < 2 * _LEAST_OVERLAP:
        return
    overlap = max(size // 4, _LEAST_OVERLAP if grid.video else 1)
    space = (AxisTiles(size, size - overlap, even=True),) * 2
    covers = all(length <= size for length in work.cells[-2:])
    if not grid.video:
        if not covers:
            yield TilingSettings("linear", space)
        return
    if lengths is None:
        if not covers:
            yield TilingSettings("linear", (AxisTiles(2, 1), *space))
        return
    for frames in lengths:
        if frames < _LEAST_FRAMES or (covers and frames >= work.cells[0]):
            continue
        if frames >= work.cells[0] and frames != lengths[-1] and lengths[-1] >= work.cells[0]:
            continue  # longer ones are the same
        yield TilingSettings("linear", (AxisTiles(frames, frames - (3 if frames > 5 else 2), even=True), *space))
