"""Which self-tests passed on this machine, kept in the cache folder: one small file per bundle, backend and machine."""

import importlib.metadata
import json
import logging
import platform
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..backends.backend import Backend
from ..backends.choices import ENGINE_PACKAGES
from ..bundle.manifest import Manifest
from ..system.cache_folder import cache_folder, replace_file
from ..system.file_lock import locked
from ..system.json_file import read_json
from ..system.processor import processor, usable_cores

__all__ = ["PassedTests"]

_log = logging.getLogger(__name__)
_SCHEMA = 1
_MOST_BYTES = 1 << 20  # of the file; one has a few hundred bytes
_PACKAGES = ("latentrt", "numpy", *ENGINE_PACKAGES, "tensorrt", "tensorrt-rtx-cu13")


class PassedTests:
    """The tests that passed with one bundle on one backend. The file is named by everything that could change a result:
    the bundle's digest and engines, the backend, its precision and options, the processor or GPU with its driver, and
    the versions of the libraries. If the cache folder cannot be used, nothing is remembered, and each process tests.

    Args:
        manifest: the bundle.
        backend: the backend.
        options: further options that change results, such as the number of threads, as JSON values.
    """

    def __init__(self, manifest: Manifest, backend: Backend, options: Mapping[str, Any]) -> None:
        self._identity = _identity(manifest, backend, options)
        text = json.dumps(self._identity, sort_keys=True, default=str)
        self._identity = json.loads(text)
        self._name = f"{sha256(text.encode()).hexdigest()[:32]}.json"

    def holds(self, test: str, kept: Mapping[str, str]) -> bool:
        """Whether a test passed.

        Args:
            test: the name of the test.
            kept: the compiled models that the backend keeps for the tested graphs: SHA-256 by name. A model that was
                there when the test passed must still be there, with the same content.
        """
        known = self._read().get(test)
        return known is not None and all(kept.get(name) == digest for name, digest in known.items())

    def add(self, test: str, kept: Mapping[str, str]) -> None:
        """Remember that a test passed, with these compiled models."""
        try:
            path = self._path()
            with locked(path):
                content = {"identity": self._identity, "passed": {**self._read(), test: dict(kept)}}
                replace_file(path, json.dumps(content, indent=1).encode())
        except OSError as error:
            _log.info("the self-test is not remembered: %s (LATENTRT_CACHE chooses another folder)", error)

    def _path(self) -> Path:
        return cache_folder("selftest") / self._name

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            values = read_json(self._path(), _MOST_BYTES)
            if values["identity"] != self._identity:
                return {}
            return {
                test: {str(name): str(one) for name, one in kept.items()} for test, kept in values["passed"].items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.info("testing anew: the record of passed self-tests cannot be read (%s)", error)
            return {}


def _identity(manifest: Manifest, backend: Backend, options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "schema": _SCHEMA,
        "bundle": manifest.digest,
        "engines": sorted(record.sha256 for record in manifest.engines),
        "backend": backend.label,
        "dtype": backend.dtype,
        "options": dict(options),
        "machine": f"{platform.system()} {platform.machine()} {processor().name} {usable_cores()} cores",
        "device": _device(backend),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _device(backend: Backend) -> str:
    """The GPU and its driver, or the kind of device."""
    if backend.device != "cuda":
        return backend.device
    from ..backends.cuda.devices import gpu_name  # here: a process without a GPU imports no CUDA
    from ..backends.cuda.driver import driver_version
    from ..errors import BackendUnavailable

    try:
        return f"{gpu_name()}, driver {driver_version()}"
    except BackendUnavailable:  # cuda-core is not installed, as with ONNX Runtime's CUDA provider
        return f"cuda, driver {driver_version()}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
