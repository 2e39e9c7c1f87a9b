"""The node *Make LatentRT bundle*."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.model_management as model_management
import folder_paths
import torch
from comfy.utils import ProgressBar
from comfy_api.latest import io

from ...runtime.arrays.kinds import DTYPES, Dtype
from ...runtime.bundle.manifest import Manifest
from ...runtime.config.kl import MissingScalingFactor
from ...runtime.errors import InputError
from .bundle_folder import new_bundle_path
from .load_node import opened_vae

__all__ = ["MakeLatentRTBundle", "made_bundle"]

_LOG = logging.getLogger(__name__)
_KINDS = ("vae", "checkpoints")
_NO_CHECKPOINT = "no checkpoint in models/vae or models/checkpoints"
_FROM_FILE = "as the file says"
_SCALING: Mapping[str, Mapping[str, float]] = {
    "Stable Diffusion 1 or 2": {"scaling_factor": 0.18215},
    "SDXL": {"scaling_factor": 0.13025},
    "Stable Diffusion 3": {"scaling_factor": 1.5305, "shift_factor": 0.0609},
    "FLUX.1": {"scaling_factor": 0.3611, "shift_factor": 0.1159},
}
"""How the pipelines of a model scale its latents. A file of a VAE alone may not say it. ComfyUI scales outside of the
VAE, so these numbers matter only where the bundle is used elsewhere."""
_ENDINGS = (".safetensors", ".sft")  # other files hold pickles, which may run code


class MakeLatentRTBundle(io.ComfyNode):
    """Makes a bundle of the VAE in a checkpoint, and opens it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return io.Schema(
            node_id="LatentRTMakeBundle",
            display_name="Make LatentRT bundle",
            category="latentrt",
            description="Exports the VAE of a checkpoint to models/latentrt, once, and opens it.",
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=_checkpoint_names() or [_NO_CHECKPOINT],
                    tooltip="A safetensors file in models/vae or models/checkpoints.",
                ),
                io.String.Input("name", default="", tooltip="The name of the bundle. Empty: that of the checkpoint."),
                io.Combo.Input(
                    "dtype", options=list(DTYPES), default="float32", tooltip="The precision of the computation."
                ),
                io.Combo.Input(
                    "model",
                    options=[_FROM_FILE, *_SCALING],
                    default=_FROM_FILE,
                    tooltip="Whose VAE it is. Needed only for a file that does not say it.",
                ),
            ],
            outputs=[io.Vae.Output(), io.String.Output(display_name="bundle")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, checkpoint: str, name: str, dtype: Dtype, model: str = _FROM_FILE) -> io.NodeOutput:
        """Make the bundle unless it is there, and open it."""
        folder = made_bundle(checkpoint, name, dtype, model)
        return io.NodeOutput(opened_vae(folder.name, "auto", dtype, ""), folder.name)

    @classmethod
    def fingerprint_inputs(cls, checkpoint: str, **others: Any) -> Any:
        """A value that changes with the checkpoint."""
        kind, _, file = checkpoint.partition("/")
        path = folder_paths.get_full_path(kind, file) if kind in _KINDS else None
        return checkpoint if path is None else f"{checkpoint}:{Path(path).stat().st_mtime_ns}"


def made_bundle(checkpoint: str, name: str, dtype: Dtype, model: str = _FROM_FILE) -> Path:
    """The folder of the bundle of a checkpoint, which is made if it is not there.

    Args:
        checkpoint: the kind of folder and the file in it, such as "vae/sdxl.safetensors".
        name: the name of the bundle, or "".
        dtype: the precision of the computation.
        model: whose VAE it is, a key of `_SCALING`, or that the file says it.

    Raises:
        InputError: no such checkpoint, or it does not say whose VAE it is, or another checkpoint's bundle has the name.
        LatentRTError: see `export_bundle`.
        InterruptProcessingException: the user interrupts; no bundle is left.
    """
    from ...export.bundle import ExportSettings, export_bundle

    source = _checkpoint_path(checkpoint)
    folder = new_bundle_path(name.strip() or source.stem)
    scaling = _SCALING.get(model, {})
    if os.path.lexists(folder):
        _check_same(folder, source, dtype, scaling)
        _LOG.info("%s is there already and is used", folder)
        return folder
    bar = ProgressBar(1)

    def progress(_: str, done: int, total: int) -> None:
        model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, max(1, total))

    try:
        with torch.inference_mode(mode=False):  # ComfyUI runs nodes in it, and tensors made in it cannot be traced
            export_bundle(source, folder, ExportSettings(dtypes=(dtype,), overrides=scaling or None), progress)
    except MissingScalingFactor as error:
        known, _, _ = str(error).rpartition(": pass")
        raise InputError(f"{known or error}: choose the model in this node") from error
    bar.update_absolute(1, 1)
    return folder


def _check_same(folder: Path, source: Path, dtype: str, scaling: Mapping[str, float]) -> None:
    manifest = Manifest.open(folder)
    made_from = manifest.produced_by.get("source")
    advice = f"choose another name, or delete {folder}"
    if made_from != source.name:
        raise InputError(f"the bundle {folder.name} was made from {made_from}, not from {source.name}: {advice}")
    if (folder / "manifest.json").stat().st_mtime < source.stat().st_mtime:
        raise InputError(f"the bundle {folder.name} is older than {source.name}: {advice}")
    if any(getattr(manifest.config, field) != value for field, value in scaling.items()):
        raise InputError(f"the bundle {folder.name} was made for another model than the one that is chosen: {advice}")
    if dtype not in {graph.dtype for graph in manifest.graphs}:
        raise InputError(f"the bundle {folder.name} has no graphs in {dtype}: {advice}")


def _checkpoint_names() -> list[str]:
    return [
        f"{kind}/{file}" for kind in _KINDS for file in folder_paths.get_filename_list(kind) if file.endswith(_ENDINGS)
    ]


def _checkpoint_path(checkpoint: str) -> Path:
    if checkpoint == _NO_CHECKPOINT:
        raise InputError("models/vae and models/checkpoints hold no safetensors file: put a checkpoint there")
    kind, _, file = checkpoint.partition("/")
    path = folder_paths.get_full_path(kind, file) if kind in _KINDS else None
    if path is None:
        raise InputError(f"there is no checkpoint {checkpoint!r}: choose one of models/vae or models/checkpoints")
    return Path(path)
