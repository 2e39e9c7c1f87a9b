"""What the exporter derives of each graph: live tensors and operations at any size, from formulas."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from architectures import ALL

from latentrt.export.graphs.components import component_of, graph_specs, meta_model
from latentrt.export.graphs.graph_costs import graph_cost
from latentrt.export.graphs.polynomials import NotPolynomial, axis_polynomial, constant, formula, greatest
from latentrt.export.graphs.tensor_shapes import GraphShapes, UnknownShape
from latentrt.export.lowering.graph import GraphBuilder
from latentrt.export.lowering.trace import lower
from latentrt.export.precision.range_probe import held_bytes
from latentrt.export.weights.safetensors_file import planned_safetensors
from latentrt.runtime.arrays.grid import Grid
from latentrt.runtime.bundle import ports
from latentrt.runtime.bundle.graph_cost import GraphCost, GraphSize
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.config.families import config_from_dict

BundleOf = Callable[[str], Path]
SIZES = (GraphSize(1, 2, 4, 6), GraphSize(1, 5, 17, 9), GraphSize(3, 3, 40, 21))


def test_every_float32_graph_of_whole_passes_and_streams_has_a_cost(bundle_of: BundleOf) -> None:
    for name in ("sd", "ltx20"):
        manifest = Manifest.open(bundle_of(name))
        graphs = (*manifest.graphs, *manifest.streams)
        files = {file for graph in graphs for file in (graph.file, graph.cpu_file) if file is not None}
        assert set(manifest.costs) == files
        values = manifest.to_json()
        assert Manifest._from_json(values, manifest.folder).costs == manifest.costs  # noqa: SLF001 # as a file holds it


@pytest.mark.parametrize("name", ["sd", "ltx20"])
def test_the_formulas_are_the_live_tensors_of_the_graph_at_any_size(name: str, bundle_of: BundleOf) -> None:
    """At sizes from which no formula was derived. `held_bytes` counts in another way: it frees inputs, and counts views
    twice."""
    manifest = Manifest.open(bundle_of(name))
    grid = Grid.of(manifest.config)
    for graph in manifest.graphs:
        model = onnx.load(str(manifest.path_of(graph.file)), load_external_data=False)
        shapes = GraphShapes(model)
        for size in SIZES:
            cells = (size.frames, size.height, size.width) if grid.video else (size.height, size.width)
            axes = ports.whole_axes(size.batch, grid.sample_size(cells), cells)
            live = manifest.costs[graph.file].live_values(size)
            assert _live(model, shapes.at(axes, {})) == pytest.approx(live, rel=1e-9)
            if not grid.video:
                held = held_bytes(model, {tensor.name: tensor.shape_for(axes) for tensor in graph.inputs})
                assert held / 1.05 < 4 * live < 1.3 * held


def test_the_steps_of_a_stream_never_hold_more_than_their_formula(bundle_of: BundleOf) -> None:
    """At steps of every kind, and at frames from which no formula was derived."""
    manifest = Manifest.open(bundle_of("ltx20"))
    for graph in manifest.streams:
        assert graph.stage is not None
        model = onnx.load(str(manifest.path_of(graph.file)), load_external_data=False)
        shapes = GraphShapes(model)
        for first in (0, 1):
            for last in (0, 1):
                begin = int(first and graph.stage.multiple > 1)
                frames = begin + graph.stage.multiple * (graph.stage.lead + 7)
                size = GraphSize(2, frames, 9, 13)
                axes = ports.stream_axes(2, (9, 13), frames)
                found = shapes.at(axes, {"first": first, "last": last})
                live = manifest.costs[graph.file].live_values(size)
                assert _live(model, found) <= live * (1 + 1e-9)
                if (first, last) == (0, 0):
                    assert _live(model, found) > live / 1.3


def _live(model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]) -> float:
    """The most values at once, counted at one size; views count as tensors of no size."""
    views = ("Identity", "Reshape", "Squeeze", "Unsqueeze")
    root: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type in views:
            root[node.output[0]] = root.get(node.input[0], node.input[0])
    weights = {one.name for one in model.graph.initializer}
    sizes = {name: _product(shape) for name, shape in shapes.items() if name not in weights and name not in root}
    last = {root.get(name, name): index for index, node in enumerate(model.graph.node) for name in node.input}
    ends = {root.get(value.name, value.name) for value in (*model.graph.input, *model.graph.output)}
    alive = {value.name for value in model.graph.input}
    most = 0
    for index, node in enumerate(model.graph.node):
        alive |= set(node.output)
        most = max(most, sum(sizes.get(name, 0) for name in alive))
        alive = {name for name in alive if last.get(name, -1) > index or name in ends}
    return most


def _product(shape: tuple[int, ...]) -> int:
    made = 1
    for length in shape:
        made *= length
    return made


def test_operations_are_those_of_convolutions_and_of_attention(bundle_of: BundleOf) -> None:
    cost = Manifest.open(bundle_of("sd")).costs["decoder.onnx"]
    small, large = (cost.multiplications.at(GraphSize(1, 1, side, side)) for side in (8, 16))
    assert large > 4 * small, "attention is quadratic in the positions"
    plain = Manifest.open(bundle_of("no_attention")).costs["decoder.onnx"]
    small, large = (plain.multiplications.at(GraphSize(1, 1, side, side)) for side in (8, 16))
    assert large == 4 * small
    assert plain.live == plain.fused
    scores = GraphSize(1, 1, 128, 128)
    assert cost.live_values(scores) > 2 * 128**4 > cost.live_values(scores, fused=True)


def test_a_graph_whose_sizes_are_not_known_has_no_cost() -> None:
    config = config_from_dict(ALL["sd"])
    model = meta_model(config, attention="sliced")
    shapes = {name: tuple(one.shape) for name, one in model.state_dict().items() if component_of(name) == "decoder"}
    (spec,) = graph_specs(config, model, "decoder")
    builder = GraphBuilder(opset=18, weights=planned_safetensors("weights", shapes)[1])
    lower(spec.module, spec.inputs, spec.outputs, builder, prefix="model.")
    sliced = builder.finish("decoder", spec.inputs, spec.outputs)
    assert any(node.op_type == "Scan" for node in sliced.graph.node)
    assert graph_cost(config, spec, sliced) is None
    with pytest.raises(UnknownShape, match="has no length"):
        GraphShapes(sliced).at({"batch": 1}, {})


def test_an_axis_that_is_no_product_of_linear_factors_is_refused() -> None:
    sizes = [GraphSize(*size) for size in ((1, 1, 5, 6), (2, 1, 5, 6), (1, 2, 5, 6), (1, 1, 7, 6), (1, 1, 5, 9))]
    sizes.append(GraphSize(2, 3, 8, 7))
    area = axis_polynomial([size.height * size.width for size in sizes], sizes)
    assert formula(area).text == "1 h w"
    assert formula(axis_polynomial([8 * size.frames - 7 for size in sizes], sizes)).text == "8 t + -7"
    with pytest.raises(NotPolynomial):
        axis_polynomial([size.height + size.width for size in sizes], sizes)
    with pytest.raises(NotPolynomial):
        axis_polynomial([size.height // 2 for size in sizes], sizes)
    with pytest.raises(NotPolynomial):
        axis_polynomial([0, 0, 0, 1, 0, 1], sizes)


def test_only_what_is_greatest_somewhere_is_kept() -> None:
    sizes = [GraphSize(*size) for size in ((1, 1, 5, 6), (2, 1, 5, 6), (1, 2, 5, 6), (1, 1, 7, 6), (1, 1, 5, 9))]
    height, width = (axis_polynomial([getattr(size, side) for size in sizes], sizes) for side in ("height", "width"))
    kept = greatest([height, width, constant(1), 2 * height, height + width])
    assert {formula(one).text for one in kept} == {"2 h", "1 h + 1 w"}


def _cost_of(text: str) -> GraphCost:
    return GraphCost.from_json({"live": [text], "fused": [text], "multiplications": "1", "written": "1"})


def test_a_formula_is_read_as_it_was_written() -> None:
    cost = _cost_of("3 b t h^2 w + -2.5 h + 7")
    assert cost.live_values(GraphSize(2, 3, 4, 5)) == 3 * 2 * 3 * 16 * 5 - 10 + 7


@pytest.mark.parametrize(
    "text", ["", "b", "1 x", "1 h^9", "1e400", "1 h*w", "1 h  w", "nan", "1 + ", "1 b" * 5000, 5, None, "1 b b b b b"]
)
def test_a_formula_of_another_form_is_refused(text: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        _cost_of(text)  # type: ignore[arg-type]
