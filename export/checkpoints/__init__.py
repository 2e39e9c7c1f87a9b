"""Reading checkpoints: diffusers folders, single files, Flax folders and models on the hub.

Each source becomes a `Checkpoint`: a config, and tensors under the names that diffusers gives them. Reading and writing
the bytes of safetensors files belongs to `weights`.
"""

from .checkpoint import Checkpoint
from .source import SourceOptions, open_checkpoint

__all__ = ["Checkpoint", "SourceOptions", "open_checkpoint"]
