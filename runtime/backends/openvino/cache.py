"""OpenVINO's compiled models in the cache folder: a damaged one is compiled again, never run.

OpenVINO looks at the head of a file that it finds in its cache, not at the rest: of 60 altered files 11 gave wrong
pixels or NaN (2026.4). So each file's SHA-256 is kept next to it.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ...errors import BundleError
from ...system.cache_folder import cache_folder, replace_file, warn_once
from ...system.file_identity import FileIdentity, verified_sha256
from ...system.file_lock import locked

__all__ = ["CompiledModelCache"]

_log = logging.getLogger(__name__)
_MODELS = "*.blob"
_DIGEST = ".sha256"


class CompiledModelCache:
    """The folder of one graph's compiled models. `key` names what the graph and its weights hold: OpenVINO itself knows
    a model by the graph's path, time and size, and weights in another file count for nothing there.

    Attributes:
        folder: for OpenVINO's CACHE_DIR; None where nothing can be kept, so that models are compiled each time.
    """

    def __init__(self, key: str) -> None:
        self.folder = _folder(key)

    @contextmanager
    def checked(self) -> Iterator[dict[str, str]]:
        """OpenVINO's settings for compiling within this context. Files that are not as they were written are removed
        first, and what is written meanwhile gets its digest. Other processes that ask for the folder wait."""
        if self.folder is None:
            yield {}
            return
        with locked(self.folder):
            try:
                known = self._remove_altered(self.folder)
            except (OSError, BundleError) as error:
                warn_once(f"OpenVINO compiles anew: its cache cannot be checked ({error})")
                yield {}
                return
            yield {"CACHE_DIR": str(self.folder)}
            try:
                self._write_digests(self.folder, known)
            except (OSError, BundleError) as error:
                _log.info("what OpenVINO compiled now is compiled again next time: %s", error)

    @staticmethod
    def _remove_altered(folder: Path) -> dict[Path, FileIdentity]:
        """Gives the files that are as they were written."""
        known = {}
        for model in folder.glob(_MODELS):
            digest, identity = _digest_of(model), FileIdentity.of(model)
            if digest.is_file() and digest.read_text(encoding="ascii", errors="replace") == verified_sha256(model):
                known[model] = identity
                continue
            _log.warning("%s is damaged, or its digest is missing: it is removed and compiled again", model)
            model.unlink()
            digest.unlink(missing_ok=True)
        return known

    @staticmethod
    def _write_digests(folder: Path, known: Mapping[Path, FileIdentity]) -> None:
        """Of files that are new, and of those that OpenVINO replaced: a file that another version of it, or another
        kind of CPU, has written is compiled anew under the same name."""
        for model in folder.glob(_MODELS):
            digest = _digest_of(model)
            if FileIdentity.of(model) != known.get(model):
                replace_file(digest, verified_sha256(model).encode("ascii"))


def _digest_of(model: Path) -> Path:
    return model.with_name(model.name + _DIGEST)


def _folder(key: str) -> Path | None:
    try:
        folder = cache_folder(f"openvino/{key}")
        if os.access(folder, os.W_OK):
            return folder
        reason = f"{folder} may not be written"
    except OSError as error:
        reason = str(error)
    warn_once(f"OpenVINO compiles anew each time: {reason} (LATENTRT_CACHE chooses another folder)")
    return None
