"""Engines of streaming graphs and steps of exact strips, built on the CPU by tensorrt-rtx, and what they take."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from architectures import ALL
from click.testing import CliRunner

from latentrt.cli.main import cli
from latentrt.export.engines.build import build_engines
from latentrt.export.engines.order import engine_orders
from latentrt.export.engines.settings import BuildSettings, Extent
from latentrt.export.engines.stream_profiles import stream_profiles
from latentrt.export.engines.strip_profiles import strip_profiles
from latentrt.runtime import EngineError, InputError
from latentrt.runtime.backends.tensorrt.opener import find_engines
from latentrt.runtime.bundle.graph import Graph
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.bundle.profiles import choose_profile
from latentrt.runtime.config.families import config_from_dict
from latentrt.runtime.config.kl import AutoencoderKLConfig
from latentrt.runtime.config.ltx2 import AutoencoderKLLTX2VideoConfig

pytestmark = pytest.mark.slow

RTX: Final = "tensorrt-rtx"
FAST: dict[str, Any] = {"compute_capabilities": ("8.9",), "optimization_level": 0}


def test_streaming_graphs_become_engines_once(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(bundle_of("conv_down"), tmp_path / "bundle"))
    options = ["--backend", RTX, "--tile", "64x96x9", "--stream", "--chunk", "8", "--compute-capability", "8.9"]
    command = ["build", str(bundle), *options, "--component", "encoder", "--optimization-level", "0", "--json"]
    engines = json.loads(CliRunner().invoke(cli, command, catch_exceptions=False).stdout)["engines"]
    manifest = Manifest.open(bundle)
    graphs = [graph for graph in (*manifest.graphs, *manifest.streams) if graph.component == "encoder"]
    assert [engine["graph"] for engine in engines] == [graph.file for graph in graphs]
    assert [engine["kind"] for engine in engines] == ["whole", *["stream"] * (len(graphs) - 1)]
    again = json.loads(CliRunner().invoke(cli, command, catch_exceptions=False).stdout)["engines"]
    assert [engine["fresh"] for engine in again] == [False] * len(graphs)
    for graph, record in zip(graphs, manifest.engines, strict=True):
        record.check_file(bundle)
        machine = {"library_version": record.library_version, "capability": "8.9"}
        assert find_engines(manifest, graph, RTX, **machine) == (record,)
        with pytest.raises(EngineError, match="--dtype float32 --stream`" if graph.stage else "--dtype float32`"):
            find_engines(manifest, graph, "tensorrt", **machine)
    text = CliRunner().invoke(cli, ["inspect", str(bundle), "--files"], catch_exceptions=False).stdout
    assert text.count("float32, for streams, compute capability 8.9") == len(graphs) - 1


@pytest.mark.parametrize(
    ("name", "asked", "kind"), [("ltx20", "stream", "stream"), ("ltx20", "exact", "stream"), ("sd", "exact", "exact")]
)
def test_parts_can_be_ordered_without_the_whole(
    name: str, asked: str, kind: str, bundle_of: Callable[[str], Path]
) -> None:
    manifest = Manifest.open(bundle_of(name))
    options: dict[str, Any] = {asked: True}
    for whole, kinds in ((True, {"whole", kind}), (False, {kind})):
        settings = BuildSettings(RTX, whole=whole, **options)
        orders = engine_orders(manifest, settings, "1.0", ("8.9",))
        assert {order.graph.kind for order in orders} == kinds
        assert len({order.file for order in orders}) == len(orders)
    if kind == "stream":  # clips run in strips in the engines of streams, which are built once
        both = engine_orders(manifest, BuildSettings(RTX, whole=False, stream=True, exact=True), "1.0", ("8.9",))
        assert [order.file for order in both] == [order.file for order in orders]
    nothing = BuildSettings(RTX, whole=False)
    with pytest.raises(InputError, match="whole=False leaves nothing to build"):
        engine_orders(manifest, nothing, "1.0", ("8.9",))


@pytest.mark.parametrize("name", ["ltx23", "causal_decoder"])  # the dry run of scripts/gpu_check builds ltx20's
def test_every_stage_becomes_an_engine(name: str, bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(bundle_of(name), tmp_path / "bundle"))
    capabilities = ("8.0", "12.0")
    settings = BuildSettings(
        RTX,
        components=("decoder",),
        tiles=(Extent(1, 64, 64, 9),),
        stream=True,
        compute_capabilities=capabilities,
        optimization_level=0,
    )
    streams = [one.record for one in build_engines(bundle, settings) if one.record.kind == "stream"]
    stages = [graph.file for graph in Manifest.open(bundle).streams if graph.component == "decoder"]
    assert [record.graph for record in streams] == stages
    for record in streams:
        assert record.compute_capabilities == capabilities
        assert len(record.profiles) == 2
        assert record.bytes > 100_000
        assert record.settings["adds"] == (["pixels"] if record is streams[-1] else []), "frames leave the last stage"
        assert (b"pixels" in (bundle / record.file).read_bytes()) == (record is streams[-1])


def test_a_step_takes_what_streams_bring(bundle_of: Callable[[str], Path]) -> None:
    config = config_from_dict(ALL["ltx20"])
    assert isinstance(config, AutoencoderKLLTX2VideoConfig)
    streams = Manifest.open(bundle_of("ltx20")).streams
    encoders = [graph for graph in streams if graph.component == "encoder"]
    decoder, encoder = [graph for graph in streams if graph.component == "decoder"], encoders[0]
    settings = BuildSettings(RTX, tiles=(Extent(2, 64, 96),), chunk=8)
    first, later = stream_profiles(config, encoder, settings)
    assert str(first).startswith("chunk (1, 3, 1, 64, 64) to (2, 3, 9, 64, 96), first 1, state_00")
    assert str(later).startswith("chunk (1, 3, 1, 64, 64) to (2, 3, 8, 64, 96), first 0, state_00")
    for graph in encoders:
        first, later = stream_profiles(config, graph, settings)
        assert graph.stage is not None
        own = 8 // graph.stage.ratio  # frames of a latent frame
        lengths = [profile.ranges["chunk"].maximum[2] for profile in (first, later)]
        assert lengths == [own + (own > 1), own]
    for graph, most in zip(decoder, (1, 1, 2, 4), strict=True):
        ends, between = stream_profiles(config, graph, settings)
        assert graph.stage is not None
        begin = max(most, graph.stage.lead)
        for profile, longest, largest in ((ends, begin, 1), (between, most, 0)):
            chunk, flag = profile.ranges["chunk"], profile.ranges["last"]
            assert (chunk.minimum[2], chunk.optimum[2], chunk.maximum[2]) == (1, longest, longest)
            assert (flag.minimum, flag.maximum) == ((0,), (largest,))
        shapes = {name: of.minimum for name, of in between.ranges.items()}
        assert choose_profile([ends, between], shapes) == 1, "what both take runs where less memory is planned for"
        assert choose_profile([ends, between], shapes | {"last": (1,)}) == 0
    (long, _) = stream_profiles(config, decoder[-1], BuildSettings(RTX, chunk=64))
    assert long.ranges["chunk"].maximum[2] == 32
    off = BuildSettings(RTX, tiles=(Extent(1, 64, 72),))
    with pytest.raises(InputError, match="a stream's height and width are multiples of 32 pixels, got 64x72"):
        stream_profiles(config, encoder, off)


def test_the_steps_of_exact_strips_become_engines_once(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(bundle_of("odd_groups"), tmp_path / "bundle"))
    manifest = Manifest.open(bundle)
    kinds: dict[Any, Graph] = {}  # one step of each kind: a bundle has dozens
    for graph in manifest.strip_graphs:
        assert graph.strip_stage is not None
        stage = graph.strip_stage
        kinds[stage.kind, stage.up, stage.down, stage.skip is None] = graph
    dataclasses.replace(manifest, strip_graphs=tuple(kinds.values())).write()
    options: dict[str, Any] = {"tiles": (Extent(1, 32, 64),), "exact": True, "picture": (128, 256)}
    built = build_engines(bundle, settings := BuildSettings(RTX, **options, **FAST))
    assert {one.record.graph for one in built[2:]} == {graph.file for graph in kinds.values()}
    assert len(kinds) == 6
    assert {one.record.kind for one in built[2:]} == {"exact"}
    assert not any(one.fresh for one in build_engines(bundle, settings))


def test_a_step_of_exact_strips_takes_a_strip_with_its_surroundings(bundle_of: Callable[[str], Path]) -> None:
    config = config_from_dict(ALL["sd"])
    assert isinstance(config, AutoencoderKLConfig)
    strip_graphs = Manifest.open(bundle_of("sd")).strip_graphs
    settings = BuildSettings(RTX, tiles=(Extent(1, 64, 128),), exact=True, picture=(512, 1024))
    sources = {"up": (34, 66), "down": (129, 257), "same": (66, 130)}
    seen = set()
    for graph in strip_graphs:
        (profile,) = strip_profiles(config, graph, settings)
        stage = graph.strip_stage
        assert stage is not None
        tile = profile.ranges["tile"]
        if stage.kind == "convolution":
            way = "up" if stage.up == 2 else "down" if stage.down == 2 else "same"
            assert (tile.minimum[2:], tile.maximum[2:]) == ((2, 2), sources[way])
            assert (profile.ranges["top"].minimum, profile.ranges["top"].maximum) == ((0,), (1,))
            seen.add(way)
        elif stage.kind == "keys":
            assert tile.maximum[2:] == (64, 128)
        else:
            assert profile.ranges["keys"].maximum[1] == 64 * 128
            assert 8 * tile.maximum[2] * tile.maximum[3] * 64 * 128 <= 1 << 29
    assert seen == {"up", "down", "same"}


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("sd", {"stream": True}, "--stream: .* holds no float32 streaming graphs; they are for video models"),
        ("ltx20", {"stream": True, "chunk": 0}, "--chunk must be at least one frame, got 0"),
        ("sd", {"exact": True, "picture": (100, 64)}, "strips and pictures are multiples of 8 pixels, got 100x64"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(
    name: str, options: dict[str, Any], sentence: str, bundle_of: Callable[[str], Path]
) -> None:
    with pytest.raises(InputError, match=sentence):
        build_engines(bundle_of(name), BuildSettings(**({"backend": RTX} | FAST | options)))
