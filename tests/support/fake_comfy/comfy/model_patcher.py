"""The base of what the memory manager holds."""

from typing import Any

__all__ = ["ModelPatcher"]


class ModelPatcher:
    """Holds a model, its size and its two devices."""

    def __init__(self, model: Any, load_device: Any, offload_device: Any, size: int = 0) -> None:
        self.model, self.load_device, self.offload_device, self.size = model, load_device, offload_device, size

    def model_size(self) -> int:
        """The bytes of the weights."""
        return self.size
