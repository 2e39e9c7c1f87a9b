"""Bundles of pipelines' VAEs in the cache folder, shared between processes: each is whole or absent."""

import hashlib
import json
import logging
from pathlib import Path

import torch

from ...runtime.bundle.manifest import MANIFEST_NAME, Manifest
from ...runtime.bundle.schemas import SCHEMA_VERSION
from ...runtime.errors import BundleError, OutputError
from ...runtime.extras import installed_version
from ...runtime.system.cache_folder import cache_folder
from ...runtime.system.file_lock import locked
from ...runtime.system.outputs.folder_filling import remove_tree
from ...runtime.system.outputs.partial_output import output_error
from .own_vae import checkpoint_of, content_of

__all__ = ["bundle_of"]

_log = logging.getLogger(__name__)
_NAME_CHARACTERS = 32  # of a hex digest


def bundle_of(vae: torch.nn.Module, dtype: str, cache: Path | None) -> tuple[Path, bool]:
    """The bundle of a VAE, exported if the cache does not hold it.

    A bundle is found by the weights, the config, the precision and the version of the exporter. A process that needs a
    bundle waits while another process exports it.

    Args:
        vae: the VAE of a pipeline.
        dtype: the precision of the computation. The bundle has float32 too.
        cache: the folder that holds the bundles. None: `bundles` in LatentRT's cache folder.

    Returns:
        The folder of the bundle, and whether it was exported now.

    Raises:
        OutputError: the cache cannot be written. CheckpointError, ConfigError, MissingExtra: as `export_bundle`.
    """
    place = _place(cache)
    exporter = [installed_version("latentrt"), SCHEMA_VERSION, torch.__version__, installed_version("onnx")]
    key = json.dumps([content_of(vae), dtype, exporter])
    folder = place / f"{type(vae).__name__}-{hashlib.sha256(key.encode()).hexdigest()[:_NAME_CHARACTERS]}"
    if _is_whole(folder):
        return folder, False
    with locked(folder):
        if _is_whole(folder):  # another process exported it meanwhile
            return folder, False
        _export(vae, dtype, folder)
    return folder, True


def _place(cache: Path | None) -> Path:
    try:
        if cache is None:
            return cache_folder("bundles")
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(cache or "the cache folder", error) from error
    return cache


def _is_whole(folder: Path) -> bool:
    """Whether the folder holds a bundle that opens."""
    if not (folder / MANIFEST_NAME).is_file():
        return False
    try:
        Manifest.open(folder)
    except BundleError as error:
        _log.warning("the bundle in the cache is damaged and is exported again: %s", error)
        return False
    return True


def _export(vae: torch.nn.Module, dtype: str, folder: Path) -> None:
    from ...export.bundle import ExportSettings, export_bundle

    if folder.exists():
        try:
            remove_tree(folder)
        except OSError as error:
            raise OutputError(f"cannot replace {folder} ({error}): remove it, or choose another cache") from error
    dtypes = ("float32",) if dtype == "float32" else ("float32", dtype)
    export_bundle(checkpoint_of(vae), folder, ExportSettings(dtypes=dtypes))  # type: ignore[arg-type] # was checked
