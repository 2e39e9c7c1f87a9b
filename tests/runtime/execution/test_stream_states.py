"""What a stream remembers lies in the same memory from step to step, on backends that run operators in order."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from latentrt.runtime import open_bundle
from latentrt.runtime.backends.choose import choose_backend
from latentrt.runtime.backends.names import BackendName
from latentrt.runtime.backends.onnxruntime.component import OnnxRuntimeComponent
from latentrt.runtime.backends.openvino.component import OpenVinoComponent
from latentrt.runtime.backends.wrapped import WrappedBackend
from latentrt.runtime.bundle.graph import Graph
from latentrt.runtime.bundle.manifest import Manifest


def _reusing(reuses: bool) -> Callable[[Graph, Any], Any]:
    """Let components reuse states, or not."""

    def changed(graph: Graph, component: Any) -> Any:
        component.capabilities = replace(component.capabilities, reuses_states=reuses)
        return component

    return changed


COMPONENTS: dict[str, Any] = {"onnxruntime": OnnxRuntimeComponent, "openvino": OpenVinoComponent}


@pytest.mark.parametrize("name", ["ltx20", "ltx23", "causal_decoder", "noise_timestep", "conv_down"])
def test_one_operator_reads_a_state_and_the_next_one_is_cut_out_of_its_result(
    name: str, bundle_of: Callable[[str], Path]
) -> None:
    manifest = Manifest.open(bundle_of(name))
    assert manifest.streams
    for graph in manifest.streams:
        for file in filter(None, (graph.file, graph.cpu_file)):
            nodes = onnx.load(manifest.path_of(file), load_external_data=False).graph.node
            makers = {output: node for node in nodes for output in node.output}

            def behind(tensor: str, makers: dict[str, Any] = makers) -> set[str]:
                """The nodes that have run when it is made."""
                found, left = set(), [tensor]
                while left:
                    node = makers.get(left.pop())
                    if node is not None and node.name not in found:
                        found.add(node.name)
                        left += node.input
                return found

            for tensor in graph.inputs:
                if tensor.name.startswith("state_"):
                    (reader,) = (node for node in nodes if tensor.name in node.input)
                    assert reader.name in behind(f"next_{tensor.name}"), (file, tensor.name)


@pytest.mark.slow
@pytest.mark.parametrize("backend", COMPONENTS)
def test_states_stay_where_they_are_and_the_numbers_are_the_same(
    backend: BackendName, bundle_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    places: dict[str, set[int]] = {}
    inner = COMPONENTS[backend].step

    def step(self: Any, inputs: Any, **options: Any) -> Any:
        results = inner(self, inputs, **options)
        for key, state in inputs.items():
            if key.startswith("state_"):
                places.setdefault(f"{id(self)} {key}", set()).add(state.ctypes.data)
                if f"next_{key}" in results and options.get("in_place"):
                    assert results[f"next_{key}"] is state
        return results

    monkeypatch.setattr(COMPONENTS[backend], "step", step)
    z = np.random.default_rng(0).standard_normal((2, 16, 6, 3, 4), np.float32)
    results: dict[bool, Any] = {}
    inner_backend = choose_backend(Manifest.open(bundle_of("ltx20")), backend=backend, threads=1)
    for reuses in (True, False):
        places.clear()
        with open_bundle(bundle_of("ltx20"), backend=WrappedBackend(inner_backend, _reusing(reuses))) as opened:
            vae: Any = opened
            results[reuses] = np.concatenate(list(vae.decode_stream(z, 4)), axis=2)
        assert (max(map(len, places.values())) == 1) == reuses
    assert np.array_equal(results[True], results[False])
