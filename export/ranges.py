"""How large every activation gets on sample inputs: what float16 cannot hold is found by running, not by guessing.

SDXL's VAE is the classic case: its decoder's residual stream passes 65504 and plain float16 gives a black picture.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ..runtime import open_bundle
from ..runtime.autoencoder import Autoencoder
from ..runtime.conditions import DECODE_TIMESTEP, draw_noise
from ..runtime.config import AutoencoderKLLTX2VideoConfig
from ..runtime.errors import InputError
from ..runtime.extras import require
from ..runtime.manifest import Manifest
from ..runtime.sources import list_inputs, read_sample
from .precision import plan_precision

__all__ = ["RangeTable", "measure_ranges"]

# float16's largest number over 4: other inputs than the samples may make an activation some times larger.
LIMIT = 65504.0 / 4
_MAX_FRAMES = 17
_SEED = 0
Feed = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class RangeTable:
    """The largest |activation| of every tensor, by graph file and tensor name, over all samples. `narrowed` are those
    that a float16 graph holds in float16 unless it is told otherwise."""

    samples: tuple[str, ...]
    largest: Mapping[str, Mapping[str, float]]
    narrowed: Mapping[str, frozenset[str]]
    limit: float = LIMIT

    def kept(self, file: str) -> frozenset[str]:
        """The tensors of a graph that float16 is not trusted with."""
        largest = self.largest.get(file, {})
        return frozenset(name for name in self.narrowed.get(file, ()) if largest.get(name, 0.0) > self.limit)

    def to_json(self) -> dict[str, Any]:
        return {
            "samples": list(self.samples),
            "limit": self.limit,
            "largest": {file: dict(values) for file, values in self.largest.items()},
            "kept_in_float32": {file: sorted(self.kept(file)) for file in self.largest},
        }


def measure_ranges(bundle: Path, samples: Sequence[Path]) -> RangeTable:
    """Run the float32 graphs of a bundle on pictures or clips (cut to 17 frames); the decoder on their mean latents.

    Raises:
        InputError: a sample on which float32 itself overflows. BundleError: encoder or decoder is missing.
        MediaError: a sample cannot be read. MissingExtra: ONNX Runtime is not installed.
    """
    manifest = Manifest.open(bundle)
    largest: dict[str, dict[str, float]] = {graph.file: {} for graph in manifest.graphs}
    with open_bundle(bundle, provider="cpu") as vae:
        files = [file for path in samples for file in list_inputs(path, vae) or [path]]
        probes = {graph.file: _Probe(bundle / graph.file) for graph in manifest.graphs}
        for file in files:
            sample = read_sample(file, vae, max_frames=_MAX_FRAMES).sample
            feeds = {"encoder": {"sample": sample}, "decoder": _decoder_feed(sample, vae)}
            for graph in manifest.graphs:
                table = largest[graph.file]
                for name, value in probes[graph.file].run(feeds[graph.component]):
                    if not np.isfinite(value):
                        raise InputError(
                            f"{file}: float32 itself overflows in {graph.file} at {name}; check the weights"
                        )
                    table[name] = max(value, table.get(name, 0.0))
    narrowed = {file: probe.narrowed for file, probe in probes.items()}
    return RangeTable(tuple(file.name for file in files), largest, narrowed)


def _decoder_feed(sample: NDArray[np.float32], vae: Autoencoder) -> Feed:
    latents = np.ascontiguousarray(vae.encode(sample).latent_dist.mode())
    feed = {"latents": latents}
    if isinstance(vae.config, AutoencoderKLLTX2VideoConfig):
        height, width = latents.shape[-2:]
        feed |= draw_noise(vae.config, (height, width), _SEED)
        if vae.config.timestep_conditioning:
            feed["temb"] = np.full(latents.shape[0], DECODE_TIMESTEP, np.float32)
    return feed


class _Probe:
    """A graph that gives the largest magnitude of each of its tensors instead of the tensors: they are never held
    all at once."""

    def __init__(self, path: Path) -> None:
        runtime = require("onnxruntime", extra="cpu")
        model = onnx.load(str(path), load_external_data=False)
        high = plan_precision(model, "float16").float32_nodes
        low = [node for node in model.graph.node if node.name not in high]
        self.narrowed = frozenset(name for node in low for name in (*node.input, *node.output))
        inferred = onnx.shape_inference.infer_shapes(model).graph
        values = (*inferred.input, *inferred.value_info, *inferred.output)
        self._names = [value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT]
        del model.graph.output[:]
        for name in self._names:
            model.graph.node.append(helper.make_node("Abs", [name], [f"{name}:abs"]))
            model.graph.node.append(helper.make_node("ReduceMax", [f"{name}:abs"], [f"{name}:largest"], keepdims=0))
            model.graph.output.append(helper.make_tensor_value_info(f"{name}:largest", TensorProto.FLOAT, []))
        probe = path.with_name(f"{path.stem}.probe.onnx")  # beside the weights that it reads
        probe.write_bytes(model.SerializeToString())
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        self._session = runtime.InferenceSession(str(probe), options, providers=["CPUExecutionProvider"])
        probe.unlink()

    def run(self, feed: Feed) -> Iterator[tuple[str, float]]:
        return zip(self._names, map(float, self._session.run(None, dict(feed))), strict=True)
