"""One line for a finished pipeline: its VAE becomes a bundle, and comes back."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from ...runtime.backends.backend import Backend
from ...runtime.backends.choose import judged_backends
from ...runtime.bundle.manifest import Manifest
from ...runtime.errors import BackendUnavailable, EngineError, InputError
from ..torch_backend import TorchBackend
from ..torch_backend.opening import TORCH
from .autoencoder import LatentRTAutoencoder
from .bundle_cache import bundle_of
from .comparison import compared
from .own_vae import ReplacedVae, require_own_vae

__all__ = ["accelerate", "restore"]

_log = logging.getLogger(__name__)
_DTYPES = ("float32", "float16", "bfloat16")
Pipeline = TypeVar("Pipeline")


def accelerate(
    pipe: Pipeline,
    *,
    cache: str | Path | None = None,
    backend: str | Backend = "auto",
    dtype: str | torch.dtype | None = None,
    always: bool = False,
    **options: Any,
) -> Pipeline:
    """Let LatentRT run the VAE of a diffusers pipeline.

    The first time, the pipeline's own VAE is exported to a bundle in the cache folder, and one small decode compares
    the bundle with the VAE in time and memory. Later starts, also of other processes, find both. The bundle replaces
    the VAE where a backend is faster and not larger. Otherwise the pipeline stays as it is. One line in the log says
    which. Call this before `enable_model_cpu_offload` or `enable_sequential_cpu_offload`.

    Args:
        pipe: a pipeline with a VAE that LatentRT knows, also a modular one.
        cache: the folder that holds the bundles. None: `bundles` in LatentRT's cache folder.
        backend: the backend, as in `open_bundle`, or "torch" for PyTorch on the VAE's device. "auto": the first backend
            that is faster and not larger. It tries engines first, and PyTorch last.
        dtype: the precision of the computation: "float32", "float16" or "bfloat16". None: float32, in which a VAE in
            float16 or bfloat16 comes nearer to its float32 pixels.
        always: replace the VAE also where it is not faster, or larger.
        options: further options of `LatentRTAutoencoder`, such as `memory` and `threads`.

    Returns:
        The same pipeline. `restore` puts its own VAE back.

    Raises:
        InputError: the pipeline has no VAE that LatentRT knows, or an argument is wrong. BackendUnavailable: `backend`
            names one that cannot run here, or with `always` none can. OutputError: the cache cannot be written.
            CheckpointError, ConfigError, MissingExtra: the VAE cannot be exported.
    """
    holder: Any = pipe
    if isinstance(getattr(holder, "vae", None), LatentRTAutoencoder):
        _log.info("accelerate: LatentRT runs the vae of this pipeline already")
        return pipe
    vae = require_own_vae(getattr(holder, "vae", None))
    precision = _precision(dtype)
    folder, is_new = bundle_of(vae, precision, None if cache is None else Path(cache))
    came = "exported now" if is_new else "found in the cache"
    refused: list[str] = []
    for choice in _choices(folder, backend, precision, options, refused):
        try:
            adapter = _opened(vae, folder, precision, {**options, **choice})
            comparison = compared(vae, adapter, folder)
        except (BackendUnavailable, EngineError, InputError) as error:
            if backend != "auto":
                raise
            refused.append(str(error))
            continue
        label = adapter.runtime.backend
        if comparison.pays or always:
            adapter.take_over(vae, ReplacedVae.of(vae, folder))
            _put(holder, adapter)
            _log.info("accelerate: %s runs the vae, in %s (%s, %s)", label, comparison, came, folder)
            return pipe
        refused.append(f"{label} takes {comparison}")
        adapter.close()
    reasons = "; ".join(refused)
    if always:
        raise BackendUnavailable(f"accelerate: no backend can run the vae here: {reasons}")
    _log.warning(
        "accelerate: the pipeline keeps its own vae, because no backend here is faster and not larger: %s", reasons
    )
    return pipe


def restore(pipe: Pipeline) -> Pipeline:
    """Put the VAE back that `accelerate` replaced. A pipeline that was not accelerated stays as it is.

    The VAE is the same object if other code still holds it, and else a new one with the same weights.

    Returns:
        The same pipeline.

    Raises:
        BundleError: the VAE was freed, and the bundle with its weights is gone or damaged.
    """
    holder: Any = pipe
    adapter = getattr(holder, "vae", None)
    if isinstance(adapter, LatentRTAutoencoder) and adapter.replaced is not None:
        vae: Any = adapter.replaced.again().to(adapter.device)
        hook = getattr(adapter, "_hf_hook", None)
        if hook is not None:  # of an offload that was enabled meanwhile
            vae._hf_hook = hook  # noqa: SLF001 # accelerate's name for it
        _put(holder, vae)
        adapter.release()  # another pipeline may share it
        _log.info("restore: the pipeline has its own vae again")
    return pipe


def _precision(dtype: str | torch.dtype | None) -> str:
    name = "float32" if dtype is None else str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise InputError(f"dtype: wanted one of {', '.join(_DTYPES)}, or None for float32, got {dtype!r}")
    return name


def _choices(
    folder: Path, backend: str | Backend, precision: str, options: Mapping[str, Any], refused: list[str]
) -> Iterator[dict[str, Any]]:
    """The backends to try, best first, as options of `open_bundle`. `refused` gets the reasons if no engine can run."""
    if backend != "auto" or "provider" in options:
        yield {"backend": backend}
        return
    judged = judged_backends(Manifest.open(folder), precision)
    usable = dict.fromkeys(one.label for one in judged if one.backend is not None)
    if not usable:
        refused.extend(f"{one.label} cannot run: {one.reason}" for one in judged)
    for label in usable:
        name, _, provider = label.partition(":")
        yield {"backend": name, "provider": provider or None}
    yield {"backend": TORCH}


def _opened(vae: torch.nn.Module, folder: Path, precision: str, options: Mapping[str, Any]) -> LatentRTAutoencoder:
    place = next(vae.parameters())
    if options["backend"] == TORCH:
        options = {**options, "backend": TorchBackend(place.device, precision)}
    return LatentRTAutoencoder(folder, torch_dtype=place.dtype, dtype=precision, **options).to(place.device)


def _put(pipe: Any, vae: torch.nn.Module) -> None:
    if hasattr(pipe, "update_components"):  # a modular pipeline
        pipe.update_components(vae=vae)
    else:
        pipe.vae = vae
