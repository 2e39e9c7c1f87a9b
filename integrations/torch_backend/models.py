"""The reference models with a bundle's weights, shared between the stages that run in them."""

import threading
import weakref
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...export.graphs.components import component_of, meta_model
from ...export.memory_errors import is_memory_error
from ...export.models.ltx2_layers import PixelNorm
from ...export.models.timestep_embedding import TimestepEmbedding
from ...export.weights.safetensors_file import SafetensorsFile
from ...runtime.backends.component import CallScope
from ...runtime.config.model_config import ModelConfig
from ...runtime.errors import CheckpointError, DeviceMemoryError, EngineError
from ...runtime.system.file_identity import FileIdentity
from .devices import free_cache

__all__ = ["RUNNING", "HeldModels", "LoadedModel", "ModelShelf"]

RUNNING: ContextVar[CallScope | None] = ContextVar("RUNNING", default=None)
"""The user call that computes in this thread."""
_PRODUCTS = (nn.Conv2d, nn.Conv3d, nn.Linear)  # computed in the lower precision
_NORMS = (nn.GroupNorm, nn.LayerNorm, PixelNorm)  # computed in float32: in float16 a square overflows above 255
_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of axes


class LoadedModel:
    """One component of a reference model with its weights. Threads may share it.

    Args:
        config: the model's config.
        component: "encoder" or "decoder"; the parameters of the other one hold no values.
        path: the weights file.
        dtype: the precision of the computation.
        device: where the weights are.
        channels_last: whether their channels are innermost.

    Attributes:
        config, dtype, device: as given.
        precision: `dtype` as PyTorch's, such as `torch.float16`.
        module: the model, with `encoder` and `decoder`.

    Raises:
        EngineError: the file does not hold the component's weights. DeviceMemoryError: the GPU has too little memory.
    """

    def __init__(
        self,
        config: ModelConfig,
        component: str,
        path: Path,
        dtype: str,
        device: torch.device,
        *,
        channels_last: bool,
    ) -> None:
        self.config, self.dtype, self.device = config, dtype, device
        self.precision: torch.dtype = getattr(torch, dtype)
        self._channels_last = channels_last
        self.module: Any = meta_model(config)
        try:
            self._read(component, path)
        except CheckpointError as error:
            raise EngineError(f"PyTorch cannot load the {component}: {error}") from error
        except (MemoryError, RuntimeError) as error:
            if not is_memory_error(error):
                raise
            if device.type == "cpu":
                raise EngineError(f"loading {path.name} ran out of memory: free some memory") from error
            raise DeviceMemoryError(
                f"{device} has no memory for the weights of {path.name}: release other models, or take a lower "
                f"precision"
            ) from error
        for layer in self.module.modules():
            if isinstance(layer, _PRODUCTS):
                layer.register_forward_pre_hook(_check_cancelled)
            if isinstance(layer, TimestepEmbedding):
                layer.device = device
            if isinstance(layer, _NORMS) and self.lowered:
                layer.register_forward_pre_hook(_widened)
                layer.register_forward_hook(_Narrowed(self.precision))

    @property
    def lowered(self) -> bool:
        """Whether it computes in less than float32."""
        return self.dtype != "float32"

    def placed(self, tensor: Tensor) -> Tensor:
        """A tensor on the model's device, in the layout that the model takes."""
        layout = _LAYOUTS.get(tensor.ndim) if self._channels_last else None
        tensor = tensor.to(self.device)
        return tensor.contiguous() if layout is None else tensor.contiguous(memory_format=layout)

    def _read(self, component: str, path: Path) -> None:
        file, state = SafetensorsFile(path), {}
        lower = {
            f"{name}.{parameter}"
            for name, layer in self.module.named_modules()
            if isinstance(layer, _PRODUCTS)
            for parameter, _ in layer.named_parameters(recurse=False)
        }
        for name, parameter in self.module.named_parameters():
            if component_of(name) != component:
                continue
            if name not in file or file[name].shape != tuple(parameter.shape):
                raise EngineError(
                    f"{path.name} does not hold {name} of shape {tuple(parameter.shape)}: export the bundle again"
                )
            values = torch.from_numpy(file.read(name)).to(self.precision if name in lower else torch.float32)
            state[name] = self.placed(values)
        self.module.load_state_dict(state, strict=False, assign=True)
        self.module.requires_grad_(False)

    def __del__(self) -> None:
        if hasattr(self, "module"):  # it may not have been made
            del self.module
        if hasattr(self, "device"):
            free_cache(self.device)


class HeldModels:
    """Keeps the models that a shelf gives while this object exists."""

    def __init__(self) -> None:
        self.models: set[LoadedModel] = set()


class ModelShelf:
    """The models of a backend: each is loaded once, and freed with its last user.

    Args:
        device: where weights are.
        channels_last: whether their channels are innermost.
    """

    def __init__(self, device: torch.device, *, channels_last: bool) -> None:
        self._device, self._channels_last = device, channels_last
        self._lock = threading.Lock()
        self._loaded: weakref.WeakValueDictionary[Any, LoadedModel] = weakref.WeakValueDictionary()
        self._holders: weakref.WeakSet[HeldModels] = weakref.WeakSet()

    def take(self, config: ModelConfig, component: str, path: Path, dtype: str) -> LoadedModel:
        """The model with the weights that the file holds now.

        Raises:
            EngineError: see `LoadedModel`, or the file cannot be read.
        """
        try:
            key = path, FileIdentity.of(path), config, component, dtype
        except OSError as error:
            raise EngineError(f"cannot read {path}: {error.strerror or error}") from error
        with self._lock:
            model = self._loaded.get(key)
            if model is None:
                model = LoadedModel(config, component, path, dtype, self._device, channels_last=self._channels_last)
                self._loaded[key] = model
            for holder in self._holders:
                holder.models.add(model)
            return model

    def held(self) -> HeldModels:
        """An object that keeps every model that is taken while it exists."""
        holder = HeldModels()
        with self._lock:
            self._holders.add(holder)
        return holder


class _Narrowed:
    """Casts a layer's result to a precision."""

    def __init__(self, precision: torch.dtype) -> None:
        self._precision = precision

    def __call__(self, layer: nn.Module, inputs: tuple[Any, ...], result: Tensor) -> Tensor:
        return result.to(self._precision)


def _widened(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(one.float() for one in inputs)


def _check_cancelled(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
    call = RUNNING.get()
    if call is not None:
        call.check()
