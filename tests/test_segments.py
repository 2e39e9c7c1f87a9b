"""The steps of an exact pass in PyTorch, float64: the whole model's numbers, whatever the tiles."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from architectures import KL, relative_error

from latentrt.export.components import GraphSpec
from latentrt.export.models import model_from_config
from latentrt.export.models.segments import normalise
from latentrt.export.segments import segment_specs
from latentrt.runtime.activations import ActivationStore
from latentrt.runtime.config import config_from_dict
from latentrt.runtime.exact_pass import ExactPass, Run
from latentrt.runtime.exact_plan import StripSize, plan_steps
from latentrt.runtime.manifest import Graph, TensorInfo

NAMES = ["sd", "flux", "no_attention", "odd_groups", "mish", "relu_one_block", "flux2_small_decoder"]
CELLS = (7, 5)


def model_of(name: str) -> Any:
    torch.manual_seed(0)
    model = model_from_config(config_from_dict(KL[name])).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms and biases start as ones and zeros, which would hide mistakes
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def as_graph(spec: GraphSpec) -> Graph:
    inputs, outputs = (
        tuple(TensorInfo(one.name, one.dtype, one.shape) for one in side) for side in (spec.inputs, spec.outputs)
    )
    return Graph(spec.component, spec.variant, "", "float32", 18, None, inputs, outputs, segment=spec.segment)


def in_torch(specs: list[GraphSpec]) -> Callable[[Graph], Run]:
    """Steps run by their modules instead of an engine."""
    by_index = {spec.segment: spec for spec in specs}

    def open_step(graph: Graph) -> Run:
        spec = by_index[graph.segment]

        def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
            arrays = [inputs[tensor.name] for tensor in spec.inputs]
            values = [int(array[0]) if array.dtype == np.int64 else torch.from_numpy(array) for array in arrays]
            with torch.no_grad():
                results = spec.module(*values)
            return {output.name: result.numpy() for output, result in zip(spec.outputs, results, strict=True)}

        return run

    return open_step


def exact(model: Any, component: str, array: np.ndarray, strip: StripSize, memory_bytes: int = 1 << 30) -> np.ndarray:
    config = model.config
    specs = list(segment_specs(config, model, component))
    graphs = [as_graph(spec) for spec in specs]
    steps = plan_steps(graphs, array.shape[2:], CELLS, array.shape[0], strip)
    result = np.full((array.shape[0], steps[-1].channels, *steps[-1].size), np.nan)

    def write(rows: slice, columns: slice, tile: np.ndarray) -> None:
        assert np.isnan(result[:, :, rows, columns]).all(), "every pixel is written once"
        result[:, :, rows, columns] = tile

    with ActivationStore(memory_bytes, None, np.dtype(np.float64)) as store:
        ExactPass(steps, in_torch(specs), store).run(array, write)
    return result


def whole(model: Any, component: str, array: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        run = model.encode if component == "encoder" else model.decode
        return np.asarray(run(torch.from_numpy(array)).numpy())


def input_of(model: Any, component: str) -> np.ndarray:
    config, ratio = model.config, model.config.spatial_ratio
    shape = (2, config.latent_channels, *CELLS)
    if component == "encoder":
        shape = (2, config.in_channels, CELLS[0] * ratio, CELLS[1] * ratio)
    return np.random.default_rng(1).standard_normal(shape)


@pytest.mark.parametrize("component", ["encoder", "decoder"])
@pytest.mark.parametrize("name", NAMES)
def test_steps_over_tiles_are_the_whole_model(name: str, component: str) -> None:
    model = model_of(name)
    array, ratio = input_of(model, component), model.config.spatial_ratio
    wanted = whole(model, component, array)
    for rows, columns, scores in ((ratio, 10**6, 1), (3 * ratio, 2 * ratio, 4096), (10**6, 10**6, 10**9)):
        ours = exact(model, component, array, StripSize(rows, columns, scores))
        assert relative_error(ours, wanted) < 1e-12, (rows, columns)


def test_activations_in_files_are_the_same_numbers() -> None:
    model = model_of("sd")
    for component in ("encoder", "decoder"):
        array = input_of(model, component)
        for strip in (StripSize(16, 10**6, 4096), StripSize(8, 16, 4096)):
            in_memory = exact(model, component, array, strip)
            assert np.array_equal(exact(model, component, array, strip, memory_bytes=0), in_memory)
            assert np.array_equal(exact(model, component, array, strip, memory_bytes=200_000), in_memory)


def test_statistics_of_a_tile_alone_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof that the comparison can fail: what a tiled decoder without global statistics computes."""

    def local(hidden: torch.Tensor, norm: torch.nn.GroupNorm, mean: object, variance: object) -> torch.Tensor:
        return torch.nn.functional.group_norm(hidden, norm.num_groups, norm.weight, norm.bias, norm.eps)

    assert normalise is not local
    monkeypatch.setattr("latentrt.export.models.segments.normalise", local)
    model = model_of("no_attention")
    array = input_of(model, "decoder")
    ours = exact(model, "decoder", array, StripSize(16, 10**6, 4096))
    assert relative_error(ours, whole(model, "decoder", array)) > 1e-2
