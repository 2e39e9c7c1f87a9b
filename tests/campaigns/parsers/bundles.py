"""Bundles: manifests that are read, manifests and files of bundles that are run, graphs, and records of engines."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from latentrt.runtime import open_bundle
from latentrt.runtime.bundle.engine_records import EngineRecord
from latentrt.runtime.bundle.graph_contents import check_graph_file
from latentrt.runtime.bundle.manifest import MANIFEST_NAME, Manifest
from latentrt.runtime.bundle.profiles import Profile, ShapeRange, choose_profile
from latentrt.runtime.system.hashing import sha256_of

from ..material import Material
from ..mutations import json_text, mixed, mutated_bytes, mutated_json
from .subject import Maker, Subject

__all__ = ["BUNDLES", "bundle_copy"]

_CELLS = {"image": (4, 4), "video": (2, 2, 2)}  # the latents of a run
_SHAPE = (1, 4, 8, 8)


def bundle_copy(bundle: Path, target: Path, own: Sequence[str]) -> Path:
    """A copy of a bundle. The files of `own` may be altered; the others are links to those of the bundle."""
    target.mkdir(parents=True, exist_ok=True)
    for path in bundle.iterdir():
        if path.name in own or not path.is_file():
            continue
        (target / path.name).unlink(missing_ok=True)
        try:
            os.link(path, target / path.name)
        except OSError:  # another file system
            shutil.copy(path, target / path.name)
    for name in own:
        (target / name).unlink(missing_ok=True)
        shutil.copy(bundle / name, target / name)
    return target


def _copies(material: Material, place: Path, own: Sequence[str] = (MANIFEST_NAME,)) -> dict[str, bytes]:
    """Copies of both bundles, and the content of their own files by their paths."""
    seeds: dict[str, bytes] = {}
    for kind, bundle in (("image", material.image_bundle), ("video", material.video_bundle)):
        bundle_copy(bundle, place / kind, own)
        seeds |= {f"{kind}/{name}": (bundle / name).read_bytes() for name in own}
    return seeds


def _manifest(material: Material, place: Path) -> Subject:
    def read(path: Path) -> None:
        manifest = Manifest.open(path.parent)
        json.dumps(manifest.to_json(), allow_nan=False)
        assert manifest.digest
        for component in manifest.components:
            manifest.find_graphs(component)
            manifest.find_streams(component)
            manifest.find_strip_graphs(component)

    return Subject(_copies(material, place), read, mutated_json)


def _decode(path: Path, way: str) -> np.ndarray[Any, Any]:
    """Open the bundle that holds a file, and decode latents."""
    vae: Any = open_bundle(path.parent, backend="onnxruntime", threads=1)
    with vae:
        cells = _CELLS["video" if vae.video else "image"]
        shape = (1, vae.config.latent_channels, *cells)
        z = np.random.default_rng(0).standard_normal(shape, np.float32)
        if way == "stream":
            return np.concatenate(list(vae.decode_stream(z)), axis=2)
        if way == "strips":
            vae.enable_tiling(exact=True, strip=16)
        return np.asarray(vae.decode(z).sample)


def _run(way: str, kinds: Sequence[str] = ("image", "video"), own: Sequence[str] = (MANIFEST_NAME,)) -> Maker:
    """Bundles that are opened and run: what runs gives the pixels of the valid bundle."""

    def make(material: Material, place: Path) -> Subject:
        seeds = {
            name: content for name, content in _copies(material, place, own).items() if name.split("/")[0] in kinds
        }
        mutate = mutated_json if own == (MANIFEST_NAME,) else mutated_bytes
        return Subject(seeds, lambda path: _decode(path, way), mutate, wanted=True)

    return make


def _graph(material: Material, place: Path) -> Subject:
    """The check of a graph file, which reads the ONNX file without its library."""
    seeds: dict[str, bytes] = {}
    about: dict[str, tuple[str, int]] = {}
    for kind, bundle in (("image", material.image_bundle), ("video", material.video_bundle)):
        manifest = Manifest.open(bundle)
        graph = manifest.find_graphs("decoder")[0]
        size = next(file.size_bytes for file in manifest.files if file.name == graph.weights)
        seeds[f"{kind}.onnx"] = (bundle / graph.file).read_bytes()
        about[f"{kind}.onnx"] = (graph.weights, size)
    return Subject(seeds, lambda path: check_graph_file(path, *about[path.name]))


def _engine_records(material: Material, place: Path) -> Subject:
    bundle = bundle_copy(material.image_bundle, place / "image", (MANIFEST_NAME,))
    manifest = Manifest.open(bundle)
    (bundle / "decoder.engine").write_bytes(b"an engine" * 10)
    graph = manifest.find_graphs("decoder")[0]
    hashes = {file.name: file.sha256 for file in manifest.files}
    shape = ShapeRange((1, 4, 8, 8), (1, 4, 64, 64), (2, 4, 128, 128))
    record = EngineRecord(
        *("decoder", None, "float32", "tensorrt", graph.file, hashes[graph.file], hashes[graph.weights], "10.13"),
        ("8.9", "9.0"),
        (Profile({"latents": shape}),),
        {"refit": False, "version_compatible": True, "hardware_compatible": True},
        "0123456789abcdef",
        "decoder.engine",
        (bundle / "decoder.engine").stat().st_size,
        sha256_of(bundle / "decoder.engine"),
        activation_bytes=1 << 20,
    )
    replace(manifest, engines=(record,)).write()

    def read(path: Path) -> None:
        opened = Manifest.open(path.parent)
        for found in opened.engines:
            found.check_origin(hashes[graph.file], hashes[graph.weights])
            found.check_machine("10.14", "9.0")
            found.check_file(path.parent)
            choose_profile(found.profiles, {"latents": _SHAPE}, found.kind)

    whole = (bundle / MANIFEST_NAME).read_bytes()
    return Subject({f"image/{MANIFEST_NAME}": whole}, read, mixed(_of_field("engines"), mutated_json))


def _of_field(name: str) -> Callable[[Random, bytes], bytes]:
    """Alters one field of a JSON object."""

    def mutate(random: Random, whole: bytes) -> bytes:
        values = json.loads(whole)
        try:
            values[name] = json.loads(mutated_json(random, json.dumps(values[name]).encode()))
        except (ValueError, RecursionError):  # the field is no JSON any more
            values[name] = None
        return json_text(values).encode("utf-8", "surrogatepass")

    return mutate


_DECODER = ("decoder.onnx", "decoder.safetensors")
BUNDLES: Mapping[str, Maker] = {
    "manifest": _manifest,
    "manifest_run": _run("whole"),
    "manifest_stream": _run("stream", ("video",)),
    "manifest_strips": _run("strips", ("image",)),
    "bundle_files": _run("whole", own=_DECODER),
    "graph": _graph,
    "engine_records": _engine_records,
}
"""Parsers of bundles."""
