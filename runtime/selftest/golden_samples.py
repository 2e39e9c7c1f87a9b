"""The golden samples of a bundle: small inputs, and the results of the PyTorch reference for them.

A bundle holds them in one safetensors file, which its manifest names under "samples" and lists with its hash. The file
has these tensors for each sample of a component, numbered from 0:

    encoder.0.input     uint8 pixels (1, H, W, C) or (1, T, H, W, C)
    decoder.0.input     float32 model latents (1, C, h, w) or (1, C, t, h, w)
    ....0.output        float32 (N,): every k-th value of the flattened result. Of a video model the name ends in
                        ".causal" or ".non_causal", the causality of the graph.
    ....0.output.layout int64: k, then the shape of the whole result

and, if the config has statistics of the latents, `latents.model` and `latents.diffusion`: the same latents in both
spaces. Decoders take the noise of the seed `SEED` and the timestep `DECODE_TIMESTEP`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle.manifest import Manifest
from ..errors import BundleError
from .psnr import psnr

__all__ = ["MOST_BYTES", "SAMPLES_FILE", "SEED", "GoldenOutput", "GoldenSample", "GoldenSamples", "output_name"]

SAMPLES_FILE = "golden.safetensors"
MOST_BYTES = 512 << 10
"""The most bytes of the file of golden samples."""
SEED = 0
"""Seed of the noise that decoders inject."""
_SHORT_FRAMES = (
    8  # The latent frames of a sample that runs in one pass before each use. Longer samples are for streams.
)
_LARGEST_SIDE = 1 << 20  # of a result, so that products of sides stay small


@dataclass(frozen=True, eq=False)
class GoldenOutput:
    """A part of the reference's result, which stands for all of it.

    Attributes:
        values: float32 (N,): every `step`-th value of the flattened result.
        step: the distance of two values in the flattened result.
        shape: the shape of the result.
    """

    values: NDArray[np.float32]
    step: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, result: NDArray[Any], most_values: int) -> "GoldenOutput":
        """The part of a result that has at most `most_values` values. The step divides no axis, so that every channel,
        frame, row and column has values in the part."""
        step = max(-(-result.size // most_values), 1)
        while step > 1 and any(np.gcd(step, length) > 1 for length in result.shape if length > 1):
            step += 1
        return cls(np.ascontiguousarray(result.reshape(-1)[::step]), step, result.shape)

    def psnr_db(self, result: NDArray[Any]) -> float:
        """The PSNR of a result in dB, as `latentrt verify` computes it; -inf if the result has another shape."""
        if tuple(result.shape) != self.shape:
            return float("-inf")
        return psnr(np.asarray(result, np.float32).reshape(-1)[:: self.step], self.values)


@dataclass(frozen=True, eq=False)
class GoldenSample:
    """One golden sample.

    Attributes:
        component: "encoder" or "decoder".
        number: from 0.
        input: uint8 pixels (1, H, W, C) or (1, T, H, W, C) of an encoder, or float32 model latents (1, C, ...).
        outputs: the reference's results, by the causality of the graph (None for image models).
    """

    component: str
    number: int
    input: NDArray[Any]
    outputs: Mapping[bool | None, GoldenOutput]

    @property
    def is_tall(self) -> bool:
        """Whether it is a clip for strips."""
        if self.input.ndim != 5:
            return False
        height, width = self.input.shape[2:4] if self.component == "encoder" else self.input.shape[3:]
        return bool(height > 2 * width)

    @property
    def is_long(self) -> bool:
        """Whether it is a clip for streams, longer than the frames that a stream reads ahead."""
        return self.component == "decoder" and self.input.ndim == 5 and self.input.shape[2] > _SHORT_FRAMES


@dataclass(frozen=True, eq=False)
class GoldenSamples:
    """The golden samples of a bundle.

    Attributes:
        samples: the samples of all components.
        latents: the same latents as model latents and as diffusion latents, float32. None: the config has no
            statistics for the conversion.
    """

    samples: tuple[GoldenSample, ...]
    latents: tuple[NDArray[np.float32], NDArray[np.float32]] | None = field(default=None)

    @classmethod
    def of(cls, manifest: Manifest) -> "GoldenSamples | None":
        """The golden samples of a bundle, or None if it holds none: bundles of earlier versions have none.

        Raises:
            BundleError: the file was altered, or it is no file of golden samples.
        """
        if manifest.samples is None:
            return None
        import safetensors  # here: most starts read no samples
        from safetensors.numpy import load

        path = manifest.path_of(manifest.samples)
        try:
            if path.stat().st_size > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES >> 10} KiB")
            manifest.verify_hash(manifest.samples)
            return cls.from_tensors(load(path.read_bytes()), manifest)
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            raise BundleError(
                f"{path} holds no golden samples ({error}): copy the whole bundle again, or export again"
            ) from error

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]], manifest: Manifest) -> "GoldenSamples":
        """The golden samples in the tensors of their file.

        Raises:
            ValueError, KeyError: a tensor is missing, or does not have its form.
        """
        found = []
        for component in manifest.components:
            kinds = {graph.causal for graph in manifest.graphs if graph.component == component}
            number = 0
            while (array := tensors.get(f"{component}.{number}.input")) is not None:
                outputs = {kind: _output(tensors, output_name(component, number, kind)) for kind in kinds}
                found.append(GoldenSample(component, number, array, outputs))
                number += 1
            if not number:
                raise ValueError(f"it has no sample of the {component}")
        pair = tensors.get("latents.model"), tensors.get("latents.diffusion")
        model, diffusion = pair
        return cls(tuple(found), None if model is None or diffusion is None else (model, diffusion))

    def to_tensors(self) -> dict[str, NDArray[Any]]:
        """The tensors of the file."""
        tensors: dict[str, NDArray[Any]] = {}
        for sample in self.samples:
            tensors[f"{sample.component}.{sample.number}.input"] = sample.input
            for causal, output in sample.outputs.items():
                name = output_name(sample.component, sample.number, causal)
                tensors[name] = output.values
                tensors[f"{name}.layout"] = np.array([output.step, *output.shape], np.int64)
        if self.latents is not None:
            tensors["latents.model"], tensors["latents.diffusion"] = self.latents
        return tensors

    def of_component(self, component: str) -> tuple[GoldenSample, ...]:
        """The samples of one component."""
        return tuple(sample for sample in self.samples if sample.component == component)


def output_name(component: str, number: int, causal: bool | None) -> str:
    """The name of a result in the file."""
    ending = "" if causal is None else ".causal" if causal else ".non_causal"
    return f"{component}.{number}.output{ending}"


def _output(tensors: Mapping[str, NDArray[Any]], name: str) -> GoldenOutput:
    values, (step, *shape) = tensors[name], tensors[f"{name}.layout"].tolist()
    if step < 1 or not all(0 < length <= _LARGEST_SIDE for length in shape):
        raise ValueError(f"{name}.layout is no layout")
    if values.dtype != np.float32 or values.shape != (-(-prod(shape) // step),):
        raise ValueError(f"{name} does not fit its layout")
    return GoldenOutput(values, step, tuple(shape))
