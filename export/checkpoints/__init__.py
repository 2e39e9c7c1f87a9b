"""Where weights come from: each source becomes a config and tensors by diffusers' names."""

from .checkpoint import Checkpoint
from .source import SourceOptions, open_checkpoint

__all__ = ["Checkpoint", "SourceOptions", "open_checkpoint"]
