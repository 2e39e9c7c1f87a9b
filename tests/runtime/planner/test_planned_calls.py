"""What a planned call may be: with streams, batches, results that stay where they are, and where nothing fits. With
made-up measurements."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from architectures import LTX
from made_up_points import MADE_UP, MIB, MadeUp
from settled import settled

from latentrt.runtime import AutoencoderKLLTX2Video, InputError, LatentRTError, open_bundle
from latentrt.runtime.arrays.grid import Grid
from latentrt.runtime.backends.choose import choose_backend
from latentrt.runtime.backends.component import CallScope
from latentrt.runtime.backends.onnxruntime.options import OnnxRuntimeOptions
from latentrt.runtime.backends.sessions import Sessions
from latentrt.runtime.backends.wrapped import WrappedBackend
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.calls.strategy import WHOLE, Strategy
from latentrt.runtime.calls.workload import Workload
from latentrt.runtime.planner.calibration import Calibration
from latentrt.runtime.planner.candidates import candidates
from latentrt.runtime.planner.costs import Costs
from latentrt.runtime.planner.planner import Planner
from latentrt.runtime.planner.probe import Point, Probe

STREAMING = Strategy(streaming=True)


class States(MadeUp):
    """Streams that hold little beside their states."""

    def point(self, probe: Probe) -> Point:
        self.asked.append(probe)
        return Point(self.base + MIB, self.base, 0.01)


@pytest.fixture
def points(without_bounds: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MadeUp:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))
    made_up = MadeUp(Grid(spatial=32, temporal=8, encoder_minimum=1, decoder_minimum=1, video=True))
    monkeypatch.setattr(Calibration, "point", lambda self, probe: made_up.point(probe))
    return made_up


def of_ltx(bundle_of: Callable[[str], Path], cells: tuple[int, ...], **fields: Any) -> tuple[Manifest, Workload]:
    manifest = Manifest.open(bundle_of("ltx20"))
    grid = Grid.of(manifest.config)
    return manifest, Workload(manifest.config, grid, "decoder", fields.pop("batch", 1), cells, "frames", **fields)


def latents(*shape: int) -> np.ndarray:
    return np.zeros((1, LTX["ltx20"]["latent_channels"], *shape), np.float32)


def test_a_stream_that_fits_is_not_refused_for_small_tiles_that_hold_more(bundle_of: Callable[[str], Path]) -> None:
    manifest, work = of_ltx(bundle_of, (33, 64, 64))
    costs = Costs(manifest, MADE_UP, States(work.grid))
    planner = Planner(manifest, costs)
    every = list(candidates(manifest, work, STREAMING, dtype="float32", sizes=costs.tile_sizes(work)))
    streams = [one for one in every if one.tiling is None]
    budget = min(costs.of(work, one).most_bytes for one in streams)
    smallest = [one for one in every if one.tiling is not None][-1]
    assert costs.of(work, smallest).bytes > 1.5 * budget, "states of many tiles that overlap"
    decision = planner.decide(work, budget, STREAMING)
    assert decision.chosen is not None
    assert decision.chosen.strategy.kind == "stream"
    refused = planner.decide(work, 60 * MIB, STREAMING)
    assert refused.chosen is None
    assert "the least would be stream of 4 frames, in" in refused.reason


def test_a_stream_takes_all_of_a_batch_whatever_is_set(bundle_of: Callable[[str], Path]) -> None:
    manifest, work = of_ltx(bundle_of, (5, 8, 8), batch=4)
    planner = Planner(manifest, Costs(manifest, MADE_UP, MadeUp(work.grid)))
    both, one = (
        planner.decide(work, 100 << 30, base).chosen for base in (Strategy(streaming=True, sliced=True), STREAMING)
    )
    assert both is not None
    assert both == one


def test_with_slicing_enabled_no_stream_is_looked_at(opened: Callable[..., Any], points: MadeUp) -> None:
    vae = opened("ltx20", backend="onnxruntime")
    vae.enable_slicing()
    assert settled(vae, latents(3, 2, 2), "4GiB").sliced
    assert {probe.strategy.kind for probe in points.asked} == {"whole"}


@pytest.mark.parametrize("kept", [{"output": "device"}, {"stream": 7}])
def test_what_stays_on_the_device_or_in_a_stream_comes_of_one_pass(
    kept: dict[str, Any], bundle_of: Callable[[str], Path], points: MadeUp
) -> None:
    inner = choose_backend(Manifest.open(bundle_of("ltx20")), backend="onnxruntime", threads=1)
    backend = WrappedBackend(inner, lambda graph, component: component)
    backend.capabilities = replace(inner.capabilities, callers_stream=True)
    with open_bundle(bundle_of("ltx20"), backend=backend) as vae:
        assert isinstance(vae, AutoencoderKLLTX2Video)
        z = latents(9, 8, 8)
        assert settled(vae, z, "600MiB").streaming
        with pytest.raises(InputError, match="nothing fits into 600 MiB: the least would be whole, in"):
            settled(vae, z, "600MiB", **kept)
        assert settled(vae, z, "60GiB", **kept).kind == "whole"
        vae.enable_streaming()
        message = r"memory: a result that stays on the device, .* needs a single pass"
        with pytest.raises(InputError, match=message):
            settled(vae, z, "60GiB", **kept)


def test_where_nothing_fits_and_nobody_asked_what_holds_least_runs(
    opened: Callable[..., Any], points: MadeUp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    vae = opened("sd", backend="onnxruntime")
    points.grid = vae.grid
    monkeypatch.setattr("latentrt.runtime.planner.policy.default_budget", lambda: 20 * MIB)
    monkeypatch.setattr("latentrt.runtime.planner.policy.ALWAYS_FITS_BYTES", MIB)
    z = np.zeros((1, 4, 32, 32), np.float32)
    chosen = settled(vae, z, None)
    assert chosen.kind == "strips"
    assert "decoder may not fit: nothing fits into 20 MiB" in caplog.text
    assert "it runs as strips of" in caplog.text
    with pytest.raises(InputError, match="nothing fits into 20 MiB"):
        settled(vae, z, "20MiB")


def test_frames_within_a_budget_come_from_the_engine_that_was_measured(
    opened: Callable[..., Any], points: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = opened("ltx20", backend="onnxruntime")
    specialised: list[bool | None] = []
    turn = Sessions.turn

    def noted(self: Sessions, call: CallScope) -> Any:
        specialised.append(call.specialise)
        return turn(self, call)

    monkeypatch.setattr(Sessions, "turn", noted)
    assert sum(part.shape[2] for part in vae.decode_frames(latents(2, 2, 2), memory="4GiB")) == 9
    assert set(specialised) == {False}
    specialised.clear()
    vae.warmup([latents(2, 2, 2).shape])
    assert set(specialised) == {True}


def test_streaming_that_was_disabled_leaves_nothing_set(opened: Callable[..., Any]) -> None:
    vae = opened("ltx20", backend="onnxruntime")
    vae.enable_streaming(8)
    vae.disable_streaming()
    assert vae.settings == WHOLE


def test_streaming_that_was_disabled_is_left_to_the_planner_again(opened: Callable[..., Any], points: MadeUp) -> None:
    vae = opened("ltx20", backend="onnxruntime")
    z = latents(9, 8, 8)
    assert settled(vae, z, "600MiB").kind == "stream"
    vae.disable_streaming()
    with pytest.raises(InputError, match="nothing fits"):
        settled(vae, z, "100MiB")
    assert settled(vae, z, "600MiB").kind != "stream"
    vae.reset_streaming()
    assert settled(vae, z, "600MiB").kind == "stream"
    vae.disable_streaming()
    vae.enable_streaming()
    assert vae.streaming
    vae.reset_streaming()
    assert (vae.settings, settled(vae, z, "600MiB").kind) == (WHOLE, "stream")


def test_a_plan_says_what_a_call_will_do(opened: Callable[..., Any], points: MadeUp) -> None:
    vae = opened("ltx20", backend="onnxruntime")
    size = vae.grid.sample_size((9, 8, 8))
    decision = vae.plan(size, memory="600MiB")
    assert decision.budget == 600 * MIB
    assert decision.chosen.strategy.kind == settled(vae, latents(9, 8, 8), "600MiB").kind == "stream"
    kept = vae.plan(size, memory="600MiB", output="frames").chosen.cost.bytes
    assert kept < decision.chosen.cost.bytes, "frames that nobody keeps"
    assert vae.plan(size, memory="600MiB", caller_bytes=64 * MIB).chosen.cost.bytes > decision.chosen.cost.bytes
    assert vae.plan(size, memory="60GiB").chosen.strategy == WHOLE
    assert vae.plan(size, memory="60GiB", component="encoder").chosen.strategy == WHOLE
    assert len(vae.plan(size, memory="600MiB", complete=True).candidates) > len(decision.candidates)
    refused = vae.plan(size, memory="20MiB", batch=2)
    assert refused.chosen is None
    assert refused.reason.startswith("nothing fits into 20 MiB")
    vae.disable_streaming()
    assert "stream" not in {one.strategy.kind for one in vae.plan(size, memory="60GiB", complete=True).candidates}


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": (9, 63, 64)},
        {"size": (64, 64)},
        {"size": (9, 64, 64), "output": "mp4"},
        {"size": (9, 64, 64), "batch": 0},
        {"size": (9, 64, 64), "memory": "a lot"},
        {"size": (9, 64, 64), "component": "discriminator"},
    ],
)
def test_a_plan_of_no_legal_call_is_refused(wrong: dict[str, Any], opened: Callable[..., Any], points: MadeUp) -> None:
    vae = opened("ltx20", backend="onnxruntime")
    with pytest.raises(LatentRTError):
        vae.plan(**wrong)
    assert points.asked == []


def test_with_tiling_enabled_there_is_no_plan(opened: Callable[..., Any], points: MadeUp) -> None:
    vae = opened("ltx20", backend="onnxruntime")
    vae.enable_tiling()
    with pytest.raises(InputError, match="memory: tiling is enabled"):
        vae.plan((9, 64, 64))
    assert points.asked == []


@pytest.mark.slow
def test_an_enumeration_among_the_options_is_measured_by_its_name(
    opened: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))
    options = {"graph_optimization_level": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC}
    named = {"graph_optimization_level": "ORT_ENABLE_BASIC"}
    assert OnnxRuntimeOptions.of(options).to_json() == named
    z = np.random.default_rng(0).standard_normal((1, 4, 8, 8), np.float32)
    vae = opened("sd", backend="onnxruntime", session_options=options)
    planned = vae.decode(z, memory="8GiB").sample
    np.testing.assert_array_equal(planned, opened("sd", backend="onnxruntime", session_options=named).decode(z).sample)
    with pytest.raises(InputError, match="session_options: graph_optimization_level does not take 'ORT_FAST'"):
        opened("sd", backend="onnxruntime", session_options={"graph_optimization_level": "ORT_FAST"}).decode(z)


def test_nothing_is_measured_that_would_take_more_than_may_be_spent(bundle_of: Callable[[str], Path]) -> None:
    manifest, work = of_ltx(bundle_of, (9, 8, 8))
    points = MadeUp(work.grid)
    cost = Costs(manifest, MADE_UP, points).of(work, WHOLE, 51 * MIB)
    assert len(points.asked) == 1, "the smallest alone, and a line through nothing"
    assert cost.bytes > 500 * MIB
