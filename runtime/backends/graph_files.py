"""The files of one graph of a bundle: their hashes, and a name for what they hold."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from ..bundle.graph import Graph
from ..bundle.manifest import Manifest

__all__ = ["content_name", "file_hashes", "weights_bytes"]


def content_name(manifest: Manifest, graph: Graph) -> str:
    """A name, 32 hex digits, for what a graph file and its weights hold."""
    files = {file.name: file.sha256 for file in manifest.files}
    return sha256((files[graph.file] + files[graph.weights]).encode()).hexdigest()[:32]


def file_hashes(manifest: Manifest, graph: Graph) -> Mapping[Path, str]:
    """The SHA-256 of the graph file and of its weights, by their paths."""
    names = {graph.file, graph.weights}
    return {manifest.path_of(file.name): file.sha256 for file in manifest.files if file.name in names}


def weights_bytes(manifest: Manifest, graph: Graph) -> int:
    """The size of the weights file of a graph, in bytes."""
    return next(file.size_bytes for file in manifest.files if file.name == graph.weights)
