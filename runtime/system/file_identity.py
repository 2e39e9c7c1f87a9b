"""The identity of a file, and the SHA-256 that was computed for it: whether a file is still the same."""

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
_MOST_RECORD_BYTES = 1 << 16  # a path has at most 4096 characters
# Two writes within one tick of the file system's clock give a file the same time. Linux ticks every 1 to 10 ms. File
# systems with ticks of one second (or two, such as FAT) give times without a fraction.
_TICK_NS = 50_000_000
_COARSE_TICK_NS = 2_000_000_000
_SECOND_NS = 1_000_000_000
# A file whose attributes changed while it was read is read again: another process gave it a hard link or other rights.
_MOST_READS = 3


@dataclass(frozen=True)
class FileIdentity:
    """What the file system reports about a file. A replaced or changed file has another identity.

    Attributes:
        device: the number of the file system.
        inode: the number of the file on its file system.
        size_bytes: the length of the file.
        modified_ns: when the content was last changed, in nanoseconds since 1970.
        changed_ns: when the content or an attribute was last changed, in nanoseconds since 1970. Programs cannot set
            this time. On Windows it is the time at which the file was made.
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
            OSError: there is no such file.
        """
        found = path.stat()
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def is_of_file(self, other: "FileIdentity") -> bool:
        """Whether both identities are of the same file with the same length. The times may differ."""
        return (self.device, self.inode, self.size_bytes) == (other.device, other.inode, other.size_bytes)

    def is_settled(self, now_ns: int) -> bool:
        """Whether any change after `now_ns` (nanoseconds since 1970) gives the file another identity.

        That is not so within one tick of the file system's clock after the last change.
        """
        last = max(self.modified_ns, self.changed_ns)
        return now_ns - last > (_TICK_NS if last % _SECOND_NS else _COARSE_TICK_NS)


class UnchangedFiles:
    """Files that must not change while an autoencoder that reads them again later is open."""

    def __init__(self, sha256: Mapping[Path, str]) -> None:
        """Note the identities of some files. `sha256`: the hex SHA-256 of each file."""
        self._sha256 = dict(sha256)
        self._identities = {path: _identity_or_none(path) for path in self._sha256}

    def check(self, *paths: Path) -> None:
        """Check that files are unchanged. Without arguments, check all files.

        Raises:
            BundleError: a file was replaced, written or removed.
        """
        for path in paths or self._identities:
            found = _identity_or_none(path)
            if found != self._identities[path] and not self._has_same_content(path, found):
                raise BundleError(
                    f"{path} changed after the bundle was opened: close the autoencoder, and open the bundle again"
                )

    def _has_same_content(self, path: Path, found: FileIdentity | None) -> bool:
        """Whether a file with a new identity has its old content.

        chmod, chown, touch and new hard links (which backups make) change the time of a file and not its content.
        """
        known = self._identities[path]
        if known is None or found is None or not known.is_of_file(found):
            return False
        started_ns = time.time_ns()
        try:
            same = verified_sha256(path) == self._sha256[path] and _identity_or_none(path) == found
        except (BundleError, OSError):  # the file is being written, or was removed
            return False
        if same and found.is_settled(started_ns):
            self._identities[path] = found
        return same


def verified_sha256(path: Path, *, remember: bool = True) -> str:
    """The hex SHA-256 of a file.

    The hash comes from the cache folder if this process or an earlier one computed it for the same file.

    Args:
        path: the file.
        remember: whether to use the cache folder. If False, the file is always read.

    Raises:
        BundleError: the file changed while it was read.
        OSError: the file cannot be read.
    """
    identity = FileIdentity.of(path)
    if remember and (known := remembered_sha256(path, identity)) is not None:
        return known
    for _ in range(_MOST_READS):
        started_ns = time.time_ns()
        found = sha256_of(path)
        before, identity = identity, FileIdentity.of(path)
        if identity == before:
            if identity.is_settled(started_ns):
                _remember(path, identity, found)
            return found
        if not identity.is_of_file(before) or identity.modified_ns != before.modified_ns:
            break
    raise BundleError(f"{path} changed while it was read: wait until it is written, and open the bundle again")


def remembered_sha256(path: Path, identity: FileIdentity) -> str | None:
    """The hex SHA-256 that the cache folder holds for a file with this identity, or None."""
    try:
        values = read_json(_record(path), _MOST_RECORD_BYTES)
        known = values["sha256"] if tuple(values["identity"]) == astuple(identity) else None
        if known is not None and values.get("check") != _check_of(identity, known):
            raise ValueError("it is damaged, or an earlier version wrote it")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _log.info("%s is read again: its hash in the cache folder cannot be used (%s)", path, error)
        return None
    return known if isinstance(known, str) else None


def _identity_or_none(path: Path) -> FileIdentity | None:
    try:
        return FileIdentity.of(path)
    except OSError:
        return None


def _remember(path: Path, identity: FileIdentity, sha256: str) -> None:
    check = _check_of(identity, sha256)
    content = json.dumps({"path": str(path), "identity": astuple(identity), "sha256": sha256, "check": check})
    try:
        replace_file(_record(path), content.encode("ascii"))
    except OSError as error:
        _log.info("%s is read again at the next start: %s", path, error)


def _check_of(identity: FileIdentity, sha256: object) -> str:
    """The hash of a record, which shows that the record is not damaged."""
    return hashlib.sha256(f"{astuple(identity)} {sha256}".encode("utf-8", "surrogatepass")).hexdigest()


def _record(path: Path) -> Path:
    """The file in the cache folder that holds the hash of the file at `path`."""
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]
    return cache_folder(_FOLDER) / f"{name}.json"
