"""The graphs of a bundle in the JSON form of `manifest.json`.

Under "components" stands one object per component, with three lists: "graphs" run a whole sample at once, "streams" run
a clip chunk by chunk, and "segments" run a picture in strips. A graph's place in a pass in strips is its "segment".
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...tiling.plain_text import shown
from .graph import Graph, Stage, TensorInfo
from .strip_stage import StripStage

__all__ = ["GraphLists", "check_chains", "read_components", "write_components"]


_COMPONENTS = ("encoder", "decoder")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")  # of an input or output
_AXIS = re.compile(r"(?:[1-9][0-9]{0,4}\*)?[a-z][a-z0-9_]{0,63}")
_MOST_AXES, _LONGEST_AXIS = 8, 1 << 31
_MOST_OPSET = 1000


@dataclass(frozen=True)
class GraphLists:
    """The graphs of all components, by what they are for."""

    graphs: tuple[Graph, ...]
    streams: tuple[Graph, ...]
    strip_graphs: tuple[Graph, ...]

    @property
    def every(self) -> tuple[Graph, ...]:
        return (*self.graphs, *self.streams, *self.strip_graphs)


def read_components(values: Mapping[str, Any]) -> GraphLists:
    """The graphs under "components".

    Raises:
        KeyError, TypeError, ValueError, AttributeError: a field is missing or of the wrong kind, a stage of a stream
            is missing, or a stage stands there twice.
    """
    graphs: list[Graph] = []
    streams: list[Graph] = []
    strip_graphs: list[Graph] = []
    for component, entry in values.items():
        if component not in _COMPONENTS:
            raise ValueError(f"a bundle has no component {shown(component)}")
        graphs += [_read(component, graph) for graph in entry["graphs"]]
        streams += [_read(component, graph) for graph in entry.get("streams") or ()]
        strip_graphs += [_read(component, graph) for graph in entry.get("segments") or ()]
    return GraphLists(tuple(graphs), tuple(streams), tuple(strip_graphs))


def check_chains(lists: GraphLists) -> None:
    """Refuse a stage of a stream that is missing, and a stage of any kind that stands there twice. A missing stage of a
    pass in strips is refused when the pass runs, because engines may be built of some stages only.

    Raises:
        ValueError: such a stage.
    """
    _check_chain(lists.streams, [graph.stage.index if graph.stage else None for graph in lists.streams])
    indices = [graph.strip_stage.index if graph.strip_stage else None for graph in lists.strip_graphs]
    _check_chain(lists.strip_graphs, indices, whole=False)


def write_components(components: Iterable[str], lists: GraphLists) -> dict[str, Any]:
    """The object under "components"."""
    values: dict[str, Any] = {name: {"graphs": [], "streams": [], "segments": []} for name in components}
    for kind, graphs in (("graphs", lists.graphs), ("streams", lists.streams), ("segments", lists.strip_graphs)):
        for graph in graphs:
            values[graph.component][kind].append(_written(graph))
    return values


def _written(graph: Graph) -> dict[str, Any]:
    named = {"strip_stage": "segment"}
    values = dataclasses.asdict(graph)
    return {named.get(key, key): value for key, value in values.items() if key != "component"}


def _read(component: str, values: Mapping[str, Any]) -> Graph:
    own: dict[str, Any] = {key: values[key] for key in ("file", "weights", "dtype", "opset", "causal")}
    for side in ("inputs", "outputs"):
        own[side] = tuple(TensorInfo(t["name"], t["dtype"], tuple(t["shape"])) for t in values[side])
    cpu_file = values.get("cpu_file")
    if (
        not all(isinstance(text, str) for text in (own["file"], own["weights"], own["dtype"], cpu_file or ""))
        or cpu_file == ""
        or type(own["opset"]) is not int
        or not 1 <= own["opset"] <= _MOST_OPSET
        or type(own["causal"]) not in (bool, type(None))
        or not all(map(_is_tensor, (*own["inputs"], *own["outputs"])))
        or not all(_are_ports(own[side]) for side in ("inputs", "outputs"))
    ):
        raise ValueError(f"a field of a graph of the {shown(component)} is of the wrong kind")
    stage, strip_stage = values.get("stage"), values.get("segment")
    return Graph(
        component=component,
        **own,
        stage=None if stage is None else Stage(**stage),
        strip_stage=None if strip_stage is None else StripStage(**strip_stage),
        cpu_file=cpu_file,
        halo=values.get("halo"),
    )


def _is_tensor(tensor: TensorInfo) -> bool:
    return (
        isinstance(tensor.name, str)
        and _NAME.fullmatch(tensor.name) is not None
        and isinstance(tensor.dtype, str)
        and 1 <= len(tensor.shape) <= _MOST_AXES
        and all(map(_is_axis, tensor.shape))
    )


def _is_axis(axis: object) -> bool:
    if isinstance(axis, str):
        return _AXIS.fullmatch(axis) is not None
    return type(axis) is int and 1 <= axis < _LONGEST_AXIS


def _are_ports(tensors: Sequence[TensorInfo]) -> bool:
    """Whether there are tensors, each with a name of its own."""
    return 0 < len(tensors) == len({tensor.name for tensor in tensors})


def _check_chain(graphs: Sequence[Graph], indices: Sequence[int | None], *, whole: bool = True) -> None:
    """Refuse graphs whose stages, at `indices`, are no chain: one is there twice or, with `whole`, missing."""
    chains: dict[tuple[str, str], list[int]] = {}
    for graph, index in zip(graphs, indices, strict=True):
        if index is None:
            raise ValueError(f"{shown(graph.file)} is no part of a chain")
        chains.setdefault((graph.component, graph.dtype), []).append(index)
    for (component, _), found in chains.items():
        if len(set(found)) != len(found) or (whole and max(found) >= len(found)):
            raise ValueError(f"a part of the {shown(component)} is missing or there twice")
