"""How far every backend is from the PyTorch reference: per graph, on random arrays and on the user's own samples."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..runtime import open_bundle
from ..runtime.autoencoder import Autoencoder
from ..runtime.backends import backends_here, choose_backend
from ..runtime.backends.tensorrt import LIBRARIES, EngineOpener
from ..runtime.conditions import DECODE_TIMESTEP, draw_noise
from ..runtime.config import AutoencoderKLLTX2VideoConfig, MissingScalingFactor
from ..runtime.errors import BackendUnavailable, CheckpointError, EngineError, InputError
from ..runtime.manifest import Graph, Manifest
from ..runtime.profiles import Profile, choose_profile
from ..runtime.sources import list_inputs, read_sample
from ..runtime.stream_lengths import frames_ahead
from .checkpoints import Checkpoint, SourceOptions, open_checkpoint
from .models import model_from_config
from .quality import psnr

__all__ = ["Comparison", "NotCompared", "ParityReport", "verify_bundle"]

Array = NDArray[np.float32]
_SEED = 0
_MAIN_INPUT = {"encoder": "sample", "decoder": "latents"}
_KEPT_BYTES = 16 << 20  # of one result of the reference: random arrays' are smaller, and every backend asks for them
_MOST_STREAM_CELLS = 2048  # of the clip that goes through a stream: the reference takes it whole
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """One graph on one input. `max_abs` and `relative` (max_abs over the reference's largest magnitude) are of the
    output; `psnr_db` takes the reference's range (max - min) as its peak; times are of one call, in seconds.
    `strategy`: how it ran: "whole" (or as it is planned, where that might not fit into memory), as a "stream", or in
    exact "strips"."""

    backend: str
    dtype: str
    component: str
    causal: bool | None
    sample: str
    shape: tuple[int, ...]
    max_abs: float
    relative: float
    psnr_db: float
    seconds: float
    reference_seconds: float
    strategy: str = "whole"


@dataclass(frozen=True)
class NotCompared:
    """What should have been compared and was not, and why."""

    backend: str
    dtype: str
    reason: str


@dataclass(frozen=True)
class ParityReport:
    """All comparisons, and whether each reached `min_psnr_db`. What was not compared has not passed."""

    comparisons: tuple[Comparison, ...]
    min_psnr_db: float
    not_compared: tuple[NotCompared, ...] = ()

    @property
    def worst_psnr_db(self) -> float:
        return min(row.psnr_db for row in self.comparisons)

    @property
    def passed(self) -> bool:
        return self.worst_psnr_db >= self.min_psnr_db and not self.not_compared

    def to_json(self) -> dict[str, Any]:
        """For JSON, which has no NaN and no infinity: those become null."""
        return {
            "passed": self.passed,
            "min_psnr_db": self.min_psnr_db,
            "worst_psnr_db": _finite(self.worst_psnr_db),
            "comparisons": [{key: _finite(value) for key, value in asdict(row).items()} for row in self.comparisons],
            "not_compared": [asdict(row) for row in self.not_compared],
        }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def verify_bundle(
    bundle: Path,
    source: Path,
    *,
    samples: Sequence[Path] = (),
    max_frames: int = 17,
    min_psnr_db: float = 45.0,
    backend: str = "auto",
    provider: str | None = None,
    threads: int | None = None,
    dtype: str | None = None,
    source_options: SourceOptions | None = None,
    on_row: Callable[[Comparison], None] | None = None,
) -> ParityReport:
    """Compare the bundle's graphs on every backend that can run here with the reference model of `source`: whole, and
    where the bundle holds graphs for it as streams (and as a plain call of a clip runs) and in exact strips. Of engines
    each profile is called at least once.

    `backend`, `provider` and `dtype` narrow the choice. Clips among `samples` are cut to `max_frames`. The result is
    stored in the bundle's manifest.

    Raises:
        CheckpointError: the source is not the one that the bundle came from. EngineError: nothing could be compared.
        BundleError, ConfigError: see there.
    """
    manifest = Manifest.open(bundle)
    precisions = dict.fromkeys(graph.dtype for graph in manifest.graphs) if dtype is None else (dtype,)
    reference = _Reference(_matching_checkpoint(manifest, source, source_options))
    rows: list[Comparison] = []
    missing: list[NotCompared] = []
    for chosen, name, precision in _runs(manifest, backend, provider, precisions):
        with open_bundle(bundle, backend=chosen, provider=name, dtype=precision, threads=threads) as vae:
            before = len(rows), len(missing)
            for row in _compare(vae, manifest, reference, precision, samples, max_frames):
                if isinstance(row, NotCompared):
                    missing.append(row)
                    continue
                rows.append(row)
                if on_row is not None:
                    on_row(row)
            if before == (len(rows), len(missing)):
                reason = "its engines take none of the sizes that could be compared: build with another --tile"
                missing.append(NotCompared(vae.backend, precision, reason))
    if not rows:
        raise EngineError("; ".join(f"{row.backend} {row.dtype} was not compared: {row.reason}" for row in missing))
    report = ParityReport(tuple(rows), min_psnr_db, tuple(missing))
    Manifest.update(bundle, lambda now: replace(now, verification=report.to_json()))
    return report


class _Reference:
    """The PyTorch model with the checkpoint's weights, on NumPy arrays. Small results are kept, with their seconds."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config = checkpoint.config
        self.video = isinstance(self.config, AutoencoderKLLTX2VideoConfig)
        self.model: Any = model_from_config(self.config)
        state = {name: torch.from_numpy(tensor.read()) for name, tensor in checkpoint.tensors.items()}
        self.model.load_state_dict(state, strict=True, assign=True)
        self._kept: dict[tuple[str, bool | None, tuple[int, ...], bytes], tuple[Array, float]] = {}

    def timed(self, component: str, array: Array, causal: bool | None) -> tuple[Array, float]:
        """What the component makes of a sample or of latents, and the seconds that it took."""
        key = component, causal, array.shape, sha256(np.ascontiguousarray(array).data).digest()
        if key in self._kept:
            return self._kept[key]
        found = _timed(partial(self.encode if component == "encoder" else self.decode, array, causal))
        if found[0].nbytes <= _KEPT_BYTES:
            self._kept[key] = found
        return found

    def encode(self, sample: Array, causal: bool | None) -> Array:
        with torch.no_grad():
            return np.asarray(self.model.encode(torch.from_numpy(sample), **self._causal(causal)))

    def decode(self, latents: Array, causal: bool | None) -> Array:
        options: dict[str, Any] = self._causal(causal)
        if isinstance(self.config, AutoencoderKLLTX2VideoConfig):
            height, width = latents.shape[-2:]
            drawn = draw_noise(self.config, (height, width), _SEED)
            maps = iter(torch.from_numpy(noise) for noise in drawn.values())
            options["noise"] = tuple(next(maps) if noisy else None for noisy in self.config.inject_noise)
            if self.config.timestep_conditioning:
                options["temb"] = torch.full((latents.shape[0],), DECODE_TIMESTEP)
        with torch.no_grad():
            return np.asarray(self.model.decode(torch.from_numpy(latents), **options))

    def _causal(self, causal: bool | None) -> dict[str, Any]:
        return {"causal": causal} if self.video else {}


def _matching_checkpoint(manifest: Manifest, source: Path, options: SourceOptions | None) -> Checkpoint:
    """The checkpoint with its own numbers, or with those that the bundle was exported with."""
    config = manifest.config
    numbers = {"scaling_factor": config.scaling_factor, "shift_factor": getattr(config, "shift_factor", None)}
    exported = {key: value for key, value in numbers.items() if value is not None}
    for overrides in ({}, exported, {"scaling_factor": 1.0, "shift_factor": None}):  # the last one tells the family
        try:
            checkpoint = open_checkpoint(source, overrides, options)
        except MissingScalingFactor:
            continue
        if checkpoint.config.family != manifest.family:
            raise CheckpointError(
                f"{source} is an {checkpoint.config.family} and {manifest.folder} holds an {manifest.family}: give the "
                f"checkpoint that it was exported from"
            )
        checkpoint = checkpoint.with_statistics()
        if checkpoint.config == config:
            return checkpoint
    raise CheckpointError(f"{source} is not what {manifest.folder} was exported from: their configs differ")


def _runs(
    manifest: Manifest, backend: str, provider: str | None, precisions: Iterable[str]
) -> list[tuple[str, str | None, str]]:
    """Every (backend, provider, precision) that can run here, or those asked for: opening them says what is missing."""
    labels = [label for label, reason in backends_here() if reason is None] or ["onnxruntime:cpu"]
    if provider is not None:
        labels = [f"onnxruntime:{provider}"]
    elif backend != "auto":
        labels = [label for label in labels if label.partition(":")[0] == backend] or [backend]
    found: list[tuple[str, str | None, str]] = []
    for label in labels:
        name, _, of = label.partition(":")
        for precision in precisions:
            asked = provider is not None or backend == name
            if asked or _can_run(manifest, name, of or None, precision):
                found.append((name, of or None, precision))
    return found or [(backend, provider, next(iter(precisions)))]


def _can_run(manifest: Manifest, name: str, provider: str | None, precision: str) -> bool:
    try:
        choose_backend(manifest, backend=name, provider=provider, dtype=precision)
    except (BackendUnavailable, InputError) as reason:
        if any((record.backend, record.dtype) == (name, precision) for record in manifest.engines):
            _log.warning("not compared: %s", reason)  # built for another GPU, or by another version
        return False
    return True


@dataclass(frozen=True, eq=False)
class _Input:
    """A sample or latents, and how it goes through: some of "whole", "stream" and "strips"."""

    label: str
    array: Array
    ways: tuple[str, ...]


def _compare(
    vae: Autoencoder,
    manifest: Manifest,
    reference: _Reference,
    dtype: str,
    samples: Sequence[Path],
    max_frames: int,
) -> Iterator[Comparison | NotCompared]:
    files = [file for path in samples for file in list_inputs(path, vae) or [path]]
    own = [(file.name, read_sample(file, vae, max_frames=max_frames).sample) for file in files]
    inputs = _Inputs(vae, manifest)
    for graph in vae.graphs:
        for given in [*inputs.random(graph), *inputs.own(graph, own, reference)]:
            wanted: Array | None = None
            for way in given.ways:
                strategy = _strategy_of(vae, graph, given.array, way)
                try:
                    got, seconds = _timed(partial(_run, vae, graph, given.array, way))
                except InputError as refusal:
                    if vae.backend not in LIBRARIES:
                        raise
                    _log.warning("not compared: %s", refusal)  # an engine takes the sizes it was built for
                    continue
                except EngineError as error:  # in float16 a stream cannot be run again in float32
                    if way != "stream":
                        raise
                    yield NotCompared(vae.backend, dtype, f"{graph.component}, {strategy}: {error}")
                    continue
                if wanted is None:  # only of what the engine took
                    wanted, reference_seconds = reference.timed(graph.component, given.array, graph.causal)
                largest = float(np.abs(got.astype(np.float64) - wanted).max())
                yield Comparison(
                    backend=vae.backend,
                    dtype=dtype,
                    component=graph.component,
                    causal=graph.causal,
                    sample=given.label,
                    shape=tuple(given.array.shape),
                    max_abs=largest,
                    relative=largest / (float(np.abs(wanted).max()) or 1.0),
                    psnr_db=psnr(got, wanted),
                    seconds=seconds,
                    reference_seconds=reference_seconds,
                    strategy=strategy,
                )


def _strategy_of(vae: Autoencoder, graph: Graph, array: Array, way: str) -> str:
    """What a row calls the way: what might not fit into memory is planned."""
    return way if way != "whole" else vae._strategy(graph.component, array, None, "float32", graph.causal).kind


def _run(vae: Any, graph: Graph, array: Array, way: str) -> Array:
    """Moments of a sample, or the sample of latents."""
    options: dict[str, Any] = {}
    if graph.component == "decoder":
        options = {"rng": _SEED}
        if getattr(vae.config, "timestep_conditioning", False):
            options["temb"] = DECODE_TIMESTEP
    if way == "stream":
        run = vae.encode_stream if graph.component == "encoder" else vae.decode_stream
        return np.concatenate(list(run(array, **options)), axis=2)
    if way == "whole":
        options["causal"] = graph.causal  # which leaves streaming graphs out
    if way == "strips":
        height = array.shape[2] // (vae.grid.spatial if graph.component == "encoder" else 1)
        vae.enable_tiling(exact=True, strip=max(height // 2, 1) * vae.grid.spatial)
    try:
        if graph.component == "encoder":
            return np.asarray(vae.encode(array, **options).latent_dist.parameters)
        return np.asarray(vae.decode(array, **options).sample)
    finally:
        vae.disable_tiling()


class _Inputs:
    """What one backend is compared on. Where it runs engines, their profiles say what they take."""

    def __init__(self, vae: Autoencoder, manifest: Manifest) -> None:
        self._manifest, self._config, self._grid = manifest, manifest.config, vae.grid
        self._engines = EngineOpener(manifest, vae.backend) if vae.backend in LIBRARIES else None
        self._base = max(self._grid.encoder_minimum, self._grid.decoder_minimum, 64 // self._grid.spatial)

    def random(self, graph: Graph) -> Iterator[_Input]:
        """Arrays of several sizes; of engines as many more as it takes for each profile to be called."""
        streams, segments, profiles = self._streams(graph), self._segments(graph), self._profiles(graph)
        wide = self._default_shapes(graph)[-1]
        for shape in self._default_shapes(graph) if self._engines is None else self._held_shapes(graph, profiles):
            yield _random(graph, shape, ("whole",))
        if segments:
            yield _random(graph, wide, ("strips",))
        for shape in self._stream_shapes(graph, streams):
            yield _random(graph, shape, ("stream",))

    def own(self, graph: Graph, samples: Iterable[tuple[str, Array]], reference: _Reference) -> Iterator[_Input]:
        """The user's samples; for the decoder what the reference encodes them to."""
        whole = self._engines is None or self._profiles(graph)
        ways = (*(("whole",) if whole else ()), *(("stream",) if self._streams(graph) else ()))
        for label, sample in samples if ways else ():
            array = sample
            if graph.component == "decoder":
                moments, _ = reference.timed("encoder", sample, None)
                array = np.ascontiguousarray(moments[:, : self._config.latent_channels])
            yield _Input(label, array, ways)

    def _default_shapes(self, graph: Graph) -> list[tuple[int, ...]]:
        """Square, a batch of two that is not square, and a wider (for video: longer) one."""
        base = self._base
        sizes = ((1, 2, base, base), (2, 1, base, base + 1), (1, 3, base + 1, 2 * base))
        return [self._shape(graph, batch, cells if self._grid.video else cells[1:]) for batch, *cells in sizes]

    def _held_shapes(self, graph: Graph, profiles: Sequence[Profile]) -> Iterable[tuple[int, ...]]:
        """Those of the default ones that an engine takes, and one for each profile."""
        name = _MAIN_INPUT[graph.component]
        shapes = [of for of in self._default_shapes(graph) if any(one.ranges[name].holds(of) for one in profiles)]
        chosen = (_shape_choosing(profiles, index, name) for index in range(len(profiles)))
        return dict.fromkeys([*shapes, *filter(None, chosen)])

    def _stream_shapes(self, graph: Graph, streams: Sequence[Graph]) -> Iterator[tuple[int, ...]]:
        """Clips that go through in several steps, of heights and widths that the engines take."""
        if not streams:
            return
        chunks: Iterable[tuple[int, ...]] = [(1, self._base, self._base)]
        if self._engines is not None:
            ratio = self._grid.spatial if graph.component == "encoder" else 1
            later = [one for one in self._profiles(streams[0]) if one.ranges["first"].maximum == (0,)]
            chosen = filter(None, (_shape_choosing(later, index, "chunk") for index in range(len(later))))
            chunks = dict.fromkeys((shape[0], shape[-2] // ratio, shape[-1] // ratio) for shape in chosen)
        for batch, height, width in chunks:
            most = max(_MOST_STREAM_CELLS // (height * width), 3)
            yield self._shape(graph, batch, (min(self._stream_frames(streams), most), height, width))

    def _stream_frames(self, streams: Sequence[Graph]) -> int:
        """Latent frames: what the stages hold back until the first frame comes, and a few."""
        assert isinstance(self._config, AutoencoderKLLTX2VideoConfig)
        return math.ceil(frames_ahead(streams) / self._config.temporal_ratio) + 4

    def _shape(self, graph: Graph, batch: int, cells: Sequence[int]) -> tuple[int, ...]:
        if graph.component == "encoder":
            return (batch, self._config.in_channels, *self._grid.sample_size(cells))
        return (batch, self._config.latent_channels, *cells)

    def _streams(self, graph: Graph) -> Sequence[Graph]:
        return self._usable(graph, self._manifest.find_streams(graph.component, graph.dtype))

    def _segments(self, graph: Graph) -> Sequence[Graph]:
        return self._usable(graph, self._manifest.find_segments(graph.component, graph.dtype))

    def _usable(self, graph: Graph, steps: Sequence[Graph]) -> Sequence[Graph]:
        """The steps of what `graph` does at once; none where another causality was cut, or an engine is missing."""
        runs = self._engines is None or all(map(self._profiles, steps))
        return steps if runs and all(step.causal == graph.causal for step in steps) else ()

    def _profiles(self, graph: Graph) -> tuple[Profile, ...]:
        """Of the engines of a graph; none where there are none."""
        try:
            return () if self._engines is None else self._engines.profiles(graph)
        except EngineError:
            return ()


def _shape_choosing(profiles: Sequence[Profile], index: int, name: str) -> tuple[int, ...] | None:
    """The smallest shape of the input `name` with which a call runs in a profile; None where others take all its
    calls."""
    of, alone = profiles[index].ranges[name], [Profile({name: one.ranges[name]}) for one in profiles]
    shapes = sorted(product(*map(set, zip(of.minimum, of.optimum, of.maximum, strict=True))), key=math.prod)
    return next((shape for shape in shapes if choose_profile(alone, {name: shape}) == index), None)


def _random(graph: Graph, shape: tuple[int, ...], ways: tuple[str, ...]) -> _Input:
    values = np.random.default_rng(_SEED).standard_normal(shape, np.float32)
    return _Input("random", np.tanh(values) if graph.component == "encoder" else values, ways)


def _timed(function: Callable[[], Array]) -> tuple[Array, float]:
    started = time.perf_counter()
    result = function()
    return result, time.perf_counter() - started
