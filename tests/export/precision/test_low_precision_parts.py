"""Streams and exact strips in float16: close to float32, states as small as they may be, statistics in float32."""

import dataclasses
import logging
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from architectures import ALL, LTX, picture
from click.testing import CliRunner
from onnx import TensorProto
from scaled import scale_weights

from latentrt.cli.main import cli
from latentrt.export.bundle import ExportSettings, export_bundle
from latentrt.export.engines.build import build_engines
from latentrt.export.engines.settings import BuildSettings, Extent
from latentrt.export.verify.quality import psnr
from latentrt.runtime import BundleError, EngineError, InputError, open_bundle
from latentrt.runtime.arrays.kinds import Dtype
from latentrt.runtime.bundle.graph import Graph
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.calls.strategy import Strategy
from latentrt.runtime.calls.workload import Workload
from latentrt.runtime.planner.candidates import TileSizes, candidates

BOTH: tuple[Dtype, ...] = ("float32", "float16")
Mixed = Callable[[str], Path]


@pytest.fixture(scope="module")
def mixed(checkpoint_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    """The bundle of an architecture in float32 and float16. Copy it before changing it."""

    @cache
    def export(name: str) -> Path:
        folder = tmp_path_factory.mktemp("mixed") / name
        export_bundle(checkpoint_of(name), folder, ExportSettings(dtypes=BOTH))
        return folder

    return export


def opened(bundle: Path, dtype: Dtype) -> Any:
    return open_bundle(bundle, backend="onnxruntime", provider="cpu", threads=1, dtype=dtype)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ltx20", "causal_decoder", "noise_timestep"])
def test_streams_in_float16_are_close_to_float32(name: str, mixed: Mixed) -> None:
    options: dict[str, Any] = {"temb": 0.05, "rng": 0} if name == "noise_timestep" else {}
    latents = np.random.default_rng(1).standard_normal((1, LTX[name]["latent_channels"], 5, 2, 3), np.float32)
    clip = picture(ALL[name], batch=1, frames=25, height=64, width=96)
    with opened(mixed(name), "float32") as wide, opened(mixed(name), "float16") as low:
        frames, close = (np.concatenate([*vae.decode_stream(latents, 8, **options)], axis=2) for vae in (wide, low))
        assert frames.dtype == close.dtype == np.float32
        assert 45 <= psnr(close, frames) < 150, "close, and not the same graphs"
        moments, close = (np.concatenate([*vae.encode_stream(clip, 8)], axis=2) for vae in (wide, low))
        assert 45 <= psnr(close, moments) < 150
        whole = low.decode(latents, **options).sample
        low.enable_streaming()
        assert psnr(low.decode(latents, **options).sample, whole) >= 60, "the same rounding, nearly"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd", "odd_groups"])
def test_exact_strips_in_float16_are_close_to_float32(name: str, mixed: Mixed) -> None:
    latents = np.random.default_rng(0).standard_normal((1, 4, 9, 7), np.float32)
    ratio = 8 if name == "sd" else 4
    sample = picture(ALL[name], batch=1, frames=1, height=9 * ratio, width=7 * ratio)
    with opened(mixed(name), "float32") as wide, opened(mixed(name), "float16") as low:
        whole = low.decode(latents).sample
        low.enable_tiling(exact=True, strip=2 * ratio)
        strips = low.decode(latents).sample
        assert 45 <= psnr(strips, wide.decode(latents).sample) < 150
        assert psnr(strips, whole) >= 70, "the statistics are those of the whole picture"
        moments = [vae.encode(sample).latent_dist.parameters for vae in (low, wide)]
        assert 45 <= psnr(*moments) < 150


def element_types(path: Path) -> tuple[onnx.GraphProto, dict[str, int]]:
    model = onnx.load(str(path), load_external_data=False)
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    graph = model.graph
    values = (*graph.value_info, *graph.input, *graph.output)
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    return graph, kinds | {tensor.name: tensor.data_type for tensor in graph.initializer}


@pytest.mark.parametrize("name", ["sd", "ltx20"])
def test_every_part_has_its_islands(name: str, mixed: Mixed) -> None:
    manifest = Manifest.open(mixed(name))
    parts = [graph for graph in (*manifest.streams, *manifest.strip_graphs) if graph.dtype == "float16"]
    assert len(parts) == len(manifest.streams + manifest.strip_graphs) // 2
    for part in parts:
        graph, kinds = element_types(mixed(name) / part.file)
        makers = {output: node for node in graph.node for output in node.output}
        for node in graph.node:
            kind = kinds[node.output[0]]
            if node.op_type in ("Conv", "MatMul"):
                assert kind == TensorProto.FLOAT16, (part.file, node.name)
            if node.op_type in ("ReduceMean", "Softmax", "Sqrt", "LayerNormalization"):
                assert kind == TensorProto.FLOAT, (part.file, node.name)
            if node.op_type == "Add" and node.output[0] == "result":
                assert kind == TensorProto.FLOAT, "what adds up over many layers is not rounded"
            if (
                part.strip_stage
                and node.op_type in ("Mul", "Add")
                and any(_of_statistics(one, makers) for one in node.input)
            ):
                assert kind == TensorProto.FLOAT, "scaled and shifted by a norm"
        for tensor in (*part.inputs, *part.outputs):
            wanted = "float16" if "state_" in tensor.name else "int64" if kinds[tensor.name] == 7 else "float32"
            assert tensor.dtype == wanted
            assert kinds[tensor.name] == {"float16": 10, "int64": 7, "float32": 1}[wanted]


def _of_statistics(name: str, makers: dict[str, Any]) -> bool:
    node = makers.get(name)
    while node is not None and node.op_type in ("Reshape", "Sqrt", "Div", "Cast"):
        if node.op_type == "Sqrt":
            return True
        name = node.input[1] if node.op_type == "Div" else node.input[0]
        node = makers.get(name)
    return False


@pytest.mark.slow
def test_parts_share_the_weights_of_their_precision_and_are_small(
    mixed: Mixed, checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    for name in ("sd", "ltx20"):
        manifest = Manifest.open(mixed(name))
        settings = ExportSettings(dtypes=("float16",), stream=False, exact=False)
        plain = export_bundle(checkpoint_of(name), tmp_path / name, settings)
        weights = {file.name: file.sha256 for file in manifest.files}
        assert all(weights[file.name] == file.sha256 for file in plain.files), "they change nothing for the whole"
        low = [graph for graph in (*manifest.streams, *manifest.strip_graphs) if graph.dtype == "float16"]
        assert {graph.weights for graph in low} == {graph.weights for graph in plain.graphs}
        assert sum(manifest.path_of(graph.file).stat().st_size for graph in low) < 300_000


@pytest.mark.long
@pytest.mark.slow
def test_what_a_range_check_keeps_is_kept_in_a_stream_too(
    checkpoint_of: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = Path(shutil.copytree(checkpoint_of("ltx20"), tmp_path / "source"))
    scale_weights(source, "decoder.conv_in.conv.weight", 4e5)  # the residual stream passes 65504 from there on
    np.save(tmp_path / "clip.npy", picture(LTX["ltx20"], batch=1, frames=9, height=64, width=64))
    latents = 3 * np.random.default_rng(0).standard_normal((1, 16, 3, 2, 3)).astype(np.float32)
    export_bundle(source, tmp_path / "plain", ExportSettings(dtypes=BOTH))
    with opened(tmp_path / "plain", "float32") as vae:
        wanted = vae.decode(latents).sample
    with (
        opened(tmp_path / "plain", "float16") as vae,
        pytest.raises(EngineError, match=r"in float16, and a stream cannot go back to its start: open the bundle with"),
    ):
        list(vae.decode_stream(latents, 8))
    manifest = export_bundle(
        source, tmp_path / "checked", ExportSettings(dtypes=BOTH, check_range=(tmp_path / "clip.npy",))
    )
    with opened(tmp_path / "checked", "float16") as vae:
        frames = np.concatenate([*vae.decode_stream(latents, 8)], axis=2)
    assert 45 <= psnr(frames, wanted) < 150
    stages = manifest.find_streams("decoder", "float16")
    kinds = {tensor.dtype for graph in stages for tensor in graph.inputs if tensor.name.startswith("state_")}
    assert kinds == {"float16", "float32"}, "only what is too large is remembered in float32"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.slow
def test_a_bundle_without_parts_in_the_precision_says_how_to_get_them(mixed: Mixed, tmp_path: Path) -> None:
    for name, option in (("conv_down", "--stream"), ("relu_one_block", "--strips")):
        bundle = Path(shutil.copytree(mixed(name), tmp_path / name))
        manifest = Manifest.open(bundle)
        wide: dict[str, tuple[Graph, ...]] = {
            kind: tuple(graph for graph in getattr(manifest, kind) if graph.dtype == "float32")
            for kind in ("streams", "strip_graphs")
        }
        dataclasses.replace(manifest, streams=wide["streams"], strip_graphs=wide["strip_graphs"]).write()
        cure = f"export it again with --dtype float16 {option}"
        with opened(bundle, "float16") as vae:
            if name == "relu_one_block":
                vae.enable_tiling(exact=True)
            z = np.zeros((1, 4, 8, 8), np.float32)
            with pytest.raises(BundleError, match=f"holds no float16 .*{cure}"):
                vae.enable_streaming() if name == "conv_down" else vae.decode(z)
        asked: dict[str, Any] = {"stream": True} if option == "--stream" else {"exact": True}
        with pytest.raises(InputError, match=f"{option}: .* holds no float16 .*{cure}"):
            build_engines(bundle, BuildSettings("tensorrt-rtx", dtypes=("float16",), **asked))


def test_the_planner_streams_in_the_precision_that_there_is(mixed: Mixed) -> None:
    manifest = Manifest.open(mixed("conv_down"))
    with opened(mixed("conv_down"), "float16") as vae:
        work = Workload(vae.config, vae.grid, "decoder", 1, (5, 4, 4))
    for dtype, streams in (("float16", True), ("bfloat16", False)):
        assert (
            any(one.streaming for one in candidates(manifest, work, Strategy(), dtype=dtype, sizes=TileSizes()))
            == streams
        )
    whole = dataclasses.replace(manifest, streams=manifest.find_streams("decoder", "float32"))
    assert [graph.dtype for graph in whole.find_streams("decoder")] == ["float32"] * 2


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("name", "option"), [("conv_down", "--stream"), ("relu_one_block", "--strips")])
def test_float16_parts_become_engines(
    name: str, option: str, mixed: Mixed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path))
    bundle = Path(shutil.copytree(mixed(name), tmp_path / "bundle"))
    manifest = Manifest.open(bundle)
    kinds = {
        (one.dtype, one.strip_stage.kind): one
        for one in manifest.strip_graphs
        if one.strip_stage and one.strip_stage.skip is None
    }
    dataclasses.replace(manifest, strip_graphs=tuple(kinds.values())).write()  # one step of each kind
    size = (64, 64, 9) if name == "conv_down" else (32, 32)
    parts = {"stream": True, "chunk": 8} if option == "--stream" else {"exact": True, "picture": (64, 64)}
    settings: dict[str, Any] = {"tiles": (Extent(1, *size),), "compute_capabilities": ("8.9",), **parts}
    built = build_engines(
        bundle, BuildSettings("tensorrt-rtx", ("float16",), ("decoder",), optimization_level=0, **settings)
    )
    records = [one.record for one in built if one.record.kind != "whole"]
    wanted = [one for one in (*manifest.streams, *kinds.values()) if one.component == "decoder"]
    assert [record.graph for record in records] == [one.file for one in wanted if one.dtype == "float16"]
    for record in records:
        added = ["pixels", "not_finite"] if record is records[-1] and name == "conv_down" else ["not_finite"]
        assert record.settings["adds"] == added, "a result that stays on the device is looked at there"
        content = (bundle / record.file).read_bytes()
        for output in ("pixels", "not_finite"):
            assert (output.encode() in content) == (output in added), "outputs are in an engine by name"
    text = CliRunner().invoke(cli, ["inspect", str(bundle), "--files"], catch_exceptions=False).stdout
    assert text.count("float16, for streams" if name == "conv_down" else "float16, for strips") == len(records)
