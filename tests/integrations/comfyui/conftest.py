"""ComfyUI's folders and progress bars, fresh for each test, and VAE objects over the small bundles."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import pytest
import torch
from comfy.utils import ProgressBar

from latentrt.integrations.comfyui.bundle_folder import register_folder
from latentrt.integrations.comfyui.vae import LatentRTVAE


@pytest.fixture(autouse=True)
def comfy_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """ComfyUI's base folder, with empty folders of models. Nodes run in inference mode, as in ComfyUI."""
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.setattr(folder_paths, "output_dir", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "added", {})
    for name in ("latentrt", "vae", "checkpoints"):
        (tmp_path / "models" / name).mkdir(parents=True)
    register_folder()
    ProgressBar.shown.clear()
    with torch.inference_mode():
        yield tmp_path
    comfy.model_management.loaded.clear()
    comfy.model_management.interrupt_current_processing(False)


@pytest.fixture
def vae_of(opened: Callable[..., Any]) -> Callable[..., LatentRTVAE]:
    """`vae_of(name, **options)`: the bundle of an architecture as a VAE object."""
    return lambda name, **options: LatentRTVAE(opened(name, backend="onnxruntime"), **options)
