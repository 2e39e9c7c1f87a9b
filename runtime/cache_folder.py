"""Where caches and logs live: the user's cache folder, never a bundle."""

import os
import sys
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder(name: str) -> Path:
    """The folder `name` within LatentRT's cache folder, which LATENTRT_CACHE overrides; made if it is not there.

    Raises:
        OSError: it cannot be made.
    """
    path = _root() / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def _root() -> Path:
    chosen = os.environ.get("LATENTRT_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "latentrt" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "latentrt"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latentrt"
