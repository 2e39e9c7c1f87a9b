"""The strategies that a bundle has for a call, the exact ones first."""

from collections.abc import Iterator
from dataclasses import replace

from .errors import InputError
from .exact_execution import strip_rows
from .exact_settings import ExactStrips
from .manifest import Manifest
from .strategy import Strategy
from .stream_lengths import most_frames
from .tiling_settings import AxisTiles, TilingSettings
from .workload import Workload

__all__ = ["candidates", "has_faster_streams", "strips_within"]

_TILE_PIXELS = (1024, 768, 512, 384, 256, 192, 128)
_TILE_FRAMES = (10, 7, 5, 4)  # latent frames
_SHORT_CHUNK = 8  # frames
_SHORTEST_CHUNK = 4  # frames; before anything that is not exact
_LEAST_OVERLAP = 2  # latent cells of a clip's tiles, which are 64 pixels


def candidates(manifest: Manifest, work: Workload, base: Strategy, *, dtype: str) -> Iterator[Strategy]:
    """Every strategy but strips, whose memory is a number to choose. `base` is what the user has set: streaming, or
    one element at a time."""
    streams = bool(manifest.find_streams(work.component, dtype))
    plain = replace(base, streaming=False, frames_per_chunk=None, tiling=None)
    if not base.streaming:
        yield plain
        if work.batch > 1 and not base.sliced:
            yield replace(plain, sliced=True)
    own = base.frames_per_chunk if base.streaming else None
    chunks = (own,) if own else (most_frames(work.component), _SHORT_CHUNK)
    if streams:
        for frames in (*chunks, *(() if base.frames_per_chunk else (_SHORTEST_CHUNK,))):
            yield replace(plain, streaming=True, frames_per_chunk=frames)
    for pixels in _TILE_PIXELS:
        for tiling in _tilings(work, pixels):
            if base.streaming:
                break
            yield replace(plain, tiling=tiling)
    for pixels in _TILE_PIXELS if streams else ():
        for tiling in _tilings(work, pixels, in_time=False):
            for frames in chunks:
                yield replace(plain, streaming=True, frames_per_chunk=frames, tiling=tiling)


def has_faster_streams(manifest: Manifest, component: str, dtype: str) -> bool:
    """Whether there are streaming graphs in the form for CPUs, in which some backends run faster than whole."""
    return any(graph.cpu_file is not None for graph in manifest.find_streams(component, dtype))


def strips_within(manifest: Manifest, work: Workload, memory_bytes: int) -> Strategy | None:
    """Exact strips that hold about `memory_bytes` beside input and output, or None where the bundle has none."""
    segments = manifest.find_segments(work.component)
    if not segments:
        return None
    settings = ExactStrips(None, None, max(memory_bytes, 0))
    try:
        rows = strip_rows(segments, settings, work.batch, work.size, work.cells)
    except InputError:
        return None
    return Strategy(replace(settings, rows=rows))


def _tilings(work: Workload, pixels: int, *, in_time: bool = True) -> Iterator[TilingSettings]:
    """Tiles of that many pixels, which overlap by a quarter, and of several lengths."""
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
    if not in_time:
        if not covers:
            yield TilingSettings("linear", (AxisTiles(2, 1), *space))
        return
    for frames in _TILE_FRAMES:
        if covers and frames >= work.cells[0]:
            continue
        if frames >= work.cells[0] and frames != _TILE_FRAMES[-1] and _TILE_FRAMES[-1] >= work.cells[0]:
            continue  # longer ones are the same
        yield TilingSettings("linear", (AxisTiles(frames, frames - (3 if frames > 5 else 2), even=True), *space))
