"""One encode or decode as a value: the arguments checked, and what to run put together, before anything runs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...tiling import Plan
from ..arrays.boundary import as_input, require_finite
from ..arrays.grid import Grid
from ..bundle import ports
from ..bundle.graph import Graph
from ..bundle.manifest import Manifest
from ..config.model_config import ModelConfig
from ..errors import BundleError, InputError
from .cancel_token import CancelToken, check_token
from .conditions import Conditions
from .strip_settings import StripSettings
from .tiling_settings import TilingSettings
from .workload import Workload

__all__ = ["Job", "Jobs", "Progress", "Tiling"]

Tiling = TilingSettings | StripSettings
Progress = Callable[[int, int], None]
"""Told (done, in all): tiles, or batch elements without tiles; may raise, to stop."""


@dataclass(frozen=True, eq=False)
class Job:
    """A checked call: `graph` run on `array`, its main input `name`, with `conditions`.

    `shape`: of the result, (B, channels, ...). `size`: the first elements of its trailing axes that are wanted.
    `plan`: the tiles, if any. `sliced`: one batch element at a time. `tiles_per_call`: the most tiles in one.
    `exact`: run the `segments` in strips, instead of the graph. `specialise`, `peak_estimate_bytes`: as
    `CallScope`'s; `specialise` None: as the thread's calls have it. `cancel`: the caller's token.
    """

    graph: Graph
    name: str
    array: Any
    conditions: Conditions
    shape: tuple[int, ...]
    size: tuple[int, ...]
    plan: Plan | None = None
    sliced: bool = False
    tiles_per_call: int = 1
    progress: Progress = lambda done, total: None
    exact: StripSettings | None = None
    segments: tuple[Graph, ...] = ()
    specialise: bool | None = None
    peak_estimate_bytes: int = 0
    cancel: CancelToken | None = None

    @property
    def tiled(self) -> Plan | None:
        """The plan, where it has more than one tile, for what is wanted of the result."""
        return self.plan.cropped(self.size) if self.plan is not None and self.plan.count > 1 else None

    @property
    def is_exact(self) -> bool:
        """Whether the result has the numbers of a single pass."""
        return self.tiled is None and (self.exact is None or self.exact.is_exact)

    @property
    def wanted_shape(self) -> tuple[int, ...]:
        return (*self.shape[:2], *self.size)

    def elements(self) -> Iterator["Job"]:
        """The job of each batch element, or the whole one where that is asked for."""
        if not self.sliced or self.shape[0] == 1:
            yield self
            return
        for index in range(self.shape[0]):
            array, conditions = self.array[index : index + 1], self.conditions.of_element(index)
            yield replace(self, array=array, conditions=conditions, shape=(1, *self.shape[1:]))


class Jobs:
    """Makes the jobs of one opened bundle. `device`: where its backend takes arrays besides the host."""

    def __init__(self, manifest: Manifest, dtype: str, grid: Grid, device: str) -> None:
        self._manifest, self._dtype, self._grid, self._device = manifest, dtype, grid, device

    @property
    def config(self) -> ModelConfig:
        return self._manifest.config

    def encode(
        self,
        x: Any,
        tiling: Tiling | None,
        *,
        sliced: bool,
        specialise: bool | None = None,
        gated: bool = True,
        pad: bool = False,
        causal: bool | None = None,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Job:
        """Encoding the sample `x`; the arguments are those of `Autoencoder.encode`. `gated`: see `TilingSettings`.

        Raises:
            InputError: wrong rank, channels, dtype, size or content. BundleError: the bundle has no encoder.
        """
        check_token(cancel)
        graph = self.graph("encoder", causal)
        sample = self.array(x, "sample", self.config.in_channels, device=self._device)
        if pad:
            if not isinstance(sample, np.ndarray):
                raise InputError("sample: pad=True needs an array on the host")
            sample = self._grid.pad(sample)
        self._grid.check_sample(sample.shape[2:])
        require_finite(sample, "sample")
        size = self._grid.latent_size(sample.shape[2:])
        shape = (sample.shape[0], 2 * self.config.latent_channels, *size)
        plan = tiling.plan(self._grid, "encode", size, gated=gated) if isinstance(tiling, TilingSettings) else None
        job = Job(
            graph, ports.SAMPLE, sample, Conditions(), shape, size, plan, sliced, specialise=specialise, cancel=cancel
        )
        return self._with(job, tiling, progress)

    def decode(
        self,
        z: Any,
        tiling: Tiling | None,
        conditions: Callable[[Any], Conditions],
        *,
        sliced: bool,
        specialise: bool | None = None,
        gated: bool = True,
        crop: Sequence[int] | None = None,
        causal: bool | None = None,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Job:
        """Decoding the latents `z`, with the `conditions` made for them; the arguments are `Autoencoder.decode`'s.

        Raises:
            InputError: wrong rank, channels, dtype, size or content. BundleError: the bundle has no decoder.
        """
        check_token(cancel)
        graph = self.graph("decoder", causal)
        latents = self.array(z, "latents", self.config.latent_channels, device=self._device)
        cells = latents.shape[2:]
        self._grid.check_latents(cells)
        require_finite(latents, "latents")
        size = self._grid.sample_size(cells)
        shape = (latents.shape[0], self.config.out_channels, *size)
        plan = tiling.plan(self._grid, "decode", cells, gated=gated) if isinstance(tiling, TilingSettings) else None
        wanted = self._grid.cropped_size(size, crop)
        job = Job(
            graph,
            ports.LATENTS,
            latents,
            conditions(latents),
            shape,
            wanted,
            plan,
            sliced,
            specialise=specialise,
            cancel=cancel,
        )
        return self._with(job, tiling, progress)

    def graph(self, component: str, causal: bool | None) -> Graph:
        """The component's graph of the chosen precision and, for video, causality (None: the config's own).

        Raises:
            InputError: no graph of that causality. BundleError: the bundle lacks the component.
        """
        graphs = [graph for graph in self._manifest.find_graphs(component) if graph.dtype == self._dtype]
        if not graphs:
            raise BundleError(
                f"{self._manifest.folder} holds no {component} in {self._dtype}, though another part in it: export it "
                f"again with --dtype {self._dtype}"
            )
        if causal is not None:
            held = ", ".join(str(graph.causal) for graph in graphs)
            graphs = [graph for graph in graphs if graph.causal is causal]
            if not graphs and not self._grid.video:
                raise InputError(f"causal={causal}: {self._manifest.family} is an image model and takes no causal")
            if not graphs:
                raise InputError(
                    f"causal={causal}: the bundle's {component} was exported for causal={held} only; "
                    f"export it again with --causal {str(causal).lower()}"
                )
        return graphs[0]

    def array(self, array: Any, what: str, channels: int, *, device: str) -> Any:
        """A sample or latents as a float32 array, with its axes checked.

        Raises:
            InputError: not an array, or of another dtype, rank or number of channels.
        """
        array, video = as_input(array, what, device=device), self._grid.video
        axes = "(B, C, T, H, W)" if video else "(B, C, H, W)"
        if len(array.shape) != (5 if video else 4):
            other = " (is it for an image model?)" if video and len(array.shape) == 4 else ""
            other = " (is it for a video model?)" if not video and len(array.shape) == 5 else other
            raise InputError(f"{what}: {self._manifest.family} takes {axes}, got shape {tuple(array.shape)}{other}")
        if array.shape[1] != channels:
            raise InputError(f"{what}: wanted {channels} channels, {axes}, got shape {tuple(array.shape)}")
        if array.shape[0] < 1:
            raise InputError(f"{what}: the batch is empty, got shape {tuple(array.shape)}")
        return array

    def _with(self, job: Job, tiling: Tiling | None, progress: Progress | None) -> Job:
        exact = isinstance(tiling, StripSettings)
        if (exact or job.tiled is not None) and not isinstance(job.array, np.ndarray):
            raise InputError("tiling cuts arrays on the host: copy the array there, or disable_tiling()")
        if isinstance(tiling, TilingSettings):
            job = replace(job, tiles_per_call=tiling.tiles_per_call)
        elif tiling is not None:
            job = replace(job, exact=tiling, segments=self._segments(job.graph))
        if not exact:
            job = replace(job, peak_estimate_bytes=self._peak_estimate_bytes(job))
        return job if progress is None else replace(job, progress=progress)

    def _peak_estimate_bytes(self, job: Job) -> int:
        cells = job.array.shape[2:] if job.graph.component == "decoder" else job.shape[2:]
        batch = 1 if job.sliced else job.shape[0]
        if job.tiled is not None:
            cells, batch = job.tiled.largest, batch * job.tiles_per_call
        return Workload(self.config, self._grid, job.graph.component, batch, tuple(cells)).peak_estimate_bytes

    def _segments(self, graph: Graph) -> tuple[Graph, ...]:
        found = self._manifest.find_strip_graphs(graph.component, graph.dtype)
        if not found:
            raise BundleError(
                f"{self._manifest.folder} holds no {graph.dtype} steps for exact strips of its {graph.component}: "
                f"export it again with --dtype {graph.dtype} --strips"
            )
        return found
