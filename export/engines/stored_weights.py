"""Which tensors of an ONNX graph lie in its weights file: what differs between a model and its fine-tunes."""

from pathlib import Path

from ...runtime.bundle.graph_contents import external_tensors

__all__ = ["stored_weights"]


def stored_weights(graph: Path) -> dict[str, int]:
    """The bytes of each initializer of a bundle's graph whose values lie in the weights file, by its name.

    Raises:
        BundleError: the file is no graph that export writes.
    """
    return {tensor.name: tensor.length_bytes for tensor in external_tensors(graph)}
