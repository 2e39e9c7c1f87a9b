"""The VAE that a pipeline brought: its identity, its weights for the exporter, and the way back to it."""

import hashlib
import json
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...runtime.bundle.manifest import Manifest
from ...runtime.config.families import FAMILIES, config_from_dict
from ...runtime.errors import InputError
from ...runtime.system.processor import usable_cores

if TYPE_CHECKING:
    from ...export.checkpoints.checkpoint import Checkpoint

__all__ = ["ReplacedVae", "checkpoint_of", "content_of", "require_own_vae"]

_MOST_HASHING_THREADS = 4
_TRAINING_COUNTER = "num_batches_tracked"  # of batch norms: an integer that decoding does not use
_EXACT_IN_FLOAT32 = (torch.float32, torch.float16, torch.bfloat16)


def require_own_vae(vae: Any) -> torch.nn.Module:
    """Check that LatentRT can export a pipeline's VAE.

    Raises:
        InputError: there is none, it is of an unknown family, or its weights are not in memory.
    """
    family = type(vae).__name__
    if family not in FAMILIES or not isinstance(vae, torch.nn.Module):
        known = ", ".join(FAMILIES)
        raise InputError(f"accelerate: wanted a pipeline whose vae is one of {known}, got {family}")
    if any(tensor.is_meta for tensor in (*vae.parameters(), *vae.buffers())):
        raise InputError(
            "accelerate: the weights of the vae are offloaded, so they cannot be read: call accelerate before "
            "enable_sequential_cpu_offload"
        )
    return vae


def content_of(vae: torch.nn.Module) -> str:
    """The hex SHA-256 of a VAE's config and of the bytes of its tensors."""
    threads = min(_MOST_HASHING_THREADS, usable_cores())
    tensors = _tensors(vae)
    with ThreadPoolExecutor(threads) as pool:  # hashlib lets other threads run
        digests = dict(zip(tensors, pool.map(_digest, tensors.values()), strict=True))
    rows = [[name, str(one.dtype), list(one.shape), digests[name]] for name, one in sorted(tensors.items())]
    return hashlib.sha256(json.dumps([_config_fields(vae), rows], sort_keys=True).encode()).hexdigest()


def checkpoint_of(vae: torch.nn.Module) -> "Checkpoint":
    """The VAE as a checkpoint of the exporter. Its tensors are read from memory, one by one.

    Raises:
        CheckpointError, ConfigError: it is not as its config says, or its weights are not finite.
    """
    from ...export.checkpoints.checkpoint import Checkpoint, LazyTensor
    from ...export.checkpoints.parameters.of_config import family_parameters, parameters_of

    config = config_from_dict(_config_fields(vae))
    family = family_parameters(config)
    tensors = {
        name: LazyTensor(
            tuple(tensor.shape),
            str(tensor.dtype).removeprefix("torch."),
            lambda tensor=tensor: tensor.detach().to("cpu", torch.float32).contiguous().numpy(),  # type: ignore[misc]
        )
        for name, tensor in _tensors(vae).items()
    }
    made = Checkpoint(
        Path(config.family),
        config,
        tensors,
        "a pipeline's VAE",
        family.published(config),
        question="were parts of the model replaced?",
        statistics=family.statistics,
    )
    return made.checked(parameters_of(config)).finite()


@dataclass(frozen=True)
class ReplacedVae:
    """A VAE that a bundle replaced in a pipeline. It is kept in memory only while other code uses it.

    Attributes:
        kind: its class.
        config: its config, as `from_config` takes it.
        alive: gives it, or None after it was freed.
        dtypes: the dtype of each parameter.
        buffers: its buffers, which are small.
        device: where its weights were.
        folder: the bundle, which has its weights in float32.
    """

    kind: Any
    config: Mapping[str, Any]
    alive: Any
    dtypes: Mapping[str, torch.dtype]
    buffers: Mapping[str, torch.Tensor]
    device: torch.device
    folder: Path

    @classmethod
    def of(cls, vae: Any, folder: Path) -> "ReplacedVae":
        """What is needed to bring `vae` back, which the bundle in `folder` replaces."""
        dtypes = {name: parameter.dtype for name, parameter in vae.named_parameters()}
        exact = all(dtype in _EXACT_IN_FLOAT32 for dtype in dtypes.values())
        device = next(vae.parameters()).device
        buffers = {name: buffer.detach().clone() for name, buffer in vae.named_buffers()}
        alive = weakref.ref(vae) if exact else lambda: vae
        return cls(type(vae), dict(vae.config), alive, dtypes, buffers, device, folder)

    def again(self) -> torch.nn.Module:
        """The VAE itself if it is still in memory, or else a new one with the same weights.

        Raises:
            BundleError: the bundle is gone or damaged.
        """
        vae = self.alive()
        return self._rebuilt() if vae is None else vae

    def _rebuilt(self) -> torch.nn.Module:
        from safetensors.torch import load_file

        with torch.device("meta"):
            vae = self.kind.from_config(self.config)
        manifest = Manifest.open(self.folder)
        manifest.verify_hashes()
        state = {name: buffer.to(self.device) for name, buffer in self.buffers.items()}
        for file in sorted({graph.weights for graph in manifest.graphs if graph.dtype == "float32"}):
            for name, tensor in load_file(self.folder / file).items():
                if name in self.dtypes:
                    state[name] = tensor.to(self.device, self.dtypes[name])
        vae.load_state_dict(state, assign=True)
        return vae.eval().requires_grad_(False)  # type: ignore[no-any-return]


def _tensors(vae: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: one for name, one in vae.state_dict().items() if not name.endswith(_TRAINING_COUNTER)}


def _config_fields(vae: Any) -> dict[str, Any]:
    fields = {name: value for name, value in dict(vae.config).items() if not name.startswith("_")}
    return {"_class_name": type(vae).__name__, **json.loads(json.dumps(fields))}  # tuples become lists


def _digest(tensor: torch.Tensor) -> str:
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(values.numpy().data).hexdigest()
