"""Deinterlacing of video frames with FFmpeg's bwdif filter: one picture per frame."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from ...extras import require

__all__ = ["deinterlaced"]

_LEAST_HEIGHT, _LEAST_WIDTH = 4, 3  # in pixels; bwdif takes no smaller frames


def deinterlaced(frames: Iterator[Any], found: Callable[[], None]) -> Iterator[tuple[Any, Any]]:
    """Give each frame together with its picture.

    The picture is a deinterlaced frame if the frame is flagged as interlaced, else the frame itself. Take tags, side
    data and time from the frame, because a filter does not keep all of them. From the first interlaced frame on, the
    filter is one frame behind.

    Args:
        frames: decoded frames (`av.VideoFrame`), in order.
        found: called once, at the first interlaced frame.
    """
    waiting: deque[Any] = deque()
    graph: Any = None
    kind: tuple[int, int, str] | None = None
    any_found = False
    for frame in frames:
        now = (frame.height, frame.width, frame.format.name)
        if graph is not None and now != kind:
            yield from _pairs(graph, waiting, ended=True)
            graph = None
        if graph is None and frame.interlaced_frame and frame.height >= _LEAST_HEIGHT and frame.width >= _LEAST_WIDTH:
            if not any_found:
                found()
            any_found, graph, kind = True, _graph(frame), now
        if graph is None:
            yield frame, frame
            continue
        waiting.append(frame)
        graph.push(frame)
        yield from _pairs(graph, waiting, ended=False)
    if graph is not None:
        yield from _pairs(graph, waiting, ended=True)


def _pairs(graph: Any, waiting: deque[Any], *, ended: bool) -> Iterator[tuple[Any, Any]]:
    error = require("av.error", extra="media")
    if ended:
        graph.push(None)
    while waiting:
        try:
            picture = graph.pull()
        except error.BlockingIOError:
            return
        except error.EOFError:
            break
        yield waiting.popleft(), picture
    while ended and waiting:  # the filter gave fewer pictures than it took, so the rest passes unchanged
        frame = waiting.popleft()
        yield frame, frame


def _graph(frame: Any) -> Any:
    graph = require("av.filter", extra="media").Graph()
    time_base = frame.time_base
    filters = [
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format.name, time_base=time_base),
        graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),
        graph.add("buffersink"),
    ]
    for one, following in pairwise(filters):
        one.link_to(following)
    graph.configure()
    return graph
