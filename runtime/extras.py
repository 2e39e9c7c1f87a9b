"""Optional dependencies.

Each one is imported through `require`. A missing one raises one sentence with the pip command. Their telemetry is
switched off, and their cache files go to LatentRT's cache folder.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

from .errors import MissingExtra

__all__ = ["installed_version", "packages_of", "require"]

# Libraries that report their use to a server, and the environment variables that switch this off before the import.
_TELEMETRY_VARIABLES = {
    "onnxruntime": "ORT_DISABLE_TELEMETRY",  # 1.29 to 1.32 contact a server and write a device id to the home folder
    "huggingface_hub": "HF_HUB_DISABLE_TELEMETRY",
}
# Libraries that make a cache folder in the home folder or the temporary folder, and the environment variables that
# choose another place.
_CACHE_VARIABLES = {"matplotlib": "MPLCONFIGDIR", "torch": "TORCHINDUCTOR_CACHE_DIR"}
_TELEMETRY_PACKAGES = {"openvino": "openvino_telemetry"}  # OpenVINO works without that package


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional dependency.

    The library's telemetry is switched off first, in this process and its child processes, and its cache goes to
    LatentRT's cache folder. Environment variables that the user has set win. A library that was imported before
    LatentRT has read its variables already.

    Args:
        module: the module to import, such as "PIL.Image".
        extra: the extra of LatentRT that installs it.

    Raises:
        MissingExtra: the module, or a module that it needs, is not installed, or it is installed and does not load.
    """
    try:
        with _without_telemetry(module.partition(".")[0]):
            return importlib.import_module(module)
    except Exception as error:  # a library that is broken raises anything while it is imported
        library = module.partition(".")[0]
        if not isinstance(error, ModuleNotFoundError) and _is_installed(library):
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise MissingExtra(
                f"this needs {module}, which is installed and does not load ({reason}): "
                f'run `pip install --force-reinstall "latentrt[{extra}]"`'
            ) from error
        if not isinstance(error, ImportError):
            raise
        raise MissingExtra(
            f"this needs {module}, which is not installed or does not load ({error}): "
            f'run `pip install "latentrt[{extra}]"`'
        ) from error


def installed_version(package: str) -> str | None:
    """The version of an installed package, by its name on PyPI. None if it is not installed."""
    import importlib.metadata  # imported here: it is slow, and encoding and decoding do not need it

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def packages_of(module: str) -> list[str]:
    """The installed packages that bring a module, by their names on PyPI, sorted. Two of them hide each other."""
    import importlib.metadata

    return sorted({*importlib.metadata.packages_distributions().get(module, ())})


def _is_installed(library: str) -> bool:
    import importlib.util

    try:
        return importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):  # ValueError: a module without a spec, or None in its place
        return False


@contextmanager
def _without_telemetry(library: str) -> Iterator[None]:
    """Switch telemetry off for a library that the body imports, and choose its cache folder."""
    if library in _TELEMETRY_VARIABLES:
        os.environ.setdefault(_TELEMETRY_VARIABLES[library], "1")
    variable = _CACHE_VARIABLES.get(library)
    if variable is not None and library not in sys.modules and variable not in os.environ:
        from .system.cache_folder import cache_folder  # imported here: most libraries need no cache folder

        with suppress(OSError):  # without a cache folder of LatentRT, the library chooses one
            os.environ[variable] = str(cache_folder(library).absolute())
    telemetry = _TELEMETRY_PACKAGES.get(library)
    if telemetry is None or library in sys.modules or telemetry in sys.modules:
        yield
        return
    sys.modules[telemetry] = None  # type: ignore[assignment] # its import fails, as if it were not installed
    try:
        yield
    finally:
        del sys.modules[telemetry]
