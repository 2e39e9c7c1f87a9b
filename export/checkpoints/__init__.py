"""Where weights come from: each source becomes a config and tensors by diffusers' names."""

from .checkpoint import Checkpoint
from .diffusers_folder import open_diffusers_folder
from .source import open_checkpoint

__all__ = ["Checkpoint", "open_checkpoint", "open_diffusers_folder"]
