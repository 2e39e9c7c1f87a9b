"""Graphs in their form for CPUs give what they give in the plain one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from architectures import relative_error

from latentrt.export.bundle import ExportSettings, export_bundle
from latentrt.export.lowering.planar import is_planar
from latentrt.runtime.bundle.graph import Graph
from latentrt.runtime.bundle.manifest import Manifest

NAMES = ["sd", "flux", "odd_groups", "ltx20", "ltx23", "causal_decoder", "noise_timestep", "conv_down"]
SIZES = {"batch": 2, "height": 3, "width": 4, "latent_height": 3, "latent_width": 4, "rows": 5, "columns": 6}


def run(path: Path, inputs: dict[str, Any]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def kernels_of(path: Path) -> list[list[int]]:
    """The sizes of all convolutions."""
    nodes = [node for node in onnx.load(path, load_external_data=False).graph.node if node.op_type == "Conv"]
    return [list(entry.ints) for node in nodes for entry in node.attribute if entry.name == "kernel_shape"]


def inputs_of(graph: Graph, flags: dict[str, int], frames: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    inputs: dict[str, Any] = {}
    for tensor in graph.inputs:
        if tensor.dtype == "int64":
            inputs[tensor.name] = np.array([flags.get(tensor.name, 1)], np.int64)
        else:
            shape = tensor.shape_for(SIZES | {"frames": frames})
            inputs[tensor.name] = rng.standard_normal(shape, np.float32)
    return inputs


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_both_forms_give_the_same_numbers(name: str, bundle_of: Callable[[str], Path]) -> None:
    manifest = Manifest.open(bundle_of(name))
    graphs = [graph for graph in manifest.every_graph if graph.cpu_file is not None]
    assert graphs
    for graph in graphs:
        assert graph.cpu_file is not None
        paths = manifest.path_of(graph.file), manifest.path_of(graph.cpu_file)
        cases: list[tuple[dict[str, int], int]] = [({}, 1)]
        if graph.stage is not None:
            least, multiple = graph.stage.lead, graph.stage.multiple
            begin = int(multiple > 1)
            cases = [({"first": 1, "last": 1}, 1), ({"first": 1, "last": 0}, max(least, begin + multiple))]
            cases.append(({"first": 0, "last": 0}, 2 * multiple))
        elif graph.strip_stage is not None:
            cases.append(({"top": 0, "left": 0, "bottom": 1, "right": 0}, 1))
        for flags, frames in cases:
            inputs = inputs_of(graph, flags, frames)
            for plain, other in zip(*(run(path, inputs) for path in paths), strict=True):
                assert plain.shape == other.shape, (graph.file, flags)
                assert plain.size
                assert relative_error(other, plain) <= 2e-5, (graph.file, flags)


def test_streams_have_two_dimensional_convolutions(bundle_of: Callable[[str], Path]) -> None:
    manifest = Manifest.open(bundle_of("ltx20"))
    for graph in manifest.streams:
        assert graph.cpu_file is not None
        plain, other = (kernels_of(manifest.path_of(file)) for file in (graph.file, graph.cpu_file))
        assert len(plain) == len(other)
        assert plain.count([3, 3, 3]) == other.count([3, 3]) > 0
        assert [3, 3, 3] not in other
    wide, narrow = (torch.nn.Conv3d(channels, 8, 3, padding=(0, 1, 1)) for channels in (513, 512))
    assert is_planar(narrow)
    assert not is_planar(wide), "their weights stay mapped from the file"
    assert not is_planar(torch.nn.Conv3d(8, 8, 3, stride=(2, 1, 1), padding=(0, 1, 1)))


def test_low_precisions_have_no_form_for_cpus(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    manifest = export_bundle(checkpoint_of("ltx20"), tmp_path / "bundle", ExportSettings(dtypes=("float16",)))
    assert manifest.streams
    assert all(graph.cpu_file is None for graph in manifest.every_graph)
