"""Faults that are planted in bundles, with all hashes renewed, so that only a self-test can see them.

Each fault is a copy of a good bundle with one change. `outcome_of` opens the copy as a user does, and runs a component
in the fault's way. A fault is refused if an error comes before a result.
"""

import dataclasses
import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from latentrt.runtime import open_bundle
from latentrt.runtime.backends.graph_files import content_name
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.errors import LatentRTError
from latentrt.runtime.selftest.golden_samples import GoldenSamples
from latentrt.runtime.system.hashing import sha256_of

__all__ = ["SHORT", "Fault", "Outcome", "outcome_of", "planted_faults"]

Bundles = Callable[[str], Path]
"""Gives a good bundle by the name of its architecture. A name that ends in "*" is another fine-tune."""
_ORT: Mapping[str, Any] = {"backend": "onnxruntime", "provider": "cpu"}
_ORT16: Mapping[str, Any] = {**_ORT, "dtype": "float16"}
_OPENVINO: Mapping[str, Any] = {"backend": "openvino"}
_OPENVINO16: Mapping[str, Any] = {"backend": "openvino", "dtype": "bfloat16"}


@dataclass(frozen=True, eq=False)
class Fault:
    """One planted fault.

    Attributes:
        name: what is planted.
        bundle: the architecture of the bundle.
        plant: changes a copy of the bundle. It is given the copy and the good bundles.
        engine: options of `open_bundle`.
        way: "whole", "stream" or "strips": the call that follows.
        component: the component that is called.
        warm: open and run the good bundle first, so that the backend's cache is filled.
    """

    name: str
    bundle: str
    plant: Callable[[Path, Bundles], None]
    engine: Mapping[str, Any] = field(default_factory=lambda: _ORT)
    way: str = "whole"
    component: str = "decoder"
    warm: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a fault: "refused", "harmless" (the results are those of the reference all the same) or "missed".
    `detail` is the message, or the PSNR that a user would have got."""

    fault: str
    kind: str
    detail: str


def outcome_of(fault: Fault, bundles: Bundles, place: Path) -> Outcome:
    """Plant a fault in a copy under `place`, open the copy, and call the component."""
    folder, cache = place / "bundle", place / "cache"
    shutil.copytree(bundles(fault.bundle), folder)
    before = os.environ.get("LATENTRT_CACHE")
    os.environ["LATENTRT_CACHE"] = str(cache)
    try:
        if fault.warm:
            _called(folder, fault, "once")
        fault.plant(folder, bundles)
        try:
            _called(folder, fault, "once")
        except LatentRTError as error:
            return Outcome(fault.name, "refused", str(error))
        worst = min(_called(folder, fault, "never"))
        wanted = {"float16": 60.0, "bfloat16": 45.0}.get(fault.engine.get("dtype", "float32"), 100.0)
        return Outcome(fault.name, "harmless" if worst >= wanted else "missed", f"{worst:.1f} dB")
    finally:
        if before is None:
            del os.environ["LATENTRT_CACHE"]
        else:
            os.environ["LATENTRT_CACHE"] = before
        shutil.rmtree(place)


def _called(folder: Path, fault: Fault, selftest: Any) -> list[float]:
    """Run the golden inputs as a user would, and give the PSNR of each result in dB."""
    golden = GoldenSamples.of(Manifest.open(folder))
    assert golden is not None
    found = []
    with open_bundle(folder, threads=2, selftest=selftest, **fault.engine) as vae:
        run: Any = vae
        for sample in golden.of_component(fault.component):
            options: dict[str, Any] = {}
            if fault.component == "decoder":
                options["rng"] = 0
                if vae.config.timestep_conditioning:
                    options["temb"] = 0.05
            if fault.way == "strips":
                vae.enable_tiling(exact=True, strip=4 * vae.grid.spatial)  # type: ignore[call-arg]
            if fault.way == "stream":
                stream = run.decode_stream if fault.component == "decoder" else run.encode_stream
                result = np.concatenate(list(stream(sample.input, 8, **options)), axis=2)
            elif fault.component == "decoder":
                result = np.asarray(vae.decode(sample.input, **options).sample)
            else:
                result = np.asarray(vae.encode(sample.input).latent_dist.parameters)
            found.append(sample.outputs[vae.config.causal(fault.component)].psnr_db(result))
        if golden.latents is not None:
            model, diffusion = golden.latents
            found.append(200.0 if np.allclose(vae.scale_latents(model), diffusion, atol=1e-5) else 0.0)
    return found


# The faults


def planted_faults() -> list[Fault]:
    """The sixty faults."""
    faults = list(_flips())
    faults += _exchanged()
    faults += _statistics()
    faults += _narrowed()
    faults += _other_fine_tunes()
    faults += _wrong_graphs()
    faults += _damaged_caches()
    return faults


SHORT = (
    "sd decoder: bit 30 of a weight",
    "sd encoder: exchanged outputs of conv_in",
    "flux: the shift factor of another model",
    "sd decoder: bfloat16 under the name float32",
    "sd decoder: the weights of another fine-tune",
    "sd decoder: edges instead of zeros around pictures",
    "sd decoder in strips: edges instead of zeros around pictures",
)
"""The names of the faults that every test run plants."""


def _flips() -> Iterator[Fault]:
    """Flipped bits: the highest bit of the exponent, a lower one, and the sign."""
    for bundle in ("sd", "ltx20"):
        for component in ("decoder", "encoder"):
            for bit, times in ((30, 3), (26, 1), (31, 1)):
                for seed in range(times):
                    number = f" ({seed + 1})" if seed else ""
                    plant = _flip(component, "float32", bit, seed)
                    name = f"{bundle} {component}: bit {bit} of a weight{number}"
                    yield Fault(name, bundle, plant, component=component)
    for engine, text in ((_OPENVINO, "OpenVINO"), (_OPENVINO16, "OpenVINO in bfloat16")):
        yield Fault(f"sd decoder on {text}: bit 30 of a weight", "sd", _flip("decoder", "float32", 30, 5), engine)
    yield Fault("sd decoder in float16: bit 14 of a weight", "sd", _flip("decoder", "float16", 14, 6), _ORT16)
    stream = _flip("decoder", "float32", 30, 7)
    yield Fault("ltx20 decoder as a stream: bit 30 of a weight", "ltx20", stream, way="stream")


def _exchanged() -> Iterator[Fault]:
    first_two = {
        "sd decoder: exchanged outputs of conv_out": ("sd", "decoder", ("decoder.conv_out",), 0),
        "sd decoder: exchanged inputs of conv_in": ("sd", "decoder", ("decoder.conv_in",), 1),
        "sd encoder: exchanged outputs of conv_in": ("sd", "encoder", ("encoder.conv_in",), 0),
        "sd encoder: exchanged inputs of conv_in": ("sd", "encoder", ("encoder.conv_in",), 1),
        "sd encoder: exchanged outputs of quant_conv": ("sd", "encoder", ("quant_conv",), 0),
        "flux2 decoder: exchanged outputs of conv_out": ("flux2", "decoder", ("decoder.conv_out",), 0),
        "ltx20 decoder: exchanged inputs of conv_in": ("ltx20", "decoder", ("decoder.conv_in.conv",), 1),
    }
    for name, (bundle, component, layers, axis) in first_two.items():
        yield Fault(name, bundle, _exchange(component, layers, axis), component=component)
    low = _exchange("decoder", ("decoder.conv_out",), 0)
    yield Fault("sd decoder on OpenVINO in bfloat16: exchanged outputs of conv_out", "sd", low, _OPENVINO16)
    half = _exchange("decoder", ("decoder.conv_out",), 0, "float16")
    yield Fault("sd decoder in float16: exchanged outputs of conv_out", "sd", half, _ORT16)


def _statistics() -> Iterator[Fault]:
    yield Fault("sd: the scaling factor of SDXL", "sd", _configured(scaling_factor=0.13025))
    yield Fault("sd: a scaling factor with a wrong digit", "sd", _configured(scaling_factor=0.18216))
    yield Fault("flux: the shift factor of another model", "flux", _configured(shift_factor=0.0609))
    yield Fault("flux: no shift factor", "flux", _configured(shift_factor=None))
    yield Fault("playground: a mean of another channel", "playground", _statistics_changed("latents_mean"))
    yield Fault("ltx20: a mean of another channel", "ltx20", _statistics_changed("latents_mean"))
    yield Fault("ltx20: a deviation of another channel", "ltx20", _statistics_changed("latents_std"))


def _narrowed() -> Iterator[Fault]:
    for bundle, component in (("sd", "decoder"), ("sd", "encoder"), ("ltx20", "decoder"), ("flux2", "decoder")):
        name = f"{bundle} {component}: bfloat16 under the name float32"
        yield Fault(name, bundle, _rounded(component, 16), component=component)
    yield Fault("sd decoder on OpenVINO: bfloat16 under the name float32", "sd", _rounded("decoder", 16), _OPENVINO)
    yield Fault("sd decoder: eleven bits of mantissa under the name float32", "sd", _rounded("decoder", 12))


def _other_fine_tunes() -> Iterator[Fault]:
    for bundle, component in (("sd", "decoder"), ("sd", "encoder"), ("ltx20", "decoder"), ("ltx20", "encoder")):
        name = f"{bundle} {component}: the weights of another fine-tune"
        yield Fault(name, bundle, _other_weights(component), component=component)
    yield Fault("sd decoder in float16: the weights of another fine-tune", "sd", _other_weights("decoder"), _ORT16)
    yield Fault("sd decoder on OpenVINO: the weights of another fine-tune", "sd", _other_weights("decoder"), _OPENVINO)


def _wrong_graphs() -> Iterator[Fault]:
    yield Fault("sd decoder: edges instead of zeros around pictures", "sd", _graphs("decoder", "whole", _edges))
    whole = _graphs("decoder", "whole", _edges)
    yield Fault("sd decoder on OpenVINO: edges instead of zeros around pictures", "sd", whole, _OPENVINO)
    strips = _graphs("decoder", "strips", _edges)
    name = "sd decoder in strips: edges instead of zeros around pictures"
    yield Fault(name, "sd", strips, way="strips")
    encoder = _graphs("encoder", "whole", _edges)
    yield Fault("sd encoder: edges instead of zeros around pictures", "sd", encoder, component="encoder")
    stream = _graphs("decoder", "stream", _first_stage_scaled)
    yield Fault("ltx20 decoder as a stream: a constant of a stage", "ltx20", stream, way="stream")


def _damaged_caches() -> Iterator[Fault]:
    for number, (start, share) in enumerate(((0.45, 0.1), (0.3, 0.2), (0.6, 0.15))):
        name = f"sd decoder on OpenVINO: a damaged model in the cache ({number + 1})"
        yield Fault(name, "sd", _damaged_cache("decoder", start, share), _OPENVINO, warm=True)


# How they are planted


def _renewed(folder: Path, names: Iterable[str]) -> None:
    """Write the hashes and sizes of changed files into the manifest."""
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    for entry in values["files"]:
        if entry["name"] in names:
            entry["sha256"] = sha256_of(folder / entry["name"])
            entry["size_bytes"] = (folder / entry["name"]).stat().st_size
    path.write_text(json.dumps(values))


def _weights_file(folder: Path, component: str, dtype: str) -> str:
    graphs = Manifest.open(folder).find_graphs(component)
    return next(graph.weights for graph in graphs if graph.dtype == dtype)


def _tensors(path: Path) -> dict[str, tuple[int, int, tuple[int, ...]]]:
    """The first and last byte, and the shape, of each tensor of a safetensors file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    places = {name: entry["data_offsets"] for name, entry in header.items()}
    return {
        name: (8 + length + start, 8 + length + end, tuple(header[name]["shape"]))
        for name, (start, end) in places.items()
    }


def _flip(component: str, dtype: str, bit: int, seed: int) -> Callable[[Path, Bundles], None]:
    def plant(folder: Path, bundles: Bundles) -> None:
        name = _weights_file(folder, component, dtype)
        content = bytearray((folder / name).read_bytes())
        rng = np.random.default_rng([seed, bit])
        item = 4 if dtype == "float32" else 2
        weights = [
            (start, end)
            for key, (start, end, shape) in sorted(_tensors(folder / name).items())
            if key.endswith("weight") and end - start == item * math.prod(shape)
        ]
        start, end = weights[rng.integers(len(weights))]
        at = start + item * int(rng.integers((end - start) // item)) + bit // 8
        content[at] ^= 1 << bit % 8
        (folder / name).write_bytes(content)
        _renewed(folder, [name])

    return plant


def _changed(folder: Path, file: str, change: Callable[[str, NDArray[Any]], NDArray[Any]]) -> None:
    """Replace tensors of a weights file by what `change` gives for them."""
    content = bytearray((folder / file).read_bytes())
    for name, (start, end, shape) in _tensors(folder / file).items():
        item = "<f4" if end - start == 4 * math.prod(shape) else "<f2"  # a float16 file keeps some tensors in float32
        values = np.frombuffer(bytes(content[start:end]), item).reshape(shape)
        content[start:end] = np.ascontiguousarray(change(name, values.copy())).tobytes()
    (folder / file).write_bytes(content)
    _renewed(folder, [file])


def _exchange(
    component: str, layers: tuple[str, ...], axis: int, dtype: str = "float32"
) -> Callable[[Path, Bundles], None]:
    def change(name: str, values: NDArray[Any]) -> NDArray[Any]:
        layer, _, kind = name.rpartition(".")
        if layer in layers and (axis == 0 or kind == "weight"):
            order = np.arange(values.shape[axis])
            order[[0, 1]] = order[[1, 0]]
            return values.take(order, axis=axis)
        return values

    def plant(folder: Path, bundles: Bundles) -> None:
        _changed(folder, _weights_file(folder, component, dtype), change)

    return plant


def _rounded(component: str, bits: int) -> Callable[[Path, Bundles], None]:
    def change(name: str, values: NDArray[Any]) -> NDArray[Any]:
        whole = values.view(np.uint32)
        return ((whole + np.uint32(1 << bits - 1)) >> np.uint32(bits) << np.uint32(bits)).view(np.float32)

    def plant(folder: Path, bundles: Bundles) -> None:
        _changed(folder, _weights_file(folder, component, "float32"), change)

    return plant


def _configured(**fields: Any) -> Callable[[Path, Bundles], None]:
    def plant(folder: Path, bundles: Bundles) -> None:
        manifest = Manifest.open(folder)
        config: Any = manifest.config
        dataclasses.replace(manifest, config=dataclasses.replace(config, **fields)).write()

    return plant


def _statistics_changed(name: str) -> Callable[[Path, Bundles], None]:
    def plant(folder: Path, bundles: Bundles) -> None:
        values = list(getattr(Manifest.open(folder).config, name))
        values[0] = values[1]
        _configured(**{name: tuple(values)})(folder, bundles)

    return plant


def _other_weights(component: str) -> Callable[[Path, Bundles], None]:
    def plant(folder: Path, bundles: Bundles) -> None:
        name = "ltx20" if Manifest.open(folder).config.video else "sd"
        other = bundles(f"{name}*")
        names = {graph.weights for graph in Manifest.open(folder).find_graphs(component)}
        for file in names:
            shutil.copy(other / file, folder / file)
        _renewed(folder, names)

    return plant


def _graphs(component: str, kind: str, change: Callable[[onnx.ModelProto], None]) -> Callable[[Path, Bundles], None]:
    def plant(folder: Path, bundles: Bundles) -> None:
        manifest = Manifest.open(folder)
        found = {
            "whole": manifest.find_graphs(component),
            "stream": manifest.find_streams(component)[:1],
            "strips": manifest.find_strip_graphs(component),
        }[kind]
        names = [file for graph in found for file in (graph.file, graph.cpu_file) if file is not None]
        for file in names:
            model = onnx.load(folder / file, load_external_data=False)
            change(model)
            onnx.save(model, folder / file)
        _renewed(folder, names)

    return plant


def _edges(model: onnx.ModelProto) -> None:
    """Let convolutions and pads repeat the edge of the picture instead of adding zeros."""
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type == "Pad":
            for attribute in list(node.attribute):
                node.attribute.remove(attribute)
            node.attribute.append(onnx.helper.make_attribute("mode", "edge"))
            del node.input[2:3]
            if len(node.input) > 2:
                node.input.insert(2, "")
        pads = next((one for one in node.attribute if one.name == "pads"), None)
        if node.op_type == "Conv" and pads is not None and any(pads.ints):
            widths = np.array([0, 0, *pads.ints[: len(pads.ints) // 2], 0, 0, *pads.ints[len(pads.ints) // 2 :]])
            name = f"{node.output[0]}_widths"
            model.graph.initializer.append(onnx.numpy_helper.from_array(widths.astype(np.int64), name))
            padded = f"{node.output[0]}_edges"
            model.graph.node.append(onnx.helper.make_node("Pad", [node.input[0], name], [padded], mode="edge"))
            node.input[0] = padded
            node.attribute.remove(pads)
        model.graph.node.append(node)


def _first_stage_scaled(model: onnx.ModelProto) -> None:
    """Multiply the result of a graph by 1.01."""
    result = model.graph.output[0].name
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == result:
                node.output[index] = f"{result}_before"
        for index, name in enumerate(node.input):
            if name == result:
                node.input[index] = f"{result}_before"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1.01, np.float32), "planted"))
    model.graph.node.append(onnx.helper.make_node("Mul", [f"{result}_before", "planted"], [result]))


def _damaged_cache(component: str, start: float, share: float) -> Callable[[Path, Bundles], None]:
    """Zeros in the compiled models that OpenVINO keeps, with the digests next to them renewed."""

    def plant(folder: Path, bundles: Bundles) -> None:
        manifest = Manifest.open(folder)
        graph = next(one for one in manifest.find_graphs(component) if one.dtype == "float32")
        cache = Path(os.environ["LATENTRT_CACHE"]) / "openvino" / content_name(manifest, graph)
        blobs = sorted(cache.glob("*.blob"))
        assert blobs, "OpenVINO keeps no model, so none can be damaged"
        for blob in blobs:
            content = bytearray(blob.read_bytes())
            first, count = int(start * len(content)), int(share * len(content))
            content[first : first + count] = bytes(count)
            blob.write_bytes(content)
            blob.with_name(f"{blob.name}.sha256").write_text(sha256_of(blob))

    return plant
