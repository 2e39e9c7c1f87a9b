"""Measurements of a machine that there is not: planning without running anything."""

from latentrt.runtime.arrays.grid import Grid
from latentrt.runtime.backends.choose import choose_backend
from latentrt.runtime.backends.memory_model import MeasuredMemory, Reopening
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.calls.workload import volume
from latentrt.runtime.planner.probe import Point, Probe

__all__ = ["MADE_UP", "MIB", "MadeUp", "memory_of"]

MIB = 1 << 20
MADE_UP = MeasuredMemory(Reopening("made-up", None, "float32", 1))
"""The memory of a backend of which every byte grows with the size."""


def memory_of(manifest: Manifest, backend: str) -> MeasuredMemory:
    """The memory model of a backend on the CPU."""
    memory = choose_backend(manifest, backend=backend, threads=1).memory
    assert isinstance(memory, MeasuredMemory)
    return memory


class MadeUp:
    """Points of a machine on which a whole pass takes 1 MiB and 10 ms per unit of volume, a stream 4 MiB per cell."""

    def __init__(self, grid: Grid, base: int = 50 * MIB) -> None:
        self.grid, self.base = grid, base
        self.asked: list[Probe] = []

    def point(self, probe: Probe) -> Point:
        self.asked.append(probe)
        area = probe.cells[-2] * probe.cells[-1]
        size = volume(self.grid, probe.cells)
        if probe.strategy.kind == "stream":
            return Point(self.base + 4 * MIB * area, self.base, 0.012 * size)
        if probe.strategy.kind == "stream + tiles":
            return Point(self.base + 5 * MIB * area, self.base, 0.012 * size)
        if probe.strategy.kind == "strips":
            return Point(self.base + 16384 * area, self.base, 0.02 * size)
        return Point(self.base + MIB * size, self.base, 0.01 * size)
