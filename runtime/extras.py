"""Optional dependencies: one import site each, and one sentence with the pip line when they are missing."""

import importlib
from types import ModuleType

from .errors import MissingExtra

__all__ = ["installed_version", "require"]


def require(module: str, *, extra: str) -> ModuleType:
    """Import `module`, or raise `MissingExtra` naming the extra that brings it.

    Raises:
        MissingExtra: the module, or something it needs, is not installed.
    """
    try:
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
