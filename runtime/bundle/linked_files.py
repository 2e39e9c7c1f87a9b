"""A graph and its weights for an engine, where the bundle holds links to them.

Engines find the weights in the folder of the graph by the name that the graph gives, and most of them refuse links that
leave this folder. In the cache of the Hugging Face hub the real files have other names and lie in a folder `blobs`. So
the graph is copied into the cache folder, and the weights get a hard link there, or a copy on another file system.

A hard link keeps the weights on the disk after the bundle is deleted. So a folder that no process has used for a month
is removed when another one is used.
"""

import contextlib
import logging
import os
import shutil
import time
from hashlib import sha256
from pathlib import Path

from ..errors import BundleError
from ..system.cache_folder import cache_folder, replace_file
from ..system.file_identity import verified_sha256
from ..system.file_lock import locked
from ..system.outputs.folder_filling import remove_tree
from ..system.process_identity import ProcessIdentity, host_mark

__all__ = ["engine_path"]

_log = logging.getLogger(__name__)
_FOLDER = "linked"
_OLD_SECONDS = 30 * 86400  # since a folder was last used, by the time of the folder
_USER = ".user"  # the ending of the file that names a process which has used the folder; an engine may read it later
_PARTIAL = ".partial"


def engine_path(graph: Path, weights: Path, graph_sha256: str, weights_sha256: str) -> Path:
    """The path of a graph that an engine can open: its weights lie next to it under their own name, and neither is a
    link.

    Args:
        graph, weights: the files of the bundle, links or not.
        graph_sha256, weights_sha256: the hashes of the manifest.

    Returns:
        `graph` itself, or the file that it links to, or a copy in the cache folder. Without a cache folder, `graph`:
        some engines follow links.

    Raises:
        BundleError: the files are not those of the manifest.
    """
    real_graph, real_weights = graph.resolve(), weights.resolve()
    if (real_graph, real_weights) == (graph, weights):
        return graph
    if real_graph.name == graph.name and real_weights == real_graph.with_name(weights.name):
        return real_graph
    try:
        key = sha256(f"{graph_sha256} {weights_sha256}".encode()).hexdigest()[:32]
        folder = cache_folder(f"{_FOLDER}/{key}")
        with locked(folder):
            _note_use(folder)
            _place_weights(real_weights, folder / weights.name, weights_sha256)
            _place_graph(real_graph, folder / graph.name, graph_sha256)
        _remove_old(folder)
    except OSError as error:
        _log.warning(
            "%s is a link, and the cache folder takes no copy of it (%s): an engine may refuse it", graph, error
        )
        return graph
    return folder / graph.name


def _place_weights(source: Path, target: Path, wanted: str) -> None:
    of_same_size = target.is_file() and target.stat().st_size == source.stat().st_size
    if of_same_size and (target.samefile(source) or verified_sha256(target) == wanted):
        return
    temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}{_PARTIAL}")
    try:
        try:
            os.link(source, temporary)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(source, temporary)
            _compare(temporary, source, wanted)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _place_graph(source: Path, target: Path, wanted: str) -> None:
    content = source.read_bytes()
    if sha256(content).hexdigest() != wanted:
        raise BundleError(f"{source} was altered: its SHA-256 is not the manifest's; export again")
    # A graph that is there already stays: OpenVINO's cache knows a model by the time of this file.
    if not target.is_file() or target.read_bytes() != content:
        replace_file(target, content)


def _note_use(folder: Path) -> None:
    """Note that this process uses a folder whose lock it holds, and remove what killed processes left in it."""
    name = f".{host_mark()}-{os.getpid()}{_USER}"
    for entry in list(folder.iterdir()):
        is_left = entry.suffix == _PARTIAL or (entry.suffix == _USER and entry.name != name and _has_ended(entry))
        if is_left:
            with contextlib.suppress(OSError):
                entry.unlink()
    (folder / name).write_text(ProcessIdentity.own().to_text(), encoding="ascii")
    os.utime(folder)


def _remove_old(used: Path) -> None:
    """Remove the folders next to `used` that no process has used for long and that no living process uses."""
    with contextlib.suppress(OSError):
        for folder in list(used.parent.iterdir()):
            if folder != used and folder.is_dir() and _is_old(folder):
                with locked(folder):
                    if _is_old(folder):  # still: a process may have used it while this one waited for the lock
                        remove_tree(folder)


def _is_old(folder: Path) -> bool:
    if time.time() - folder.stat().st_mtime < _OLD_SECONDS:
        return False
    return all(_has_ended(user) for user in folder.glob(f"*{_USER}"))


def _has_ended(user: Path) -> bool:
    """Whether a process that used a folder has ended. A process of another machine or container, which this process
    cannot see, counts as living for a month."""
    try:
        process = ProcessIdentity.from_text(user.read_text(encoding="ascii", errors="replace"))
        is_visible = process is not None and process.namespace == ProcessIdentity.own().namespace
        if process is not None and is_visible and user.name.startswith(f".{host_mark()}-"):
            return process.has_ended()
        return time.time() - user.stat().st_mtime > _OLD_SECONDS
    except OSError:
        return False


def _compare(copy: Path, source: Path, wanted: str) -> None:
    if verified_sha256(copy, remember=False) != wanted:
        raise BundleError(f"{source} was altered: its SHA-256 is not the manifest's; export again")
