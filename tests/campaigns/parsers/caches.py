"""Files of the cache folder, which are ignored if they are damaged."""

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from latentrt.runtime import open_bundle
from latentrt.runtime.errors import EngineError
from latentrt.runtime.system.file_identity import verified_sha256

from ..material import Material
from ..mutations import mutated_bytes, mutated_json
from .subject import Maker, Subject

__all__ = ["CACHES"]

_SIZE = (512, 512)


def _cache() -> Path:
    return Path(os.environ["LATENTRT_CACHE"])


def _calibration(material: Material, place: Path) -> Subject:
    """A planned call reads the kept points. Measuring takes seconds, so the points are made up, and a case that would
    measure anew counts as refused."""
    from made_up_points import MadeUp

    vae: Any = open_bundle(material.image_bundle, backend="onnxruntime", threads=1)
    points = MadeUp(vae.grid)
    module: Any = importlib.import_module("latentrt.runtime.planner.calibration")
    module.measure = lambda folder, engine, probe, check=None: points.point(probe)
    before = set(_cache().glob("calibration/*.json"))
    vae.calibrate(_SIZE)
    (kept,) = set(_cache().glob("calibration/*.json")) - before or before
    seeds = {str(kept): kept.read_bytes()}

    def refuse(folder: Path, engine: Any, probe: Any, check: Any = None) -> Any:
        raise EngineError("this point would be measured anew")

    module.measure = refuse

    def read(path: Path) -> Any:
        with open_bundle(material.image_bundle, backend="onnxruntime", threads=1) as opened:
            opened.plan(_SIZE, memory="4GiB")

    return Subject(seeds, read, mutated_json)


def _verified(material: Material, place: Path) -> Subject:
    """The hashes of files that were compared before."""
    path = material.image_bundle / "decoder.onnx"
    before = set(_cache().glob("verified/*.json"))
    verified_sha256(path)
    new = set(_cache().glob("verified/*.json")) - before
    if not new:  # an earlier process of this child wrote it
        new = {record for record in before if str(path) in record.read_text(encoding="utf-8", errors="replace")}
    (record,) = new
    return Subject({str(record): record.read_bytes()}, lambda _: verified_sha256(path), mutated_json, wanted=True)


def _openvino(material: Material, place: Path) -> Subject:
    """Compiled models."""

    def read(path: Path | None = None) -> np.ndarray[Any, Any]:
        with open_bundle(material.image_bundle, backend="openvino", threads=1) as vae:
            z = np.ones((1, vae.config.latent_channels, 4, 4), np.float32)
            return np.asarray(vae.decode(z).sample)

    read()
    models = [path for path in _cache().glob("openvino/**/*") if path.suffix in (".blob", ".sha256")]
    return Subject({str(path): path.read_bytes() for path in models}, read, mutated_bytes, wanted=True)


CACHES: Mapping[str, Maker] = {"calibration": _calibration, "verified": _verified, "openvino_cache": _openvino}
"""Parsers of files of the cache folder."""
