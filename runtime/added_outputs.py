"""What `latentrt build` adds to an engine beside its graph's own outputs."""

from .manifest import Graph

__all__ = ["NOT_FINITE", "PIXELS", "added_outputs"]

PIXELS = "pixels"
"""The result as uint8 in [0, 255], channels last: converted on the device, a quarter of the bytes to copy."""
NOT_FINITE = "not_finite"
"""How many values of the result are NaN or infinite: one number, wherever the result stays."""


def added_outputs(graph: Graph) -> tuple[str, ...]:
    """Pixels for what decodes at once; the count where the precision is low, since float32 does not overflow."""
    pixels = (PIXELS,) if graph.component == "decoder" and graph.kind == "whole" else ()
    return pixels if graph.dtype == "float32" else (*pixels, NOT_FINITE)
