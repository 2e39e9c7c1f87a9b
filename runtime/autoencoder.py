"""What the two families share: opening a bundle, encode, decode, slicing, and the life of the engines."""

from __future__ import annotations  # or every annotation of a generator would import numpy.random

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ..tiling import Plan
from ..tiling.plan import Direction
from . import latents as latents_module
from .backends import choose_backend, graphs_of
from .budget import default_budget, parse_memory
from .conditions import Conditions
from .config import ModelConfig
from .errors import BackendUnavailable, BundleError, InputError, LatentRTError
from .exact_settings import ExactStrips
from .execution import execute
from .grid import Grid
from .jobs import Job, Jobs, Progress, Tiling
from .manifest import Graph, Manifest
from .outputs import AutoencoderKLOutput, DecoderOutput
from .posterior import DiagonalGaussian, generator_from
from .sessions import Sessions
from .strategy import Strategy
from .workload import Workload

__all__ = ["Autoencoder"]

Array = NDArray[np.float32]
_log = logging.getLogger(__name__)
_ALWAYS_FITS_BYTES = 1 << 28  # below this nobody looks at how much memory there is


class Autoencoder(ABC):
    """Encode and decode with the engines of a bundle. Made by `open_bundle` or a family's `from_pretrained`.

    Arrays are (B, C, H, W) for images and (B, C, T, H, W) for video. It holds memory: use it as a context manager,
    or call `close`. Threads may share it.
    """

    family: ClassVar[str]
    video: ClassVar[bool]
    _tiling: Tiling
    _use_tiling: bool

    def __init__(
        self,
        manifest: Manifest,
        *,
        backend: str = "auto",
        dtype: str = "float32",
        provider: str | None = None,
        threads: int | None = None,
        contexts: int = 1,
        session_options: Mapping[str, Any] | None = None,
    ) -> None:
        chosen = choose_backend(
            manifest,
            backend=backend,
            dtype=dtype,
            provider=provider,
            threads=threads,
            session_options=session_options,
            contexts=contexts,
        )
        self._manifest = manifest
        self._dtype = dtype
        self._threads, self._session_options = threads, session_options
        self._sessions = Sessions(manifest, chosen, contexts)
        self._slicing = False
        self.grid = Grid.of(manifest.config, video=self.video)
        self._jobs = Jobs(manifest, chosen.graphs, self.grid, chosen.device)
        self.enable_tiling()  # the default settings, for tiled_encode and tiled_decode
        self._use_tiling = False

    @classmethod
    def from_pretrained(cls, bundle: str | Path, **options: Any) -> Self:
        """Open a bundle of this family; `options` as in `open_bundle`.

        Raises:
            BundleError: the bundle is damaged, or of the other family.
        """
        manifest = Manifest.open(Path(bundle))
        if manifest.family != cls.family:
            raise BundleError(f"{bundle} holds an {manifest.family}, not an {cls.family}: open it with open_bundle")
        return cls(manifest, **options)

    @property
    def config(self) -> ModelConfig:
        """The model's config, frozen, with the field names of diffusers."""
        return self._manifest.config

    @property
    def backend(self) -> str:
        """The backend and provider that run the engines, such as "onnxruntime:cpu"."""
        return self._sessions.backend.label

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The bundle's graphs that run (not the streaming ones): of the precision that was asked for, or of float32
        where the backend lowers them itself."""
        return graphs_of(self._manifest, self._sessions.backend.graphs)

    # Encoding and decoding

    def encode(
        self,
        x: Any,
        *,
        pad: bool = False,
        output: str = "float32",
        out: NDArray[Any] | None = None,
        stream: int | None = None,
        causal: bool | None = None,
        memory: int | str | None = None,
        progress: Progress | None = None,
    ) -> AutoencoderKLOutput:
        """A sample to the distribution of its latents.

        `x`: float32 (B, in_channels, H, W) or (B, in_channels, T, H, W) in [-1, 1]; H and W multiples of the spatial
        ratio, T = 1 + a multiple of the temporal ratio. With `pad` any size is padded at the end of each axis.
        `out`: float32 array for the moments (B, 2 * latent_channels, ...), a memory-mapped one for instance. `causal`:
        video only, where the graph was exported for it. `progress(done, in all)` is told the tiles, or the elements of
        a sliced batch, and may raise, to stop. With tiles the moments are blended. `memory`: as for `decode`.

        Raises:
            InputError: wrong rank, channels, dtype, size or content, or nothing that fits into `memory`.
            BundleError: the bundle has no encoder. EngineError, Cancelled: see there.
        """
        options: dict[str, Any] = {"output": output, "out": out, "stream": stream}
        strategy = self._strategy("encoder", x, memory, output, causal, pad=pad)
        return self._encode(x, strategy, pad=pad, causal=causal, progress=progress, **options)

    def decode(
        self,
        z: Any,
        *,
        crop: Sequence[int] | None = None,
        output: str = "float32",
        out: NDArray[Any] | None = None,
        stream: int | None = None,
        causal: bool | None = None,
        temb: Any = None,
        rng: np.random.Generator | int | None = None,
        memory: int | str | None = None,
        progress: Progress | None = None,
    ) -> DecoderOutput:
        """Model latents to a sample.

        `z`: float32 (B, latent_channels, h, w) or (B, latent_channels, t, h, w), raw latents as diffusers' decode
        takes them (`unscale_latents` makes them from diffusion latents). The sample is float32 (B, out_channels, ...)
        of about [-1, 1], not clipped; with `output="uint8"` pixels (B, H, W, C) or (B, T, H, W, C); with
        `output="device"` an object with `__dlpack__` on the engine's device. `out` is a preallocated array for it, a
        memory-mapped one for instance. `crop`: a size (H, W) or (T, H, W) to cut the sample to, after
        `encode(pad=True)`. `temb`: (B,) timesteps for timestep-conditioned decoders. `rng`: for decoders that inject
        noise. `progress(done, in all)` is told the tiles, or the elements of a sliced batch, and may raise, to stop.

        `memory`: what the call may make the process hold, such as "8GiB" or bytes: the engine and its library, input,
        activations and result. The planner then takes the fastest way that fits, an exact one wherever one fits; the
        output's `exact` tells. The first time it measures a few small calls, which takes seconds. Without `memory`
        nothing is planned, unless the call might not fit into 70 % of the free memory. With tiling enabled there is
        nothing to plan, and `memory` is refused; with streaming enabled it chooses the chunks.

        Raises:
            InputError: wrong rank, channels, dtype, size or content, a condition missing or not taken, or nothing
                that fits into `memory`; the message says what would.
            BundleError: the bundle has no decoder. EngineError, Cancelled: see there.
        """
        options: dict[str, Any] = {"crop": crop, "causal": causal, "temb": temb, "rng": rng, "progress": progress}
        strategy = self._strategy("decoder", z, memory, output, causal)
        job = self._decode_job(z, strategy, **options)
        sample = self._execute(job, strategy, output=output, out=out, stream=stream)
        return DecoderOutput(sample, exact=self._is_exact(job, strategy))

    def tiled_encode(self, x: Any, **options: Any) -> AutoencoderKLOutput:
        """`encode` in tiles, whether or not tiling is enabled: with the settings that `enable_tiling` made last, or
        its defaults. Options are `encode`'s."""
        return self._encode(x, self._tiled_strategy, gated=False, **options)

    def tiled_decode(
        self,
        z: Any,
        *,
        output: str = "float32",
        out: NDArray[Any] | None = None,
        stream: int | None = None,
        **options: Any,
    ) -> DecoderOutput:
        """`decode` in tiles, whether or not tiling is enabled: with the settings that `enable_tiling` made last, or
        its defaults. Further options are `decode`'s."""
        job = self._decode_job(z, self._tiled_strategy, gated=False, **options)
        return DecoderOutput(execute(self._sessions, job, output=output, out=out, stream=stream), job.tiled is None)

    def __call__(
        self,
        x: Any,
        *,
        sample_posterior: bool = False,
        rng: np.random.Generator | int | None = None,
        pad: bool = False,
        encoder_causal: bool | None = None,
        decoder_causal: bool | None = None,
        **decode_options: Any,
    ) -> DecoderOutput:
        """Encode and decode: the mean latents, or with `sample_posterior` ones drawn with `rng`. With `pad` a sample
        of any size comes back in its own size. Further options are `decode`'s."""
        posterior = self.encode(x, pad=pad, causal=encoder_causal).latent_dist
        if sample_posterior:
            if rng is None:
                raise InputError("sample_posterior=True needs rng: a numpy.random.Generator or a seed")
            rng = generator_from(rng)  # one stream for the latents and then, where it is taken, the noise
            latents = posterior.sample(rng)
        else:
            latents = posterior.mode()
        if pad and "crop" not in decode_options:
            decode_options["crop"] = tuple(x.shape[2:])
        return self.decode(latents, rng=rng, causal=decoder_causal, **decode_options)

    def scale_latents(self, z: Array) -> Array:
        """Model latents -> diffusion latents, as the diffusers pipelines scale them; float32 (B, C, ...)."""
        return latents_module.scale_latents(self._latents(z), self.config)

    def unscale_latents(self, z: Array) -> Array:
        """Diffusion latents (a pipeline's `output_type="latent"`) -> model latents, what `decode` takes."""
        return latents_module.unscale_latents(self._latents(z), self.config)

    # Settings and life

    def enable_slicing(self) -> None:
        """Run one batch element at a time: less memory for large batches, the same result."""
        self._slicing = True

    def disable_slicing(self) -> None:
        self._slicing = False

    @abstractmethod
    def enable_tiling(self) -> None:
        """Encode and decode in overlapping tiles from now on; the families say with which arguments."""

    def disable_tiling(self) -> None:
        """Encode and decode in one pass again; the settings stay for `tiled_encode` and `tiled_decode`."""
        self._use_tiling = False

    def tile_plan(self, component: str, sample_size: Sequence[int]) -> Plan:
        """How the "encoder" or the "decoder" would tile a sample of that size, (H, W) or (T, H, W), with the settings
        that `enable_tiling` made last, or its defaults; one tile where it fits into one.

        Raises:
            InputError: another component, or a size off the grid.
        """
        if component not in ("encoder", "decoder"):
            raise InputError(f"tile_plan: the component is 'encoder' or 'decoder', got {component!r}")
        self.grid.check_sample(sample_size)
        if isinstance(self._tiling, ExactStrips):
            raise InputError(
                "tile_plan: exact strips are cut step by step and have no plan; enable tiling without exact"
            )
        direction: Direction = "encode" if component == "encoder" else "decode"
        return self._tiling.plan(self.grid, direction, self.grid.latent_size(sample_size))

    def cancel(self) -> None:
        """Stop the calls that run or wait now, from another thread; each raises `Cancelled`."""
        self._sessions.cancel()

    def release(self) -> None:
        """Free the engines' memory; the next call loads them again."""
        self._sessions.release()

    def load(self, component: str) -> None:
        """Load the engine of the "encoder" or the "decoder" that a whole pass runs on.

        Raises:
            BundleError: the bundle lacks it. EngineError: it does not load.
        """
        self._sessions.component(self._jobs.graph(component, None))

    def run_strategy(self, strategy: Strategy, component: str, array: Any) -> None:
        """Run a component by a strategy on a sample or latents, whatever is enabled, and drop the result: for
        measuring. A clip's frames are dropped as they come, where it streams."""
        if component == "encoder":
            self._encode(array, strategy)
            return
        self._drop(self._decode_job(array, strategy, **self._neutral_conditions(array.shape[0])), strategy)

    def planner(self) -> Any:
        """The `Planner` of this bundle with this backend, and its `Calibration`.

        Raises:
            BackendUnavailable: the backend runs on a device whose memory is not measured.
        """
        from .calibration import Calibration  # here: a call that is not planned does not pay for it
        from .planner import Planner
        from .probe import EngineChoice

        backend = self._sessions.backend
        if backend.device != "cpu":
            raise BackendUnavailable(
                f"memory: calls are planned for the host's memory, and {backend.label} takes the GPU's: enable tiling"
            )
        engine = EngineChoice(backend.name, backend.provider or None, self._dtype, self._threads, self._session_options)
        calibration = Calibration(self._manifest, engine)
        return Planner(self._manifest, backend.name, calibration, dtype=self._dtype), calibration

    def workload(self, component: str, batch: int, cells: Sequence[int], output: str = "float32") -> Workload:
        """A call on latents of `cells`, (T,) H, W, as the planner takes it."""
        return Workload(self.config, self.grid, component, batch, tuple(cells), output)

    def warmup(self, shapes: Iterable[Sequence[int]] = ()) -> None:
        """Do everything slow beforehand: run the engines once on zeros for each shape; without shapes, load them all.

        A shape is a sample's, (B, in_channels, ...), which runs encoder and decoder (those that the bundle holds),
        or latents', (B, latent_channels, ...), which runs the decoder. With OpenVINO each shape (of a tile, with tiles)
        gets a model of its own, which is faster than the one for every size, and holds the weights once more.

        Raises:
            InputError: a shape that is neither.
        """
        wanted = [tuple(shape) for shape in shapes]
        if not wanted:
            for component in self._manifest.components:
                self._sessions.component(self._jobs.graph(component, None))
        with self._sessions.fitting():
            self._warm(wanted)

    def _warm(self, shapes: Iterable[tuple[int, ...]]) -> None:
        for shape in shapes:
            rank = 5 if self.video else 4
            if len(shape) != rank or shape[1] not in (self.config.in_channels, self.config.latent_channels):
                raise InputError(
                    f"warmup: wanted shapes of samples (B, {self.config.in_channels}, ...) or latents "
                    f"(B, {self.config.latent_channels}, ...) with {rank} axes, got {shape}"
                )
            latent_shape = shape
            if shape[1] == self.config.in_channels:
                self.grid.check_sample(shape[2:])
                latent_shape = (shape[0], self.config.latent_channels, *self.grid.latent_size(shape[2:]))
                if "encoder" in self._manifest.components:
                    self.encode(np.zeros(shape, np.float32))
            if "decoder" in self._manifest.components:
                self.decode(np.zeros(latent_shape, np.float32), **self._neutral_conditions(latent_shape[0]))

    def close(self) -> None:
        """Release everything; further calls raise."""
        self._sessions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What the families differ in

    def _conditions(self, latents: Any, temb: Any, rng: np.random.Generator | int | None) -> Conditions:
        """The decoder's further inputs; image decoders take none."""
        if temb is not None:
            raise InputError("temb: this decoder is not timestep-conditioned; call decode without it")
        return Conditions()

    def _neutral_conditions(self, batch: int) -> dict[str, Any]:
        return {}

    # Within

    @property
    def _active_tiling(self) -> Tiling | None:
        return self._tiling if self._use_tiling else None

    @property
    def settings(self) -> Strategy:
        """What the user has enabled."""
        return Strategy(self._active_tiling, sliced=self._slicing)

    @property
    def _tiled_strategy(self) -> Strategy:
        return replace(self.settings, tiling=self._tiling)

    @property
    def _may_stream(self) -> bool:
        return False

    def _strategy(
        self,
        component: str,
        array: Any,
        memory: int | str | None,
        output: str,
        causal: bool | None,
        *,
        pad: bool = False,
    ) -> Strategy:
        """How a call runs: as the user has enabled it, or as it is planned.

        Raises:
            InputError: `memory` beside tiling, or nothing fits into it. EngineError: the calibration failed.
        """
        settings = self.settings
        if memory is not None and settings.tiling is not None:
            raise InputError("memory: tiling is enabled, and with memory= the planner chooses; disable_tiling() first")
        budget = None if memory is None else parse_memory(memory)
        if memory is None and settings != Strategy(sliced=settings.sliced):
            return settings
        work = self._workload_of(component, array, output, pad)
        if work is None or (budget is None and not self._might_not_fit(work, settings)):
            return settings
        (self.grid.check_latents if work.decodes else self.grid.check_sample)(work.cells if work.decodes else work.size)
        may_stream = self._may_stream and causal is None  # streaming graphs are of one causality
        allowed = default_budget() if budget is None else budget
        try:
            planner, _ = self.planner()
            chosen: Strategy = planner.choose(work, allowed, settings, may_stream=may_stream).strategy
        except LatentRTError as error:
            if budget is not None:
                raise
            _log.warning("%s runs whole and may not fit: it was not planned (%s)", component, error)
            return settings
        return chosen

    def _might_not_fit(self, work: Workload, settings: Strategy) -> bool:
        """Whether a whole pass might take more than the default budget, by a bound that costs nothing."""
        if self._sessions.backend.device != "cpu":
            return False
        own = replace(work, batch=1) if settings.sliced else work
        return own.most_bytes > _ALWAYS_FITS_BYTES and own.most_bytes > default_budget()

    def _workload_of(self, component: str, array: Any, output: str, pad: bool) -> Workload | None:
        """The call as numbers; None where the array has no shape that is legal, which is then refused elsewhere."""
        shape = tuple(getattr(array, "shape", ()))
        if len(shape) != (5 if self.video else 4) or min(shape) < 1:
            return None
        cells = shape[2:]
        if component == "encoder":
            cells = self.grid.latent_size(self.grid.padded_size(cells) if pad else cells)
        return self.workload(component, shape[0], cells, output) if min(cells) > 0 else None

    def _encode(
        self,
        x: Any,
        strategy: Strategy,
        *,
        output: str = "float32",
        out: NDArray[Any] | None = None,
        stream: int | None = None,
        **options: Any,
    ) -> AutoencoderKLOutput:
        if output == "uint8":
            raise InputError("output='uint8' is for pictures: encode gives moments, as float32 or on the device")
        job = self._jobs.encode(x, strategy.tiling, sliced=strategy.sliced, **options)
        moments = self._execute(job, strategy, output=output, out=out, stream=stream)
        return AutoencoderKLOutput(DiagonalGaussian(moments), self._is_exact(job, strategy))

    def _execute(
        self, job: Job, strategy: Strategy, *, output: str, out: NDArray[Any] | None, stream: int | None
    ) -> Any:
        return execute(self._sessions, job, output=output, out=out, stream=stream)

    def _drop(self, job: Job, strategy: Strategy) -> None:
        self._execute(job, strategy, output="float32", out=None, stream=None)

    def _is_exact(self, job: Job, strategy: Strategy) -> bool:
        return job.tiled is None

    def _decode_job(
        self,
        z: Any,
        strategy: Strategy,
        *,
        temb: Any = None,
        rng: np.random.Generator | int | None = None,
        **options: Any,
    ) -> Job:
        def conditions(latents: Any) -> Conditions:
            return self._conditions(latents, temb, rng)

        return self._jobs.decode(z, strategy.tiling, conditions, sliced=strategy.sliced, **options)

    def _latents(self, z: Array) -> Array:
        return self._jobs.array(z, "latents", self.config.latent_channels, device="cpu")  # type: ignore[no-any-return]
