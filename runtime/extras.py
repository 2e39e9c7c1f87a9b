"""Optional dependencies: one import site each, one sentence with the pip line when they are missing, no telemetry, and
no files outside our cache folder."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

from .errors import MissingExtra

__all__ = ["installed_version", "require"]

# Libraries that report their use to a server, with the environment variable that each reads when it is imported.
_OPT_OUT = {
    "onnxruntime": "ORT_DISABLE_TELEMETRY",  # 1.29 to 1.32 look a server up and write a device id into the home folder
    "huggingface_hub": "HF_HUB_DISABLE_TELEMETRY",
}
# Libraries that make a cache folder when they are imported or used, in the home folder or the system's folder for
# temporary files, with the environment variable that chooses another one.
_CACHES = {"matplotlib": "MPLCONFIGDIR", "torch": "TORCHINDUCTOR_CACHE_DIR"}
_REPORTING_PACKAGES = {"openvino": "openvino_telemetry"}  # OpenVINO works without that package


def require(module: str, *, extra: str) -> ModuleType:
    """Import `module`, or raise `MissingExtra` naming the extra that brings it.

    The library's telemetry is switched off first, in this process and its children, unless the user has set the
    library's variable. Likewise the library's own cache goes to LatentRT's cache folder. A library that was imported
    before LatentRT has read its variable already.

    Raises:
        MissingExtra: the module, or something it needs, is not installed.
    """
    try:
        with _silenced(module.partition(".")[0]):
            return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"this needs {module}, which is not installed or does not load ({error}): "
            f'run `pip install "latentrt[{extra}]"`'
        ) from error


def installed_version(package: str) -> str | None:
    """The version of an installed package, by its name on PyPI; None where there is none."""
    import importlib.metadata  # here: it is not small, and runs ask for no version

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@contextmanager
def _silenced(library: str) -> Iterator[None]:
    """Import `library` within this context, and it sends nothing."""
    if library in _OPT_OUT:
        os.environ.setdefault(_OPT_OUT[library], "1")
    if library in _CACHES and library not in sys.modules and _CACHES[library] not in os.environ:
        from .system.cache_folder import cache_folder  # here: most imports need none

        with suppress(OSError):  # without a cache folder of ours, the library chooses
            os.environ[_CACHES[library]] = str(cache_folder(library).absolute())
    reporting = _REPORTING_PACKAGES.get(library)
    if reporting is None or library in sys.modules or reporting in sys.modules:
        yield
        return
    sys.modules[reporting] = None  # type: ignore[assignment] # an import of it fails, as if it were not installed
    try:
        yield
    finally:
        del sys.modules[reporting]
