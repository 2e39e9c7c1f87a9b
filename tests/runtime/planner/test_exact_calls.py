"""`exact=True` refuses what would approximate, and names the least exact budget. With made-up measurements."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architectures import LTX
from made_up_points import MIB, MadeUp
from settled import settled

from latentrt.runtime import InputError, open_bundle
from latentrt.runtime.arrays.grid import Grid
from latentrt.runtime.planner.calibration import Calibration
from latentrt.runtime.planner.probe import Point, Probe
from latentrt.runtime.system.budget import parse_memory

BundleOf = Callable[[str], Path]
Open = Callable[..., Any]
SIZE = (9, 8, 8)
WIDE = (9, 24, 24)  # of which tiles hold least


@pytest.fixture
def points(without_bounds: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MadeUp:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))
    made_up = MadeUp(Grid(spatial=32, temporal=8, encoder_minimum=1, decoder_minimum=1, video=True))
    monkeypatch.setattr(Calibration, "point", lambda self, probe: made_up.point(probe))
    return made_up


@pytest.fixture
def without_strips(bundle_of: BundleOf, tmp_path: Path) -> Iterator[Any]:
    """An LTX-2 model whose bundle is as those of before: its clips run in no strips."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items() if key != "halo"}
        return [plain(one) for one in value] if isinstance(value, list) else value

    bundle = tmp_path / "bundle"
    shutil.copytree(bundle_of("ltx20"), bundle)
    manifest = bundle / "manifest.json"
    manifest.write_text(json.dumps(plain(json.loads(manifest.read_text()))))
    with open_bundle(bundle, threads=1, backend="onnxruntime") as vae:
        yield vae


def latents(name: str, *cells: int) -> np.ndarray:
    channels = LTX[name]["latent_channels"] if name in LTX else 4
    return np.zeros((1, channels, *cells), np.float32)


def least_budget(message: str) -> int:
    found = re.search(r"in ([\d.]+ [KMG]iB)", message)
    assert found is not None, message
    return parse_memory(found.group(1))


@pytest.mark.usefixtures("points")
def test_a_budget_for_tiles_alone_is_refused_and_the_least_exact_one_runs(without_strips: Any) -> None:
    vae = without_strips
    z = latents("ltx20", *WIDE)
    budget = next(size * MIB for size in range(60, 3000, 20) if _fits(vae, z, size * MIB))
    assert not settled(vae, z, budget).is_exact
    with pytest.raises(
        InputError, match=r"nothing exact fits into .*: the least would be stream of 4 frames, in"
    ) as one:
        settled(vae, z, budget, exact=True)
    least = least_budget(str(one.value))
    assert settled(vae, z, least, exact=True).is_exact
    with pytest.raises(InputError, match="nothing exact fits"):
        settled(vae, z, least - 8 * MIB, exact=True)
    assert not settled(vae, z, budget).is_exact, "calls without exact=True plan as before"


@pytest.mark.usefixtures("points")
def test_strips_make_the_least_budget_of_a_clip_an_exact_one(opened: Open) -> None:
    vae = opened("ltx20", backend="onnxruntime")
    z = latents("ltx20", *WIDE)
    budget = next(size * MIB for size in range(60, 3000, 20) if _fits(vae, z, size * MIB))
    assert settled(vae, z, budget).is_exact


def _fits(vae: Any, z: Any, budget: int) -> bool:
    try:
        settled(vae, z, budget)
    except InputError:
        return False
    return True


def test_a_plan_for_exact_calls_holds_nothing_that_approximates(opened: Open, points: MadeUp) -> None:
    vae = opened("ltx20", backend="onnxruntime")
    size = vae.grid.sample_size(SIZE)
    refused = vae.plan(size, memory="100MiB", exact=True)
    assert refused.chosen is None
    assert refused.reason.startswith("nothing exact fits into 100 MiB")
    assert all(one.is_exact for one in refused.candidates)
    assert all(probe.strategy.is_exact for probe in points.asked)


def test_without_a_budget_the_least_exact_way_runs_in_place_of_tiles(
    without_strips: Any, points: MadeUp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    vae = without_strips
    z = latents("ltx20", *WIDE)
    monkeypatch.setattr("latentrt.runtime.planner.policy.default_budget", lambda: 900 * MIB)
    monkeypatch.setattr("latentrt.runtime.planner.policy.ALWAYS_FITS_BYTES", MIB)
    assert not settled(vae, z, None).is_exact
    assert settled(vae, z, None, exact=True).kind == "stream"
    assert "it runs as stream of 4 frames" in caplog.text


def test_tiles_that_are_enabled_are_refused_unless_one_holds_everything(opened: Open) -> None:
    for name, cells in (("sd", (24, 24)), ("ltx20", (2, 8, 8))):
        vae = opened(name, backend="onnxruntime")
        side = 8 * vae.grid.spatial // (2 if vae.video else 1)
        vae.enable_tiling(tile_sample_min_height=side, tile_sample_min_width=side)
        calls: list[Callable[[], Any]] = [
            lambda: vae.decode(latents(name, *cells), exact=True),  # noqa: B023
            lambda: vae.encode(sample, exact=True),  # noqa: B023
            lambda: vae(sample, exact=True),  # noqa: B023
            lambda: vae.tiled_decode(latents(name, *cells), exact=True),  # noqa: B023
        ]
        if vae.video:
            calls.append(lambda: vae.decode_frames(latents(name, *cells), exact=True))  # noqa: B023
        sample = np.zeros((1, 3, *vae.grid.sample_size(cells)), np.float32)
        for call in calls:
            with pytest.raises(InputError, match="exact"):
                call()
        small = (1, *[2] * (len(cells) - 1)) if vae.video else (2, 2)
        assert vae.decode(latents(name, *small), exact=True).exact


def test_strips_that_keep_float16_are_refused(opened: Open) -> None:
    vae = opened("sd", backend="onnxruntime")
    vae.enable_tiling(exact=True, storage="float16")
    with pytest.raises(InputError, match="exact: the tiling that is enabled approximates"):
        vae.decode(latents("sd", 8, 8), exact=True)
    vae.enable_tiling(exact=True)
    assert vae.decode(latents("sd", 8, 8), exact=True).exact


def test_auto_takes_the_fastest_exact_way_of_all_backends(
    bundle_of: BundleOf, points: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the first backend only a stream fits, which is slower than another backend's whole pass."""

    def point(self: Any, probe: Probe) -> Point:
        found = points.point(probe)
        if self._engine.backend == "openvino" and probe.strategy.kind == "whole":
            return replace(found, peak_bytes=2 * found.peak_bytes)
        return found

    monkeypatch.setattr(Calibration, "point", point)
    with open_bundle(bundle_of("ltx20"), threads=1) as vae:
        assert vae.backend == "openvino"
        size = vae.grid.sample_size(SIZE)
        large: Any = vae.plan(size, memory="60GiB")
        assert (large.chosen.strategy.kind, large.chosen.backend) == ("whole", "openvino")
        assert large.backends == ("openvino",), "nothing is measured where a whole pass fits"
        between: Any = vae.plan(size, memory=int(0.75 * large.chosen.cost.most_bytes))
        assert (between.chosen.strategy.kind, between.chosen.backend) == ("whole", "onnxruntime:cpu")
        assert re.search(r"on onnxruntime:cpu, since stream of \d+ frames on openvino is slower", between.reason)
        assert between.to_json()["backend"] == "onnxruntime:cpu"
