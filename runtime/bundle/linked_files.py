"""A graph and its weights for an engine, where the bundle holds links to them.

Engines find the weights in the folder of the graph by the name that the graph gives, and most of them refuse links that
leave this folder. In the cache of the Hugging Face hub the real files have other names and lie in a folder `blobs`. So
the graph is copied into the cache folder, and the weights get a hard link there, or a copy on another file system.
"""

import logging
import os
import shutil
from hashlib import sha256
from pathlib import Path

from ..errors import BundleError
from ..system.cache_folder import cache_folder, replace_file
from ..system.file_identity import verified_sha256
from ..system.file_lock import locked

__all__ = ["engine_path"]

_log = logging.getLogger(__name__)
_FOLDER = "linked"


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
            _place_weights(real_weights, folder / weights.name, weights_sha256)
            _place_graph(real_graph, folder / graph.name, graph_sha256)
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
    temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}.partial")
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


def _compare(copy: Path, source: Path, wanted: str) -> None:
    if verified_sha256(copy, remember=False) != wanted:
        raise BundleError(f"{source} was altered: its SHA-256 is not the manifest's; export again")
