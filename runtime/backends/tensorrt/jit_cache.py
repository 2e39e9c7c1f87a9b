"""The kernels that TensorRT-RTX compiled on this machine, kept for later processes."""

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from ...bundle.engine_records import EngineRecord
from ...system.cache_folder import cache_folder, replace_file
from ...system.file_lock import locked
from ...system.json_file import read_json

__all__ = ["JitCache"]

_log = logging.getLogger(__name__)
_MOST_LIST_BYTES = 8 << 20  # of a list of sizes; a thousand sizes have 100 KB


class JitCache:
    """The compiled kernels of one engine.

    TensorRT-RTX compiles kernels when they first run. They are kept in the user's cache folder, by engine and library
    version, with a list of the sizes they are for. The library itself refuses a file of another GPU or driver.
    Processes take turns with the file, and add to it. Without such a folder, each process compiles its own kernels."""

    def __init__(self, record: EngineRecord) -> None:
        self._path: Path | None = None
        try:
            self._path = cache_folder("jit") / f"{record.key}-{record.library_version}.cache"
        except OSError as error:
            _log.warning("TensorRT-RTX compiles its kernels anew in each process: %s", error)
        self._cache: Any = None
        self._another: Callable[[], Any] = lambda: None
        self._sizes: set[str] = set()
        self._lock = threading.Lock()

    def attach(self, config: Any) -> None:
        """Give the cache to a context's configuration. A file that the library refuses is not used."""
        with self._lock:
            if self._cache is None:
                self._another = config.create_runtime_cache
                self._cache = self._another()
                if self._path is not None:
                    with locked(self._path):
                        self._sizes = self._loaded(self._path)
            config.set_runtime_cache(self._cache)

    def knows(self, shapes: Mapping[str, Iterable[int]]) -> bool:
        """Whether a call of these sizes has run, here or in an earlier process, so that it compiles nothing."""
        return _text(shapes) in self._sizes

    def keep(self, shapes: Mapping[str, Iterable[int]]) -> None:
        """Write the cache after the first call of a size, which may have compiled something."""
        with self._lock:
            size = _text(shapes)
            if size in self._sizes:
                return
            self._sizes.add(size)
            content = _content(self._cache)
            if self._path is None or content is None:
                return
            try:
                with locked(self._path):
                    content, sizes = self._with_others(content, *_kept(self._path))
                    listed = json.dumps({"sha256": sha256(content).hexdigest(), "sizes": sorted(sizes)})
                    replace_file(self._path, content)
                    replace_file(self._path.with_suffix(".json"), listed.encode())
            except OSError as error:
                _log.info("the kernels compiled now are not kept (%s)", error)

    def _loaded(self, path: Path) -> set[str]:
        """Read the file into the cache. Gives the sizes whose kernels are in the cache now."""
        content, sizes = _kept(path)
        if content is None or self._cache.deserialize(content):
            return sizes
        _log.info("%s is of another GPU, driver or version: kernels are compiled again", path)
        return set()

    def _with_others(self, own: bytes, content: bytes | None, sizes: set[str]) -> tuple[bytes, set[str]]:
        """The kernels of this process together with those that other processes have kept since.

        They are joined in a new cache, because contexts work with ours. The library does not promise that reading adds
        to a cache. If it does not, only our kernels are kept, and those of the others are compiled again one day: a
        size is never listed without its kernels."""
        if content is None or sizes <= self._sizes:
            return own, self._sizes
        both = self._another()
        if both.deserialize(content) and both.deserialize(own):
            together = _content(both)
            if together is not None and len(together) > len(own):
                return together, self._sizes | sizes
        return own, self._sizes


def _kept(path: Path) -> tuple[bytes | None, set[str]]:
    """The content of the file and its list of sizes. None and an empty set if the file is absent or damaged."""
    try:
        content = path.read_bytes()
        listed = read_json(path.with_suffix(".json"), _MOST_LIST_BYTES)
        sizes = set(map(str, listed["sizes"]))
        if listed["sha256"] != sha256(content).hexdigest():
            raise ValueError("it is not the file that was listed")
    except FileNotFoundError:
        return None, set()
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.info("%s is not used, kernels are compiled again: %s", path, error)
        return None, set()
    return content, sizes


def _content(cache: Any) -> bytes | None:
    """The library's serialised cache. None if it gives none."""
    content = cache.serialize()
    return None if content is None else bytes(memoryview(content))


def _text(shapes: Mapping[str, Iterable[int]]) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in sorted(shapes.items()))
