"""What `latentrt build` adds to an engine beside its graph's own outputs."""

from .graph import Graph
from .manifest import Manifest

__all__ = ["NOT_FINITE", "PIXELS", "added_outputs"]

PIXELS = "pixels"
"""The result as uint8 in [0, 255], channels last: converted on the device, a quarter of the bytes to copy."""
NOT_FINITE = "not_finite"
"""How many values of the result are NaN or infinite: one number, wherever the result stays."""


def added_outputs(manifest: Manifest, graph: Graph) -> tuple[str, ...]:
    """Pixels where frames come out: of what decodes at once, and of a stream's last stage. (Strips come together on the
    host.) The count where the precision is low, since float32 does not overflow."""
    decodes = graph.component == "decoder" and graph.kind == "whole"
    ends = graph in manifest.find_streams("decoder", graph.dtype)[-1:]
    pixels = (PIXELS,) if decodes or ends else ()
    return pixels if graph.dtype == "float32" else (*pixels, NOT_FINITE)
