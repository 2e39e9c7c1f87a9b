"""The inputs of a comparison: random arrays of the sizes that a backend takes, and the user's samples."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ...runtime.autoencoders.autoencoder import Autoencoder
from ...runtime.backends.names import LIBRARIES
from ...runtime.backends.tensorrt.opener import EngineOpener
from ...runtime.bundle import ports
from ...runtime.bundle.graph import Graph
from ...runtime.bundle.manifest import Manifest
from ...runtime.bundle.profiles import Profile, choose_profile
from ...runtime.errors import EngineError
from ...runtime.execution.stream_lengths import frames_ahead
from .reference import Reference

__all__ = ["ParityInput", "ParityInputs"]

Array = NDArray[np.float32]
_SEED = 0
# Largest latent size of a clip that runs as a stream, in cells (frames * height * width). The reference runs it whole.
_MAX_STREAM_CELLS = 2048


@dataclass(frozen=True, eq=False)
class ParityInput:
    """An input of a comparison.

    Attributes:
        label: "random", or the file name of a sample.
        array: a sample or latents.
        ways: strategies with which the backend runs it: some of "whole", "stream" and "strips".
    """

    label: str
    array: Array
    ways: tuple[str, ...]


class ParityInputs:
    """The inputs on which one backend is compared. The profiles of engines determine the sizes that they take."""

    def __init__(self, vae: Autoencoder, manifest: Manifest) -> None:
        self._manifest, self._config, self._grid = manifest, manifest.config, vae.grid
        self._engines = EngineOpener(manifest, vae.backend) if vae.backend in LIBRARIES else None
        self._base = max(self._grid.encoder_minimum, self._grid.decoder_minimum, 64 // self._grid.spatial)

    def random(self, graph: Graph) -> Iterator[ParityInput]:
        """Yield random arrays of several sizes, and enough further sizes that each profile of an engine runs."""
        streams, strips, profiles = self._streams(graph), self._strips(graph), self._profiles(graph)
        wide = self._default_shapes(graph)[-1]
        for shape in self._default_shapes(graph) if self._engines is None else self._held_shapes(graph, profiles):
            yield _random(graph, shape, ("whole",))
        if strips:
            yield _random(graph, wide, ("strips",))
        for shape in self._stream_shapes(graph, streams):
            yield _random(graph, shape, ("stream",))

    def own(self, graph: Graph, samples: Iterable[tuple[str, Array]], reference: Reference) -> Iterator[ParityInput]:
        """Yield the user's samples, or for the decoder the latents to which the reference encodes them."""
        whole = self._engines is None or self._profiles(graph)
        ways = (*(("whole",) if whole else ()), *(("stream",) if self._streams(graph) else ()))
        for label, sample in samples if ways else ():
            array = sample
            if graph.component == "decoder":
                moments, _ = reference.timed("encoder", sample, None)
                array = np.ascontiguousarray(moments[:, : self._config.latent_channels])
            yield ParityInput(label, array, ways)

    def _default_shapes(self, graph: Graph) -> list[tuple[int, ...]]:
        """Return the shapes of a square input, a batch of two oblong inputs, and a wider (for video longer) input."""
        base = self._base
        sizes = ((1, 2, base, base), (2, 1, base, base + 1), (1, 3, base + 1, 2 * base))
        return [self._shape(graph, batch, cells if self._grid.video else cells[1:]) for batch, *cells in sizes]

    def _held_shapes(self, graph: Graph, profiles: Sequence[Profile]) -> Iterable[tuple[int, ...]]:
        """Return the default shapes that an engine takes, and a shape for each profile."""
        name = ports.MAIN_INPUT[graph.component]
        defaults = self._default_shapes(graph)
        shapes = [shape for shape in defaults if any(one.ranges[name].holds(shape) for one in profiles)]
        chosen = (_shape_choosing(profiles, index, name) for index in range(len(profiles)))
        return dict.fromkeys([*shapes, *filter(None, chosen)])

    def _stream_shapes(self, graph: Graph, streams: Sequence[Graph]) -> Iterator[tuple[int, ...]]:
        """Yield shapes of clips that take several chunks, with heights and widths that the engines take."""
        if not streams:
            return
        chunks: Iterable[tuple[int, ...]] = [(1, self._base, self._base)]
        if self._engines is not None:
            ratio = self._grid.spatial if graph.component == "encoder" else 1
            later = [one for one in self._profiles(streams[0]) if one.ranges[ports.FIRST].maximum == (0,)]
            chosen = filter(None, (_shape_choosing(later, index, ports.CHUNK) for index in range(len(later))))
            chunks = dict.fromkeys((shape[0], shape[-2] // ratio, shape[-1] // ratio) for shape in chosen)
        for batch, height, width in chunks:
            most = max(_MAX_STREAM_CELLS // (height * width), 3)
            yield self._shape(graph, batch, (min(self._stream_frames(streams), most), height, width))

    def _stream_frames(self, streams: Sequence[Graph]) -> int:
        """Return the latent frames that the stages need before the first result, and a few more."""
        return math.ceil(frames_ahead(streams) / self._config.temporal_ratio) + 4

    def _shape(self, graph: Graph, batch: int, cells: Sequence[int]) -> tuple[int, ...]:
        if graph.component == "encoder":
            return (batch, self._config.in_channels, *self._grid.sample_size(cells))
        return (batch, self._config.latent_channels, *cells)

    def _streams(self, graph: Graph) -> Sequence[Graph]:
        return self._usable(graph, self._manifest.find_streams(graph.component, graph.dtype))

    def _strips(self, graph: Graph) -> Sequence[Graph]:
        return self._usable(graph, self._manifest.find_strip_graphs(graph.component, graph.dtype))

    def _usable(self, graph: Graph, parts: Sequence[Graph]) -> Sequence[Graph]:
        """Return the partial graphs of a whole graph; none if their causality differs or an engine is missing."""
        runs = self._engines is None or all(map(self._profiles, parts))
        return parts if runs and all(part.causal == graph.causal for part in parts) else ()

    def _profiles(self, graph: Graph) -> tuple[Profile, ...]:
        """Return the profiles of a graph's engines; none if the graph has no engine."""
        try:
            return () if self._engines is None else self._engines.profiles(graph)
        except EngineError:
            return ()


def _shape_choosing(profiles: Sequence[Profile], index: int, name: str) -> tuple[int, ...] | None:
    """Return the smallest shape of the input `name` for which a call runs in a profile.

    Returns None if other profiles take all calls of this profile.
    """
    own, alone = profiles[index].ranges[name], [Profile({name: one.ranges[name]}) for one in profiles]
    shapes = sorted(product(*map(set, zip(own.minimum, own.optimum, own.maximum, strict=True))), key=math.prod)
    return next((shape for shape in shapes if choose_profile(alone, {name: shape}) == index), None)


def _random(graph: Graph, shape: tuple[int, ...], ways: tuple[str, ...]) -> ParityInput:
    values = np.random.default_rng(_SEED).standard_normal(shape, np.float32)
    return ParityInput("random", np.tanh(values) if graph.component == "encoder" else values, ways)
