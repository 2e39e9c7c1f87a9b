"""Stand-ins for torchvision's and torchaudio's operators, where only their CUDA builds can be installed.

ComfyUI imports both. Nothing that the trial runs uses them.
"""

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

__all__ = ["stand_in"]

_KEPT: list[Any] = []  # an operator lasts as long as its library object


def stand_in() -> None:
    """Make `import torchvision` and `import torchaudio` work."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:  # its operators are missing
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library: Any = torch.library
        library = library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError):
        _stand_in_torchaudio()


def _stand_in_torchaudio() -> None:
    audio: Any = ModuleType("torchaudio")
    audio.__path__, audio.__version__ = [], "0"
    audio.__spec__ = SimpleNamespace(
        name="torchaudio", loader=None, submodule_search_locations=[], origin=None, parent="torchaudio"
    )
    audio.transforms = ModuleType("torchaudio.transforms")
    audio.transforms.MelScale = type("MelScale", (torch.nn.Module,), {})
    sys.modules |= {"torchaudio": audio, "torchaudio.transforms": audio.transforms}
