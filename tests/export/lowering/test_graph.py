"""The ONNX files themselves: valid, tidy, dynamic, and with their weights in the safetensors file."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from architectures import ALL
from onnx import AttributeProto, TensorProto, numpy_helper
from safetensors.numpy import load_file
from torch import nn

from latentrt.export.bundle import ExportSettings, export_bundle
from latentrt.export.lowering.graph import GraphBuilder, TensorSpec
from latentrt.export.lowering.lower import LoweringError
from latentrt.export.lowering.trace import lower
from latentrt.runtime import open_bundle
from latentrt.runtime.bundle import ports
from latentrt.runtime.config.families import config_from_dict

COMPONENTS = {"encoder": ("encoder.", "quant_conv."), "decoder": ("decoder.", "post_quant_conv.")}
SETTINGS = {
    "default": ExportSettings(),
    "eager": ExportSettings(attention="eager"),
    "sliced": ExportSettings(attention="sliced"),
    "unfused": ExportSettings(fuse_qkv=False),
    "causal": ExportSettings(causal=(True, False)),
}
CASES = [(name, "default") for name in ALL]
CASES += [(name, kind) for name in ("flux", "relu_one_block") for kind in ("eager", "sliced", "unfused")]
CASES += [("ltx20", "causal"), ("noise_timestep", "causal")]


@pytest.fixture(scope="module")
def exported(
    bundle_of: Callable[[str], Path], checkpoint_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    """The bundle of an architecture with one of SETTINGS."""
    made: dict[tuple[str, str], Path] = {}

    def export(name: str, kind: str) -> Path:
        if kind == "default":
            return bundle_of(name)
        if (name, kind) not in made:
            made[name, kind] = tmp_path_factory.mktemp("graphs") / f"{name}-{kind}"
            export_bundle(checkpoint_of(name), made[name, kind], SETTINGS[kind])
        return made[name, kind]

    return export


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_checker_and_strict_shape_inference_accept_every_graph(
    name: str, kind: str, exported: Callable[[str, str], Path]
) -> None:
    for path in graph_files(exported(name, kind)):
        onnx.checker.check_model(str(path), full_check=True)
        model = load(path)
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


@pytest.mark.parametrize("name", ALL)
def test_every_axis_but_channels_is_dynamic_and_named(name: str, bundle_of: Callable[[str], Path]) -> None:
    config: Any = config_from_dict(ALL[name])
    video = config.video
    pixels = ("frames", "height", "width") if video else ("height", "width")
    cells = tuple(f"latent_{axis}" for axis in pixels)
    sample_in = ("batch", config.in_channels, *pixels)
    sample_out = ("batch", config.out_channels, *pixels)
    latents = ("batch", config.latent_channels, *cells)
    extras: dict[str, tuple[int | str, ...]] = {}
    if video and config.timestep_conditioning:
        extras["temb"] = ("batch",)
    for stack in config.noise_stacks:
        extras[ports.noise_input(stack.block)] = (stack.maps, *ports.noise_axes(stack.block))
    encoder, decoder = (load(bundle_of(name) / f"{component}.onnx").graph for component in COMPONENTS)
    assert axes_of(encoder.input) == {"sample": sample_in}
    assert axes_of(encoder.output) == {"moments": ("batch", 2 * config.latent_channels, *cells)}
    assert axes_of(decoder.input) == {"latents": latents, **extras}
    assert axes_of(decoder.output) == {"sample": sample_out}


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_nothing_in_a_graph_is_unused_or_stored_twice(
    name: str, kind: str, exported: Callable[[str, str], Path]
) -> None:
    for path in graph_files(exported(name, kind)):
        graph = load(path).graph
        used = {value.name for value in graph.output}
        for node in every_node(graph):
            used.update(node.input)
        for node in graph.node:
            assert used.intersection(node.output), f"{path.name}: {node.name} feeds nothing"
            assert node.op_type != "Identity"
        names = [tensor.name for tensor in graph.initializer]
        assert set(names) <= used, "unused initializers"
        assert {value.name for value in graph.input} <= used, "unused inputs"
        contents = [content_of(tensor) for tensor in graph.initializer]
        assert len(set(contents)) == len(contents), "equal initializers"


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_weights_are_the_checkpoints_in_a_safetensors_file_that_the_graph_points_into(
    name: str, kind: str, exported: Callable[[str, str], Path], checkpoint_of: Callable[[str], Path]
) -> None:
    checkpoint = load_file(checkpoint_of(name) / "diffusion_pytorch_model.safetensors")
    folder = exported(name, kind)
    for component, prefixes in COMPONENTS.items():
        stored = load_file(folder / f"{component}.safetensors")
        assert stored.keys() == {key for key in checkpoint if key.startswith(prefixes)}
        assert all(np.array_equal(stored[key], checkpoint[key]) for key in stored)
        raw = (folder / f"{component}.safetensors").read_bytes()
        pointed_at = set()
        for path in folder.glob(f"{component}*.onnx"):
            for tensor in load(path).graph.initializer:
                if tensor.data_location != TensorProto.EXTERNAL:
                    assert len(tensor.raw_data) <= 1024, f"{tensor.name}: weights belong in the safetensors file"
                    continue
                where = {entry.key: entry.value for entry in tensor.external_data}
                assert where["location"] == f"{component}.safetensors"
                start, length = int(where["offset"]), int(where["length"])
                key = tensor.name.partition(":")[0]
                assert raw[start : start + length] == stored[key].tobytes()
                assert math.prod(tensor.dims) == stored[key].size
                assert start % 4 == 0, "engines that map the file read aligned floats"
                pointed_at.add(key)
        assert pointed_at == stored.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_no_size_is_baked_in(name: str, bundle_of: Callable[[str], Path]) -> None:
    config: Any = config_from_dict(ALL[name])
    video = config.video
    for component in COMPONENTS:
        # Without the declared shape, inference must still find every axis but the channels open.
        model = load(bundle_of(name) / f"{component}.onnx")
        declared = axes_of(model.graph.output)
        (output,) = model.graph.output
        output.type.tensor_type.ClearField("shape")
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph.output[0]
        for axis, size in enumerate(inferred.type.tensor_type.shape.dim):
            assert axis == 1 or not size.HasField("dim_value"), (component, declared, inferred)
    constants = set()
    for component in COMPONENTS:
        for tensor in load(bundle_of(name) / f"{component}.onnx").graph.initializer:
            if tensor.data_type == TensorProto.INT64:
                constants.update(np.atleast_1d(numpy_helper.to_array(tensor)).tolist())
    height, width = _free_sizes(constants, config.spatial_ratio)
    cells = (3, height, width) if video else (height, width)
    with open_bundle(bundle_of(name), threads=1) as vae:
        sizes = vae.grid.sample_size(cells)
        sample = np.zeros((3, config.in_channels, *sizes), np.float32)
        moments = vae.encode(sample).latent_dist.parameters
        assert moments.shape == (3, 2 * config.latent_channels, *cells)
        temb = np.zeros(3, np.float32) if getattr(config, "timestep_conditioning", False) else None
        decoded = vae.decode(np.ones((3, config.latent_channels, *cells), np.float32), temb=temb, rng=0).sample
        assert decoded.shape == (3, config.out_channels, *sizes)
        assert np.isfinite(decoded).all()


@pytest.mark.parametrize(("kind", "products"), [("default", 4), ("eager", 4), ("sliced", 4), ("unfused", 6)])
def test_fused_projections_are_one_product(kind: str, products: int, exported: Callable[[str, str], Path]) -> None:
    for path in whole_graphs(exported("flux", kind)):
        graph = load(path).graph
        found = [node for node in every_node(graph) if node.op_type == "MatMul"]
        assert len(found) == products, "q, k, v (one or three), scores, their application, the output projection"
        concatenated = [
            node for node in graph.node if node.op_type == "Concat" and any("to_q" in i for i in node.input)
        ]
        assert bool(concatenated) == (kind != "unfused")


@pytest.mark.parametrize(("kind", "rank"), [("default", 4), ("unfused", 4), ("eager", 3)])
def test_sdpa_is_the_four_dimensional_pattern_that_engines_fuse(
    kind: str, rank: int, exported: Callable[[str, str], Path]
) -> None:
    for path in whole_graphs(exported("flux", kind)):
        model = onnx.shape_inference.infer_shapes(load(path), strict_mode=True, data_prop=True)
        ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.value_info}
        producer = {output: node for node in model.graph.node for output in node.output}
        (softmax,) = (node for node in model.graph.node if node.op_type == "Softmax")
        scores = producer[softmax.input[0]]
        (applied,) = (node for node in model.graph.node if softmax.output[0] in node.input)
        assert (scores.op_type, applied.op_type) == ("MatMul", "MatMul")
        assert [ranks[node.output[0]] for node in (scores, softmax, applied)] == [rank] * 3
        keys = producer[scores.input[1]]
        assert keys.op_type == "Transpose"
        assert list(keys.attribute[0].ints) == [*range(rank - 2), rank - 1, rank - 2]
        assert applied.input[0] == softmax.output[0]


@pytest.mark.parametrize(("kind", "rows"), [("sliced", 1024), ("default", 1200)])
def test_sliced_attention_bounds_the_score_matrix(
    kind: str, rows: int, exported: Callable[[str, str], Path], tmp_path: Path
) -> None:
    options = {"enable_profiling": True, "profile_file_prefix": str(tmp_path / "trace")}
    with open_bundle(exported("relu_one_block", kind), threads=1, session_options=options, selftest="never") as vae:
        vae.decode(np.zeros((1, vae.config.latent_channels, 30, 40), np.float32))
    [trace] = tmp_path.glob("trace*.json")  # written where the session ends
    events = json.loads(trace.read_text())
    shapes = [
        tuple(shape)
        for event in events
        if event.get("args", {}).get("op_name") == "Softmax"
        for output in event["args"].get("output_type_shape", [])
        for shape in output.values()
    ]
    assert shapes, "the profile shows the softmax"
    assert {shape[-2] for shape in shapes} == {rows}
    assert {shape[-1] for shape in shapes} == {1200}


class _Unsupported(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Identity(), inner])

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.blocks[1](hidden)
        return result


class _Erf(nn.Module):
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.erf(hidden)


class _Device(nn.Module):
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + hidden.itemsize


@pytest.mark.parametrize(("inner", "operation"), [(_Erf(), "erf"), (_Device(), "itemsize")])
def test_an_operation_without_a_lowering_is_an_error_that_names_the_layer(inner: nn.Module, operation: str) -> None:
    builder = GraphBuilder(opset=18, weights={})
    with pytest.raises(LoweringError, match=rf"^blocks\.1: no ONNX lowering for .*{operation}"):
        lower(_Unsupported(inner), [TensorSpec("hidden", "float32", (2,))], (), builder, prefix="")


def test_the_builder_leaves_out_what_no_output_needs_and_shares_what_is_equal() -> None:
    builder = GraphBuilder(opset=18, weights={})
    hidden = builder.node("Add", "x", builder.constant(2.0))
    builder.node("Mul", hidden, builder.constant(3.0))  # nobody reads this
    sizes = {builder.shared_node("Shape", "x", start=0, end=1) for _ in range(2)}
    assert len(sizes) == 1
    assert builder.constant(2.0) == builder.constant(2.0)
    builder.rename_output(hidden, "y")
    graph = builder.finish("g", [TensorSpec("x", "float32", ("n",))], [TensorSpec("y", "float32", ("n",))]).graph
    assert [node.op_type for node in graph.node] == ["Add"]
    assert [numpy_helper.to_array(tensor).item() for tensor in graph.initializer] == [2.0]


def test_the_same_checkpoint_gives_the_same_bytes(
    bundle_of: Callable[[str], Path], checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    for name in ("odd_groups", "noise_timestep"):
        export_bundle(checkpoint_of(name), tmp_path / name)
        for file in [*graph_files(bundle_of(name)), *bundle_of(name).glob("*.safetensors")]:
            assert file.read_bytes() == (tmp_path / name / file.name).read_bytes()


def whole_graphs(folder: Path) -> list[Path]:
    """Without the steps of exact strips, among which attention is divided."""
    return [folder / "decoder.onnx", folder / "encoder.onnx"]


def graph_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.onnx"))
    assert files
    return files


def load(path: Path) -> onnx.ModelProto:
    return onnx.load(str(path), load_external_data=False)


def axes_of(values: Any) -> dict[str, tuple[int | str, ...]]:
    for value in values:
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    return {
        value.name: tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in values
    }


def every_node(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The graph's nodes and those of the graphs within."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from every_node(attribute.g)


def content_of(tensor: TensorProto) -> tuple[Any, ...]:
    where = tuple((entry.key, entry.value) for entry in tensor.external_data)
    return (tensor.data_type, tuple(tensor.dims), tensor.raw_data, where)


def _free_sizes(constants: set[int], ratio: int) -> tuple[int, int]:
    """Two latent sizes that appear in no constant, at no scale between latents and pixels."""
    scales = [2**power for power in range(ratio.bit_length())]
    free = [size for size in (3, 5, 7, 9, 11, 13) if not constants.intersection(size * scale for scale in scales)]
    return free[0], free[1]
