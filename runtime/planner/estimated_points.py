"""Points without measurements, for programs that cannot start a Python process to measure in.

They are upper estimates from the sizes of the arrays: about twice what measurements give. A plan made from them fits
into its budget, and it may take tiles or strips where a measured plan takes a whole pass.
"""

from dataclasses import replace

from ..arrays.grid import Grid
from ..bundle.manifest import Manifest
from ..calls.workload import Workload, volume
from .probe import Point, Probe

__all__ = ["estimated_point"]

_LIBRARY_BYTES = 256 << 20  # ONNX Runtime takes about 60 MiB when it is imported, and OpenVINO about 180 MiB
_WEIGHT_COPIES = 2  # an open engine holds the weights as they are stored, and packed for the CPU
_OPENING_COPIES = 3  # and while it is opened the file's content too
_SECONDS = 1e-5  # of one unit of volume; only the ratios between strategies count
_STRIP_SECONDS = 2.0  # A pass in strips takes up to this many times as long as a whole pass.


def estimated_point(manifest: Manifest, probe: Probe) -> Point:
    """An upper estimate of what a call takes."""
    grid, cells, strategy = Grid.of(manifest.config), probe.cells, probe.strategy
    work = Workload(manifest.config, grid, probe.component, probe.batch, cells)
    piece = work
    if strategy.streaming:
        frames = -(-(strategy.frames_per_chunk or 1) // grid.temporal)
        piece = replace(work, cells=(min(cells[0], frames + 3), *cells[1:]))
    names = {graph.weights for graph in manifest.find_graphs(probe.component)}
    weights = max((file.size_bytes for file in manifest.files if file.name in names), default=0)
    loaded = _LIBRARY_BYTES + _WEIGHT_COPIES * weights
    seconds = _SECONDS * probe.batch * volume(grid, cells) * (_STRIP_SECONDS if strategy.kind == "strips" else 1.0)
    around = work.input_bytes + work.result_bytes()
    return Point(
        peak_bytes=loaded + piece.most_bytes + around,
        loaded_bytes=loaded,
        seconds=seconds,
        work_seconds=seconds,
        opening_bytes=_LIBRARY_BYTES + _OPENING_COPIES * weights,
    )
