"""Plans and blending on functions whose tiled result is known: any sizes, any overlaps, any number of axes."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentrt.tiling import (
    Axis,
    InputError,
    Line,
    Plan,
    Span,
    Tile,
    apply,
    evened_size,
    last_short,
    last_slid_back,
    with_stubs,
)
from latentrt.tiling.axis import trailing
from latentrt.tiling.plan import Direction
from latentrt.tiling.weights import feed_forward_weights, partition_of_unity

Array = np.ndarray[Any, np.dtype[np.float32]]
BLENDS = ("linear", "diffusers", "ltx2")


@dataclass(frozen=True)
class Case:
    """A plan, and what it tiles."""

    plan: Plan
    axes: tuple[Axis, ...]
    direction: Direction
    batch: int


def plan_of(
    blend: str, direction: Direction, axes: Sequence[Axis], cells: Sequence[int], tiles: Sequence[tuple[int, int]]
) -> Plan:
    lines = []
    for axis, length, (size, stride) in zip(axes, cells, tiles, strict=True):
        if blend == "linear":
            spans = last_slid_back(length, size, stride)
        elif blend == "diffusers":
            spans = with_stubs(length, size, stride)
        else:
            own = size - axis.leading
            spans = last_short(length, own, own - stride, causal=axis.leading)
        lines.append(Line.of(axis, length, spans, direction=direction, feed_forward=blend == "diffusers"))
    return Plan(tuple(lines), blend == "diffusers")


@st.composite
def cases(draw: st.DrawFn) -> Case:
    blend = draw(st.sampled_from(BLENDS))
    direction: Direction = draw(st.sampled_from(("decode", "encode")))
    axes, cells, tiles = [], [], []
    for number in range(draw(st.integers(1, 3))):
        leading = number == 0 and draw(st.booleans())
        least = draw(st.integers(1, 2))
        size = draw(st.integers(max(least, 1 + leading), 7))
        stride = draw(st.integers(1, size - leading))
        axes.append(Axis(f"axis{number}", draw(st.integers(1, 4)), leading, least))
        cells.append(draw(st.integers(least, 17)))
        tiles.append((size, stride))
    return Case(plan_of(blend, direction, axes, cells, tiles), tuple(axes), direction, draw(st.integers(1, 2)))


def enlarged(cells: Array, axes: Sequence[Axis]) -> Array:
    """Nearest upsampling of trailing axes; a leading first cell becomes one element."""
    for number, axis in enumerate(axes):
        place = cells.ndim - len(axes) + number
        counts = np.full(cells.shape[place], axis.ratio)
        counts[:1] = 1 if axis.leading else axis.ratio
        cells = np.repeat(cells, counts, axis=place)
    return cells


def shrunk(elements: Array, axes: Sequence[Axis]) -> Array:
    """The first element of every cell, as far as a tile knows where its cells begin: the last one of a leading axis."""
    for number, axis in enumerate(axes):
        place = elements.ndim - len(axes) + number
        elements = np.take(elements, np.arange(0, elements.shape[place], axis.ratio), axis=place)
    return elements


def run(case: Case, source: Array, *, at_once: int = 1, function: Any = None) -> Array:
    transform = enlarged if case.direction == "decode" else shrunk
    reads: list[Tile] = []

    def of_tiles(part: Array, tiles: Sequence[Tile], out: Array) -> None:
        assert part.flags.c_contiguous
        assert len(tiles) <= at_once
        reads.extend(tiles)
        out[...] = transform(part, case.axes)

    target = case.plan.target_size

    def make(span: Span) -> Array:
        return np.full((case.batch, 2, len(span), *target[1:]), np.nan, np.float32)

    groups = list(apply(case.plan, function or of_tiles, source, channels=2, make=make, at_once=at_once))
    assert [span.start for span, _ in groups][1:] == [span.stop for span, _ in groups][:-1]
    assert len(reads) == case.plan.count or function is not None
    return np.concatenate([group for _, group in groups], axis=2)


def source_of(case: Case, seed: int = 0) -> Array:
    shape = (case.batch, 2, *case.plan.source_size)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(cases(), st.integers(1, 3))
def test_nearest_functions_give_the_same_tiled_and_whole(case: Case, at_once: int) -> None:
    source = source_of(case)
    transform = enlarged if case.direction == "decode" else shrunk
    whole = transform(source, case.axes)
    tiled = run(case, source, at_once=at_once)
    assert tiled.shape == whole.shape == (case.batch, 2, *case.plan.target_size)
    np.testing.assert_allclose(tiled, whole, atol=1e-6 * np.abs(whole).max(), rtol=0)


@settings(max_examples=300, deadline=None)
@given(cases())
def test_no_tile_leaves_the_input_or_falls_below_the_minimum(case: Case) -> None:
    for tile in case.plan.tiles:
        for axis, line, piece in zip(case.axes, case.plan.lines, tile.pieces, strict=True):
            assert 0 <= piece.source.start < piece.source.stop <= line.source_size
            assert 0 <= piece.target.start < piece.target.stop <= line.target_size
            assert len(piece.cells) >= min(axis.minimum, line.cells)
            assert piece.skip + len(piece.target) <= piece.length
            assert len(piece.weights) == len(piece.target)
            decode = case.direction == "decode"
            assert len(piece.source) == (len(piece.cells) if decode else axis.length(len(piece.cells)))


@settings(max_examples=300, deadline=None)
@given(cases())
def test_weights_sum_to_one_everywhere(case: Case) -> None:
    if case.plan.feed_forward:
        return
    total = np.zeros(case.plan.target_size)
    for tile in case.plan.tiles:
        weights = np.ones(())
        for piece in tile.pieces:
            weights = np.multiply.outer(weights, piece.weights.astype(np.float64))
        total[tuple(piece.target.as_slice() for piece in tile.pieces)] += weights
        assert (weights > 0).all()
    np.testing.assert_allclose(total, 1, atol=1e-6)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(cases(), st.data())
def test_a_cropped_plan_gives_the_first_elements_of_the_whole(case: Case, data: st.DataObject) -> None:
    size = tuple(data.draw(st.integers(1, length)) for length in case.plan.target_size)
    cropped = Case(case.plan.cropped(size), case.axes, case.direction, case.batch)
    source = source_of(case)
    whole = run(case, source)[trailing(slice(0, length) for length in size)]
    np.testing.assert_allclose(run(cropped, source), whole, atol=1e-6)
    assert cropped.plan.count <= case.plan.count


@given(st.integers(1, 60), st.integers(1, 20), st.data())
def test_slid_back_tiles_have_one_shape_and_evened_ones_are_as_few_and_no_larger(
    cells: int, size: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    spans = last_slid_back(cells, size, size - overlap)
    assert {len(span) for span in spans} == {min(cells, size)}
    assert all(after.start - before.start <= size - overlap for before, after in pairwise(spans))
    even = evened_size(cells, size, overlap)
    evened = last_slid_back(cells, even, max(even - overlap, 1))
    assert len(evened) == len(spans)
    assert even <= size
    assert evened[-1].stop == cells


def test_a_later_tiles_first_frame_never_counts_and_frames_line_up() -> None:
    axis = Axis("num_frames", 8, leading=True)
    line = Line.of(axis, 6, last_slid_back(6, 3, 2), direction="decode")
    assert [(piece.skip, piece.target) for piece in line.pieces] == [
        (0, Span(0, 17)),
        (1, Span(17, 33)),
        (1, Span(25, 41)),
    ]
    late = Line.of(axis, 6, with_stubs(6, 3, 1), direction="decode", feed_forward=True, delayed=True)
    assert {piece.skip for piece in late.pieces} == {0}, "diffusers keeps that frame and drops the last one"
    assert [piece.target.start for piece in late.pieces] == [0, 9, 17, 25, 33]


def test_the_weights_are_the_published_ones() -> None:
    first, second = partition_of_unity([Span(0, 5), Span(2, 8)])
    np.testing.assert_allclose(first, [1, 1, 0.75, 0.5, 0.25])
    np.testing.assert_allclose(second, [0.25, 0.5, 0.75, 1, 1, 1])
    np.testing.assert_array_equal(feed_forward_weights([Span(0, 6), Span(2, 8)])[1], [0, 0.25, 0.5, 0.75, 1, 1])


def test_ltx2_splits_are_those_of_its_repository() -> None:
    """The plans of 1920x1088x121 (34 x 60 cells, 16 latent frames) and of 257 frames at its defaults."""

    def pairs(spans: Sequence[Span]) -> list[tuple[int, int]]:
        return [(span.start, span.stop) for span in spans]

    assert pairs(last_short(16, 10, 3, causal=True)) == [(0, 10), (6, 16)]
    assert pairs(last_short(33, 10, 3, causal=True)) == [(0, 10), (6, 17), (13, 24), (20, 31), (27, 33)]
    assert pairs(last_short(34, 24, 2)) == [(0, 24), (22, 34)]
    assert pairs(last_short(60, 24, 2)) == [(0, 24), (22, 46), (44, 60)]


def test_corners_are_blended_as_diffusers_does_it_and_not_bilinearly() -> None:
    """In place and feed-forward: with h and v the ramps, top left counts (1-h)(1-v)(1+h), top right h²(1-v)."""
    axes = (Axis("height"), Axis("width"))
    plan = plan_of("diffusers", "decode", axes, (6, 6), [(4, 2), (4, 2)])
    case = Case(plan, axes, "decode", 1)
    weights = []
    for chosen in [(0, 0), (0, 1), (1, 0), (1, 1)]:

        def one_tile(part: Array, tiles: Sequence[Tile], out: Array, chosen: tuple[int, int] = chosen) -> None:
            out[...] = tiles[0].index == chosen

        weights.append(run(case, np.zeros((1, 2, 6, 6), np.float32), function=one_tile)[0, 0, 3, 3])
    h = v = 0.5
    wanted = [(1 - h) * (1 - v) * (1 + h), h * h * (1 - v), (1 - h) * v, h * v]
    np.testing.assert_allclose(weights, wanted, atol=1e-6)


def test_tiles_that_leave_a_gap_are_refused() -> None:
    with pytest.raises(InputError, match="the height tiles leave a gap before element 10"):
        Line.of(Axis("height", 2), 9, [Span(0, 4), Span(5, 9)], direction="decode")


def test_a_plan_prints_as_a_table() -> None:
    plan = plan_of("linear", "decode", [Axis("height", 8), Axis("width", 8)], (6, 4), [(4, 3), (4, 3)])
    assert plan.table().splitlines() == [
        "axis    tile  latent cells  reads  writes  overlap",
        "height  0     0-4           0-4    0-32    -",
        "        1     2-6           2-6    16-48   16",
        "width   0     0-4           0-4    0-32    -",
        "2 tiles (2 along height, 1 along width), 1.33 times the cells of a single pass",
    ]


class Steps:
    """A function that says when it runs and waits to be let on, so that what overlaps needs no clock."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.released = threading.Semaphore(0)

    def __call__(self, part: Array, tiles: Sequence[Tile], out: Array) -> None:
        self.entered.release()
        assert self.released.acquire(timeout=60)
        out[...] = part


@pytest.fixture
def lines() -> tuple[Plan, Array]:
    axis = Axis("height")
    plan = Plan((Line.of(axis, 8, last_slid_back(8, 2, 2), direction="decode"),))
    return plan, np.arange(8, dtype=np.float32).reshape(1, 1, 8)


def groups_of(plan: Plan, function: Any, source: Array, **options: Any) -> Iterator[tuple[Span, Array]]:
    return apply(plan, function, source, channels=1, make=lambda s: np.empty((1, 1, len(s)), np.float32), **options)


def test_the_next_tile_runs_while_the_consumer_has_the_last_one(lines: tuple[Plan, Array]) -> None:
    plan, source = lines
    steps = Steps()
    groups = groups_of(plan, steps, source)
    steps.released.release()
    span, group = next(groups)
    assert (span, group.tolist()) == (Span(0, 2), [[[0, 1]]])
    assert steps.entered.acquire(timeout=60)
    assert steps.entered.acquire(timeout=60), "the second tile runs although nobody asked for it yet"
    for _ in range(3):
        steps.released.release()
    assert [group[0, 0, 0] for _, group in groups] == [2, 4, 6]


@pytest.mark.parametrize("in_flight", [1, 2, 3, 9])
def test_as_many_calls_as_asked_for_are_in_flight_and_results_keep_their_order(
    in_flight: int, lines: tuple[Plan, Array]
) -> None:
    plan, source = lines
    together = threading.Barrier(min(in_flight, plan.count))

    def function(part: Array, tiles: Sequence[Tile], out: Array) -> None:
        if plan.count % together.parties == 0:
            together.wait(60)  # the last one in lets all of them go
        out[...] = part

    groups = groups_of(plan, function, source, in_flight=in_flight)
    assert [group[0, 0].tolist() for _, group in groups] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_closing_early_stops_what_runs_and_starts_nothing_more(lines: tuple[Plan, Array]) -> None:
    plan, source = lines
    calls: list[int] = []
    release = threading.Event()

    def function(part: Array, tiles: Sequence[Tile], out: Array) -> None:
        calls.append(tiles[0].index[0])
        assert tiles[0].index[0] == 0 or release.wait(60)
        out[...] = part

    groups = groups_of(plan, function, source, on_abort=release.set)
    next(groups)
    groups.close()  # type: ignore[attr-defined]
    assert calls in ([0], [0, 1])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("latentrt-tiles")]


def test_an_error_of_the_function_reaches_the_caller_and_aborts(lines: tuple[Plan, Array]) -> None:
    plan, source = lines
    aborted: list[bool] = []

    def function(part: Array, tiles: Sequence[Tile], out: Array) -> None:
        if tiles[0].index == (2,):
            raise ValueError("the third tile")
        out[...] = part

    groups = groups_of(plan, function, source, on_abort=lambda: aborted.append(True))
    assert [next(groups)[0].start for _ in range(2)] == [0, 2]
    with pytest.raises(ValueError, match="the third tile"):
        next(groups)
    assert aborted == [True]


def test_progress_is_told_every_tile_and_may_stop(lines: tuple[Plan, Array]) -> None:
    plan, source = lines
    told: list[tuple[int, int]] = []

    def function(part: Array, tiles: Sequence[Tile], out: Array) -> None:
        out[...] = part

    list(groups_of(plan, function, source, on_tile=lambda done, total: told.append((done, total))))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(groups_of(plan, function, source, on_tile=stop))
