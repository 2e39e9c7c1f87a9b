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
from .tuning import FEWEST_OVERLAP_CELLS, FEWEST_TILE_FRAMES, SHORTER_CHUNKS, TILE_FRAMES, TILE_PIXELS

__all__ = ["TileSizes", "candidates", "strips_within"]


@dataclass(frozen=True)
class TileSizes:
    """The sizes of the tiles that are looked at, the largest first.

    Attributes:
        pixels: the sides of square tiles.
        frames: their lengths in time, in latent frames.
    """

    pixels: tuple[int, ...] = TILE_PIXELS
    frames: tuple[int, ...] = TILE_FRAMES


def candidates(
    manifest: Manifest, work: Workload, base: Strategy, *, dtype: str, sizes: TileSizes
) -> Iterator[Strategy]:
    """Every strategy except strips, whose memory is a number to choose. `base` is what the user has set: streaming, or
    one element at a time. (Streams take all elements of a batch at once, also with slicing set.)"""
    streams = bool(manifest.find_streams(work.component, dtype))
    plain = replace(base, streaming=False, frames_per_chunk=None, tiling=None)
    if not base.streaming:
        yield plain
        if work.batch > 1 and not base.sliced:
            yield replace(plain, sliced=True)
    own = base.frames_per_chunk if base.streaming else None
    chunks = (own,) if own else (most_frames(work.component), *SHORTER_CHUNKS)
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
    """Strips that hold about `memory_bytes` in addition to input and output. None: the bundle has no strips.
    `settings`: the other settings of the strips. The strips of a clip are a stream."""
    if work.grid.video:
        stages = manifest.find_streams(work.component, dtype)
        if not stages or any(graph.halo is None for graph in stages):
            return None
        return Strategy(replace(settings or StripSettings(), memory_bytes=max(memory_bytes, 0)), streaming=True)
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
    """Tiles of `pixels` squared, which overlap by a quarter, and of each of the `lengths` in latent frames. None: tiles
    do not divide time."""
    grid = work.grid
    size = pixels // grid.spatial
    least = grid.decoder_minimum if work.decodes else grid.encoder_minimum
    if size < max(least, 2) or size * grid.spatial != pixels:
        return
    if grid.video and size < 2 * FEWEST_OVERLAP_CELLS:
        return
    overlap = max(size // 4, FEWEST_OVERLAP_CELLS if grid.video else 1)
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
        if frames < FEWEST_TILE_FRAMES or (covers and frames >= work.cells[0]):
            continue
        if frames >= work.cells[0] and frames != lengths[-1] and lengths[-1] >= work.cells[0]:
            continue  # longer ones are the same
        yield TilingSettings("linear", (AxisTiles(frames, frames - (3 if frames > 5 else 2), even=True), *space))
