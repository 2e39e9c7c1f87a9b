"""The facts of a pass in strips, derived from the graphs of its stages, and the check that the manifest has them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from onnx import ModelProto

from ...runtime.bundle import ports
from ...runtime.bundle.graph import Graph
from ...runtime.bundle.strip_stage import StripStage
from ...runtime.config.model_config import ModelConfig
from ...runtime.errors import BundleError
from .edges import Edges
from .facts import edges_along, shapes_for
from .follow import follow
from .operators import attributes_of
from .tensors import Tensor, WrongLength

__all__ = ["check_strips", "strip_stage"]

_CELLS = 6  # latent height and width, while rows and columns are followed
_ROWS = 32  # of a tile, while its result is measured
_AXES = ("height", "width")
_Pairs = Mapping[str, tuple[int, int]]


def check_strips(config: ModelConfig, whole: ModelProto, stages: Sequence[tuple[Graph, ModelProto]]) -> None:
    """Refuse stages of a pass in strips whose entries in the manifest are not what their graphs need, or that do not
    depend on the same rows and columns as the graph of the whole component.

    Args:
        config: the model's config.
        whole: the graph of the whole component.
        stages: each stage's entry in the manifest, and its graph, in the order in which they run.

    Raises:
        BundleError: such a stage.
    """
    for graph, model in stages:
        stage = graph.strip_stage
        assert stage is not None
        wanted = strip_stage(stage, whole, model)
        if stage != wanted:
            raise BundleError(
                f"{graph.file}: the manifest says {stage}, and the graph needs {wanted}: correct the export"
            )
        inputs, outputs = ([value.name for value in side] for side in (model.graph.input, model.graph.output))
        listed = [tensor.name for tensor in graph.inputs], [tensor.name for tensor in graph.outputs]
        if listed != (inputs, outputs):
            raise BundleError(
                f"{graph.file}: the graph has the inputs {inputs} and the outputs {outputs}, and the manifest says "
                f"{listed[0]} and {listed[1]}: correct the export"
            )
    _check_rows(config, whole, stages)


def strip_stage(stage: StripStage, whole: ModelProto, model: ModelProto) -> StripStage:
    """The stage with the geometry that its graph needs: how it scales, and the rows around a tile.

    Raises:
        WrongLength: the stage does not run on tiles.
    """
    names = {value.name for value in model.graph.input}
    if stage.kind != "convolution":
        plain = replace(stage, up=1, down=1, before=0, after=0)
        return plain if (ports.KEYS in names) == (stage.kind == "attention") else replace(plain, kind="attention")
    few, many = (_result_rows(model, rows) for rows in (_ROWS, 2 * _ROWS))
    up, down = max((many - few) // _ROWS, 1), max(_ROWS // (many - few), 1)
    least = next(rows for rows in range(1, _ROWS + 1) if _result_rows(model, rows) == few)
    around = least - few * down // up
    front = _pads_of(whole).get(_weight_of(model), (around - around // 2, around // 2))[0]
    before = min(-(-front // up), around)
    return replace(stage, up=up, down=down, before=before, after=around - before)


def _result_rows(model: ModelProto, rows: int) -> int:
    """The rows of a result for a tile of so many rows within the picture. 0: there are none."""
    shapes = _tile_shapes(model, rows)
    for name in shapes:
        if name == ports.SKIP:  # its size is that of the result, and a length of 1 fits any
            shapes[name] = (*shapes[name][:2], 1, 1)
    try:
        tensors = follow(model, shapes, values=dict.fromkeys(ports.SIDES, 0), axes=(), given={})
    except WrongLength:
        return 0
    return tensors[ports.RESULT].shape[2]


def _tile_shapes(model: ModelProto, rows: int) -> dict[str, tuple[int, ...]]:
    return shapes_for(model, {ports.BATCH: 1, ports.TILE_ROWS: rows, ports.TILE_COLUMNS: rows, ports.POSITIONS: 4})


def _weight_of(model: ModelProto) -> str:
    """The weight of a stage's own convolution: of its last one over more than one position."""
    shapes = {one.name: tuple(one.dims) for one in model.graph.initializer}
    convolutions = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    wide = [name for name in convolutions if shapes.get(name, (1, 1, 1))[2:] not in ((1, 1), (1,))]
    if not wide:
        raise WrongLength("a stage of strips has no convolution over rows")
    return str(wide[-1])


def _pads_of(whole: ModelProto) -> _Pairs:
    """By weight: the zeros above and below a convolution's input in the graph of the whole component."""
    tensors = {one.name: one for one in whole.graph.initializer}
    makers = {name: node for node in whole.graph.node for name in node.output}
    found = {}
    for node in whole.graph.node:
        if node.op_type != "Conv":
            continue
        pads = list(attributes_of(node).get("pads") or [0] * 4)
        above, below = pads[0], pads[len(pads) // 2]
        maker = makers.get(node.input[0])
        if maker is not None and maker.op_type == "Pad" and maker.input[1] in tensors:
            values = np.frombuffer(tensors[maker.input[1]].raw_data, np.int64)
            above, below = above + int(values[2]), below + int(values[len(values) // 2 + 2])
        found[node.input[1]] = above, below
    return found


def _check_rows(config: ModelConfig, whole: ModelProto, stages: Sequence[tuple[Graph, ModelProto]]) -> None:
    """Compare the rows and columns that each position of the result depends on, without those of statistics and
    attention, with those of the whole component."""
    decodes = stages[0][0].component == "decoder"
    pixels = _CELLS * config.spatial_ratio
    length = _CELLS if decodes else pixels
    results: dict[int, Tensor] = {-1: _own(whole, length)}
    for graph, model in stages:
        stage = graph.strip_stage
        assert stage is not None
        if stage.kind != "keys":
            results[stage.index] = _run(graph, model, stage, results)
    lengths = ports.whole_axes(1, (pixels, pixels), (_CELLS, _CELLS))
    given = {whole.graph.input[0].name: results[-1].edges}
    tensors = follow(whole, shapes_for(whole, lengths), given=given, local=True)
    wanted, got = tensors[whole.graph.output[0].name], results[max(results)]
    same = wanted.shape == got.shape and all(np.array_equal(_along(wanted, axis), _along(got, axis)) for axis in _AXES)
    if not same:
        raise BundleError(
            f"the {stages[0][0].component}'s strips depend on other rows or columns than the whole component: correct "
            f"the rows around their tiles"
        )


def _own(whole: ModelProto, length: int) -> Tensor:
    place = np.arange(length, dtype=np.int32)
    edges = np.stack([place, -place])[:, None]
    channels = whole.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    own = {"height": edges[:, :, None, None, :, None], "width": edges[:, :, None, None, None, :]}
    return Tensor((1, channels, length, length), None, own)


def _run(graph: Graph, model: ModelProto, stage: StripStage, results: Mapping[int, Tensor]) -> Tensor:
    """A stage over a whole picture as one tile."""
    source = results[stage.source]
    shapes = _tile_shapes(model, 1) | {ports.TILE: source.shape}
    given = {ports.TILE: source.edges}
    if stage.skip is not None:
        shapes[ports.SKIP], given[ports.SKIP] = results[stage.skip].shape, results[stage.skip].edges
    zeros = dict(zip(ports.SIDES, (stage.before, stage.before, stage.after, stage.after), strict=True))
    try:
        made = follow(model, shapes, values=zeros, given=given, local=True)[ports.RESULT]
    except WrongLength as error:
        raise BundleError(f"{graph.file} does not run on a whole picture as {stage}: {error}") from error
    return made


def _along(tensor: Tensor, axis: str) -> Edges:
    edges = edges_along(tensor, axis)
    assert edges is not None
    return edges
