"""OpenVINO's compiled models in the cache folder: a damaged model is compiled again, never run.

OpenVINO checks only the head of a file in its cache: of 60 altered files 11 gave wrong pixels or NaN (2026.4). So the
SHA-256 of each file is kept next to it.
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
from ...system.outputs.folder_filling import remove_tree

__all__ = ["CompiledModelCache", "kept_digests"]

_log = logging.getLogger(__name__)
_MODELS = "*.blob"
_DIGEST = ".sha256"


class CompiledModelCache:
    """The folder of one graph's compiled models. `key` names what the graph and its weights hold. (OpenVINO itself
    knows a model by the path, time and size of the graph, and ignores weights in another file.)

    Attributes:
        folder: for OpenVINO's CACHE_DIR. None: nothing can be kept, and models are compiled each time.
    """

    def __init__(self, key: str) -> None:
        self.folder = _folder(key)

    @contextmanager
    def checked(self) -> Iterator[dict[str, str]]:
        """OpenVINO's settings for compiling within this context. Altered files are removed first, and files that are
        written meanwhile get their digests. Other processes that ask for the folder wait."""
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
                _log.info("the model that OpenVINO compiled now is compiled again next time: %s", error)

    @staticmethod
    def _remove_altered(folder: Path) -> dict[Path, FileIdentity]:
        """Remove altered files, and give the others."""
        known = {}
        for model in folder.glob(_MODELS):
            digest, identity = _digest_of(model), FileIdentity.of(model)
            if _is_whole(model, digest):
                known[model] = identity
                continue
            _log.warning("%s is damaged, or its digest is missing: it is removed and compiled again", model)
            remove_tree(model)
            remove_tree(digest)
        return known

    @staticmethod
    def _write_digests(folder: Path, known: Mapping[Path, FileIdentity]) -> None:
        """Write the digests of new files, and of files that OpenVINO replaced. (It compiles a file of another version,
        or of another kind of CPU, anew under the same name.)"""
        for model in folder.glob(_MODELS):
            digest = _digest_of(model)
            if FileIdentity.of(model) != known.get(model):
                replace_file(digest, verified_sha256(model).encode("ascii"))


def kept_digests(key: str) -> dict[str, str]:
    """The SHA-256 of each compiled model that the cache folder keeps under `key`, by file name, as it was written next
    to the model."""
    try:
        digests = sorted(cache_folder(f"openvino/{key}").glob(f"{_MODELS}{_DIGEST}"))
        return {path.name: path.read_text(encoding="ascii", errors="replace") for path in digests}
    except OSError:
        return {}


def _is_whole(model: Path, digest: Path) -> bool:
    try:
        return digest.read_text(encoding="ascii", errors="replace") == verified_sha256(model)
    except OSError:  # the digest is missing, one of them may not be read, or one is a folder
        return False


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
