"""The steps of an exact pass in PyTorch, float64: the whole model's numbers, whatever the tiles."""

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
from architectures import KL, relative_error

from latentrt.export.graphs.components import GraphSpec
from latentrt.export.graphs.strip_graphs import strip_specs
from latentrt.export.models.reference_model import model_from_config
from latentrt.export.models.strip_modules import normalise
from latentrt.runtime.bundle.graph import Graph, TensorInfo
from latentrt.runtime.config.families import config_from_dict
from latentrt.runtime.execution.activations import ActivationStore
from latentrt.runtime.execution.strip_pass import Run, StripPass
from latentrt.runtime.execution.strip_plan import StripSize, plan_steps
from latentrt.runtime.planner.rehearsal import held_bytes

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
    return Graph(spec.component, spec.variant, "", "float32", 18, None, inputs, outputs, strip_stage=spec.strip_stage)


def in_torch(specs: list[GraphSpec]) -> Callable[[Graph], Run]:
    """Steps run by their modules instead of an engine."""
    by_index = {spec.strip_stage: spec for spec in specs}

    def open_step(graph: Graph) -> Run:
        spec = by_index[graph.strip_stage]

        def run(inputs: Mapping[str, Any], out: Any) -> dict[str, Any]:
            arrays = [inputs[tensor.name] for tensor in spec.inputs]
            values = [int(array[0]) if array.dtype == np.int64 else torch.from_numpy(array) for array in arrays]
            with torch.no_grad():
                results = spec.module(*values)
            found = {output.name: result.numpy() for output, result in zip(spec.outputs, results, strict=True)}
            if out is not None:
                out[...] = found["result"]
                found["result"] = out
            return found

        return run

    return open_step


def steps_of(model: Any, component: str, array: np.ndarray, strip: StripSize) -> tuple[list[GraphSpec], Any]:
    specs = list(strip_specs(model.config, model, component))
    graphs = [as_graph(spec) for spec in specs]
    return specs, plan_steps(graphs, array.shape[2:], CELLS, array.shape[0], strip)


def exact(model: Any, component: str, array: np.ndarray, strip: StripSize, memory_bytes: int = 1 << 30) -> np.ndarray:
    specs, steps = steps_of(model, component, array, strip)
    result = np.full((array.shape[0], steps[-1].channels, *steps[-1].size), np.nan)

    def write(tile: np.ndarray, row: int, column: int) -> None:
        target = result[:, :, row : row + tile.shape[2], column : column + tile.shape[3]]
        assert np.isnan(target).all(), "every pixel is written once"
        target[...] = tile

    with closing(ActivationStore(memory_bytes, None, np.dtype(np.float64))) as store:
        StripPass(steps, in_torch(specs), store).run(array, write)
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


@pytest.mark.slow
@pytest.mark.parametrize("component", ["encoder", "decoder"])
@pytest.mark.parametrize("name", NAMES)
def test_steps_over_tiles_are_the_whole_model(name: str, component: str) -> None:
    model = model_of(name)
    array, ratio = input_of(model, component), model.config.spatial_ratio
    wanted = whole(model, component, array)
    for rows, columns, scores in ((ratio, 10**6, 1), (3 * ratio, 2 * ratio, 4096), (10**6, 10**6, 10**9)):
        ours = exact(model, component, array, StripSize(rows, columns, scores))
        assert relative_error(ours, wanted) < 1e-12, (rows, columns)


@pytest.mark.slow
def test_activations_in_files_are_the_same_numbers() -> None:
    model = model_of("sd")
    for component in ("encoder", "decoder"):
        array = input_of(model, component)
        for strip in (StripSize(16, 10**6, 4096), StripSize(8, 16, 4096)):
            in_memory = exact(model, component, array, strip)
            assert np.array_equal(exact(model, component, array, strip, memory_bytes=0), in_memory)
            assert np.array_equal(exact(model, component, array, strip, memory_bytes=200_000), in_memory)


@pytest.mark.parametrize("memory_bytes", [0, 200_000, 1 << 30])
def test_a_rehearsal_holds_what_the_pass_holds(memory_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("sd")
    array = input_of(model, "decoder").astype(np.float32)
    specs, steps = steps_of(model.float(), "decoder", array, StripSize(16, 10**6, 4096))
    held, written = [0], [0]

    class Watched(ActivationStore):
        def keep(self, *arguments: Any) -> None:
            super().keep(*arguments)
            held.append(self.held_bytes)

        def _spilled(self, made: np.ndarray) -> Any:
            written.append(made.nbytes)
            return super()._spilled(made)

    with closing(Watched(memory_bytes, None, np.dtype(np.float32))) as store:
        StripPass(steps, in_torch(specs), store).run(array, lambda *_: None)
    most, in_files = held_bytes(steps, array.shape[0], memory_bytes)
    assert (max(most), in_files) == (max(held), sum(written))
    assert max(most) <= memory_bytes


def test_what_no_step_reads_again_goes_while_the_next_one_works() -> None:
    model = model_of("sd")
    array = input_of(model, "decoder").astype(np.float32)
    _, steps = steps_of(model, "decoder", array, StripSize(8, 10**6, 4096))
    sizes = [4 * array.shape[0] * step.channels * step.size[0] * step.size[1] for step in steps[:-1]]
    most, _ = held_bytes(steps, array.shape[0], 1 << 30)
    widest = sizes.index(max(sizes))
    assert steps[widest].stage.up == 2, "the upsampler hands on twice the channels"
    # Its result with the first half of the block behind it, and a tile or two.
    assert max(most) < 1.2 * (sizes[widest] + sizes[widest + 1])


def test_statistics_of_a_tile_alone_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof that the comparison can fail: what a tiled decoder without global statistics computes."""

    def local(hidden: torch.Tensor, norm: torch.nn.GroupNorm, mean: object, variance: object) -> torch.Tensor:
        return torch.nn.functional.group_norm(hidden, norm.num_groups, norm.weight, norm.bias, norm.eps)

    assert normalise is not local
    monkeypatch.setattr("latentrt.export.models.strip_modules.normalise", local)
    model = model_of("no_attention")
    array = input_of(model, "decoder")
    ours = exact(model, "decoder", array, StripSize(16, 10**6, 4096))
    assert relative_error(ours, whole(model, "decoder", array)) > 1e-2
