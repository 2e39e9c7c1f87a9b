"""The kernels that TensorRT-RTX compiled on this machine, kept from one process to the next."""

import contextlib
import logging
import os
import threading
from typing import Any

from ..cache_folder import cache_folder
from ..engines import EngineRecord

__all__ = ["JitCache"]

_log = logging.getLogger(__name__)


class JitCache:
    """TensorRT-RTX compiles its kernels when they are first run. What it compiled is kept in the user's cache folder,
    by engine and library version; the library itself refuses a file of another GPU or driver."""

    def __init__(self, engine: Any, record: EngineRecord) -> None:
        self._path = cache_folder("jit") / f"{record.key}-{record.library_version}.cache"
        self._cache: Any = None
        self._kept: set[tuple[int, ...]] = set()
        self._lock = threading.Lock()

    def attach(self, config: Any) -> None:
        """Give the cache to a context's configuration; a file that the library refuses is not used."""
        with self._lock:
            if self._cache is None:
                self._cache = config.create_runtime_cache()
                with contextlib.suppress(OSError):
                    content = self._path.read_bytes()
                    if not self._cache.deserialize(content):
                        _log.info("%s is of another GPU, driver or version: kernels are compiled again", self._path)
            config.set_runtime_cache(self._cache)

    def keep(self, shape: tuple[int, ...]) -> None:
        """Write the cache after the first call of a size, which may have compiled something. Processes that write at
        the same time each rename a whole file into place."""
        with self._lock:
            if shape in self._kept:
                return
            self._kept.add(shape)
            content = memoryview(self._cache.serialize())
            temporary = self._path.with_name(f".{self._path.name}.{os.urandom(4).hex()}.partial")
            try:
                temporary.write_bytes(content)
                temporary.replace(self._path)
            except OSError as error:
                _log.info("the kernels compiled now are not kept (%s)", error)
            finally:
                temporary.unlink(missing_ok=True)
