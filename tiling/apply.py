"""Running a function tile by tile, with the host's work done while it runs."""

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
"""`function(part, tiles, out)`: `part` is the tiles' input, one after the other along the batch axis; the results go
into `out` in the same order."""


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
    """Run `function` over every tile of `source`, (B, C, ...) with the plan's source size, and give the output group
    by group: the span along the first tiled axis, and its float32 array (B, channels, len(span), ...).

    `make(span)` gives the array of a group; its content is overwritten. `function` runs in a thread of its own, while
    the next input is cut out and the last result blended; `in_flight` calls of it at a time, each in its thread, for
    a device that copies beside its computation. `at_once` is the most tiles of one shape that a call gets.
    `on_tile(done, total)` follows each tile. When the iterator is closed early, or anything raises, `on_abort` is
    called, to stop a running `function`; it is then waited for.

    Beside input, output and what `function` itself needs, this holds one result and one input more than are in flight,
    and at most the strips along which tiles are blended.
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
    from concurrent.futures import Future, ThreadPoolExecutor  # here: importing it takes longer than this package

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
                    del part  # the call has it, and lets it go when it is over
                if running and number >= in_flight:
                    done, results, future = running.popleft()
                    future.result()
                    for place, tile in enumerate(done):
                        yield tile, results[place * batch : (place + 1) * batch]
        except BaseException:
            on_abort()
            worker.shutdown(wait=False, cancel_futures=True)  # leaving the block then waits for what still runs
            raise


def _calls(tiles: Sequence[Tile], at_once: int) -> list[list[Tile]]:
    """Runs of tiles of one shape, at most `at_once` long."""
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
