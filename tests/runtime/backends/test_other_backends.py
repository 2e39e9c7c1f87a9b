"""Under `backend="auto"` a memory budget takes the backend that has an exact way, before tiles on another one."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_points import MIB, MadeUp

from latentrt.runtime import InputError, open_bundle
from latentrt.runtime.arrays.grid import Grid
from latentrt.runtime.calls.workload import Workload
from latentrt.runtime.planner.calibration import Calibration
from latentrt.runtime.system.budget import parse_memory

BundleOf = Callable[[str], Path]
SIZE = (5, 8, 8)
OPENVINO_MORE = 400 * MIB


@pytest.fixture
def points(without_bounds: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MadeUp:
    """OpenVINO holds more than ONNX Runtime, except in streams with tiles."""
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))
    made_up = MadeUp(Grid(spatial=32, temporal=8, encoder_minimum=1, decoder_minimum=1, video=True))

    def point(self: Any, probe: Any) -> Any:
        found = made_up.point(probe)
        if self._engine.backend == "openvino" and "tiles" not in probe.strategy.kind:
            more = found.peak_bytes + OPENVINO_MORE
            loaded = found.loaded_bytes + OPENVINO_MORE  # strips of clips count what the open engines hold
            return replace(found, peak_bytes=more, loaded_bytes=loaded, seconds=found.seconds / 2)
        return found

    monkeypatch.setattr(Calibration, "point", point)
    return made_up


def opened(bundle: Path, **options: Any) -> Any:
    return open_bundle(bundle, threads=1, **options)


def latents_of(vae: Any) -> Any:
    return np.random.default_rng(0).standard_normal((1, vae.config.latent_channels, *SIZE), np.float32)


def budget_between(vae: Any) -> int:
    """What ONNX Runtime's least exact strategy takes, and OpenVINO's does not fit into."""
    work = Workload(vae.config, vae.grid, "decoder", 1, SIZE, "float32")
    every = vae.opened.planning.decide(work, 1 << 20, vae.settings, complete=True, spend=1 << 40).candidates
    least: dict[str, int] = {}
    for one in every:
        if one.is_exact and one.cost is not None:
            least[one.backend] = min(int(one.most_bytes), least.get(one.backend, 1 << 60))
    assert least["onnxruntime:cpu"] < least["openvino"]
    return (least["onnxruntime:cpu"] + least["openvino"]) // 2


@pytest.mark.slow
@pytest.mark.usefixtures("points")
def test_auto_takes_the_backend_whose_exact_strategy_fits(
    bundle_of: BundleOf, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(bundle_of("ltx20")) as vae:
        assert vae.backend == "openvino"
        z = latents_of(vae)
        budget = budget_between(vae)
        whole = vae.decode(z).sample
        own = vae.opened.engines.own
        assert own.loaded
        caplog.set_level(logging.INFO)
        planned = vae.decode(z, memory=budget)
        assert planned.exact
        np.testing.assert_allclose(planned.sample, whole, rtol=0, atol=1e-4 * np.abs(whole).max())
        assert not own.loaded, "a budget is for the process: the engines of the other backend are released"
        assert "approximate" not in caplog.text
        frames = np.concatenate(list(vae.decode_frames(z, memory=budget)), axis=2)
        np.testing.assert_allclose(frames, whole, rtol=0, atol=1e-4 * np.abs(whole).max())
        again = vae.decode(z, memory=budget + (4 << 30))  # where OpenVINO has one too, it is taken as ever
        assert again.exact
        assert own.loaded


@pytest.mark.usefixtures("points")
def test_a_named_backend_is_planned_alone_and_the_sentence_names_it(
    bundle_of: BundleOf, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(bundle_of("ltx20")) as vae:
        budget = budget_between(vae)
    caplog.set_level(logging.WARNING)
    with opened(bundle_of("ltx20"), backend="openvino") as vae:
        work = Workload(vae.config, vae.grid, "decoder", 1, SIZE, "float32")
        decision = vae.opened.planning.decide(work, budget, vae.settings, complete=True, spend=1 << 40)
        assert decision.backends == ("openvino",)
        if decision.chosen is None:
            with pytest.raises(InputError, match="nothing fits into"):
                vae.decode(latents_of(vae), memory=budget)
        else:
            assert not decision.chosen.is_exact
            assert not vae.decode(latents_of(vae), memory=budget).exact
            assert "approximate, since no exact strategy fits on openvino" in caplog.text


@pytest.mark.usefixtures("points")
def test_the_plan_command_says_what_decode_does(bundle_of: BundleOf) -> None:
    with opened(bundle_of("ltx20")) as vae:
        budget = budget_between(vae)
        decision = vae.opened.planning.decide(
            Workload(vae.config, vae.grid, "decoder", 1, SIZE, "float32"),
            budget,
            vae.settings,
            complete=True,
            spend=1 << 40,
        )
        assert decision.chosen.is_exact
        assert decision.chosen.backend == decision.to_json()["backend"] == "onnxruntime:cpu"
        assert set(decision.backends) == {"openvino", "onnxruntime:cpu"}
        assert "(onnxruntime:cpu)" in decision.table()
        assert decision.reason.endswith("; on onnxruntime:cpu, since none fits on openvino")
        assert {one["backend"] for one in decision.to_json()["candidates"]} == set(decision.backends)


@pytest.mark.usefixtures("points")
def test_where_no_backend_has_an_exact_way_the_least_is_named(bundle_of: BundleOf) -> None:
    with opened(bundle_of("ltx20")) as vae:
        with pytest.raises(InputError, match="nothing fits into"):
            vae.decode(latents_of(vae), memory=parse_memory("10MiB"))
        work = Workload(vae.config, vae.grid, "decoder", 1, SIZE, "float32")
        decision = vae.opened.planning.decide(work, 1 << 20, vae.settings)
        assert decision.chosen is None
        assert set(decision.backends) == {"openvino", "onnxruntime:cpu"}
        least = min(decision.candidates, key=lambda one: one.most_bytes)
        assert f"the least would be {least.label} on {least.backend}, in" in decision.reason


def test_cancel_and_close_reach_every_backend(bundle_of: BundleOf) -> None:
    from latentrt.runtime.calls.strategy import Strategy
    from latentrt.runtime.errors import Cancelled, LatentRTError

    with opened(bundle_of("ltx20")) as vae:
        engines, graph = vae.opened.engines, vae.graphs[0]
        other = engines.of(Strategy(backend="onnxruntime:cpu"))
        assert other is engines.of(Strategy(backend="onnxruntime:cpu"))
        with pytest.raises(Cancelled), engines.call() as call, other.turn(call):
            vae.cancel()
    with pytest.raises(LatentRTError, match="was closed"), engines.call():
        pass
    with pytest.raises(LatentRTError, match="was closed"):
        other.component(graph)
