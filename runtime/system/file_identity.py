"""Which file it is that has been read: its identity, and the SHA-256 that was found for it."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Self

from ..errors import BundleError
from .cache_folder import cache_folder, replace_file
from .hashing import sha256_of
from .json_file import read_json

__all__ = ["FileIdentity", "UnchangedFiles", "remembered_sha256", "verified_sha256"]

_log = logging.getLogger(__name__)
_FOLDER = "verified"
_MOST_BYTES = 1 << 16  # of a record; a path has at most 4096 characters
# A file that is written twice within one tick of the file system's clock has one time. Linux ticks every 1 to 10 ms;
# file systems that keep whole seconds (or pairs of them, as FAT) give times without a fraction.
_TICK_NS = 50_000_000
_COARSE_TICK_NS = 2_000_000_000
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class FileIdentity:
    """What the file system says of a file. Another file in its place, or other content, has another identity.

    Attributes:
        device: the number of the file system.
        inode: the file's number there.
        size_bytes: the length.
        modified_ns: when the content was last changed, in nanoseconds since 1970.
        changed_ns: when anything was last changed, in nanoseconds since 1970; a copy cannot set it (on Windows: when
            the file was made).
    """

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """The identity of the file that `path` names now.

        Raises:
            OSError: there is none.
        """
        found = path.stat()
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def is_of_file(self, other: "FileIdentity") -> bool:
        """Whether the other identity is of the same file with the same length; times may differ."""
        return (self.device, self.inode, self.size_bytes) == (other.device, other.inode, other.size_bytes)

    def is_settled(self, now_ns: int) -> bool:
        """Whether a change after `now_ns` would give the file another identity."""
        last = max(self.modified_ns, self.changed_ns)
        return now_ns - last > (_TICK_NS if last % _SECOND_NS else _COARSE_TICK_NS)


class UnchangedFiles:
    """Files that have to stay what they are while something is open that reads them again later. `sha256`: the hex
    SHA-256 that each must have where it is the same file with other times."""

    def __init__(self, sha256: Mapping[Path, str]) -> None:
        self._sha256 = dict(sha256)
        self._identities = {path: _identity_or_none(path) for path in self._sha256}

    def check(self, *paths: Path) -> None:
        """Refuse these files (without any: all of them) unless they are the ones of the beginning.

        Raises:
            BundleError: a file was replaced, written or removed since.
        """
        for path in paths or self._identities:
            found = _identity_or_none(path)
            if found != self._identities[path] and not self._is_untouched(path, found):
                raise BundleError(
                    f"{path} changed after the bundle was opened: close the autoencoder, and open the bundle again"
                )

    def _is_untouched(self, path: Path, found: FileIdentity | None) -> bool:
        """Whether the file has its content still: chmod, chown, touch and another hard link, as backups make them, give
        the same file another time of change."""
        known = self._identities[path]
        if known is None or found is None or not known.is_of_file(found):
            return False
        started_ns = time.time_ns()
        try:
            untouched = verified_sha256(path) == self._sha256[path] and _identity_or_none(path) == found
        except (BundleError, OSError):  # it is being written, or gone
            return False
        if untouched and found.is_settled(started_ns):
            self._identities[path] = found
        return untouched


def verified_sha256(path: Path, *, remember: bool = True) -> str:
    """The hex SHA-256 of a file. Where the same file was read before, in this process or an earlier one, its hash
    comes from the cache folder, and nothing is read. With `remember=False` the file is always read.

    Raises:
        BundleError: the file changed while it was read. OSError: it cannot be read.
    """
    identity = FileIdentity.of(path)
    if remember and (known := remembered_sha256(path, identity)) is not None:
        return known
    started_ns = time.time_ns()
    found = sha256_of(path)
    if FileIdentity.of(path) != identity:
        raise BundleError(f"{path} changed while it was read: wait until it is written, and open the bundle again")
    if identity.is_settled(started_ns):
        _remember(path, identity, found)
    return found


def remembered_sha256(path: Path, identity: FileIdentity) -> str | None:
    """The hash that was found for a file of that identity, or None."""
    try:
        values = read_json(_record(path), _MOST_BYTES)
        known = values["sha256"] if tuple(values["identity"]) == astuple(identity) else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.info("%s is read again: what is known of it cannot be used (%s)", path, error)
        return None
    return known if isinstance(known, str) else None


def _identity_or_none(path: Path) -> FileIdentity | None:
    try:
        return FileIdentity.of(path)
    except OSError:
        return None


def _remember(path: Path, identity: FileIdentity, sha256: str) -> None:
    content = json.dumps({"path": str(path), "identity": astuple(identity), "sha256": sha256})
    try:
        replace_file(_record(path), content.encode("utf-8"))
    except OSError as error:
        _log.info("%s is read again at the next start: %s", path, error)


def _record(path: Path) -> Path:
    """The file in the cache folder that says what is known of a path."""
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]
    return cache_folder(_FOLDER) / f"{name}.json"
