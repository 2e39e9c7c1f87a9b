"""The rules that the graphs of a manifest follow: what each one takes and gives, and how those of a chain fit together.

A damaged manifest can name the right files in the wrong places. So the graphs are compared with the config, with each
other, and with the names that export gives to their files. `check_ports` compares a graph with its file.
"""

import re
from collections.abc import Iterable, Sequence

from ...tiling.plain_text import shown
from ..config.model_config import ModelConfig
from . import ports
from .graph import Graph, TensorInfo
from .graph_json import GraphLists

__all__ = ["check_graphs"]

_PRECISIONS = ("float32", "float16", "bfloat16")
_WHOLE_NUMBERS = {ports.FIRST, ports.LAST, *ports.SIDES}  # inputs that are int64 (1,)
_STREAM_AXES = {ports.BATCH, ports.FRAMES, ports.RESULT_FRAMES, ports.HEIGHT, ports.WIDTH}
_STRIP_AXES = {
    *(ports.BATCH, ports.TILE_ROWS, ports.TILE_COLUMNS),
    *(ports.RESULT_ROWS, ports.RESULT_COLUMNS, ports.POSITIONS),
}
_NAME = re.compile(
    r"(?P<component>encoder|decoder)(?:\.(?:exact_(?P<strip>\d+)|stream_(?P<stage>\d+)|(?P<variant>(?!cpu\.)[a-z_]+)))?"
    r"(?:\.(?P<dtype>float16|bfloat16))?(?P<cpu>\.cpu)?\.onnx"
)


def check_graphs(config: ModelConfig, lists: GraphLists) -> None:
    """Refuse graphs that do not fit the config or each other.

    Raises:
        ValueError: the message names the file of the graph.
    """
    for graph in lists.every:
        _check_file_names(config, graph)
        if graph.dtype not in _PRECISIONS:
            raise _wrong(graph, f"its precision is {shown(graph.dtype)}")
        if config.video != isinstance(graph.causal, bool):
            raise _wrong(graph, f"causal is {graph.causal}")
        for tensor in (*graph.inputs, *graph.outputs):
            wanted = ("int64",) if tensor.name in _WHOLE_NUMBERS else ("float32", graph.dtype)
            if tensor.dtype not in wanted:
                raise _wrong(graph, f"{shown(tensor.name)} is {shown(tensor.dtype)}")
    _check_whole(config, lists.graphs)
    for chain in _chains(lists.streams):
        _check_stream(config, chain)
    for chain in _chains(lists.strip_graphs):
        _check_strips(config, chain)


def _check_file_names(config: ModelConfig, graph: Graph) -> None:
    """The names that export gives to files say what the files are. Other names say nothing."""
    for file in filter(None, (graph.file, graph.cpu_file)):
        match = _NAME.fullmatch(file)
        if match is None:
            continue
        stage = None if graph.stage is None else graph.stage.index
        strip = None if graph.strip_stage is None else graph.strip_stage.index
        named = [None if match[group] is None else int(match[group]) for group in ("stage", "strip")]
        plain = stage is None and strip is None and match["variant"] is None and match["cpu"] is None
        if (
            match["component"] != graph.component
            or match["dtype"] not in (None, graph.dtype)
            or named != [stage, strip]
            or (match["cpu"] is not None) != (file == graph.cpu_file)
            or (plain and graph.causal != config.causal(graph.component))
        ):
            raise _wrong(graph, f"the name {shown(file)} is that of another graph")
    if graph.cpu_file is not None and graph.cpu_file != graph.file.removesuffix(".onnx") + ".cpu.onnx":
        raise _wrong(graph, f"{shown(graph.cpu_file)} is no other form of it")


def _check_whole(config: ModelConfig, graphs: Sequence[Graph]) -> None:
    seen = set()
    axes = set(ports.whole_axes(1, (1, 1, 1)[-2 - config.video :], (1, 1, 1)[-2 - config.video :], config.noise_stacks))
    pixels = ports.sample_axes(video=config.video)
    cells = tuple(map(ports.latent_axis, pixels))
    for graph in graphs:
        kind = graph.component, graph.dtype, graph.causal
        if kind in seen:
            raise _wrong(graph, "there is another graph like it")
        seen.add(kind)
        if graph.stage is not None or graph.strip_stage is not None:
            raise _wrong(graph, "it is a part of a chain")
        if graph.component == "encoder":
            inputs = [(ports.SAMPLE, (ports.BATCH, config.in_channels, *pixels))]
            output = ports.MOMENTS, (ports.BATCH, 2 * config.latent_channels, *cells)
            further: set[str] = set()
        else:
            inputs = [(ports.LATENTS, (ports.BATCH, config.latent_channels, *cells))]
            output = ports.SAMPLE, (ports.BATCH, config.out_channels, *pixels)
            further = {ports.noise_input(stack.block) for stack in config.noise_stacks}
            further |= {ports.TEMB} if config.timestep_conditioning else set()
        _check_axes(graph, axes)
        if [(one.name, one.shape) for one in graph.inputs[:1]] != inputs or further != _names(graph.inputs[1:]):
            raise _wrong(graph, "its inputs are not those of the config")
        if [(one.name, one.shape) for one in graph.outputs] != [output]:
            raise _wrong(graph, "its outputs are not those of the config")


def _check_stream(config: ModelConfig, chain: Sequence[Graph]) -> None:
    decodes = chain[0].component == "decoder"
    channels, most = (config.latent_channels if decodes else config.in_channels), config.temporal_ratio
    own = {
        ports.CHUNK,
        ports.FIRST,
        ports.LAST,
        ports.TEMB,
        *(ports.noise_input(one.block) for one in config.noise_stacks),
    }
    for graph in chain:
        stage = graph.stage
        if not config.supports_streams or stage is None or graph.causal != config.causal(graph.component):
            raise _wrong(graph, "the model has no such stream")
        _check_axes(graph, _STREAM_AXES)
        states = {one.name: one for one in graph.inputs if ports.is_state(one.name)}
        given = {ports.state_of_next(one.name): one for one in graph.outputs[1:] if ports.is_next_state(one.name)}
        alike = states.keys() == given.keys() and all(states[name].shape == given[name].shape for name in states)
        if not alike or len(graph.outputs) != len(given) + 1 or not _names(graph.inputs) - states.keys() <= own:
            raise _wrong(graph, "its states are not those that it gives")
        chunk, result = graph.inputs[0], graph.outputs[0]
        named = (chunk.name, result.name) == (ports.CHUNK, ports.RESULT) and len(chunk.shape) == len(result.shape) == 5
        if not named or chunk.shape[1] != channels or not isinstance(result.shape[1], int):
            raise _wrong(graph, "it does not follow the stage before it")
        if (ports.FIRST not in _names(graph.inputs)) or (ports.LAST in _names(graph.inputs)) == graph.causal:
            raise _wrong(graph, "it does not learn where the clip begins and ends")
        if stage.ratio > most or most % stage.ratio or (decodes and stage.index == 0 and stage.ratio != most):
            raise _wrong(graph, f"its ratio is {stage.ratio}")
        channels = result.shape[1]
        most = stage.ratio if decodes else most
    if channels != (config.out_channels if decodes else 2 * config.latent_channels):
        raise _wrong(chain[-1], "it does not give the result of the model")


def _check_strips(config: ModelConfig, chain: Sequence[Graph]) -> None:
    """A stage reads the stage before it; the second convolution of a block adds what the first one read. A chain that
    lacks a stage is refused when it runs."""
    if [graph.strip_stage.index for graph in chain if graph.strip_stage] != list(range(len(chain))):
        return
    decodes = chain[0].component == "decoder"
    channels = {-1: config.latent_channels if decodes else config.in_channels}
    sources: dict[int, int] = {}
    last, up, down = -1, 1, 1
    for graph in chain:
        stage = graph.strip_stage
        if not config.supports_strips or stage is None:
            raise _wrong(graph, "the model has no such strips")
        _check_axes(graph, _STRIP_AXES)
        convolves = stage.kind == "convolution"
        around = (0 if stage.down == 2 else 1, 1) if convolves else (0, 0)
        names = _names(graph.inputs)
        if (stage.before, stage.after) != around or stage.source != last or graph.inputs[0].name != ports.TILE:
            raise _wrong(graph, "it does not follow the stage before it")
        if (stage.skip is not None) != (ports.SKIP in names) or stage.skip not in (None, sources.get(last)):
            raise _wrong(graph, "it does not add the result that a stage adds")
        if convolves != names.issuperset(ports.SIDES) or (stage.kind == "attention") != (ports.KEYS in names):
            raise _wrong(graph, f"its inputs are not those of a stage of the kind {stage.kind}")
        outputs = [ports.KEYS, ports.VALUES] if stage.kind == "keys" else [ports.RESULT]
        found = [one.name for one in graph.outputs]
        if found not in (outputs, [*outputs, ports.ROW_MEAN, ports.ROW_VARIANCE]):
            raise _wrong(graph, f"its outputs are not those of a stage of the kind {stage.kind}")
        for tensor in (*graph.inputs, *graph.outputs):
            if len(tensor.shape) != _STRIP_RANKS.get(tensor.name):
                raise _wrong(graph, f"the shape of {tensor.name} has {len(tensor.shape)} axes")
        wide = graph.outputs[0].shape[2 if stage.kind == "keys" else 1]
        if not isinstance(wide, int) or graph.inputs[0].shape[1] != channels[last]:
            raise _wrong(graph, "it does not take the channels of the stage before it")
        if stage.kind != "keys":
            sources[stage.index], channels[stage.index] = last, wide
            last, up, down = stage.index, up * stage.up, down * stage.down
    ratio = config.spatial_ratio
    if (up, down) != ((ratio, 1) if decodes else (1, ratio)):
        raise _wrong(chain[-1], "the stages do not scale as the model does")


_STRIP_RANKS = {
    **dict.fromkeys((ports.TILE, ports.SKIP, ports.RESULT), 4),
    **dict.fromkeys((ports.KEYS, ports.VALUES, ports.ROW_MEAN, ports.ROW_VARIANCE), 3),
    **dict.fromkeys((ports.MEAN, ports.VARIANCE), 2),
    **dict.fromkeys(ports.SIDES, 1),
}
"""The axes of each tensor of a stage of strips."""


def _chains(graphs: Iterable[Graph]) -> list[list[Graph]]:
    """The graphs of each component and precision, in the order in which they run."""
    chains: dict[tuple[str, str], list[Graph]] = {}
    for graph in graphs:
        chains.setdefault((graph.component, graph.dtype), []).append(graph)

    def index(graph: Graph) -> int:
        part = graph.stage or graph.strip_stage
        return 0 if part is None else part.index

    return [sorted(chain, key=index) for chain in chains.values()]


def _check_axes(graph: Graph, known: set[str]) -> None:
    for tensor in (*graph.inputs, *graph.outputs):
        for axis in tensor.shape:
            if isinstance(axis, str) and axis.rpartition("*")[2] not in known:
                raise _wrong(graph, f"{shown(tensor.name)} has an axis {shown(axis)}")


def _names(tensors: Iterable[TensorInfo]) -> set[str]:
    return {tensor.name for tensor in tensors}


def _wrong(graph: Graph, reason: str) -> ValueError:
    return ValueError(f"graph {shown(graph.file)} of the {shown(graph.component)}: {reason}")
