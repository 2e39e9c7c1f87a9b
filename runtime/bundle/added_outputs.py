"""The outputs that `latentrt build` adds to an engine, after its graph's own outputs."""

from . import ports
from .graph import Graph
from .manifest import Manifest

__all__ = ["added_outputs"]


def added_outputs(manifest: Manifest, graph: Graph) -> tuple[str, ...]:
    """The names of the outputs that the engine of a graph gets.

    `ports.PIXELS`: engines whose result is a finished sample have it, which are those that decode a whole sample and
    the last stage of a stream. (Strips are put together on the host.) `ports.NOT_FINITE`: engines of low precision have
    it, because float32 does not overflow.
    """
    decodes = graph.component == "decoder" and graph.kind == "whole"
    ends = graph in manifest.find_streams("decoder", graph.dtype)[-1:]
    pixels = (ports.PIXELS,) if decodes or ends else ()
    return pixels if graph.dtype == "float32" else (*pixels, ports.NOT_FINITE)
