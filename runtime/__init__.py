"""Bundle in, arrays out: encode and decode with NumPy around engine calls. Imports neither torch nor onnx."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .arrays.outputs import AutoencoderKLOutput, DecoderOutput
from .arrays.posterior import DiagonalGaussian
from .autoencoders.autoencoder import Autoencoder
from .autoencoders.autoencoder_kl import AutoencoderKL
from .autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
from .autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video
from .bundle.manifest import Manifest
from .bundle.verified_files import Verify
from .calls.cancel_token import CancelToken
from .config import AutoencoderKLConfig, AutoencoderKLFlux2Config, AutoencoderKLLTX2VideoConfig
from .errors import (
    BackendUnavailable,
    BundleError,
    Cancelled,
    CheckpointError,
    ConfigError,
    DeviceMemoryError,
    EngineError,
    InputError,
    LatentRTError,
    MediaError,
    MissingExtra,
    OutputError,
)

__all__ = [
    "AutoencoderKL",
    "AutoencoderKLConfig",
    "AutoencoderKLFlux2",
    "AutoencoderKLFlux2Config",
    "AutoencoderKLLTX2Video",
    "AutoencoderKLLTX2VideoConfig",
    "AutoencoderKLOutput",
    "BackendUnavailable",
    "BundleError",
    "CancelToken",
    "Cancelled",
    "CheckpointError",
    "ConfigError",
    "DecoderOutput",
    "DeviceMemoryError",
    "DiagonalGaussian",
    "EngineError",
    "InputError",
    "LatentRTError",
    "MediaError",
    "MissingExtra",
    "OutputError",
    "open_bundle",
]

_FAMILIES: dict[str, type[Autoencoder]] = {
    kind.family: kind for kind in (AutoencoderKL, AutoencoderKLFlux2, AutoencoderKLLTX2Video)
}


def open_bundle(
    bundle: str | Path,
    *,
    backend: str = "auto",
    dtype: str = "float32",
    provider: str | None = None,
    threads: int | None = None,
    contexts: int = 1,
    session_options: Mapping[str, Any] | None = None,
    allow_build: bool = True,
    verify: Verify = "once",
    digest: str | None = None,
    engines: bool | None = None,
) -> Autoencoder:
    """Open a bundle as its family's class. Engines are loaded when they are first used.

    Args:
        bundle: the folder. A relative path is resolved now, and "~" is the home folder.
        backend: "auto" takes the fastest backend that can run here. A backend that is named is taken or refused.
        dtype: the precision of the computation, never lowered silently. (OpenVINO computes in bfloat16 from the float32
            graphs, if you ask for bfloat16.)
        provider: ONNX Runtime's "cpu", "cuda" or "tensorrt".
        threads: CPU threads of one engine call. None: all cores.
        contexts: how many calls may run at a time.
        session_options: for ONNX Runtime attributes of `onnxruntime.SessionOptions`, and config entries by their dotted
            names. For TensorRT `device`, the GPU's number, `device_memory_bytes`, the most GPU memory to take, and
            `workspace`, GPU memory of the caller's for activations.
        allow_build: with False, a call that would compile first is an error that names the command to run.
            (TensorRT-RTX compiles its kernels for a size that was not warmed up, here or in an earlier process.)
            Engines are never built here.
        verify: when the weights are compared with the manifest's SHA-256. "once": when a file is first loaded. The
            cache folder remembers which files were compared by their size, times and inode, so that later starts read
            nothing twice. "always": at every load. "never": not at all. Graphs are always compared. A file that changes
            while the bundle is open is an error with each of them: open the bundle again.
        digest: the bundle's digest as `latentrt inspect` prints it ("sha256:..."). A bundle with another digest is
            refused, and "never" counts as "once".
        engines: whether the bundle's TensorRT engines may be loaded. They are compiled code, and the digest does not
            cover them. None allows them unless `digest` is given. False never loads one, neither from the bundle nor
            from the cache folder of ONNX Runtime's TensorRT provider.

    Raises:
        BundleError: missing, damaged, altered, unsafe, too new, or of another digest. BackendUnavailable: what was
            asked for cannot run here. InputError: an option has a wrong value.
    """
    manifest = Manifest.open(Path(bundle))
    return _FAMILIES[manifest.family](
        manifest,
        backend=backend,
        dtype=dtype,
        provider=provider,
        threads=threads,
        contexts=contexts,
        session_options=session_options,
        allow_build=allow_build,
        verify=verify,
        digest=digest,
        engines=engines,
    )
