"""Makes the file of golden samples of a bundle."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...runtime.arrays.pixels import to_samples
from ...runtime.bundle.graph import FileEntry
from ...runtime.calls.conditions import DECODE_TIMESTEP, draw_noise
from ...runtime.selftest.golden_samples import MOST_BYTES, SAMPLES_FILE, SEED, GoldenOutput, GoldenSample, GoldenSamples
from ...runtime.system.hashing import HashingWriter
from ..checkpoints import Checkpoint
from ..memory_errors import memory_errors
from .sample_inputs import component_inputs, latents_pair
from .streamed_model import streamed_model

__all__ = ["write_golden_samples"]

Array = NDArray[np.float32]
_MOST_VALUES = 1 << 14  # of one result that are stored
_HEADER_BYTES = 16 << 10  # kept free for the header of the file
_KEPT_BITS = 17  # of the 23 stored bits of a mantissa. The last bits may differ from machine to machine.


def write_golden_samples(
    folder: Path,
    checkpoint: Checkpoint,
    components: Sequence[str],
    causal: Sequence[bool] = (),
    on_sample: Callable[[str], None] = lambda component: None,
) -> FileEntry:
    """Run the golden inputs through the PyTorch reference, and write inputs and results into a bundle.

    Two exports of one checkpoint write the same bytes. Precisions, streams and strips change nothing.

    Args:
        folder: the bundle.
        checkpoint: the checkpoint, with the statistics of its latents in its config.
        components: some of "encoder" and "decoder".
        causal: causalities of a video model in addition to the config's own.
        on_sample: called with the component before each run of the reference. It may raise, to stop.

    Raises:
        EngineError: memory ran out.
    """
    config = checkpoint.config
    inputs = [(component, number, array) for component in components for number, array in _numbered(config, component)]
    kinds = {component: _causalities(config.causal(component), causal) for component in components}
    results = sum(len(kinds[component]) for component, _, _ in inputs)
    left = MOST_BYTES - _HEADER_BYTES - sum(array.nbytes for _, _, array in inputs)
    most = max(min(_MOST_VALUES, left // (4 * results) - 1), 1)
    samples = []
    with memory_errors(f"running golden samples through the PyTorch reference of {checkpoint.source}"):
        model = streamed_model(checkpoint)
        for component, number, array in inputs:
            outputs = {}
            for kind in kinds[component]:
                on_sample(component)
                part = GoldenOutput.of(_run(model, config, component, array, kind), most)
                outputs[kind] = replace(part, values=_rounded(part.values))
            samples.append(GoldenSample(component, number, array, outputs))
    return _write(folder / SAMPLES_FILE, GoldenSamples(tuple(samples), latents_pair(config)))


def _numbered(config: Any, component: str) -> Any:
    return enumerate(component_inputs(config, component))


def _causalities(own: bool | None, further: Sequence[bool]) -> tuple[bool | None, ...]:
    return (own,) if own is None else tuple(dict.fromkeys((own, *further)))


def _run(model: Any, config: Any, component: str, array: NDArray[Any], causal: bool | None) -> NDArray[np.float64]:
    options: dict[str, Any] = {} if causal is None else {"causal": causal}
    with torch.no_grad():
        if component == "encoder":
            return np.asarray(model.encode(torch.from_numpy(to_samples(array)).double(), **options))
        if config.noise_stacks:
            drawn = draw_noise(config, array.shape[-2:], SEED)
            maps = iter(torch.from_numpy(noise).double() for noise in drawn.values())
            options["noise"] = tuple(next(maps) if noisy else None for noisy in config.inject_noise)
        if config.timestep_conditioning:
            options["temb"] = torch.full((array.shape[0],), DECODE_TIMESTEP).double()
        return np.asarray(model.decode(torch.from_numpy(array).double(), **options))


def _rounded(result: NDArray[Any]) -> Array:
    """Results in float32, rounded to fewer bits: two machines that differ in the last bits write the same samples."""
    mantissa, exponent = np.frexp(result)
    whole = np.rint(np.ldexp(mantissa, _KEPT_BITS + 1))
    rounded: Array = np.ldexp(whole, exponent - _KEPT_BITS - 1).astype(np.float32)
    return rounded


def _write(path: Path, golden: GoldenSamples) -> FileEntry:
    from safetensors.numpy import save

    content = save(golden.to_tensors())
    assert len(content) <= MOST_BYTES, f"{len(content)} bytes of golden samples"
    with HashingWriter(path) as writer:
        writer.write(content)
    return FileEntry(path.name, writer.size_bytes, writer.hexdigest())
