"""How far every backend is from the PyTorch reference: per graph, on random arrays and on the user's own samples."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..runtime import open_bundle
from ..runtime.autoencoder import Autoencoder
from ..runtime.backends import backends_here
from ..runtime.backends.openvino import missing_openvino
from ..runtime.backends.tensorrt import LIBRARIES, EngineOpener
from ..runtime.conditions import DECODE_TIMESTEP, draw_noise
from ..runtime.config import AutoencoderKLLTX2VideoConfig
from ..runtime.errors import CheckpointError, EngineError, InputError
from ..runtime.manifest import Manifest
from ..runtime.sources import list_inputs, read_sample
from .checkpoints import Checkpoint, SourceOptions, open_checkpoint
from .models import model_from_config
from .quality import psnr

__all__ = ["Comparison", "ParityReport", "verify_bundle"]

Array = NDArray[np.float32]
_SEED = 0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """One graph on one input. `max_abs` and `relative` (max_abs over the reference's largest magnitude) are of the
    output; `psnr_db` takes the reference's range (max - min) as its peak; times are of one call, in seconds."""

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


@dataclass(frozen=True)
class ParityReport:
    """All comparisons, and whether each reached `min_psnr_db`."""

    comparisons: tuple[Comparison, ...]
    min_psnr_db: float

    @property
    def worst_psnr_db(self) -> float:
        return min(row.psnr_db for row in self.comparisons)

    @property
    def passed(self) -> bool:
        return self.worst_psnr_db >= self.min_psnr_db

    def to_json(self) -> dict[str, Any]:
        """For JSON, which has no NaN and no infinity: those become null."""
        return {
            "passed": self.passed,
            "min_psnr_db": self.min_psnr_db,
            "worst_psnr_db": _finite(self.worst_psnr_db),
            "comparisons": [{key: _finite(value) for key, value in asdict(row).items()} for row in self.comparisons],
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
    """Compare the bundle's graphs on every backend that can run here with the reference model of `source`.

    `backend`, `provider` and `dtype` narrow the choice. Clips among `samples` are cut to `max_frames`. The result is
    stored in the bundle's manifest.

    Raises:
        CheckpointError: the source is not the one that the bundle came from. BundleError, ConfigError: see there.
    """
    manifest = Manifest.open(bundle)
    precisions = dict.fromkeys(graph.dtype for graph in manifest.graphs) if dtype is None else (dtype,)
    reference = _Reference(_matching_checkpoint(manifest, source, source_options))
    rows: list[Comparison] = []
    for chosen, name, precision in _runs(manifest, backend, provider, precisions):
        with open_bundle(bundle, backend=chosen, provider=name, dtype=precision, threads=threads) as vae:
            for row in _compare(vae, reference, precision, samples, max_frames):
                rows.append(row)
                if on_row is not None:
                    on_row(row)
    if not rows:
        raise EngineError(f"no engine of {bundle} takes any of the compared sizes: build with a larger --tile")
    report = ParityReport(tuple(rows), min_psnr_db)
    replace(manifest, verification=report.to_json()).write()
    return report


class _Reference:
    """The PyTorch model with the checkpoint's weights, on NumPy arrays."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config = checkpoint.config
        self.video = isinstance(self.config, AutoencoderKLLTX2VideoConfig)
        self.model: Any = model_from_config(self.config)
        state = {name: torch.from_numpy(tensor.read()) for name, tensor in checkpoint.tensors.items()}
        self.model.load_state_dict(state, strict=True, assign=True)

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
    config = manifest.config
    numbers = {"scaling_factor": config.scaling_factor, "shift_factor": getattr(config, "shift_factor", None)}
    overrides = {key: value for key, value in numbers.items() if value is not None}
    checkpoint = open_checkpoint(source, overrides, options).with_statistics()
    if checkpoint.config != config:
        raise CheckpointError(f"{source} is not what {manifest.folder} was exported from: their configs differ")
    return checkpoint


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
            if asked or _can_run(manifest, label, precision):
                found.append((name, of or None, precision))
    return found or [(backend, provider, next(iter(precisions)))]


def _can_run(manifest: Manifest, label: str, precision: str) -> bool:
    held = {graph.dtype for graph in manifest.graphs}
    if label == "openvino":  # it lowers the float32 graphs itself
        return "float32" in held and missing_openvino(precision) is None
    if precision not in held:
        return False
    if label in LIBRARIES:
        return EngineOpener(manifest, label).unusable(precision) is None
    return (label, precision) != ("onnxruntime:cpu", "bfloat16")


def _compare(
    vae: Autoencoder,
    reference: _Reference,
    dtype: str,
    samples: Sequence[Path],
    max_frames: int,
) -> Iterator[Comparison]:
    files = [file for path in samples for file in list_inputs(path, vae) or [path]]
    inputs = [(file.name, read_sample(file, vae, max_frames=max_frames).sample) for file in files]
    conditioned = getattr(vae.config, "timestep_conditioning", False)
    temb = DECODE_TIMESTEP if conditioned else None
    for graph in vae.graphs:
        for label, sample in [*_random_samples(vae), *inputs]:
            if graph.component == "encoder":
                array = sample
                run = partial(_encode, vae, array, graph.causal)
                refer = partial(reference.encode, array, graph.causal)
            else:
                array = _latents_for(label, sample, vae, reference)
                run = partial(_decode, vae, array, graph.causal, temb)
                refer = partial(reference.decode, array, graph.causal)
            wanted, reference_seconds = _timed(refer)
            try:
                got, seconds = _timed(run)
            except InputError as refusal:
                if vae.backend not in LIBRARIES:
                    raise
                _log.warning("not compared: %s", refusal)  # an engine takes the sizes it was built for
                continue
            error = float(np.abs(got.astype(np.float64) - wanted).max())
            yield Comparison(
                backend=vae.backend,
                dtype=dtype,
                component=graph.component,
                causal=graph.causal,
                sample=label,
                shape=tuple(array.shape),
                max_abs=error,
                relative=error / (float(np.abs(wanted).max()) or 1.0),
                psnr_db=psnr(got, wanted),
                seconds=seconds,
                reference_seconds=reference_seconds,
            )


def _encode(vae: Autoencoder, sample: Array, causal: bool | None) -> Array:
    return np.asarray(vae.encode(sample, causal=causal).latent_dist.parameters)


def _decode(vae: Autoencoder, latents: Array, causal: bool | None, temb: float | None) -> Array:
    return np.asarray(vae.decode(latents, causal=causal, temb=temb, rng=_SEED).sample)


def _random_samples(vae: Autoencoder) -> Iterator[tuple[str, Array]]:
    """Three sizes: square, a batch of two that is not square, and a wider (for video: longer) one."""
    generator = np.random.default_rng(_SEED)
    least = max(vae.grid.encoder_minimum, vae.grid.decoder_minimum)
    base = max(least, 64 // vae.grid.spatial)
    for batch, frames, height, width in ((1, 2, base, base), (2, 1, base, base + 1), (1, 3, base + 1, 2 * base)):
        cells = (frames, height, width) if vae.video else (height, width)
        shape = (batch, vae.config.in_channels, *vae.grid.sample_size(cells))
        yield "random", np.tanh(generator.standard_normal(shape, np.float32))


def _latents_for(label: str, sample: Array, vae: Autoencoder, reference: _Reference) -> Array:
    """Random latents of the sample's size, or for the user's own samples the ones that the reference encodes."""
    if label != "random":
        moments = reference.encode(sample, None)
        return np.ascontiguousarray(moments[:, : vae.config.latent_channels])
    shape = (sample.shape[0], vae.config.latent_channels, *vae.grid.latent_size(sample.shape[2:]))
    return np.random.default_rng(_SEED).standard_normal(shape, np.float32)


def _timed(function: Callable[[], Array]) -> tuple[Array, float]:
    started = time.perf_counter()
    result = function()
    return result, time.perf_counter() - started
