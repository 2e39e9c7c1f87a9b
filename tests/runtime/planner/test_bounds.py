"""Bounds from the formulas of the graphs: where they decide, nothing is measured; where they do not, it is."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architectures import ALL
from made_up_points import MIB, memory_of
from settled import settled

from latentrt.runtime import open_bundle
from latentrt.runtime.arrays.grid import Grid
from latentrt.runtime.backends.memory_model import Reopening
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.calls.strategy import WHOLE, Strategy, linear_tiles
from latentrt.runtime.calls.workload import Workload
from latentrt.runtime.planner.bounds import Bound, Bounds
from latentrt.runtime.planner.costs import Cost
from latentrt.runtime.planner.decision import OVER_BUDGET, Decision, JudgedStrategy
from latentrt.runtime.planner.probe import Point, Probe, measure

BundleOf = Callable[[str], Path]
Open = Callable[..., Any]
STREAM = Strategy(streaming=True, frames_per_chunk=12)
TILES = {"sd": linear_tiles(((24, 18), (24, 18))), "ltx20": linear_tiles(((4, 2), (4, 3), (4, 3)))}


class Measured:
    """Counts what is measured, and gives points: a call takes `bytes`."""

    def __init__(self, bytes: int) -> None:
        self.bytes, self.asked = bytes, list[Probe]()

    def point(self, probe: Probe) -> Point:
        self.asked.append(probe)
        return Point(self.bytes, self.bytes // 2, 1.0)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Measured:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))
    points = Measured(150 * MIB)
    monkeypatch.setattr(
        "latentrt.runtime.planner.calibration.measure", lambda bundle, engine, probe, check: points.point(probe)
    )
    return points


def bound_of(bundle: Path, cells: tuple[int, ...], strategy: Strategy, backend: str = "onnxruntime") -> Bound:
    manifest = Manifest.open(bundle)
    work = Workload(manifest.config, Grid.of(manifest.config), "decoder", 1, cells)
    found = Bounds(manifest, memory_of(manifest, backend), cpu_graphs=backend == "onnxruntime").of(work, strategy)
    assert found is not None
    return found


def latents(name: str, *cells: int) -> np.ndarray:
    return np.zeros((1, ALL[name].get("latent_channels", 4), *cells), np.float32)


@pytest.mark.parametrize(("name", "cells"), [("sd", (64, 64)), ("ltx20", (5, 16, 16))])
@pytest.mark.parametrize("backend", ["onnxruntime", "auto"])
def test_a_call_whose_bound_fits_is_planned_without_a_measurement(
    name: str, cells: tuple[int, ...], backend: str, opened: Open, measured: Measured
) -> None:
    vae = opened(name, backend=backend)
    plan = vae.plan(vae.grid.sample_size(cells), memory="16GiB")
    assert plan.chosen.is_exact
    assert plan.chosen.cost.basis == "bounded"
    assert settled(vae, latents(name, *cells), "16GiB", exact=True).is_exact
    assert not measured.asked


def test_only_what_lies_between_the_bounds_is_measured(opened: Open, measured: Measured, bundle_of: BundleOf) -> None:
    vae = opened("sd", backend="onnxruntime")
    cells = (64, 64)
    bound = bound_of(bundle_of("sd"), cells, WHOLE)
    assert bound.least_bytes < 0.8 * bound.most_bytes
    size = vae.grid.sample_size(cells)
    assert vae.plan(size, memory=bound.most_bytes).chosen.cost.basis == "bounded"
    assert not measured.asked
    between = vae.plan(size, memory=bound.most_bytes - MIB)
    assert {probe.strategy.kind for probe in measured.asked} >= {"whole"}
    assert between.chosen.cost.basis == "measured"
    measured.asked.clear()
    assert vae.plan(size, memory=bound.most_bytes).chosen.cost.basis == "measured", "what was measured is nearer"
    assert not measured.asked


def test_a_pass_above_the_budget_is_not_measured_and_the_stream_is_taken(
    opened: Open, measured: Measured, bundle_of: BundleOf
) -> None:
    vae = opened("ltx20", backend="onnxruntime")
    cells = (24, 32, 32)
    whole, stream = (bound_of(bundle_of("ltx20"), cells, strategy) for strategy in (WHOLE, STREAM))
    assert stream.most_bytes < whole.least_bytes, "or nothing lies between"
    chosen = settled(vae, latents("ltx20", *cells), (stream.most_bytes + whole.least_bytes) // 2)
    assert chosen.kind == "stream"
    assert not measured.asked


def test_a_bound_alone_never_refuses_and_never_leads_to_tiles(
    opened: Open, measured: Measured, bundle_of: BundleOf
) -> None:
    """The points say that a pass takes 150 MiB, and the bounds that it takes more."""
    vae = opened("no_attention", backend="onnxruntime")
    cells = (96, 96)
    assert bound_of(bundle_of("no_attention"), cells, WHOLE).least_bytes > 400 * MIB
    plan = vae.plan(vae.grid.sample_size(cells), memory="400MiB")
    assert plan.chosen is None or plan.chosen.is_exact
    assert measured.asked
    assert not plan.rests_on_bounds


def test_bundles_without_formulas_and_other_precisions_have_no_bounds(bundle_of: BundleOf) -> None:
    manifest = Manifest.open(bundle_of("sd"))
    work = Workload(manifest.config, Grid.of(manifest.config), "decoder", 1, (8, 8))
    memory = memory_of(manifest, "onnxruntime")
    assert Bounds(manifest, memory).of(work, WHOLE) is not None
    assert Bounds(replace(manifest, costs={}), memory).of(work, WHOLE) is None
    assert Bounds(manifest, replace(memory, liveness=None)).of(work, WHOLE) is None
    for other in (
        Reopening("onnxruntime", "cpu", "float16", 1),
        Reopening("onnxruntime", "cpu", "float32", 1, {"a": 1}),
    ):
        assert Bounds(manifest, replace(memory, reopening=other)).of(work, WHOLE) is None


def test_bounds_grow_with_the_batch_and_slicing_takes_that_back(bundle_of: BundleOf) -> None:
    manifest = Manifest.open(bundle_of("sd"))
    bounds = Bounds(manifest, memory_of(manifest, "onnxruntime"))
    one, four = (Workload(manifest.config, Grid.of(manifest.config), "decoder", batch, (64, 64)) for batch in (1, 4))
    single, whole, sliced = bounds.of(one, WHOLE), bounds.of(four, WHOLE), bounds.of(four, Strategy(sliced=True))
    assert single is not None
    assert whole is not None
    assert sliced is not None
    assert single.most_bytes < sliced.most_bytes < whole.most_bytes
    assert sliced.seconds == pytest.approx(4 * single.seconds)


@pytest.mark.long
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_measured_peaks_lie_within_the_bounds(
    backend: str, bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))
    cases = [("sd", (40, 40), WHOLE), ("sd", (40, 40), Strategy(TILES["sd"])), ("ltx20", (7, 8, 12), WHOLE)]
    cases += [("ltx20", (7, 8, 12), STREAM), ("ltx20", (7, 8, 12), Strategy(TILES["ltx20"]))]
    for name, cells, strategy in cases:
        bundle = bundle_of(name)
        engine = Reopening(backend, "cpu" if backend == "onnxruntime" else None, "float32", 1)
        bound = bound_of(bundle, cells, strategy, backend)
        peak = measure(bundle, engine, Probe("decoder", cells, strategy)).peak_bytes
        assert bound.least_bytes < peak < bound.most_bytes, (name, strategy.kind)


@pytest.mark.slow
def test_a_first_planned_call_starts_no_other_process(
    bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And gives the numbers of the same call without a budget."""
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "latentrt.runtime.planner.calibration.measure", lambda *_: pytest.fail("something was measured")
    )
    z = np.random.default_rng(0).standard_normal((1, 16, 2, 8, 8), np.float32)
    with open_bundle(bundle_of("ltx20"), threads=1) as vae:
        planned = vae.decode(z, memory="16GiB")
        assert planned.exact
        np.testing.assert_allclose(planned.sample, vae.decode(z).sample, atol=1e-5)


def test_a_plan_says_why_faster_strategies_were_not_chosen() -> None:
    def judged(label: str, seconds: float | None, *, exact: bool = True, refused: str | None = None) -> JudgedStrategy:
        return JudgedStrategy(WHOLE, label, exact, Cost(500 * MIB, seconds), refused, "onnxruntime:cpu")

    chosen = judged("strips of 8 rows", 9.0)
    others = [judged(f"stream of {number} frames", number / 10, refused=OVER_BUDGET) for number in (4, 8, 12)]
    others += [judged("tiles of 256x256", 5.0, exact=False), judged("tiles of 128x128", 10.0, exact=False)]
    sentence = Decision(400 * MIB, (chosen, *others), chosen, "").why_not_faster
    assert sentence == (
        "faster, and not chosen: stream of 4 frames (about 500 MiB), stream of 8 frames (about 500 MiB) and 1 more: "
        "more than the budget; tiles of 256x256: approximate, and an exact strategy fits"
    )
    assert Decision(400 * MIB, (chosen, others[-1]), chosen, "").why_not_faster == ""
    unknown = judged("whole", None)
    assert Decision(400 * MIB, (unknown, *others), unknown, "").why_not_faster == ""
    assert Decision(400 * MIB, tuple(others), None, "").why_not_faster == ""


def test_no_size_in_a_label_is_larger_than_the_sample(opened: Open, measured: Measured) -> None:
    grid = Grid(spatial=32, temporal=8, encoder_minimum=1, decoder_minimum=1, video=True)
    tiles = Strategy(linear_tiles(((10, 7), (16, 12), (8, 6))))
    assert tiles.label(grid) == "tiles of 512x256x73 frames"
    assert tiles.label(grid, (3, 8, 20)) == "tiles of 256x256x17 frames"
    assert STREAM.label(grid, (1, 4, 4)) == "stream of 1 frame"
    vae = opened("ltx20", backend="onnxruntime")
    plan = vae.plan((17, 256, 512), memory="16GiB", complete=True)
    for one in plan.candidates:
        for tall, wide, frames in re.findall(r"tiles of (\d+)x(\d+)(?:x(\d+))?", one.label):
            assert int(tall) <= 256
            assert int(wide) <= 512
            assert int(frames or 0) <= 17
