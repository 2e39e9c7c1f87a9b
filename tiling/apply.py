"""Run a function tile by tile; cut and blend tiles on the host while the function runs."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .axis import Span, trailing
from .blend import blend_of
from .canvas import Canvas
from .plan import Plan, Tile

__all__ = ["TileFunction", "apply"]

Array = NDArray[np.float32]
TileFunction = Callable[[Array, Sequence[Tile], Array], None]
"""`function(part, tiles, out)`: `part` holds the inputs of the tiles, one after the other along the batch axis. The
function writes the results to `out` in the same order."""


def apply(
    plan: Plan,
    function: TileFunction,
    source: Array,
    *,
    channels: int,
    make: Callable[[Span], Array],
    at_once: int = 1,
    in_flight: int = 1,
    on_tile: Callable[[int, int], None] = lambda done, total: None,
    on_abort: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Span, Array]]:
    """Run `function` over every tile of `source` and blend the results.

    `function` runs in a separate thread. Meanwhile this thread cuts out the next input and blends the last result. In
    addition to the input, the output and the memory of `function` itself, the memory overhead is one input and one
    result more than are in flight, and the overlaps along which tiles are blended.

    Args:
        plan: the tiles.
        function: computes the results of some tiles.
        source: (B, C, ...), float32, with the plan's source size.
        channels: the channels of the output.
        make: returns the float32 array (B, channels, len(span), ...) for a group of the output. Its content is
            overwritten.
        at_once: the most tiles that one call of `function` gets. The tiles of one call have the same shape.
        in_flight: how many calls of `function` run at the same time, each in a thread. More than one helps devices
            that copy while they compute.
        on_tile: called with the number of finished tiles and the number of all tiles, after each tile.
        on_abort: called when the iterator is closed early or anything raises. It should stop a running `function`,
            which is then waited for.

    Yields:
        The output group by group: the span along the first tiled axis, and its float32 array (B, channels,
        len(span), ...). The caller owns the array.
    """
    canvas = Canvas(plan.groups, make)
    blend = blend_of(plan, canvas)
    last = {tile.index[0]: number for number, tile in enumerate(plan.tiles)}  # the last tile of each group
    for number, (tile, result) in enumerate(_results(plan, function, source, channels, at_once, in_flight, on_abort)):
        blend.put(tile, result)
        on_tile(number + 1, plan.count)
        if last[tile.index[0]] == number:
            yield canvas.groups[tile.index[0]], canvas.take(tile.index[0])


def _results(
    plan: Plan,
    function: TileFunction,
    source: Array,
    channels: int,
    at_once: int,
    in_flight: int,
    on_abort: Callable[[], None],
) -> Iterator[tuple[Tile, Array]]:
    from concurrent.futures import Future, ThreadPoolExecutor  # imported here: it takes longer than this package

    batch = source.shape[0]
    calls = _calls(plan.tiles, at_once)
    largest = max(len(tiles) * batch * channels * math.prod(tiles[0].result_shape) for tiles in calls)
    buffers = [np.empty(largest, np.float32) for _ in calls[: in_flight + 1]]
    with ThreadPoolExecutor(in_flight, "latentrt-tiles") as worker:
        running: deque[tuple[Sequence[Tile], Array, Future[None]]] = deque()
        try:
            for number, tiles in enumerate([*calls, *[()] * in_flight]):
                if tiles:
                    part = _cut_out(source, tiles)
                    shape = (len(tiles) * batch, channels, *tiles[0].result_shape)
                    out = buffers[number % len(buffers)][: math.prod(shape)].reshape(shape)
                    running.append((tiles, out, worker.submit(function, part, tiles, out)))
                    del part  # so that the array is freed as soon as the call ends
                if running and number >= in_flight:
                    done, results, future = running.popleft()
                    future.result()
                    for place, tile in enumerate(done):
                        yield tile, results[place * batch : (place + 1) * batch]
        except BaseException:
            on_abort()
            worker.shutdown(wait=False, cancel_futures=True)  # leaving the block then waits for the running calls
            raise


def _calls(tiles: Sequence[Tile], at_once: int) -> list[list[Tile]]:
    """Group consecutive tiles of the same shape into calls of at most `at_once` tiles."""
    calls: list[list[Tile]] = []
    for tile in tiles:
        if calls and len(calls[-1]) < at_once and calls[-1][0].source_shape == tile.source_shape:
            calls[-1].append(tile)
        else:
            calls.append([tile])
    return calls


def _cut_out(source: Array, tiles: Sequence[Tile]) -> Array:
    parts = [source[trailing(tile.source)] for tile in tiles]
    return np.ascontiguousarray(parts[0]) if len(parts) == 1 else np.concatenate(parts)
