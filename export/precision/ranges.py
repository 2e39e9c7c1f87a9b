"""Measures the largest value of each activation on sample inputs, to find the tensors that float16 cannot hold.

SDXL's VAE is the classic case: the residual stream of its decoder exceeds 65504, and plain float16 gives a black
picture.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime import open_bundle
from ...runtime.arrays.size_text import size_text
from ...runtime.autoencoders.autoencoder import Autoencoder
from ...runtime.bundle import ports
from ...runtime.bundle.graph import Graph
from ...runtime.bundle.manifest import Manifest
from ...runtime.calls.conditions import DECODE_TIMESTEP, draw_noise
from ...runtime.errors import InputError
from ...runtime.files.sources import list_inputs, read_sample
from ...runtime.system.available_memory import available_bytes
from ..memory_errors import memory_errors
from .range_probe import Feed, RangeProbe

__all__ = ["RangeProgress", "RangeTable", "measure_ranges"]

RangeProgress = Callable[[str, int, int], None]
"""Called with (component and sample of the current run, number of finished runs, number of all runs)."""

# Largest activation that may be float16: a quarter of float16's largest number, since other inputs than the samples may
# give activations that are several times larger.
LIMIT = 65504.0 / 4
_MAX_FRAMES = 17  # to which clips are cut
# Height and width in pixels to which larger samples are scaled down. Activations take memory in proportion to the area,
# and a whole picture of usual size shows the usual ranges. A crop could miss its brightest and most detailed parts.
_LARGEST_SIDE = 1024
_SEED = 0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RangeTable:
    """The largest |activation| of each tensor, over all samples.

    Attributes:
        samples: file names of the samples.
        largest: the values, by graph file and tensor name.
        narrowed: by graph file, the tensors that a float16 graph holds in float16 by default.
        limit: tensors with a larger value stay in float32.
        scaled_down: by file name, (H, W) of a sample and (H, W) at which it ran, in pixels.
    """

    samples: tuple[str, ...]
    largest: Mapping[str, Mapping[str, float]]
    narrowed: Mapping[str, frozenset[str]]
    limit: float = LIMIT
    scaled_down: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    def kept(self, file: str) -> frozenset[str]:
        """Return the tensors of a graph that must stay in float32."""
        largest = self.largest.get(file, {})
        return frozenset(name for name in self.narrowed.get(file, ()) if largest.get(name, 0.0) > self.limit)

    def to_json(self) -> dict[str, Any]:
        """Return the table as values for JSON."""
        scaled = {name: {"from": list(full), "to": list(run)} for name, (full, run) in self.scaled_down.items()}
        return {
            "samples": list(self.samples),
            "limit": self.limit,
            "largest": {file: dict(values) for file, values in self.largest.items()},
            "kept_in_float32": {file: sorted(self.kept(file)) for file in self.largest},
            **({"scaled_down": scaled} if scaled else {}),
        }


def measure_ranges(bundle: Path, samples: Sequence[Path], progress: RangeProgress | None = None) -> RangeTable:
    """Run the float32 graphs of a bundle on pictures or clips; the decoder runs on their mean latents.

    Clips are cut to 17 frames, and samples larger than 1024x1024 are scaled down to it. One graph is open at a time,
    and one sample is in memory.

    Args:
        bundle: the bundle.
        samples: picture files, clip files, or folders of them.
        progress: called before and after each run.

    Raises:
        InputError: float32 overflows on a sample, or a sample needs more memory than is free.
        EngineError: memory ran out.
        BundleError: the encoder or the decoder is missing.
        MediaError: a sample cannot be read.
        MissingExtra: ONNX Runtime is not installed.
    """
    manifest = Manifest.open(bundle)
    progress = progress or (lambda *_: None)
    largest: dict[str, dict[str, float]] = {graph.file: {} for graph in manifest.graphs}
    narrowed: dict[str, frozenset[str]] = {}
    scaled: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    with open_bundle(bundle, provider="cpu", selftest="never") as vae:
        files = [file for path in samples for file in list_inputs(path, vae) or [path]]
        total, done = len(manifest.graphs) * len(files), 0
        for graph in manifest.graphs:
            with RangeProbe(bundle / graph.file) as probe:
                narrowed[graph.file] = probe.narrowed
                for file in files:
                    progress(f"{graph.component} of {file.name}", done, total)
                    source = read_sample(file, vae, max_frames=_MAX_FRAMES, largest_side=_LARGEST_SIDE)
                    if not source.sample.size or not np.isfinite(source.sample).all():
                        raise InputError(f"{file} is empty, or holds NaN or infinity: give another sample")
                    if source.full_size is not None:
                        scaled[file.name] = (source.full_size, source.size[-2:])
                    for index in range(len(source.sample)):
                        _measure(probe, graph, file, source.sample[index : index + 1], vae, largest[graph.file])
                    done += 1
                    progress(f"{graph.component} of {file.name}", done, total)
    if scaled:
        _log.warning("%s", _scaling_note(scaled, len(files)))
    return RangeTable(tuple(file.name for file in files), largest, narrowed, scaled_down=scaled)


def _measure(
    probe: RangeProbe, graph: Graph, file: Path, sample: NDArray[np.float32], vae: Autoencoder, table: dict[str, float]
) -> None:
    """Raise the entries of `table` to the values on one sample, (1, C, H, W) or (1, C, T, H, W)."""
    feed: Feed = {ports.SAMPLE: sample} if graph.component == "encoder" else _decoder_feed(file, sample, vae)
    needed, free = probe.held_bytes(feed), available_bytes()
    if needed > free:
        size = size_text(sample.shape[2:])
        raise InputError(
            f"{file}: the range check of {graph.file} at {size} holds at least {needed / 2**30:.1f} GiB and "
            f"{free / 2**30:.1f} GiB of memory are free: give a smaller picture or clip to --check-range"
        )
    for name, value in probe.run(feed):
        if not np.isfinite(value):
            raise InputError(f"{file}: float32 itself overflows in {graph.file} at {name}; check the weights")
        table[name] = max(value, table.get(name, 0.0))


def _scaling_note(scaled: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]], count: int) -> str:
    name, (full, run) = next(iter(scaled.items()))
    order = "height x width x frames" if len(run) > 2 else "height x width"
    example = f"{name}, {size_text(full)}, ran at {size_text(run)}, {order}"
    return (
        f"range check: {len(scaled)} of {count} samples are larger than {_LARGEST_SIDE}x{_LARGEST_SIDE} and were "
        f"scaled down to it ({example})"
    )


def _decoder_feed(file: Path, sample: NDArray[np.float32], vae: Autoencoder) -> Feed:
    with memory_errors(f"encoding {file} for the range check"):
        latents = np.ascontiguousarray(vae.encode(sample, check_range=False).latent_dist.mode())
    feed = {ports.LATENTS: latents}
    height, width = latents.shape[-2:]
    feed |= draw_noise(vae.config, (height, width), _SEED)
    if vae.config.timestep_conditioning:
        feed[ports.TEMB] = np.full(latents.shape[0], DECODE_TIMESTEP, np.float32)
    return feed
