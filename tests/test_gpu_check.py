"""scripts/gpu_check without a GPU: the same steps on small models, so that the run on a GPU finds no surprises."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "gpu_check"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[dict[str, object]]], str, str]:
    """The dry run's JSON, its Markdown, and what it printed."""
    out = tmp_path_factory.mktemp("gpu")
    command = [sys.executable, str(SCRIPT), "--dry-run", "--model", "ltx2", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "cpu-dry-run.json").read_text()), (out / "cpu-dry-run.md").read_text(), done.stdout


def test_the_dry_run_takes_every_step(report: tuple[dict[str, list[dict[str, object]]], str, str]) -> None:
    values, text, printed = report
    everything = [row for part in ("steps", "decodes", "clips", "features") for row in values[part]]
    assert {row["status"] for row in everything} == {"ok"}
    builds = [f"tensorrt-rtx {what}" for what in ("float16", "float16 tiles", "float32 streams", "float16 streams")]
    assert [row["by"] for row in values["steps"]] == ["random weights", "export", builds[0], "reference", *builds[1:]]
    features = {(row["by"], row["what"]): float(str(row["psnr_db"])) for row in values["features"]}
    assert features["onnxruntime cpu float32", "stream"] >= 100
    assert 45 <= features["onnxruntime cpu float16", "stream"] < 100
    for row in values["features"]:
        assert (row["first_frame_seconds"] is not None) == (row["what"] == "stream")
        if row["what"] == "stream":
            assert 0 < float(str(row["first_frame_seconds"])) < 2 * float(str(row["seconds"]))
    assert features["onnxruntime cpu float16", "uint8"] >= 40
    tiles = [features["onnxruntime cpu float16", f"tiles, {how}"] for how in ("overlapped", "one by one")]
    assert tiles[0] == tiles[1]
    assert "| ltx2 96x64x9 | onnxruntime cpu float32 | stream |" in text
    decodes = {row["by"]: row for row in values["decodes"]}
    assert set(decodes) >= {"onnxruntime cpu float16", "onnxruntime cpu float32", "torch float32"}
    assert "torch channels_last bfloat16" in decodes
    for row in decodes.values():
        assert float(str(row["seconds"])) > 0
        assert float(str(row["psnr_db"])) >= 30
    assert 45 <= float(str(decodes["onnxruntime cpu float16"]["psnr_db"])) < 150
    assert 0 < float(str(decodes["torch float32"]["share_of_matrix_rate"])) < 5
    assert float(str(values["clips"][0]["first_frame_seconds"])) <= float(str(values["clips"][0]["clip_seconds"]))
    assert "| ltx2 96x64x9 | onnxruntime cpu float16 |" in text
    assert text in printed
    assert "Not measured" not in text


def test_exact_strips_are_measured_in_both_precisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    cases, features, measures = (importlib.import_module(f"gpu.{name}") for name in ("cases", "features", "measures"))
    case, bundle, wanted = cases.DRY_CASES[0], tmp_path / "bundle", tmp_path / "wanted.npy"
    importlib.import_module("benchmarks.checkpoints").write_checkpoint(tmp_path / "checkpoint", case.config)
    measures.export(tmp_path / "checkpoint", bundle)
    measures.reference(case, tmp_path / "checkpoint", wanted, "cpu")
    for dtype, least_db, most_db in (("float32", 100, 200), ("float16", 45, 100)):
        contender = cases.Contender("onnxruntime", dtype, "cpu")
        assert "exact strips" in features.features_of(case, contender, "cpu")
        row = features.feature("exact strips", case, contender, bundle, wanted)
        assert least_db <= row["psnr_db"] < most_db
        assert row["wanted_db"] == 45
        assert row["first_frame_seconds"] is None


def test_what_there_is_no_time_for_is_left_out_and_said(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--dry-run", "--seconds", "0.5", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "unknown.json").read_text())
    assert {row["status"] for row in values["decodes"]} == {"skipped"}
    assert "- sdxl 64x64, torch float32: skipped, no time left" in done.stdout


def test_it_is_executable_and_documented() -> None:
    assert os.access(SCRIPT, os.X_OK)
    done = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True)
    assert "--dry-run" in done.stdout
    assert "--wheels" in done.stdout
