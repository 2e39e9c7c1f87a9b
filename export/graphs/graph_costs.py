"""What one run of each graph takes, derived from the graph: live tensors, operations, and the values that are written.

Each axis of a tensor is a product of linear factors, one for each part of the size. A few shapes determine the factors,
and further shapes check them. So the formulas are exact at every legal size, not only at those shapes.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from ...runtime.arrays.grid import Grid
from ...runtime.bundle import ports
from ...runtime.bundle.graph import Stage
from ...runtime.bundle.graph_cost import GraphCost, GraphSize
from ...runtime.config.model_config import ModelConfig
from .components import GraphSpec
from .polynomials import NotPolynomial, Polynomial, axis_polynomial, constant, formula, greatest, product
from .tensor_shapes import GraphShapes, UnknownShape

__all__ = ["graph_cost"]

_log = logging.getLogger(__name__)
_VIEWS = ("Identity", "Reshape", "Squeeze", "Unsqueeze")  # their results lie where their inputs lie
_SIZES = ((1, 0, 5, 6), (2, 0, 5, 6), (1, 1, 5, 6), (1, 0, 7, 6), (1, 0, 5, 9), (3, 2, 8, 7), (2, 4, 12, 11))


def graph_cost(config: ModelConfig, spec: GraphSpec, model: ModelProto) -> GraphCost | None:
    """Return what a run of a graph takes, as formulas; None if an operator's size is not known, or grows otherwise.

    Args:
        config: the model's config.
        spec: the graph, of a whole component or a stage of a stream.
        model: the graph in float32.
    """
    try:
        runs = [_Run.of(model, *shapes) for shapes in _shapes(config, spec, model)]
    except (UnknownShape, NotPolynomial) as error:
        _log.info("the cost of a graph of the %s is not known: %s", spec.component, error)
        return None
    live = greatest(step for run in runs for step in run.live(model, fused=False))
    fused = live
    if any(run.attends for run in runs):
        fused = greatest(step for run in runs for step in run.live(model, fused=True))
    return GraphCost(
        live=tuple(map(formula, live)),
        fused=tuple(map(formula, fused)),
        multiplications=formula(runs[-1].multiplications(model)),
        written=formula(runs[-1].written(model)),
    )


Shapes = list[dict[str, tuple[int, ...]]]


def _shapes(config: ModelConfig, spec: GraphSpec, model: ModelProto) -> Iterator[tuple[Sequence[GraphSize], Shapes]]:
    """The sizes, and the shapes of all tensors at each. Stages of a stream have them for two kinds of step. The usual
    step comes last. Before it comes the last step of a stage that looks ahead, or the first step of another stage. (The
    first step of a stage that looks ahead has fewer frames everywhere.)"""
    shapes = GraphShapes(model)
    if spec.stage is None:
        sizes = [GraphSize(batch, 2 + more if config.video else 1, *space) for batch, more, *space in _SIZES]
        yield sizes, [shapes.at(_whole_axes(config, size), {}) for size in sizes]
        return
    flags = [one.name for one in spec.inputs if one.name in (ports.FIRST, ports.LAST)]
    marked = ports.LAST if ports.LAST in flags else ports.FIRST
    for flag in (1, 0):
        values = dict.fromkeys(flags, 0) | {marked: flag}
        sizes = [
            GraphSize(batch, _step(spec.stage, more, first=bool(values.get(ports.FIRST))), *space)
            for batch, more, *space in _SIZES
        ]
        axes = [ports.stream_axes(one.batch, (one.height, one.width), one.frames) for one in sizes]
        yield sizes, [shapes.at(own, values) for own in axes]


def _step(stage: Stage, more: int, *, first: bool) -> int:
    """The frames of a step that takes `more` times the stage's multiple more than the least."""
    begin = int(first and stage.multiple > 1)
    least = -(-max(stage.lead - begin, stage.multiple) // stage.multiple) * stage.multiple
    return begin + least + more * stage.multiple


def _whole_axes(config: ModelConfig, size: GraphSize) -> dict[str, int]:
    cells = (size.frames, size.height, size.width) if config.video else (size.height, size.width)
    return ports.whole_axes(size.batch, Grid.of(config).sample_size(cells), cells, config.noise_stacks)


@dataclass(frozen=True)
class _Run:
    """One kind of run of a graph.

    Attributes:
        axes: the length of each axis of each tensor, by the tensor's name.
        values: the number of values of each tensor.
    """

    axes: Mapping[str, tuple[Polynomial, ...]]
    values: Mapping[str, Polynomial]

    @classmethod
    def of(cls, model: ModelProto, sizes: Sequence[GraphSize], shapes: Shapes) -> "_Run":
        weights = {one.name for one in model.graph.initializer}
        seen: dict[tuple[int, ...], Polynomial] = {}
        axes: dict[str, tuple[Polynomial, ...]] = {}
        products: dict[tuple[tuple[int, ...], ...], Polynomial] = {}
        values: dict[str, Polynomial] = {}
        for name in shapes[0]:
            if name in weights:
                axes[name] = tuple(constant(length) for length in shapes[0][name])
                continue
            lengths = tuple(zip(*(one[name] for one in shapes), strict=True))
            for own in lengths:
                if own not in seen:
                    seen[own] = axis_polynomial(own, sizes)
            axes[name] = tuple(seen[own] for own in lengths)
            key = tuple(sorted(lengths))
            if key not in products:
                products[key] = product(axes[name])
            values[name] = products[key]
        return cls(axes, values)

    @property
    def attends(self) -> bool:
        """Whether the graph holds scores of attention."""
        return any(map(_is_scores, self.values.values()))

    def live(self, model: ModelProto, *, fused: bool) -> Iterator[Polynomial]:
        """The values that are alive at each node, in the order of the file."""
        place: dict[str, str] = {}  # the tensor in whose memory a tensor lies
        for node in model.graph.node:
            if node.op_type in _VIEWS:
                place[node.output[0]] = place.get(node.input[0], node.input[0])
        kept = {place.get(value.name, value.name) for value in (*model.graph.input, *model.graph.output)}
        last: dict[str, int] = {}
        for index, node in enumerate(model.graph.node):
            last |= dict.fromkeys((place.get(name, name) for name in (*node.input, *node.output)), index)
        held = sum((self._values(value.name, fused) for value in model.graph.input), constant(0))
        yield held
        for index, node in enumerate(model.graph.node):
            if node.op_type not in _VIEWS:
                held = held + sum((self._values(name, fused) for name in node.output), constant(0))
                yield held
            ending = {place.get(name, name) for name in (*node.input, *node.output)} - kept
            held = held - sum((self._values(name, fused) for name in ending if last[name] == index), constant(0))

    def multiplications(self, model: ModelProto) -> Polynomial:
        """Those of all convolutions and matrix products."""
        return sum((self._multiplications(node) for node in model.graph.node), constant(0))

    def written(self, model: ModelProto) -> Polynomial:
        """The values that all nodes write."""
        made: Iterable[str] = (name for node in model.graph.node if node.op_type not in _VIEWS for name in node.output)
        return sum((self._values(name, False) for name in made), constant(0))

    def _multiplications(self, node: NodeProto) -> Polynomial:
        if node.op_type == "Conv":
            _, *kernel = (float(axis[0, 0, 0, 0]) for axis in self.axes[node.input[1]])
            return self.values[node.output[0]] * math.prod(kernel)
        if node.op_type == "MatMul":
            return product([self.values[node.output[0]], self.axes[node.input[0]][-1]])
        return constant(0)

    def _values(self, name: str, fused: bool) -> Polynomial:
        """The values of a tensor; 0 for whole numbers, for weights, and for scores if these are `fused`."""
        found = self.values.get(name)
        if found is None or (fused and _is_scores(found)):
            return constant(0)
        return found


def _is_scores(values: Polynomial) -> bool:
    """Whether a tensor is quadratic in the positions."""
    return bool(values[:, :, 2, 2].any())
