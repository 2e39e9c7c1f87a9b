"""Our engines among the models that ComfyUI's memory manager loads and evicts."""

from typing import Any

import torch
from comfy.model_patcher import ModelPatcher

from ...runtime.autoencoders.autoencoder import Autoencoder

__all__ = ["EnginePatcher"]


class EnginePatcher(ModelPatcher):
    """What ComfyUI's memory manager holds of a model: its size, whether it is loaded, and how to evict it.

    The engines load when a call needs them. Evicting releases them, and the next call loads them again. They are loaded
    whole or not at all.
    """

    def __init__(
        self, module: torch.nn.Module, autoencoder: Autoencoder, load_device: Any, offload_device: Any
    ) -> None:
        """`module` stands for the engines; it has no weights of its own."""
        super().__init__(module, load_device, offload_device, size=_weight_bytes(autoencoder))
        self._autoencoder = autoencoder
        self._loaded = False

    def loaded_size(self) -> int:
        """The bytes that the engines take now."""
        return int(self.model_size()) if self._loaded else 0

    def current_loaded_device(self) -> Any:
        """Where the engines are."""
        return self.load_device if self._loaded else self.offload_device

    def partially_load(self, *_: Any, **__: Any) -> int:
        """Note that the engines load with the next call, and give their bytes."""
        if self._loaded:
            return 0
        self._loaded = True
        return int(self.model_size())

    def partially_unload(self, *_: Any, **__: Any) -> int:
        """Free nothing, so that ComfyUI evicts the engines as a whole."""
        return 0

    def patch_model(self, *_: Any, **__: Any) -> Any:
        """Do nothing: LoRA weights do not apply to engines."""
        return self.model

    def unpatch_model(self, *_: Any, **__: Any) -> None:
        """Release the engines' memory."""
        self._loaded = False
        self._autoencoder.release()

    def detach(self, *_: Any, **__: Any) -> Any:
        """Evict the engines."""
        self.unpatch_model()
        return self.model

    def is_dynamic(self) -> bool:
        """Whether ComfyUI moves the weights piece by piece while the model runs."""
        return False

    def clone(self, *_: Any, **__: Any) -> "EnginePatcher":
        """This patcher: clones would evict each other's engines."""
        return self


def _weight_bytes(autoencoder: Autoencoder) -> int:
    files = {graph.weights for graph in autoencoder.graphs}
    return max(1, sum(file.size_bytes for file in autoencoder.manifest.files if file.name in files))
