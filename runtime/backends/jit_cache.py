"""The kernels that TensorRT-RTX compiled on this machine, kept from one process to the next."""

import json
import logging
import os
import threading
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..cache_folder import cache_folder
from ..engines import EngineRecord
from ..file_lock import locked

__all__ = ["JitCache"]

_log = logging.getLogger(__name__)


class JitCache:
    """TensorRT-RTX compiles its kernels when they are first run. What it compiled is kept in the user's cache folder,
    by engine and library version, and beside it for which sizes; the library itself refuses a file of another GPU or
    driver. Processes take turns with the file, and the last one's stays."""

    def __init__(self, record: EngineRecord) -> None:
        self._path = cache_folder("jit") / f"{record.key}-{record.library_version}.cache"
        self._list = self._path.with_suffix(".json")
        self._cache: Any = None
        self._sizes: set[str] = set()
        self._lock = threading.Lock()

    def attach(self, config: Any) -> None:
        """Give the cache to a context's configuration; a file that the library refuses is not used."""
        with self._lock:
            if self._cache is None:
                self._cache = config.create_runtime_cache()
                with locked(self._path):
                    self._read()
            config.set_runtime_cache(self._cache)

    def knows(self, shapes: Mapping[str, Iterable[int]]) -> bool:
        """Whether a call of these sizes has been run, here or in a process before: it compiles nothing."""
        return _text(shapes) in self._sizes

    def keep(self, shapes: Mapping[str, Iterable[int]]) -> None:
        """Write the cache after the first call of a size, which may have compiled something."""
        with self._lock:
            size = _text(shapes)
            if size in self._sizes:
                return
            self._sizes.add(size)
            content = bytes(memoryview(self._cache.serialize()))
            listed = json.dumps({"sha256": sha256(content).hexdigest(), "sizes": sorted(self._sizes)})
            try:
                with locked(self._path):
                    _replace(self._path, content)
                    _replace(self._list, listed.encode())
            except OSError as error:
                _log.info("the kernels compiled now are not kept (%s)", error)

    def _read(self) -> None:
        try:
            content = self._path.read_bytes()
            listed = json.loads(self._list.read_bytes())
            whole = listed["sha256"] == sha256(content).hexdigest()
            sizes = set(map(str, listed["sizes"]))
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.info("%s is not used, kernels are compiled again: %s", self._path, error)
            return
        if whole and self._cache.deserialize(content):
            self._sizes = sizes
        else:
            _log.info("%s is of another GPU, driver or version: kernels are compiled again", self._path)


def _text(shapes: Mapping[str, Iterable[int]]) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in sorted(shapes.items()))


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.partial")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
