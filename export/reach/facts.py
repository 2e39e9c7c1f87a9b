"""What a graph's tensors depend on, in numbers: scales, halos, and the operators that forbid a cut."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from onnx import ModelProto

from .edges import NOTHING, Edges
from .follow import AXES, follow, sources_of
from .tensors import Tensor

__all__ = ["AxisReach", "Barrier", "Lengths", "barriers", "edges_along", "halo_of", "reach_of", "shapes_for"]

_FIRST_LENGTH = 8  # the first size that is looked at, in units of the named axes
_LARGEST_LENGTH = 256  # a halo that still grows at this size has no end
_AXIS_FROM_THE_END = {"frames": 3, "height": 2, "width": 1}  # in tensors (B, C, H, W) and (B, C, T, H, W)
Lengths = Mapping[str, int]


@dataclass(frozen=True)
class AxisReach:
    """What a position of a tensor depends on along one axis.

    Attributes:
        scale: positions of the tensor per position of the first input that has this axis.
        before, after: positions of that input that a position depends on, before and behind the position that it
            stands on.
    """

    scale: Fraction
    before: int
    after: int


@dataclass(frozen=True)
class Barrier:
    """An operator that needs every position along an axis, so that no cut along this axis gives the same numbers.

    Attributes:
        axis: "frames", "height" or "width".
        operator: the kind of operator.
        node: the name of the node.
        tensor: the name of its result.
    """

    axis: str
    operator: str
    node: str
    tensor: str

    def __str__(self) -> str:
        return f"{self.operator} ({self.node}) makes {self.tensor} of every position along the {self.axis}"


def shapes_for(model: ModelProto, lengths: Lengths, frames: int = 1) -> dict[str, tuple[int, ...]]:
    """The shape of each input of a model if its named axes have these lengths. Names without a length are 1."""

    def length(dimension: object) -> int:
        name, value = dimension.dim_param, dimension.dim_value  # type: ignore[attr-defined]
        factor, _, axis = name.rpartition("*")
        return int(factor or 1) * lengths.get(axis, 1) if name else int(value)

    return {value.name: tuple(map(length, value.type.tensor_type.shape.dim)) for value in model.graph.input}


def edges_along(tensor: Tensor, axis: str, at: int | None = None) -> Edges | None:
    """The edges of a tensor along an axis of positions, (2, sources, length). `at`: the index of the tensor's axis;
    None takes its place in (B, C, T, H, W). None: the tensor depends on no position of the axis."""
    edges = tensor.edges.get(axis)
    if edges is None:
        return None
    rank = len(tensor.shape)
    place = rank - _AXIS_FROM_THE_END[axis] if at is None else at
    others = tuple(2 + one for one in range(rank) if one != place)
    flat = edges.min(axis=others) if others else edges
    return np.broadcast_to(flat, (*flat.shape[:2], tensor.shape[place]))


def reach_of(
    model: ModelProto, lengths: Lengths, values: Lengths | None = None, axes: Sequence[str] = ("height", "width")
) -> dict[str, dict[str, AxisReach]]:
    """What each tensor (B, C, [T,] H, W) of a model depends on, by tensor and axis, at these lengths of the named axes.

    A tensor that depends on every position has a reach as long as the axis; see `barriers`.

    Raises:
        UnknownOperator, WrongLength: as `follow`.
    """
    shapes = shapes_for(model, lengths)
    tensors = follow(model, shapes, values=values, axes=axes)
    sources = sources_of(model)
    found: dict[str, dict[str, AxisReach]] = {}
    for name, tensor in tensors.items():
        for axis in axes:
            index = next((one for one, source in enumerate(sources) if axis in source.axes), None)
            if index is None or len(tensor.shape) != len(shapes[sources[index].name]):
                continue
            edges = edges_along(tensor, axis)
            if edges is not None and (edges[0, index] < NOTHING).any():
                source = sources[index]
                length = shapes[source.name][source.axes[axis][0]]
                found.setdefault(name, {})[axis] = _reach(edges[:, index], length, leading=axis == "frames")
    return found


def _reach(edges: Edges, source_length: int, *, leading: bool) -> AxisReach:
    """`leading`: the first position stands for itself, and the others for equal parts."""
    length = edges.shape[-1]
    less = int(leading and length > 1 and source_length > 1)
    scale = Fraction(length - less, source_length - less)
    own = np.arange(length)
    stands = np.array([0 if less and one == 0 else less + int((one - less) / scale) for one in own.tolist()])
    known = edges[0] < NOTHING
    before, after = (stands - edges[0])[known], (-edges[1] - stands)[known]
    return AxisReach(scale, max(int(before.max()), 0), max(int(after.max()), 0))


def barriers(
    model: ModelProto, lengths: Lengths, values: Lengths | None = None, axes: Sequence[str] = ("height", "width")
) -> tuple[Barrier, ...]:
    """The first operator along each axis whose result depends on every position. None along an axis that can be cut.

    The lengths of the named axes are doubled until what every tensor depends on stays as long as it was.
    """
    found = []
    for axis in axes:
        names = [name for name in lengths if any(name.endswith(end) for end in AXES[axis])]
        small = dict(lengths)
        while True:
            large = {**small, **{name: 2 * small[name] for name in names}}
            growing = _growing(model, small, large, values, axis)
            if growing is None:
                break
            if max(large[name] for name in names) >= _LARGEST_LENGTH:
                found.append(growing)
                break
            small = large
    return tuple(found)


def _growing(model: ModelProto, small: Lengths, large: Lengths, values: Lengths | None, axis: str) -> Barrier | None:
    """The first node that depends on more positions at a larger size than at a smaller one."""
    few, many = (follow(model, shapes_for(model, lengths), values=values, axes=(axis,)) for lengths in (small, large))
    for node in model.graph.node:
        for name in node.output:
            if name in few and _most(few[name], axis) < _most(many[name], axis):
                return Barrier(axis, node.op_type, node.name, name)
    return None


def _most(tensor: Tensor, axis: str) -> int:
    edges = tensor.edges.get(axis)
    if edges is None or not edges.size:
        return 0
    return int(np.where(edges[0] < NOTHING, 1 - edges[1] - edges[0], 0).max())


def halo_of(model: ModelProto, lengths: Lengths, values: Lengths | None = None) -> int | None:
    """How many rows and columns around a piece the results of the piece depend on, in units of the coarsest input or
    result. None: a result depends on all of them; `barriers` says why.

    Raises:
        UnknownOperator, WrongLength: as `follow`.
    """
    before, size = -1, _FIRST_LENGTH
    while size <= _LARGEST_LENGTH:
        own = {**lengths, **dict.fromkeys(_names(lengths), size)}
        units, halo = _halo(model, own, values)
        if halo == before and 2 * halo + 1 < units:
            return halo
        before, size = halo, 2 * size
    return None


def _names(lengths: Lengths) -> Iterator[str]:
    for name in lengths:
        if any(name.endswith(end) for axis in ("height", "width") for end in AXES[axis]):
            yield name


def _halo(model: ModelProto, lengths: Lengths, values: Lengths | None) -> tuple[int, int]:
    """The units of an axis at these lengths, and the halo in units."""
    shapes = shapes_for(model, lengths)
    units, halo = 0, 0
    for axis in ("height", "width"):
        own = {one.name: shapes[one.name][one.axes[axis][0]] for one in sources_of(model) if axis in one.axes}
        every = sorted(set(own.values()))  # inputs of one length share a place: the halo is that of all of them
        slots = {name: every.index(length) for name, length in own.items()}
        tensors = follow(model, shapes, values=values, axes=(axis,), slots=slots)
        results = [tensors[value.name] for value in model.graph.output]
        units = min(*every, *(one.shape[-_AXIS_FROM_THE_END[axis]] for one in results))
        for result in results:
            edges = edges_along(result, axis)
            if edges is None:
                continue
            stands = np.arange(edges.shape[-1]) // (edges.shape[-1] // units)
            for index, length in enumerate(every):
                known = edges[0, index] < NOTHING
                if known.any():
                    low, high = edges[0, index] // (length // units), -edges[1, index] // (length // units)
                    halo = max(halo, int((stands - low)[known].max()), int((high - stands)[known].max()))
    return units, halo
