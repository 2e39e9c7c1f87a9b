"""Bundle in, arrays out: encode and decode with NumPy around engine calls. Imports neither torch nor onnx.

`open_bundle` is the door. Every other name is imported when it is first used, so that a program reads only what it
uses. What belongs here is the public names alone; the code stands in the rooms below.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .arrays.kinds import Dtype
    from .arrays.outputs import AutoencoderKLOutput, DecoderOutput
    from .arrays.posterior import DiagonalGaussian
    from .autoencoders.autoencoder import Autoencoder
    from .autoencoders.autoencoder_kl import AutoencoderKL
    from .autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
    from .autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video
    from .backends.backend import Backend, BackendCapabilities
    from .backends.component import CallScope, Component, ComponentCapabilities
    from .backends.names import BackendName, ProviderName
    from .backends.onnxruntime.options import OnnxRuntimeOptions
    from .backends.tensorrt.options import TensorRtOptions
    from .bundle.verified_files import Verify
    from .calls.cancel_token import CancelToken
    from .config.flux2 import AutoencoderKLFlux2Config
    from .config.kl import AutoencoderKLConfig
    from .config.ltx2 import AutoencoderKLLTX2VideoConfig
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
        SelftestError,
    )
    from .files.decoded_file import decode_file
    from .files.decoded_folder import decode_folder
    from .files.encoded_file import EncodedFile, encode_file
    from .files.encoded_folder import encode_folder
    from .files.folder_report import FailedFile, FolderReport
    from .media.clips.clip_reader import ClipReader, open_clip
    from .media.clips.clip_writer import ClipWriter, write_clip
    from .media.clips.whole_clip import Clip, read_clip
    from .media.latents_file import LatentsFile, read_latents, write_latents
    from .media.pictures.picture_file import read_picture, write_picture
    from .selftest.policy import Selftest

__all__ = [
    "AutoencoderKL",
    "AutoencoderKLConfig",
    "AutoencoderKLFlux2",
    "AutoencoderKLFlux2Config",
    "AutoencoderKLLTX2Video",
    "AutoencoderKLLTX2VideoConfig",
    "AutoencoderKLOutput",
    "Backend",
    "BackendCapabilities",
    "BackendUnavailable",
    "BundleError",
    "CallScope",
    "CancelToken",
    "Cancelled",
    "CheckpointError",
    "Clip",
    "ClipReader",
    "ClipWriter",
    "Component",
    "ComponentCapabilities",
    "ConfigError",
    "DecoderOutput",
    "DeviceMemoryError",
    "DiagonalGaussian",
    "EncodedFile",
    "EngineError",
    "FailedFile",
    "FolderReport",
    "InputError",
    "LatentRTError",
    "LatentsFile",
    "MediaError",
    "MissingExtra",
    "OnnxRuntimeOptions",
    "OutputError",
    "SelftestError",
    "TensorRtOptions",
    "decode_file",
    "decode_folder",
    "encode_file",
    "encode_folder",
    "open_bundle",
    "open_clip",
    "read_clip",
    "read_latents",
    "read_picture",
    "write_clip",
    "write_latents",
    "write_picture",
]

_PLACES = {
    "AutoencoderKL": "autoencoders.autoencoder_kl",
    "AutoencoderKLConfig": "config.kl",
    "AutoencoderKLFlux2": "autoencoders.autoencoder_kl_flux2",
    "AutoencoderKLFlux2Config": "config.flux2",
    "AutoencoderKLLTX2Video": "autoencoders.autoencoder_kl_ltx2",
    "AutoencoderKLLTX2VideoConfig": "config.ltx2",
    "AutoencoderKLOutput": "arrays.outputs",
    "Backend": "backends.backend",
    "BackendCapabilities": "backends.backend",
    "BackendUnavailable": "errors",
    "BundleError": "errors",
    "CallScope": "backends.component",
    "CancelToken": "calls.cancel_token",
    "Cancelled": "errors",
    "CheckpointError": "errors",
    "Clip": "media.clips.whole_clip",
    "ClipReader": "media.clips.clip_reader",
    "ClipWriter": "media.clips.clip_writer",
    "Component": "backends.component",
    "ComponentCapabilities": "backends.component",
    "ConfigError": "errors",
    "DecoderOutput": "arrays.outputs",
    "DeviceMemoryError": "errors",
    "DiagonalGaussian": "arrays.posterior",
    "EncodedFile": "files.encoded_file",
    "EngineError": "errors",
    "FailedFile": "files.folder_report",
    "FolderReport": "files.folder_report",
    "InputError": "errors",
    "LatentRTError": "errors",
    "LatentsFile": "media.latents_file",
    "MediaError": "errors",
    "MissingExtra": "errors",
    "OnnxRuntimeOptions": "backends.onnxruntime.options",
    "OutputError": "errors",
    "SelftestError": "errors",
    "TensorRtOptions": "backends.tensorrt.options",
    "decode_file": "files.decoded_file",
    "decode_folder": "files.decoded_folder",
    "encode_file": "files.encoded_file",
    "open_clip": "media.clips.clip_reader",
    "read_clip": "media.clips.whole_clip",
    "encode_folder": "files.encoded_folder",
    "read_latents": "media.latents_file",
    "read_picture": "media.pictures.picture_file",
    "write_clip": "media.clips.clip_writer",
    "write_latents": "media.latents_file",
    "write_picture": "media.pictures.picture_file",
}
"""The module of each public name, relative to this package."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_PLACES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def open_bundle(
    bundle: str | Path,
    *,
    backend: "BackendName | Backend" = "auto",
    dtype: "Dtype" = "float32",
    provider: "ProviderName | None" = None,
    threads: int | None = None,
    contexts: int = 1,
    session_options: "Mapping[str, Any] | OnnxRuntimeOptions | TensorRtOptions | None" = None,
    allow_build: bool = True,
    verify: "Verify" = "once",
    digest: str | None = None,
    engines: bool | None = None,
    selftest: "Selftest" = "once",
) -> "Autoencoder":
    """Open a bundle as its family's class. Engines are loaded when they are first used.

    Args:
        bundle: the folder. A relative path is resolved now, and "~" is the home folder.
        backend: "auto" takes the fastest backend that can run here. A backend that is named is taken or refused. An
            object of a subclass of `Backend` is taken as it is: it brings its own precision, provider, threads and
            options.
        dtype: the precision of the computation, never lowered silently. (OpenVINO computes in bfloat16 from the float32
            graphs, if you ask for bfloat16.)
        provider: ONNX Runtime's "cpu", "cuda" or "tensorrt".
        threads: CPU threads of one engine call. None: one for each core that the process may use.
        contexts: how many calls may run at a time.
        session_options: `OnnxRuntimeOptions` or `TensorRtOptions`, or a mapping: for ONNX Runtime attributes of
            `onnxruntime.SessionOptions`, and config entries by their dotted names; for TensorRT the fields of
            `TensorRtOptions`.
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
        selftest: when engines run the golden samples of the bundle, with the results of the PyTorch reference. "once":
            before the first use of the encoder or the decoder, whole, as a stream or in strips. The cache folder
            remembers a passed test for this bundle, backend, device, driver, precision, number of threads and versions
            of the libraries. "always": the encoder and the decoder whole now, and streams and strips before their first
            use. A bundle without golden samples is refused. "never": not at all. A backend that is given as an object
            is tested with "always" alone.

    Raises:
        BundleError: missing, damaged, altered, unsafe, too new, or of another digest. BackendUnavailable: what was
            asked for cannot run here. InputError: an option has a wrong value. SelftestError: `selftest` is "always",
            and an engine does not give the results of the reference. (With "once" the first call raises it.)
    """
    from .bundle.manifest import Manifest
    from .config.families import FAMILIES, loaded

    manifest = Manifest.open(Path(bundle))
    kind: type[Autoencoder] = loaded(f"{__package__}.autoencoders", FAMILIES[manifest.family].autoencoder)
    return kind(
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
        selftest=selftest,
    )
