"""The checks of a bundle's folder against its manifest: every file lies inside, is there and has its size.

Links are followed if they end in the bundle's own folder, as those of a Kubernetes ConfigMap do, or among the files of
the same repository in the cache of the Hugging Face hub: in `models--org--name/blobs`, under a hash as the name.

Hashes are compared later: by `Manifest.verify_hashes`, and when an engine loads.
"""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ...tiling.plain_text import shown
from ..errors import BundleError
from ..system.stand_in import stand_in_at
from .graph import FileEntry

__all__ = ["check_files", "resolved_folder"]

# Names in the cache of the hub: of a repository's folder, and of a file in its folder "blobs".
_REPOSITORY = re.compile(r"(?:models|datasets|spaces)--.+")
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LONGEST_NAME = 200  # Characters of a file's name. File systems refuse names of more than 255 bytes.


def resolved_folder(folder: Path) -> Path:
    """The folder's absolute path without links, "~" expanded."""
    try:
        home = folder.parts[:1] and folder.parts[0].startswith("~") and not folder.exists()
        return (folder.expanduser() if home else folder).resolve()
    except (OSError, RuntimeError):  # no such user, or a link to itself: reading the manifest gives the reason
        return folder.absolute()


def check_files(folder: Path, entries: Iterable[FileEntry], engine_files: Iterable[str]) -> None:
    """Refuse a folder whose files are not those of the manifest.

    Args:
        folder: the bundle.
        entries: the graphs and weights.
        engine_files: the names of the engines. Their sizes and hashes are checked when an engine loads.

    Raises:
        BundleError: a name leads outside the folder, or a file is missing or has another size.
    """
    for name in engine_files:
        _check_inside(folder, name)
    for entry in entries:
        _check_inside(folder, entry.name)
        path = folder / entry.name
        if not path.is_file():
            raise BundleError(f"{folder} is incomplete: {entry.name} is missing; export again")
        size = path.stat().st_size
        if size != entry.size_bytes:
            reason = stand_in_at(path)
            if size and reason is not None:
                raise BundleError(f"{path} is not the file of the manifest: {reason}")
            raise BundleError(
                f"{path} has {size} bytes and the manifest says {entry.size_bytes}: it is truncated or altered; "
                f"export again"
            )


def _check_inside(folder: Path, name: str) -> None:
    if not name.isprintable() or len(name) > _LONGEST_NAME:
        raise BundleError(f"{folder}: the manifest names {shown(name)}, which is no name of a file; refused")
    relative = PurePosixPath(name)
    outside = relative.is_absolute() or ".." in relative.parts or not name or any(sign in name for sign in "\\:\0")
    if not outside:
        try:
            target, own = (folder / name).resolve(), folder.resolve()
            outside = not target.is_relative_to(own) and not _is_blob(target, own)
        except (OSError, RuntimeError):  # a link to itself: RuntimeError before Python 3.13
            outside = True
    if outside:
        raise BundleError(f"{folder}: the manifest names {shown(name)}, which lies outside the bundle; refused")


def _is_blob(target: Path, folder: Path) -> bool:
    """Whether a file is one of the same repository in the hub's cache as the bundle's folder. Both paths have no links:
    the folder is `models--org--name/snapshots/COMMIT` or lies in it."""
    for snapshots in folder.parents:
        if snapshots.name == "snapshots" and _REPOSITORY.fullmatch(snapshots.parent.name):
            return target.parent == snapshots.parent / "blobs" and _BLOB.fullmatch(target.name) is not None
    return False
