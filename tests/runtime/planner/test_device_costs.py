"""Calls planned for a GPU's memory: from what engines' records say, without running anything. The device is a stand-in;
one engine is TensorRT-RTX's own."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import host_device
import numpy as np
import pytest
from click.testing import CliRunner
from settled import settled

from latentrt.cli.main import cli
from latentrt.export.bundle import ExportSettings, export_bundle
from latentrt.export.engines.build import build_engines
from latentrt.export.engines.planning import plan_profiles
from latentrt.export.engines.settings import BuildSettings, Extent
from latentrt.export.engines.stream_profiles import stream_profiles
from latentrt.export.engines.strip_profiles import strip_profiles
from latentrt.runtime import BackendUnavailable, InputError, open_bundle
from latentrt.runtime.arrays.grid import Grid
from latentrt.runtime.backends.memory_model import RecordedMemory
from latentrt.runtime.bundle.added_outputs import added_outputs
from latentrt.runtime.bundle.graph import Graph
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.bundle.profiles import Profile
from latentrt.runtime.calls.strategy import WHOLE, Strategy, linear_tiles
from latentrt.runtime.calls.workload import Workload
from latentrt.runtime.errors import EngineError
from latentrt.runtime.planner.candidates import strips_within
from latentrt.runtime.planner.device_costs import DeviceCosts

MIB = 1 << 20


def _memory(engines: Any) -> RecordedMemory:
    return RecordedMemory(engines, lambda: 1 << 40, tiles_at_once=2)


SETTINGS = {
    "sd": BuildSettings("tensorrt", tiles=(Extent(1, 64, 64),), picture=(256, 256)),
    "ltx20": BuildSettings("tensorrt", tiles=(Extent(1, 128, 128, 17),)),
}


@pytest.fixture(scope="module")
def bundles(bundle_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles with a stand-in for an engine of every graph, each of which needs 20 MiB for activations."""
    found = {}
    for name, settings in SETTINGS.items():
        bundle = found[name] = Path(shutil.copytree(bundle_of(name), tmp_path_factory.mktemp("planned") / name))
        manifest = Manifest.open(bundle)
        config: Any = manifest.config

        def profiles(graph: Graph, config: Any = config, settings: Any = settings) -> tuple[Profile, ...]:
            if graph.stage is not None:
                return stream_profiles(config, graph, settings)
            return (strip_profiles if graph.strip_stage else plan_profiles)(config, graph, settings)

        def adds(graph: Graph, manifest: Manifest = manifest) -> tuple[str, ...]:
            return added_outputs(manifest, graph)

        host_device.with_engines(bundle, profiles, adds)
        made = Manifest.open(bundle)
        engines = tuple(replace(record, activation_bytes=20 * MIB) for record in made.engines)
        replace(made, engines=engines).write()
    return found


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    host_device.install(monkeypatch)


def latents(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape, np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("sd", (1, 4, 8, 8), "whole"),
        ("sd", (1, 4, 16, 24), "strips"),  # larger than the engine of a whole pass was built for
        ("sd", (1, 4, 48, 24), "tiles"),  # and than those of strips
        ("ltx20", (1, 16, 3, 4, 4), "whole"),
        ("ltx20", (1, 16, 5, 4, 4), "stream"),
        ("ltx20", (1, 16, 2, 4, 8), "tiles"),
    ],
)
def test_what_engines_run_is_chosen_the_exact_before_the_others(
    name: str, shape: tuple[int, ...], kind: str, bundles: dict[str, Path], device: None
) -> None:
    z = latents(*shape)
    with (
        open_bundle(bundles[name], backend="tensorrt") as vae,
        open_bundle(bundles[name], backend="onnxruntime") as cpu,
    ):
        chosen = settled(vae, z, "8GiB")
        assert chosen.kind == kind
        decoded = vae.decode(z, memory="8GiB")
        assert decoded.exact == (kind != "tiles")
        if decoded.exact:
            np.testing.assert_allclose(decoded.sample, cpu.decode(z).sample, atol=1e-4)
        with pytest.raises(InputError, match=r"nothing fits into 1 MiB: the least would be .*, in \d+ MiB"):
            vae.decode(z, memory="1MiB")
        assert vae.opened.planning.default_budget() > 0


def test_a_budget_below_a_pass_is_met_by_less(bundles: dict[str, Path], device: None) -> None:
    with open_bundle(bundles["sd"], backend="tensorrt") as vae:
        planner, points = vae.opened.planning.planner()
        assert points is None, "nothing is measured"
        decision = planner.decide(Workload(vae.config, vae.grid, "decoder", 1, (8, 8)), 1 << 40, WHOLE, complete=True)
        whole = decision.candidates[0]
        assert decision.chosen is whole
        assert whole.cost.seconds is None
        below = planner.decide(Workload(vae.config, vae.grid, "decoder", 1, (8, 8)), whole.cost.bytes - 1, WHOLE)
        assert below.chosen is None or below.chosen.cost.bytes < whole.cost.bytes


def test_plan_shows_it_and_calibrate_has_nothing_to_do(bundles: dict[str, Path], device: None, tmp_path: Path) -> None:
    command = ["plan", str(bundles["ltx20"]), "--backend", "tensorrt", "--size", "128x128x17", "--memory", "2GiB"]
    drawing = tmp_path / "plan.png"
    done = CliRunner().invoke(cli, [*command, "--json", "--draw", str(drawing)], standalone_mode=False)
    told = json.loads(done.stdout)
    assert told["chosen"] == "whole"
    assert {row["seconds"] for row in told["candidates"]} == {None}
    assert drawing.stat().st_size > 0
    assert "whole" in CliRunner().invoke(cli, command, standalone_mode=False).stdout
    refused = CliRunner().invoke(
        cli, ["calibrate", str(bundles["ltx20"]), "--backend", "tensorrt"], standalone_mode=False
    )
    assert isinstance(refused.exception, BackendUnavailable)
    assert "the records of its engines say how much memory calls take" in str(refused.exception)


def test_weights_activations_and_what_goes_in_and_out_are_counted(
    checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    export_bundle(checkpoint_of("relu_one_block"), bundle, ExportSettings(components=("decoder",)))
    build_engines(bundle, BuildSettings("tensorrt-rtx", tiles=(Extent(2, 64, 64),), compute_capabilities=("8.9",)))
    manifest = Manifest.open(bundle)
    (record,) = manifest.engines
    assert record.activation_bytes is not None
    grid = Grid.of(manifest.config)
    work = Workload(manifest.config, grid, "decoder", 2, grid.latent_size((64, 64)))
    costs = DeviceCosts(manifest, _memory(lambda graph: (record,)), "float32")
    whole = record.bytes + record.activation_bytes + work.input_bytes + 1.25 * work.result_bytes()
    assert costs.of(work, WHOLE).bytes == pytest.approx(1.06 * whole, abs=2)
    tile = work.cells[0] // 2
    tiled = costs.of(work, Strategy(linear_tiles(((tile, tile - 1),) * 2)))
    two = 2 * (work.input_bytes + 1.25 * work.result_bytes()) / 4
    assert tiled.bytes == pytest.approx(1.06 * (record.bytes + record.activation_bytes + two), abs=2)
    one = costs.of(work, Strategy(sliced=True))
    assert one.bytes < costs.of(work, WHOLE).bytes
    assert costs.of(replace(work, caller_bytes=77), WHOLE) == costs.of(work, WHOLE), "which the host holds"
    with pytest.raises(EngineError, match="the engine was built for"):
        costs.of(replace(work, cells=grid.latent_size((128, 64))), WHOLE)


def test_engines_of_streams_alone_are_planned(bundles: dict[str, Path], device: None, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(bundles["ltx20"], tmp_path / "streams"))
    manifest = Manifest.open(bundle)
    replace(manifest, engines=tuple(record for record in manifest.engines if record.kind == "stream")).write()
    z = latents(1, 16, 5, 4, 4)
    with open_bundle(bundle, backend="tensorrt") as vae, open_bundle(bundle, backend="onnxruntime") as cpu:
        decoded = vae.decode(z, memory="8GiB")
        assert decoded.exact
        np.testing.assert_allclose(decoded.sample, cpu.decode(z).sample, atol=1e-4)


def test_strips_are_planned_in_the_precision_that_runs(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    export_bundle(checkpoint_of("sd"), bundle, ExportSettings(components=("decoder",), dtypes=("float32", "float16")))
    settings = SETTINGS["sd"]
    manifest = Manifest.open(bundle)

    def profiles(graph: Graph) -> tuple[Profile, ...]:
        return (strip_profiles if graph.strip_stage else plan_profiles)(manifest.config, graph, settings)

    host_device.with_engines(bundle, profiles, lambda graph: added_outputs(manifest, graph))
    manifest = Manifest.open(bundle)
    half = {graph.file for graph in manifest.every_graph if graph.dtype == "float16"}

    def engines(graph: Graph) -> Any:
        if graph.file not in half:
            raise EngineError(f"no engine of {graph.file}")
        return [record for record in manifest.engines if record.graph == graph.file]

    grid = Grid.of(manifest.config)
    work = Workload(manifest.config, grid, "decoder", 1, (16, 24))
    strips = strips_within(manifest, work, 1 << 28, dtype="float16")
    assert strips is not None
    assert DeviceCosts(manifest, _memory(engines), "float16").of(work, strips).bytes > 0


def test_what_the_caller_holds_is_not_the_gpus(bundles: dict[str, Path], device: None) -> None:
    with open_bundle(bundles["sd"], backend="tensorrt") as vae:
        planner, _ = vae.opened.planning.planner()
        work = Workload(vae.config, vae.grid, "decoder", 1, (8, 8))
        alone, beside = (
            planner.decide(replace(work, caller_bytes=held), 1 << 40, WHOLE).chosen.cost.bytes for held in (0, 1 << 30)
        )
        assert alone == beside
