"""One encode or decode as a value: every argument is checked here, before anything is measured or runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ...tiling import Plan
from ...tiling.argument_names import argument
from ...tiling.plan import Direction
from ..arrays.boundary import Result, as_input, check_output, require_finite
from ..arrays.given_pixels import given_pixels
from ..arrays.grid import Grid
from ..arrays.outputs import FROM_ENCODE, latents_of
from ..arrays.padded_latents import PaddedLatents, size_before_padding
from ..arrays.pixel_range import check_pixel_range
from ..arrays.pixels import to_samples
from ..arrays.ran import Ran
from ..bundle import ports
from ..bundle.graph import Graph
from ..bundle.manifest import Manifest
from ..config.model_config import ModelConfig
from ..errors import BundleError, InputError
from .cancel_token import check_token
from .conditions import Conditions, conditions_for, takes_conditions
from .one_pass import require_one_pass
from .options import CallOptions, DecodeOptions, EncodeOptions
from .strategy import Strategy, label_of
from .strip_settings import StripSettings, require_halos, without_strips
from .tiling_settings import TilingSettings, stream_tiles, tiles_of
from .workload import Workload

__all__ = ["Job", "Jobs"]

Kind = Literal["whole", "sliced", "tiles", "strips", "stream"]


@dataclass(frozen=True, eq=False)
class Job:
    """A checked call. It owns its workload, its strategy and the place of its result.

    Attributes:
        graph: the graph of a whole pass, or of a tile.
        name: the graph's main input.
        direction: "encode" or "decode".
        array: the sample or the latents, float32 (B, C, ...).
        result: where the result goes.
        workload: the call as numbers.
        strategy: how the call runs: first as the user enabled it, then as the planner settled it.
        conditions: the decoder's further inputs, if it takes any.
        stages: the streaming graphs of the component, if the bundle holds any.
        strip_graphs: the graphs of strips, if the bundle holds any.
        may_stream: whether the planner may choose a stream.
        may_approximate: whether the planner may choose tiles.
        gated: False cuts tiles also where one tile holds everything, see `TilingSettings.plan`.
        stream: a CUDA stream of the caller.
        specialise: as `CallScope.specialise`.
        progress: called after each tile, or after each element of a sliced batch.
        original_size: of a sample before padding, (H, W) or (T, H, W). None: the sample is not padded.
    """

    graph: Graph
    name: str
    direction: Direction
    array: Any
    result: Result
    workload: Workload
    strategy: Strategy
    conditions: Conditions | None = None
    stages: tuple[Graph, ...] = ()
    strip_graphs: tuple[Graph, ...] = ()
    may_stream: bool = False
    may_approximate: bool = True
    gated: bool = True
    stream: int | None = None
    specialise: bool | None = None
    progress: Callable[[int, int], None] = lambda done, total: None
    original_size: tuple[int, ...] | None = None

    @property
    def kind(self) -> Kind:
        """How the engines run it."""
        strategy = self.strategy
        if isinstance(strategy.tiling, StripSettings) and not strategy.streaming:
            return "strips"
        if strategy.streaming and self.stream is None:
            return "stream"
        if strategy.tiling is not None and self.tiles is not None:
            return "tiles"
        return "sliced" if strategy.sliced and self.workload.batch > 1 else "whole"

    @cached_property
    def tiles(self) -> Plan | None:
        """The tiles of what the caller wants of the result. None: one tile holds everything, or tiling is off."""
        tiling, work = self.strategy.tiling, self.workload
        if not isinstance(tiling, TilingSettings):
            return None
        return tiles_of(tiling, work.grid, self.direction, work.cells, self.result.size, gated=self.gated)

    @property
    def exact(self) -> bool:
        """Whether the result has the numbers of a single pass."""
        tiling, work = self.strategy.tiling, self.workload
        if isinstance(tiling, StripSettings):
            return tiling.storage == "float32"
        if self.kind == "stream":  # tiles in time are left to the stream
            return stream_tiles(tiling, work.grid, self.direction, work.cells[1:]).count == 1
        return self.tiles is None

    def ran(self, backend: str, dtype: str) -> Ran:
        """How it runs, for reports, on the `backend` that the bundle was opened with."""
        strategy, exact = self.strategy, self.exact
        if exact and isinstance(strategy.tiling, TilingSettings):
            strategy = replace(strategy, tiling=None)  # one tile that holds everything is no tile
        if strategy.sliced and self.workload.batch == 1:
            strategy = replace(strategy, sliced=False)
        label = label_of(strategy, self.workload.grid, self.workload.cells)
        return Ran(strategy.backend or backend, dtype, label, exact, strategy.planned_bytes)

    def element(self, index: int, result: Result) -> "Job":
        """The job of one element of the batch. `result`: of the batch, with an array."""
        return replace(
            self,
            array=self.array[index : index + 1],
            conditions=None if self.conditions is None else self.conditions.of_element(index),
            result=result.elements(index, index + 1),
        )


class Jobs:
    """Makes the jobs of one opened bundle.

    Args:
        dtype: the precision of the graphs that the backend takes.
        device: where the backend takes arrays besides the host, "cpu" or "cuda".
        takes_stream: whether the backend takes a CUDA stream of the caller's.
        backend: the backend's label, for messages.
    """

    def __init__(
        self, manifest: Manifest, dtype: str, grid: Grid, *, device: str, takes_stream: bool, backend: str
    ) -> None:
        self.config: ModelConfig = manifest.config
        self._manifest, self._dtype, self._grid, self._device = manifest, dtype, grid, device
        self._takes_stream, self._backend = takes_stream, backend
        self._takes_conditions = takes_conditions(manifest.config)
        self._causal = {component: manifest.config.causal(component) for component in ("encoder", "decoder")}
        self._graphs = {
            component: [graph for graph in manifest.find_graphs(component) if graph.dtype == dtype]
            for component in manifest.components
        }
        self._stages, self._strips = (
            {component: find(component, dtype) for component in ("encoder", "decoder")}
            for find in (manifest.find_streams, manifest.find_strip_graphs)
        )

    def encode(
        self, x: Any, strategy: Strategy, options: EncodeOptions, *, may_stream: bool = False, gated: bool = True
    ) -> Job:
        """Encoding the sample `x` as the user enabled it.

        Raises:
            InputError: a wrong argument. BundleError: the bundle has no encoder, or not as it was asked for.
        """
        if options.output == "uint8":
            raise InputError("output='uint8' is for pictures: encode gives moments, as float32 or on the device")
        graph, config = self.graph("encoder", options.causal), self.config
        sample, is_pixels = self.sample(x, device=self._device)
        original = None
        if options.pad:
            if not isinstance(sample, np.ndarray):
                raise InputError("sample: pad=True needs an array on the host")
            size, sample = sample.shape[2:], self._grid.pad(sample)
            original = None if size == sample.shape[2:] else size
        self._grid.check_sample(sample.shape[2:])
        values = require_finite(sample, "sample")
        if options.check_range and not is_pixels:
            check_pixel_range(sample, values)
        cells = self._grid.latent_size(sample.shape[2:])
        shape = (sample.shape[0], 2 * config.latent_channels, *cells)
        result = Result(shape, cells, options.output, options.out)
        one_pass = options.output == "device" or options.stream is not None
        work = Workload(config, self._grid, "encoder", shape[0], cells, options.output, in_one_pass=one_pass)
        job = Job(graph, ports.SAMPLE, "encode", sample, result, work, strategy, gated=gated, original_size=original)
        return self._checked(job, options, may_stream)

    def decode(
        self, z: Any, strategy: Strategy, options: DecodeOptions, *, may_stream: bool = False, gated: bool = True
    ) -> Job:
        """Decoding the latents `z` as the user enabled it.

        Raises:
            InputError: a wrong argument. BundleError: the bundle has no decoder, or not as it was asked for.
        """
        graph, config = self.graph("decoder", options.causal), self.config
        crop = options.crop
        if isinstance(z, FROM_ENCODE):
            z = latents_of(z)
            if crop is None and options.output != "device":
                crop = size_before_padding(z, self._grid, options.out)
        latents = self.array(z, "latents", config.latent_channels, device=self._device)
        batch, cells = latents.shape[0], tuple(latents.shape[2:])
        self._grid.check_latents(cells)
        require_finite(latents, "latents")
        size = self._grid.sample_size(cells)
        wanted = size if crop is None else self._grid.cropped_size(size, crop)
        result = Result((batch, config.out_channels, *size), wanted, options.output, options.out)
        kept_as = "frames" if options.in_groups and options.output == "uint8" else options.output
        work = Workload(
            config,
            self._grid,
            "decoder",
            batch,
            cells,
            kept_as,
            in_one_pass=options.output == "device" or options.stream is not None,
            caller_bytes=options.caller_bytes,
        )
        conditions = None
        if self._takes_conditions or options.temb is not None:
            conditions = conditions_for(config, latents, options.temb, options.rng)
        job = Job(graph, ports.LATENTS, "decode", latents, result, work, strategy, conditions, gated=gated)
        return self._checked(job, options, may_stream)

    def graph(self, component: str, causal: bool | None) -> Graph:
        """The component's graph of the chosen precision and, for video, causality (None: the config's own).

        Raises:
            InputError: `causal` is not a bool, or no graph has that causality. BundleError: the bundle lacks the
                component.
        """
        graphs = self._graphs.get(component) or self._of_no_precision(component)
        if causal is not None:
            _require_bool(causal)
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

    def stages(self, component: str, causal: bool | None) -> tuple[Graph, ...]:
        """The component's streaming graphs, in the order in which they run.

        Raises:
            InputError: a causality that cannot stream. BundleError: the bundle holds no such graphs.
        """
        own = self._causal[component]
        if component == "encoder" and not own:
            raise InputError(
                f"{argument('stream')}: this encoder is not causal, it looks ahead to the clip's end; encode it whole"
            )
        if causal is not None:
            _require_bool(causal)
        if causal is not None and causal != own:
            raise InputError(
                f"{argument('stream')}: the streaming graphs are causal={own}, as the config is, got causal={causal}"
            )
        if not self._stages[component]:
            raise BundleError(
                f"{self._manifest.folder} holds no {self._dtype} streaming graphs of its {component}: export it again "
                f"with --dtype {self._dtype} --stream"
            )
        return self._stages[component]

    def sample(self, x: Any, *, device: str) -> tuple[Any, bool]:
        """A sample as `array` gives it, from floats or from uint8 pixels, and whether it was pixels.

        Raises:
            InputError: not an array, or of another dtype, rank or number of channels.
        """
        channels, video = self.config.in_channels, self._grid.video
        pixels = given_pixels(x, channels, video=video)
        if pixels is None:
            return self.array(x, "sample", channels, device=device), False
        return to_samples(pixels), True

    def array(self, array: Any, what: str, channels: int, *, device: str) -> Any:
        """A sample or latents as a float32 array, with its axes checked.

        Raises:
            InputError: not an array, or of another dtype, rank or number of channels.
        """
        if isinstance(array, PaddedLatents):
            array = array.view(np.ndarray)
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

    def _checked(self, job: Job, options: CallOptions, may_stream: bool) -> Job:
        """Add the graphs of streams and strips to a job. Refuse options that the enabled strategy does not allow."""
        if options.cancel is not None:
            check_token(options.cancel)
        component, strategy = job.workload.component, job.strategy
        if isinstance(strategy.tiling, StripSettings) and self._grid.video:  # a clip in strips is a stream
            strategy = replace(strategy, streaming=True)
            require_halos(self.stages(component, options.causal))
        check_output(options.output, options.out, (*job.result.shape[:2], *job.result.size))
        job = replace(
            job,
            strategy=strategy,
            stages=self._stages[component],
            strip_graphs=self._strips[component],
            may_stream=may_stream and options.causal is None,  # streaming graphs are of one causality
            may_approximate=not options.exact,
            stream=options.stream,
            specialise=options.specialise,
            progress=options.progress or job.progress,
        )
        if job.workload.in_one_pass:
            require_one_pass(
                job, planned=options.memory is not None, backend=self._backend, takes_stream=self._takes_stream
            )
        if isinstance(strategy.tiling, StripSettings) and not (strategy.streaming or job.strip_graphs):
            raise without_strips(self._manifest.folder, self._dtype, component)
        if strategy.streaming and options.stream is None:
            self.stages(component, options.causal)
        elif isinstance(strategy.tiling, TilingSettings):
            _ = job.tiles  # tiles that leave a gap are refused now
        if options.exact and not job.exact:
            cure = "disable_tiling(), or enable_tiling(exact=True) for strips in float32"
            raise InputError(f"{argument('exact')}: the tiling that is enabled approximates; call {cure}")
        return job

    def _of_no_precision(self, component: str) -> Sequence[Graph]:
        """Refuse a component that the bundle does not hold in the chosen precision."""
        self._manifest.find_graphs(component)
        raise BundleError(
            f"{self._manifest.folder} holds no {component} in {self._dtype}, though another part in it: export it "
            f"again with --dtype {self._dtype}"
        )


def _require_bool(causal: object) -> None:
    if not isinstance(causal, bool):
        raise InputError(f"causal: wanted True, False or None, got {causal!r}")
