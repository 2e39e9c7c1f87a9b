"""The PyTorch reference in float64 with the weights of one block in memory at a time."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ..checkpoints import Checkpoint
from ..graphs.components import meta_model

__all__ = ["streamed_model"]


def streamed_model(checkpoint: Checkpoint) -> nn.Module:
    """Return the reference model in float64, whose blocks read their weights when they run and free them behind them.

    A model of 5 GB runs in the memory of its widest block. In float64 the results hardly depend on the machine, the
    number of threads and the versions of libraries.

    Args:
        checkpoint: the checkpoint, with tensors for every parameter of the model.
    """
    model = meta_model(checkpoint.config, fuse_qkv=False)
    names = {id(module): name for name, module in model.named_modules()}
    for module in model.modules():
        own = [(holder, key, f"{names[id(holder)]}.{key}".lstrip(".")) for holder, key in _read_by(module)]
        if own:
            block = _Block(checkpoint, own)
            module.register_forward_pre_hook(block.fill)
            module.register_forward_hook(block.empty)
    return model


class _Block:
    """The parameters that one module reads while it runs."""

    def __init__(self, checkpoint: Checkpoint, own: list[tuple[nn.Module, str, str]]) -> None:
        self._checkpoint, self._own = checkpoint, own
        self._filled: list[tuple[nn.Module, str]] = []

    def fill(self, module: nn.Module, arguments: Any) -> None:
        """Read the parameters that no outer module has read."""
        for holder, key, name in self._own:
            if getattr(holder, key).is_meta:
                values = torch.tensor(self._checkpoint.tensors[name].read(), dtype=torch.float64)
                setattr(holder, key, nn.Parameter(values, requires_grad=False))
                self._filled.append((holder, key))

    def empty(self, module: nn.Module, arguments: Any, result: Any) -> None:
        """Free what `fill` has read."""
        for holder, key in self._filled:
            shape = getattr(holder, key).shape
            setattr(holder, key, nn.Parameter(torch.empty(shape, device="meta"), requires_grad=False))
        self._filled.clear()


def _read_by(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """A module's own parameters, and those of its layers: a block may use the weights of a layer without calling it."""
    layers = (child for child in module.children() if next(child.children(), None) is None)
    for holder in (module, *layers):
        for key, _ in holder.named_parameters(recurse=False):
            yield holder, key
