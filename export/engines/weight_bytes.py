"""The weights of a graph that may be exchanged in its engine: what differs between a model and its fine-tunes."""

from collections.abc import Mapping

from ...runtime.bundle.graph import Graph
from ...runtime.bundle.manifest import Manifest
from ...runtime.errors import BundleError, MissingExtra
from ...runtime.extras import require

__all__ = ["weight_bytes"]


def weight_bytes(manifest: Manifest, graph: Graph) -> Mapping[str, int]:
    """The bytes of each initializer of a graph whose values lie in the weights file, by the initializer's name.

    The manifest holds them. For a bundle that was exported before the manifest held them, the ONNX library reads them
    from the graph, whose references `Manifest.check_graph` has checked.

    Raises:
        BundleError: the manifest does not hold them, and onnx is not installed.
    """
    if graph.file in manifest.weight_bytes:
        return manifest.weight_bytes[graph.file]
    try:
        onnx = require("onnx", extra="export")
    except MissingExtra as error:
        raise BundleError(
            f"{manifest.folder} was exported by a version that did not record the weights of {graph.file}: export it "
            f"again, or install onnx to read them from the graph"
        ) from error
    manifest.check_graph(graph, graph.file)
    model = onnx.load(str(manifest.path_of(graph.file)), load_external_data=False)
    return {
        initializer.name: int(entry.value)
        for initializer in model.graph.initializer
        for entry in initializer.external_data
        if entry.key == "length"
    }
