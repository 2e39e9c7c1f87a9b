"""Budgets, calibrations and the planner: mostly with made-up measurements, and once with real ones."""

import json
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architectures import LTX
from click.testing import CliRunner
from made_up_points import MADE_UP, MadeUp, memory_of
from settled import settled

from latentrt.cli.main import cli
from latentrt.runtime import Cancelled, InputError
from latentrt.runtime.arrays.grid import Grid
from latentrt.runtime.backends.backend import BackendRequest
from latentrt.runtime.backends.memory_model import Reopening
from latentrt.runtime.backends.onnxruntime.arena import BLOCK_BYTES, block_bytes, table_bytes
from latentrt.runtime.backends.openvino.backend import OpenVinoBackend
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.calls.strategy import WHOLE, Strategy, linear_tiles
from latentrt.runtime.calls.strip_settings import StripSettings
from latentrt.runtime.calls.workload import Workload, volume
from latentrt.runtime.errors import EngineError
from latentrt.runtime.execution.stream_lengths import MOST_ENCODER_FRAMES, MOST_FRAMES
from latentrt.runtime.files.encoded_file import encode_file
from latentrt.runtime.media.clips.clip_writer import write_clip
from latentrt.runtime.planner.calibration import Calibration
from latentrt.runtime.planner.calibration_sizes import calibration_sizes
from latentrt.runtime.planner.candidates import candidates
from latentrt.runtime.planner.costs import Costs
from latentrt.runtime.planner.decision import Decision
from latentrt.runtime.planner.planner import Planner
from latentrt.runtime.planner.policy import CallPlanner
from latentrt.runtime.planner.probe import Point, Probe, measure
from latentrt.runtime.system.budget import memory_text, parse_memory
from latentrt.runtime.system.process_memory import forget_peak, peak_bytes

MIB = 1 << 20


@pytest.fixture
def planned(bundle_of: Callable[[str], Path]) -> Callable[..., tuple[Decision, MadeUp]]:
    def plan(
        name: str,
        cells: tuple[int, ...],
        budget: int,
        base: Strategy = WHOLE,
        *,
        batch: int = 1,
        of_before: bool = False,
        **options: Any,
    ) -> tuple[Decision, MadeUp]:
        manifest = Manifest.open(bundle_of(name))
        if of_before:  # it does not say how to cut frames into strips
            manifest = replace(manifest, streams=tuple(replace(graph, halo=None) for graph in manifest.streams))
        grid = Grid.of(manifest.config)
        points = MadeUp(grid)
        work = Workload(manifest.config, grid, "decoder", batch, cells, "frames" if len(cells) == 3 else "float32")
        return Planner(manifest, Costs(manifest, MADE_UP, points)).decide(work, budget, base, **options), points

    return plan


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8 << 30),
        ("800MiB", 800 << 20),
        ("8GB", 8 * 10**9),
        ("1.5 gib", 3 << 29),
        ("77000000", 77_000_000),
        (12_345_678, 12_345_678),
    ],
)
def test_memory_is_read(text: int | str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "lots", "-1GiB", "8 GiBs", "0", 0, -5, True, "1e9"])
def test_what_is_no_memory_is_refused(text: Any) -> None:
    with pytest.raises(InputError, match="memory: wanted bytes"):
        parse_memory(text)


def test_memory_is_written() -> None:
    assert (memory_text(3 << 29), memory_text(800 * MIB)) == ("1.50 GiB", "800 MiB")


def test_sizes_that_stand_for_a_larger_one_are_powers_of_two_smaller() -> None:
    grid = Grid(spatial=32, temporal=8, encoder_minimum=2, decoder_minimum=2, video=True)
    cells = (33, 34, 60)
    *rungs, last = calibration_sizes(grid, cells, 2)
    assert last == cells
    assert len(rungs) > 5
    for rung in rungs:
        halvings = np.log2(volume(grid, cells) / volume(grid, rung))
        assert abs(halvings - round(halvings)) < 0.06
        assert min(rung[1:]) >= 2
        assert rung[0] <= 9
    assert [volume(grid, rung) for rung in rungs] == sorted(volume(grid, rung) for rung in rungs)


def test_a_whole_pass_is_taken_where_it_fits_and_is_the_fastest(planned: Any) -> None:
    decision, points = planned("ltx20", (9, 8, 8), 100 << 30)
    assert decision.chosen.strategy == WHOLE
    assert decision.chosen.is_exact
    assert {probe.strategy.kind for probe in points.asked} == {"whole", "stream"}
    assert "does not fit" not in decision.reason
    decision, points = planned("sd", (16, 16), 100 << 30)
    assert decision.chosen.strategy == WHOLE
    assert {probe.strategy.kind for probe in points.asked} == {"whole"}, "strips are for what does not fit"


class FasterStreams(MadeUp):
    """Streams take half the time of a pass."""

    def point(self, probe: Probe) -> Point:
        point = super().point(probe)
        return replace(point, seconds=point.seconds / 2) if probe.strategy.streaming else point


@pytest.mark.parametrize("complete", [True, False])
def test_the_faster_of_a_pass_and_a_stream_is_taken_in_the_longest_chunks_that_fit(
    complete: bool, bundle_of: Callable[[str], Path]
) -> None:
    manifest = Manifest.open(bundle_of("ltx20"))
    grid = Grid.of(manifest.config)
    for component, frames in (("decoder", MOST_FRAMES), ("encoder", MOST_ENCODER_FRAMES)):
        points = FasterStreams(grid)
        work = Workload(manifest.config, grid, component, 1, (9, 8, 8), "frames")
        planner = Planner(manifest, Costs(manifest, MADE_UP, points))
        decision = planner.decide(work, 100 << 30, WHOLE, complete=complete)
        assert decision.chosen is not None
        assert decision.chosen.strategy == Strategy(streaming=True, frames_per_chunk=frames)
        assert "the fastest of the exact strategies that fit" in decision.reason
        if not complete:
            assert {probe.strategy for probe in points.asked} == {WHOLE, decision.chosen.strategy}


def test_a_stream_is_the_better_plan_where_a_whole_pass_does_not_fit(planned: Any) -> None:
    decision, _ = planned("ltx20", (9, 8, 8), 600 * MIB)
    assert decision.chosen.strategy.kind == "stream"
    assert decision.chosen.is_exact
    assert decision.chosen.cost.most_bytes <= 600 * MIB


def test_tiles_are_taken_only_where_nothing_exact_fits(planned: Any) -> None:
    decision, _ = planned("ltx20", (9, 16, 16), 900 * MIB, of_before=True)
    assert decision.chosen.strategy.tiling is not None
    assert not decision.chosen.is_exact
    assert "approximate" in decision.reason
    assert all(one.refused for one in decision.candidates if one.is_exact)


def test_a_clip_goes_in_strips_before_anything_is_approximated(planned: Any) -> None:
    decision, _ = planned("ltx20", (9, 16, 16), 900 * MIB)
    assert decision.chosen.strategy.kind == "stream in strips"
    assert decision.chosen.is_exact
    assert decision.chosen.cost.most_bytes <= 900 * MIB
    assert not any(one.cost for one in decision.candidates if not one.is_exact), "tiles are not measured"
    decision, _ = planned("ltx20", (9, 16, 16), 900 * MIB, Strategy(streaming=True, frames_per_chunk=4))
    assert (decision.chosen.strategy.kind, decision.chosen.strategy.frames_per_chunk) == ("stream in strips", 4)


def test_strips_of_a_clip_hold_more_where_their_budget_is_larger(bundle_of: Callable[[str], Path]) -> None:
    manifest = Manifest.open(bundle_of("ltx20"))
    grid = Grid.of(manifest.config)
    work = Workload(manifest.config, grid, "decoder", 1, (9, 64, 64), "frames")
    costs = Costs(manifest, MADE_UP, MadeUp(grid))
    budgets = (128, 512, 2048)
    held = [costs.of(work, Strategy(StripSettings(memory_bytes=one * MIB), streaming=True)) for one in budgets]
    assert [one.bytes for one in held] == sorted(one.bytes for one in held)
    assert all(one.bytes < (50 + 1.5 * budget) * MIB for one, budget in zip(held, budgets, strict=True))
    assert held[0].seconds > held[2].seconds, "low strips read more rows around their own"  # type: ignore[operator]


def test_an_impossible_budget_names_the_least_that_would_do(planned: Any) -> None:
    decision, _ = planned("ltx20", (9, 16, 16), 1 * MIB)
    assert decision.chosen is None
    least = min(one.cost.most_bytes for one in decision.candidates if one.cost)
    assert f"in {memory_text(least, up=True)}" in decision.reason
    assert parse_memory(memory_text(least, up=True)) >= least


@pytest.mark.parametrize(("name", "cells"), [("ltx20", (33, 64, 64)), ("sd", (256, 256))])
def test_an_impossible_budget_is_refused_before_anything_large_is_calibrated(
    planned: Any, name: str, cells: tuple[int, ...]
) -> None:
    decision, points = planned(name, cells, 60 * MIB)
    assert decision.chosen is None
    assert max(probe.cells[-1] for probe in points.asked) <= 24
    least = min(one.cost.most_bytes for one in decision.candidates if one.cost)
    assert planned(name, cells, least)[0].chosen.cost.most_bytes <= least  # what the refusal names does work


def test_the_least_that_is_named_is_what_the_smallest_tile_takes(bundle_of: Callable[[str], Path]) -> None:
    manifest = Manifest.open(bundle_of("sd"))
    grid = Grid.of(manifest.config)

    class Bent(MadeUp):
        """Most of what small calls hold is there whatever their size, as with OpenVINO."""

        def point(self, probe: Probe) -> Point:
            point = super().point(probe)
            return replace(point, peak_bytes=point.peak_bytes + (0 if probe.strategy.kind == "strips" else 300 * MIB))

    work = Workload(manifest.config, grid, "decoder", 1, (160, 160))
    costs = Costs(manifest, MADE_UP, Bent(grid))
    smallest = list(candidates(manifest, work, WHOLE, dtype="float32", sizes=costs.tile_sizes(work)))[-1]
    assert smallest.kind == "tiles"
    least = memory_text(costs.of(work, smallest).most_bytes, up=True)
    for budget in (1 * MIB, 50 * MIB):
        decision = Planner(manifest, Costs(manifest, MADE_UP, Bent(grid))).decide(work, budget, WHOLE)
        told = {one.label: memory_text(one.most_bytes, up=True) for one in decision.candidates}
        assert told[smallest.label(grid)] == least


def test_streams_side_by_side_hold_their_states_and_their_part_of_a_chunk(bundle_of: Callable[[str], Path]) -> None:
    manifest = Manifest.open(bundle_of("ltx20"))
    grid = Grid.of(manifest.config)
    work = Workload(manifest.config, grid, "decoder", 1, (9, 8, 8), "frames")
    costs = Costs(manifest, MADE_UP, MadeUp(grid))
    tiled = Strategy(linear_tiles(((2, 1), (4, 4), (4, 4))), streaming=True, frames_per_chunk=8)
    one = costs.of(replace(work, cells=(9, 4, 4)), tiled.untiled).bytes
    states = sum(
        4 * int(np.prod(tensor.shape_for({"batch": 1, "height": 4, "width": 4})))
        for graph in manifest.streams
        for tensor in graph.inputs
        if graph.component == "decoder" and tensor.name.startswith("state_")
    )
    chunk = 4 * 3 * 8 * 32**2 * 16
    assert costs.of(work, tiled).bytes - one == pytest.approx(1.06 * (3 * (states + chunk) + 8 * chunk), rel=0.05)


def test_what_was_set_is_kept(planned: Any) -> None:
    decision, _ = planned("ltx20", (9, 8, 8), 100 << 30, Strategy(streaming=True))
    assert all(one.strategy.streaming for one in decision.candidates)
    decision, _ = planned("ltx20", (9, 8, 8), 600 * MIB, may_stream=False, complete=True)
    assert not any(one.strategy.streaming for one in decision.candidates)


def test_a_batch_goes_one_by_one_before_anything_is_approximated(planned: Any) -> None:
    decision, _ = planned("sd", (8, 8), 150 * MIB, batch=4)
    assert decision.chosen.strategy == Strategy(sliced=True)


def test_pictures_go_in_strips_before_anything_is_approximated(planned: Any) -> None:
    decision, _ = planned("sd", (128, 128), 700 * MIB)
    assert decision.chosen.strategy.kind == "strips"
    assert decision.chosen.is_exact
    assert decision.chosen.cost.most_bytes <= 700 * MIB


def test_tensors_that_no_engine_indexes_are_not_planned(planned: Any) -> None:
    decision, _ = planned("sd", (256, 256), 1 << 50, complete=True)
    whole = decision.candidates[0]
    assert whole.cost is None
    assert "4.3e9 elements" in whole.refused
    assert decision.chosen.strategy.kind == "strips"


def test_attention_is_quadratic_in_the_area(bundle_of: Callable[[str], Path]) -> None:
    manifest = Manifest.open(bundle_of("sd"))
    grid = Grid.of(manifest.config)
    work = Workload(manifest.config, grid, "decoder", 1, (128, 128))
    points = MadeUp(grid)
    points.point = lambda probe: Point(MIB, MIB, 0.1)  # type: ignore[method-assign]
    assert Costs(manifest, memory_of(manifest, "onnxruntime"), points).of(work, WHOLE).bytes > 2 * 4 * 128**4
    assert Costs(manifest, memory_of(manifest, "openvino"), points).of(work, WHOLE).bytes < 128**4


def test_a_larger_block_of_an_arena_has_a_larger_account(bundle_of: Callable[[str], Path]) -> None:
    manifest = Manifest.open(bundle_of("ltx20"))
    grid = Grid.of(manifest.config)

    def account(strategy: Strategy, cells: tuple[int, ...]) -> int:
        work = Workload(manifest.config, grid, "decoder", 1, cells, "frames")
        ours, others = (
            Costs(manifest, memory, MadeUp(grid)).of(work, strategy).bytes
            for memory in (memory_of(manifest, "onnxruntime"), MADE_UP)
        )
        return ours - others

    def block(side: int) -> int:
        return block_bytes(_room(manifest, (9, side, side)))

    side = next(side for side in range(2, 999) if block(side) > BLOCK_BYTES)
    assert account(WHOLE, (9, side - 1, side - 1)) == pytest.approx(0, abs=MIB), "points have the usual one's"
    larger = table_bytes(block(2 * side)) - table_bytes(BLOCK_BYTES)
    assert account(WHOLE, (9, 2 * side, 2 * side)) == pytest.approx(1.06 * larger, rel=0.2)
    stream = Strategy(streaming=True, frames_per_chunk=8)
    assert account(stream, (9, side, side)) == pytest.approx(0, abs=MIB), "a step is a small part of the pass"
    assert account(stream, (9, 512, 512)) > table_bytes(BLOCK_BYTES)


def _room(manifest: Manifest, cells: tuple[int, ...]) -> int:
    return Workload(manifest.config, Grid.of(manifest.config), "decoder", 1, cells).peak_estimate_bytes


def test_the_account_of_a_measured_call_does_not_grow_with_the_line(bundle_of: Callable[[str], Path]) -> None:
    manifest = Manifest.open(bundle_of("sd"))
    grid = Grid.of(manifest.config)

    work = Workload(manifest.config, grid, "decoder", 1, (96, 96))
    counted = Costs(manifest, memory_of(manifest, "onnxruntime"), Accounts(manifest, grid)).of(work, WHOLE).bytes
    plain = Costs(manifest, MADE_UP, MadeUp(grid)).of(work, WHOLE).bytes
    account = table_bytes(block_bytes(_room(manifest, (96, 96))))
    assert counted - plain == pytest.approx(1.06 * account, rel=0.01)


class Accounts(MadeUp):
    """As ONNX Runtime is measured: with the account of the block."""

    def __init__(self, manifest: Manifest, grid: Grid) -> None:
        super().__init__(grid)
        self.manifest = manifest

    def point(self, probe: Probe) -> Point:
        point = super().point(probe)
        account = table_bytes(block_bytes(_room(self.manifest, probe.cells)))
        return replace(point, peak_bytes=point.peak_bytes + account)


@pytest.mark.parametrize("mib", range(150, 1600, 75))
def test_what_is_measured_keeps_to_the_budget_with_its_account(bundle_of: Callable[[str], Path], mib: int) -> None:
    manifest = Manifest.open(bundle_of("sd"))
    points = Accounts(manifest, Grid.of(manifest.config))
    work = Workload(manifest.config, points.grid, "decoder", 1, (96, 96))
    Costs(manifest, memory_of(manifest, "onnxruntime"), points).of(work, WHOLE, mib * MIB)
    smallest, *larger = sorted(points.asked, key=lambda probe: probe.cells)
    assert larger or mib < 260
    assert all(points.point(probe).peak_bytes <= mib * MIB for probe in larger), smallest


def test_what_opening_takes_is_not_taken_for_the_call(bundle_of: Callable[[str], Path]) -> None:
    manifest = Manifest.open(bundle_of("ltx20"))
    grid = Grid.of(manifest.config)
    work = Workload(manifest.config, grid, "decoder", 1, (9, 8, 8), "frames")

    class Opening(MadeUp):
        opening = 0

        def point(self, probe: Probe) -> Point:
            return replace(super().point(probe), opening_bytes=self.opening)

    points = Opening(grid)
    plain = Costs(manifest, MADE_UP, points).of(work, WHOLE).bytes
    points.opening = plain // 2
    assert Costs(manifest, MADE_UP, points).of(work, WHOLE).bytes == plain
    points.opening = 2 * plain
    assert Costs(manifest, MADE_UP, points).of(work, WHOLE).bytes == pytest.approx(1.06 * 2 * plain, rel=0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone counts a peak anew")
def test_a_peak_is_forgotten() -> None:
    held = np.ones(64 * MIB, np.uint8)
    before = peak_bytes()
    del held
    forget_peak()
    after = peak_bytes()
    assert before is not None
    assert after is not None
    assert after < before - 32 * MIB


def test_a_decision_is_told(planned: Any) -> None:
    decision, _ = planned("ltx20", (9, 8, 8), 600 * MIB, complete=True)
    assert "-> " in decision.table()
    report = json.loads(json.dumps(decision.to_json()))
    assert report["chosen"] == decision.chosen.label
    assert {"strategy", "memory_bytes", "seconds", "exact"} <= set(report["candidates"][0])


def test_strategies_survive_being_written() -> None:
    for strategy in (
        WHOLE,
        Strategy(streaming=True, frames_per_chunk=8, tiling=linear_tiles(((2, 1), (4, 3), (4, 3)))),
        Strategy(sliced=True),
    ):
        assert Strategy.from_json(json.loads(json.dumps(strategy.to_json()))) == strategy


@pytest.fixture
def cached(without_bounds: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


ENGINE = Reopening("onnxruntime", "cpu", "float32", 1)
SMALL = Probe("decoder", (2, 2, 2), WHOLE)


def test_a_point_is_measured_once(
    bundle_of: Callable[[str], Path], cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest.open(bundle_of("ltx20"))
    calls: list[Probe] = []

    def fake(bundle: Path, engine: Reopening, probe: Probe, check: Any) -> Point:
        calls.append(probe)
        return Point(7, 5, 0.5)

    monkeypatch.setattr("latentrt.runtime.planner.calibration.measure", fake)
    for _ in range(2):
        assert Calibration(manifest, ENGINE).point(SMALL) == Point(7, 5, 0.5)
    assert calls == [SMALL]
    Calibration(manifest, replace(ENGINE, threads=2)).point(SMALL)  # another engine's are its own
    assert len(calls) == 2
    Calibration(manifest, ENGINE).path.write_text('{"identity":', encoding="utf-8")
    assert Calibration(manifest, ENGINE).point(SMALL) == Point(7, 5, 0.5)  # damaged: measured anew
    assert len(calls) == 3


def test_a_probe_that_does_not_run_is_an_error(bundle_of: Callable[[str], Path]) -> None:
    with pytest.raises(EngineError, match="calibration of encoder"):
        measure(bundle_of("non_causal_encoder"), ENGINE, Probe("encoder", (2, 2, 2), Strategy(streaming=True)))


@pytest.mark.slow
def test_predictions_hold(bundle_of: Callable[[str], Path], cached: Path) -> None:
    manifest = Manifest.open(bundle_of("ltx20"))
    grid = Grid.of(manifest.config)
    costs = Costs(manifest, memory_of(manifest, "onnxruntime"), Calibration(manifest, ENGINE))
    work = Workload(manifest.config, grid, "decoder", 1, (7, 8, 12))
    strategy = Strategy(linear_tiles(((4, 2), (4, 3), (4, 3))))
    predicted = costs.of(work, strategy).bytes
    measured = measure(manifest.folder, ENGINE, Probe("decoder", work.cells, strategy)).peak_bytes
    assert 0.95 < predicted / measured < 1.15


def test_a_decode_stays_within_memory_and_says_what_it_is(
    opened: Callable[..., Any], cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = opened("ltx20", backend="onnxruntime")
    z = np.random.default_rng(0).standard_normal((1, LTX["ltx20"]["latent_channels"], 5, 8, 4), np.float32)
    points = MadeUp(vae.grid)
    monkeypatch.setattr(
        "latentrt.runtime.planner.calibration.Calibration.point", lambda self, probe: points.point(probe)
    )
    whole = vae.decode(z)
    assert not points.asked  # nobody asked, and it fits
    streamed = vae.decode(z, memory="540MiB")
    assert streamed.exact
    np.testing.assert_allclose(streamed.sample, whole.sample, atol=1e-4)
    assert {probe.strategy.kind for probe in points.asked} == {"whole", "stream"}
    vae.disable_streaming()
    tiled = vae.decode(z, memory="540MiB")
    assert not tiled.exact
    frames = list(vae.decode_frames(z, output="uint8", memory="540MiB"))
    assert sum(part.shape[1] for part in frames) == 33
    with pytest.raises(InputError, match="the least would be"):
        vae.decode(z, memory="1MiB")
    vae.enable_tiling()
    with pytest.raises(InputError, match="tiling is enabled"):
        vae.decode(z, memory="540MiB")


def test_an_unasked_call_that_might_not_fit_is_planned(
    opened: Callable[..., Any], cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = opened("sd", backend="onnxruntime")
    points = MadeUp(vae.grid)
    monkeypatch.setattr(
        "latentrt.runtime.planner.calibration.Calibration.point", lambda self, probe: points.point(probe)
    )
    monkeypatch.setattr("latentrt.runtime.planner.policy.default_budget", lambda: 200 * MIB)
    monkeypatch.setattr("latentrt.runtime.planner.policy.ALWAYS_FITS_BYTES", MIB)
    z = np.zeros((1, 4, 32, 32), np.float32)
    assert vae.decode(z).exact
    assert {probe.strategy.kind for probe in points.asked} == {"whole", "strips"}


@pytest.mark.parametrize("streams", [True, False])
def test_a_clip_that_cannot_be_planned_streams_where_it_may(
    streams: bool,
    opened: Callable[..., Any],
    cached: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    vae = opened("ltx20", backend="onnxruntime")
    if not streams:
        vae.disable_streaming()

    def failing(self: Calibration, probe: Probe) -> Point:
        raise EngineError("the probe ended")

    monkeypatch.setattr("latentrt.runtime.planner.calibration.Calibration.point", failing)
    monkeypatch.setattr("latentrt.runtime.planner.policy.default_budget", lambda: 200 * MIB)
    monkeypatch.setattr("latentrt.runtime.planner.policy.ALWAYS_FITS_BYTES", 1)
    monkeypatch.setattr(Workload, "most_bytes", 300 * MIB)
    z = np.zeros((1, LTX["ltx20"]["latent_channels"], 3, 2, 2), np.float32)
    chosen = settled(vae, z, None)
    assert (chosen.streaming, chosen.tiling, chosen.budgeted) == (streams, None, False)
    way = "streams, which holds least" if streams else "runs whole"
    assert f"decoder {way}, and may not fit: it was not planned (" in caplog.text
    assert "the probe ended" in caplog.text


def test_a_clips_encoder_is_part_of_the_budget(
    opened: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentrt.runtime.files.decoded_file import DecodedFile
    from latentrt.runtime.media.clips.video_writer import VideoWriter

    vae = opened("ltx20", backend="onnxruntime")
    z = np.zeros((1, LTX["ltx20"]["latent_channels"], 1, 2, 2), np.float32)
    asked: list[Any] = []
    plain = vae.decode_frames

    def noted(latents: Any, *, memory: Any = None, caller_bytes: int, **options: Any) -> Any:
        asked.append((memory, caller_bytes))
        return plain(latents, **options)

    monkeypatch.setattr(vae, "decode_frames", noted)
    for name in ("clip.mp4", "frames"):
        DecodedFile(vae, z, None, None, {}, "1GiB").write(tmp_path / name, Fraction(24))
    encoder = VideoWriter.held_bytes(64, 64)
    assert asked == [("1GiB", encoder), ("1GiB", 0)]
    monkeypatch.undo()
    points = MadeUp(vae.grid)
    monkeypatch.setattr(
        "latentrt.runtime.planner.calibration.Calibration.point", lambda self, probe: points.point(probe)
    )
    with pytest.raises(InputError, match=r"nothing fits into 20 MiB: the least would be .*, in (\d+) MiB") as refused:
        DecodedFile(vae, z, None, None, {}, "20MiB").write(tmp_path / "clip_2.mp4", Fraction(24))
    assert not (tmp_path / "clip_2.mp4").exists()
    found = re.search(r", in (\d+) MiB", str(refused.value))
    assert found is not None
    assert int(found[1]) * MIB > encoder + points.base
    DecodedFile(vae, z, None, None, {}, f"{found[1]}MiB").write(tmp_path / "clip_2.mp4", Fraction(24))  # as it said


def test_measuring_goes_on_where_a_long_call_is_far_larger_than_what_was_measured(
    bundle_of: Callable[[str], Path],
) -> None:
    manifest = Manifest.open(bundle_of("ltx20"))
    grid = Grid.of(manifest.config)

    class Small(MadeUp):
        """Memory of small streams differs by chance, and what grows is seen in larger ones only."""

        def point(self, probe: Probe) -> Point:
            self.asked.append(probe)
            area = probe.cells[-2] * probe.cells[-1]
            peak = self.base + (area * MIB if area >= 32 else (8 - area) * MIB)
            return Point(peak, self.base // 2, 0.2 * area, 0.2 * area)

    work = Workload(manifest.config, grid, "decoder", 1, (9, 64, 64), "frames")
    points = Small(grid)
    cost = Costs(manifest, memory_of(manifest, "onnxruntime"), points).of(work, Strategy(streaming=True))
    assert cost.bytes > 4096 * MIB
    assert 64 <= max(probe.cells[-2] * probe.cells[-1] for probe in points.asked) <= 256
    few = Small(grid)
    Costs(manifest, memory_of(manifest, "onnxruntime"), few).of(
        replace(work, cells=(9, 16, 16)), Strategy(streaming=True)
    )
    assert max(probe.cells[-2] * probe.cells[-1] for probe in few.asked) <= 16


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, list(arguments), standalone_mode=False)


def test_plan_and_calibrate_on_the_command_line(
    bundle_of: Callable[[str], Path], cached: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manifest = Manifest.open(bundle_of("sd"))
    points = MadeUp(Grid.of(manifest.config))
    monkeypatch.setattr(
        "latentrt.runtime.planner.calibration.measure", lambda bundle, engine, probe, check: points.point(probe)
    )
    bundle, drawing = str(manifest.folder), tmp_path / "plan.png"
    size = ("--size", "512x512", "--backend", "onnxruntime")
    done = run("plan", bundle, *size, "--memory", "1GiB", "--json", "--draw", str(drawing))
    report = json.loads(done.output)
    assert report["chosen"].startswith("strips")
    assert drawing.stat().st_size > 0
    refused = run("plan", bundle, *size, "--memory", "1MiB")
    assert isinstance(refused.exception, InputError)
    assert "nothing fits into 1 MiB" in refused.output
    told = json.loads(run("calibrate", bundle, "--backend", "onnxruntime", "--component", "decoder", "--json").output)
    assert told["points"]
    assert Path(told["file"]).exists()
    assert "the planner" not in run("plan", bundle, "--size", "512x512", "--tile", "256x256").output


def test_measuring_never_takes_more_than_the_budget(bundle_of: Callable[[str], Path]) -> None:
    manifest = Manifest.open(bundle_of("ltx20"))
    grid = Grid.of(manifest.config)
    work = Workload(manifest.config, grid, "decoder", 1, (9, 32, 32), "frames")

    class Watched(MadeUp):
        most = 0

        def point(self, probe: Probe) -> Point:
            point = super().point(probe)
            self.most = max(self.most, point.peak_bytes)
            return replace(point, seconds=point.seconds / 1000)  # nothing takes long enough to be left out for that

    for budget in (400 * MIB, 2000 * MIB):
        points = Watched(grid)
        Planner(manifest, Costs(manifest, MADE_UP, points)).decide(work, budget, WHOLE)
        assert points.most <= budget
    points = Watched(grid)
    Planner(manifest, Costs(manifest, MADE_UP, points)).decide(work, 400 * MIB, WHOLE, spend=8000 * MIB)
    assert points.most > 400 * MIB, "where more may be spent, predictions are the better for it"


def test_graphs_of_the_precision_that_runs_are_planned(
    bundle_of: Callable[[str], Path], cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest.open(bundle_of("ltx20"))
    grid = Grid.of(manifest.config)
    points = MadeUp(grid)
    monkeypatch.setattr(
        "latentrt.runtime.planner.calibration.Calibration.point", lambda self, probe: points.point(probe)
    )
    lowered = OpenVinoBackend(BackendRequest(manifest, "bfloat16", threads=1))
    planning = CallPlanner(manifest, lowered)
    work = Workload(manifest.config, grid, "decoder", 1, (9, 8, 8), "frames")
    chosen = planning.strategy(work, WHOLE, 600 * MIB, may_stream=True)
    assert chosen.streaming, "float32 streaming graphs run in bfloat16 there"
    chosen = planning.strategy(work, Strategy(streaming=True), 600 * MIB, may_stream=True)
    assert chosen.streaming


def test_planning_ends_when_the_call_is_cancelled(
    opened: Callable[..., Any], cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = opened("sd", backend="onnxruntime")
    sleeping = "import sys, time; sys.stdin.readline(); time.sleep(60)"
    monkeypatch.setattr(
        "latentrt.runtime.system.subprocess_call.module_command", lambda module: [sys.executable, "-c", sleeping]
    )
    threading.Timer(0.5, vae.cancel).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        vae.decode(np.zeros((1, 4, 8, 8), np.float32), memory="8GiB")
    assert time.monotonic() - started < 10


def test_both_ways_of_a_call_are_planned_and_tiles_take_no_memory(
    opened: Callable[..., Any], cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = opened("sd", backend="onnxruntime")
    points = MadeUp(vae.grid)
    monkeypatch.setattr(
        "latentrt.runtime.planner.calibration.Calibration.point", lambda self, probe: points.point(probe)
    )
    vae(np.zeros((1, 3, 64, 64), np.float32), memory=np.int64(8 << 30))
    assert {probe.component for probe in points.asked} == {"encoder", "decoder"}
    with pytest.raises(InputError, match="memory: tiled_decode runs the tiles that enable_tiling made"):
        vae.tiled_decode(np.zeros((1, 4, 8, 8), np.float32), memory="8GiB")
    with pytest.raises(InputError, match="memory: tiled_encode runs the tiles"):
        vae.tiled_encode(np.zeros((1, 3, 64, 64), np.float32), memory="8GiB")


def test_exact_strips_are_planned_within_the_budget(
    opened: Callable[..., Any], cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = opened("sd", backend="onnxruntime")
    points = MadeUp(vae.grid)
    monkeypatch.setattr(
        "latentrt.runtime.planner.calibration.Calibration.point", lambda self, probe: points.point(probe)
    )
    z = np.zeros((1, 4, 32, 32), np.float32)
    vae.enable_tiling(exact=True, storage="float16")
    chosen = settled(vae, z, "200MiB")
    assert chosen.kind == "strips"
    assert isinstance(chosen.tiling, StripSettings)
    assert chosen.tiling.storage == "float16"
    assert not vae.decode(z, memory="200MiB").exact
    with pytest.raises(InputError, match=r"nothing fits into 1 MiB: the least would be strips of \d+ rows, in"):
        vae.decode(z, memory="1MiB")
    vae.enable_tiling(exact=True, memory_bytes=1 << 20)
    with pytest.raises(InputError, match="tiling is enabled"):
        vae.decode(z, memory="200MiB")


@pytest.mark.parametrize("stream", [True, False])
def test_a_clip_from_disk_is_planned_before_it_is_read_and_streams_from_there(
    stream: bool,
    opened: Callable[..., Any],
    cached: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vae = opened("ltx20", backend="onnxruntime")
    points = MadeUp(vae.grid)
    monkeypatch.setattr(
        "latentrt.runtime.planner.calibration.Calibration.point", lambda self, probe: points.point(probe)
    )
    clip = tmp_path / "clip.mp4"
    frames = np.random.default_rng(0).integers(0, 256, (33, 96, 128, 3), np.uint8)
    with write_clip(clip, Fraction(24)) as writer:
        for frame in frames:
            writer.write(frame)
    read: list[int] = []
    monkeypatch.setattr("latentrt.runtime.files.encoded_file.read_sample", lambda *_, **__: read.append(1))
    with pytest.raises(InputError, match="nothing fits into 1 MiB"):
        encode_file(vae, clip, tmp_path / "none.safetensors", memory="1MiB", stream=stream)
    assert not (tmp_path / "none.safetensors").exists()
    content = encode_file(vae, clip, tmp_path / "planned.safetensors", memory="300MiB", stream=stream)
    assert not read, "it never was in memory as a whole"
    monkeypatch.undo()
    plain = encode_file(vae, clip, tmp_path / "plain.safetensors")
    np.testing.assert_allclose(content.latents, plain.latents, atol=1e-4)
