"""Opening a bundle in a program that has PyTorch: an engine where one is faster, else PyTorch."""

import logging
from pathlib import Path
from typing import Any

from ...runtime import open_bundle
from ...runtime.autoencoders.autoencoder import Autoencoder
from ...runtime.backends.backend import Backend
from ...runtime.backends.choose import judged_backends
from ...runtime.bundle.manifest import Manifest
from ...runtime.errors import BackendUnavailable, LatentRTError
from .backend import TorchBackend

__all__ = ["TORCH", "open_with_torch"]

TORCH = "torch"
"""The name of PyTorch as a backend, where names of backends are taken."""
_ENGINE_OPTIONS = ("provider", "threads", "session_options")  # PyTorch has no such options
_log = logging.getLogger(__name__)


def open_with_torch(
    bundle: str | Path,
    *,
    backend: str | Backend = "auto",
    dtype: str = "float32",
    device: Any = "auto",
    planned: bool = False,
    **options: Any,
) -> Autoencoder:
    """`open_bundle`, which also takes PyTorch.

    Args:
        bundle: the folder of the bundle.
        backend: as in `open_bundle`, or "torch". "auto" takes PyTorch too: if no engine can run the bundle here, or if
            PyTorch reaches an accelerator and engines run on the CPU alone. One line in the log says so.
        dtype: the precision of the computation.
        device: where PyTorch runs. "auto": the accelerator of this machine, or the CPU.
        planned: whether calls get a memory budget. PyTorch takes none, so "auto" leaves it out.
        options: further options of `open_bundle`. PyTorch has no provider, threads and session options, so "auto"
            leaves it out if one of these is given.

    Raises:
        BundleError, BackendUnavailable, InputError: as `open_bundle`.
    """
    if backend == TORCH:
        return _opened(bundle, dtype, device, options)
    given: Any = options
    may_take_torch = not planned and all(options.get(name) is None for name in _ENGINE_OPTIONS)
    if backend != "auto" or not may_take_torch:
        return open_bundle(bundle, backend=backend, dtype=dtype, **given)  # type: ignore[arg-type] # are checked there
    if _reaches_accelerator(device) and not _engines_on_devices(Path(bundle), dtype):
        _log.info("PyTorch runs the bundle %s, because engines run on the CPU alone here", bundle)
        return _opened(bundle, dtype, device, options)
    try:
        return open_bundle(bundle, dtype=dtype, **given)  # type: ignore[arg-type] # as above
    except BackendUnavailable as error:
        try:
            opened = _opened(bundle, dtype, device, options)
        except LatentRTError:
            raise error from None  # it names the simplest engine to install
        _log.info("PyTorch runs the bundle %s, because no engine can: %s", bundle, error)
        return opened


def _opened(bundle: str | Path, dtype: str, device: Any, options: dict[str, Any]) -> Autoencoder:
    backend = TorchBackend(device, dtype)
    return open_bundle(bundle, backend=backend, dtype=backend.dtype, **options)  # type: ignore[arg-type] # is checked


def _reaches_accelerator(device: Any) -> bool:
    from .devices import device_of

    return bool(device_of(device).type != "cpu")


def _engines_on_devices(bundle: Path, dtype: str) -> bool:
    """Whether an engine runs the bundle on something else than the CPU."""
    judged = judged_backends(Manifest.open(bundle), dtype)
    return any(one.backend is not None and one.backend.device != "cpu" for one in judged)
