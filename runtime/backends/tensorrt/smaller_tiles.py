"""The tile that would have fitted, for the message of a call that did not fit."""

from collections.abc import Callable, Iterator, Mapping

from ...bundle import ports
from ...bundle.graph import Graph

__all__ = ["smaller_tiles", "tile_that_fits"]

Shapes = Mapping[str, tuple[int, ...]]


def smaller_tiles(graph: Graph, shapes: Shapes, ratio: int) -> Iterator[tuple[tuple[int, int], Shapes]]:
    """The call with its longer side halved again and again, down to one latent cell: (height, width) in pixels, and the
    shapes of all inputs. `ratio`: pixels per latent cell."""
    axes = {
        axis: size
        for tensor in graph.inputs
        for axis, size in zip(tensor.shape, shapes[tensor.name], strict=True)
        if isinstance(axis, str)
    }
    if (height := ports.latent_axis(ports.HEIGHT)) in axes:
        cells = [axes[height], axes[ports.latent_axis(ports.WIDTH)]]
    else:
        cells = [axes[ports.HEIGHT] // ratio, axes[ports.WIDTH] // ratio]
    whole = tuple(cells)
    while max(cells) > 1:
        side = cells.index(max(cells))
        cells[side] //= 2
        scaled = {
            axis: size // whole[0] * cells[0]
            if axis.endswith(ports.HEIGHT)
            else size // whole[1] * cells[1]
            if axis.endswith(ports.WIDTH)
            else size
            for axis, size in axes.items()
        }
        yield (cells[0] * ratio, cells[1] * ratio), {one.name: one.shape_for(scaled) for one in graph.inputs}


def tile_that_fits(
    graph: Graph,
    shapes: Shapes,
    ratio: int,
    need: Callable[[Shapes], tuple[int, int] | None],
    available: int,
    workspace: int | None = None,
) -> tuple[tuple[int, int], int] | None:
    """The largest of the smaller tiles that fits.

    Args:
        graph: the graph of the call.
        shapes: the shapes of the call's inputs.
        ratio: pixels per latent cell.
        need: gives the bytes of activations, and those of inputs and outputs, of a call. None: the engine does not take
            the sizes.
        available: the free bytes.
        workspace: the size of the caller's workspace, which then holds the activations. None: there is none.

    Returns:
        The tile, (height, width) in pixels, and the bytes that its call needs. None: no tile fits.
    """
    for tile, smaller in smaller_tiles(graph, shapes, ratio):
        found = need(smaller)
        if found is None:
            continue
        activations, others = found
        if workspace is None and activations + others <= available:
            return tile, activations + others
        if workspace is not None and activations <= workspace and others <= available:
            return tile, activations + others
    return None
