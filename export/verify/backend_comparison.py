"""Compares the backends and precisions of a bundle with each other. Needs neither torch nor the checkpoint."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime import open_bundle
from ...runtime.arrays.kinds import Dtype
from ...runtime.autoencoders.autoencoder import Autoencoder
from ...runtime.backends.choose import backends_here
from ...runtime.backends.names import BackendName, ProviderName
from ...runtime.bundle.manifest import Manifest
from ...runtime.calls.conditions import DECODE_TIMESTEP
from ...runtime.errors import BackendUnavailable, EngineError, InputError
from ...runtime.files.sources import list_inputs, read_sample
from ...runtime.selftest.golden_samples import SEED, GoldenOutput, GoldenSamples
from ...runtime.selftest.psnr import psnr
from ...runtime.selftest.report import LEAST_PSNR_DB
from ..figures.difference_drawing import DrawnResult, draw_differences
from ..memory_errors import memory_errors
from .backend_differences import BackendDifference, DifferenceReport

__all__ = ["compare_backends"]

_MOST_DRAWN_SIDE = 4096  # pixels of the drawn sample


@dataclass(frozen=True, eq=False)
class _Input:
    """An input: `array` of a component, with the reference's result if there is one."""

    component: str
    label: str
    array: NDArray[Any]
    reference: GoldenOutput | None = None


@dataclass(frozen=True, eq=False)
class _Result:
    array: NDArray[np.float32]
    seconds: float


def compare_backends(
    bundle: str | Path,
    *,
    backends: Sequence[BackendName] = (),
    provider: ProviderName | None = None,
    dtypes: Sequence[Dtype] = ("float32",),
    threads: int | None = None,
    samples: Sequence[Path] = (),
    max_frames: int = 17,
    plot: Path | None = None,
) -> DifferenceReport:
    """Run the same inputs on several backends and precisions, and compare each result with that of the first.

    Args:
        bundle: the bundle.
        backends: the backends; () takes all that can run here.
        provider: the provider of ONNX Runtime.
        dtypes: the precisions. Each backend runs in each of them.
        threads: CPU threads of one engine call.
        samples: picture files, clip files, or folders of them. () takes the golden samples of the bundle.
        max_frames: number of frames to which clips are cut.
        plot: a `.png`, `.svg` or `.pdf` file for a picture of the differences of one decoded sample.

    Raises:
        InputError: fewer than two backends and precisions can run, or there are no samples.
        BundleError: the bundle is damaged. EngineError: memory ran out. MediaError: a sample cannot be read.
        OutputError: the picture cannot be written. MissingExtra: matplotlib is not installed.
    """
    manifest = Manifest.open(Path(bundle))
    base: str | None = None
    inputs: list[_Input] = []
    expected: list[_Result] = []
    least = 0.0
    rows: list[BackendDifference] = []
    missing: list[tuple[str, str]] = []
    drawn: list[DrawnResult] = []
    for name, its_provider in _wanted(backends, provider):
        for dtype in dtypes:
            label = f"{name}:{its_provider}" if its_provider else name
            try:
                vae = open_bundle(
                    bundle, backend=name, provider=its_provider, dtype=dtype, threads=threads, selftest="never"
                )
            except (BackendUnavailable, InputError) as error:
                missing.append((f"{label}, {dtype}", str(error)))
                continue
            with vae:
                if base is None:
                    base, least = f"{vae.backend}, {dtype}", LEAST_PSNR_DB[dtype]
                    inputs = list(_inputs(vae, manifest, samples, max_frames))
                    expected = [_run(vae, one) for one in inputs]
                    drawn += _drawn(base, inputs, expected)
                    continue
                results = [_run(vae, one) for one in inputs]
                wanted = min(least, LEAST_PSNR_DB[dtype])
                rows += [_row(vae, *pair, wanted) for pair in zip(inputs, results, expected, strict=True)]
                drawn += _drawn(f"{vae.backend}, {dtype}", inputs, results)
    if base is None or not rows:
        reasons = "; ".join(f"{label}: {reason}" for label, reason in missing) or "only one can run here"
        raise InputError(f"a comparison needs two backends or precisions ({reasons}): give --backend or --dtype twice")
    if plot is not None:
        draw_differences(drawn, plot, title=f"{manifest.folder.name}: compared with {base}")
    return DifferenceReport(base, tuple(rows), tuple(missing))


def _wanted(backends: Sequence[BackendName], provider: ProviderName | None) -> list[tuple[Any, Any]]:
    if backends:
        return [(name, provider if name == "onnxruntime" else None) for name in dict.fromkeys(backends)]
    labels = [label.partition(":") for label, reason in backends_here() if reason is None]
    return [
        (name, its or None) for name, _, its in labels if name != "onnxruntime" or provider is None or its == provider
    ]


def _inputs(vae: Autoencoder, manifest: Manifest, paths: Sequence[Path], max_frames: int) -> Iterator[_Input]:
    """The inputs of all backends. Decoders take the latents to which the first backend encodes the user's sample."""
    if not paths:
        golden = GoldenSamples.of(manifest)
        if golden is None:
            raise InputError(f"{manifest.folder} holds no golden samples: give your own with --samples")
        for sample in golden.samples:
            output = sample.outputs[manifest.config.causal(sample.component)]
            yield _Input(sample.component, f"golden {sample.number}", sample.input, output)
        return
    for file in [file for path in paths for file in list_inputs(path, vae) or [path]]:
        encoded = _Input("encoder", file.name, read_sample(file, vae, max_frames=max_frames).sample)
        if "encoder" not in manifest.components:
            raise InputError(f"{manifest.folder} holds no encoder, which --samples needs: leave --samples out")
        yield encoded
        if "decoder" in manifest.components:
            moments = _run(vae, encoded).array
            latents = np.ascontiguousarray(moments[:, : manifest.config.latent_channels])
            yield _Input("decoder", file.name, latents)


def _run(vae: Autoencoder, given: _Input) -> _Result:
    started = time.perf_counter()
    with memory_errors(f"{given.component} of {given.label} on {vae.backend}"):
        if given.component == "encoder":
            array = np.asarray(vae.encode(given.array, check_range=False).latent_dist.parameters)
        else:
            temb = DECODE_TIMESTEP if vae.config.timestep_conditioning else None
            array = np.asarray(vae.decode(given.array, temb=temb, rng=SEED).sample)
    return _Result(array, time.perf_counter() - started)


def _row(vae: Autoencoder, given: _Input, result: _Result, base: _Result, least: float) -> BackendDifference:
    if result.array.shape != base.array.shape:
        raise EngineError(
            f"{vae.backend} gives the shape {result.array.shape}, wanted {base.array.shape}: export again"
        )
    largest = float(np.abs(result.array.astype(np.float64) - base.array).max())
    return BackendDifference(
        backend=vae.backend,
        dtype=vae.dtype,
        component=given.component,
        sample=given.label,
        shape=tuple(result.array.shape),
        max_abs=largest,
        relative=largest / (float(np.abs(base.array).max()) or 1.0),
        psnr_db=psnr(result.array, base.array),
        least_psnr_db=least,
        reference_psnr_db=None if given.reference is None else given.reference.psnr_db(result.array),
        seconds=result.seconds,
    )


def _drawn(label: str, inputs: Sequence[_Input], results: Sequence[_Result]) -> list[DrawnResult]:
    """The first decoded sample of one backend, for the picture."""
    for given, result in zip(inputs, results, strict=True):
        if given.component == "decoder":
            return [DrawnResult(label, result.array[..., :_MOST_DRAWN_SIDE, :_MOST_DRAWN_SIDE])]
    return []
