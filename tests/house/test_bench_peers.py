"""scripts/bench_peers on a tiny model: every kind of row, the tables, and going on where a run was stopped."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "scripts" / "bench_peers"


@pytest.fixture(scope="module")
def peers() -> Any:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        return importlib.import_module("peers.limits")
    finally:
        sys.path.remove(str(SCRIPT.parent))


def test_no_second_of_an_engine_counts_twice(peers: Any) -> None:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        opened = importlib.import_module("peers.contenders").Opened(int, int, [(5.0, 6.0), (0.0, 2.0), (1.0, 3.0)])
    finally:
        sys.path.remove(str(SCRIPT.parent))
    assert opened.engine_seconds == 4.0


@pytest.mark.long
def test_the_quick_mode_measures_compares_and_goes_on(tmp_path: Path) -> None:
    names = ("optimum", "onnxruntime", "stream float32")
    files = ["--json", str(tmp_path / "peers.json"), "--markdown", str(tmp_path / "peers.md")]
    command = [sys.executable, str(SCRIPT), "--quick", "--case", "quick-ltx2-decode", "--threads", "1", *files]
    command += [part for name in names for part in ("--contender", name)] + ["--work", str(tmp_path / "work")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    values, text = json.loads((tmp_path / "peers.json").read_text()), (tmp_path / "peers.md").read_text()
    rows = {row["contender"]: row for row in values["runs"]}
    ours, raw, stream = "LatentRT onnxruntime float32", "onnxruntime float32", "LatentRT stream float32"
    assert set(rows) == {"diffusers float32", "optimum-onnx float32", raw, ours, stream}, "the reference always runs"
    assert rows["optimum-onnx float32"]["status"] == "skipped"
    assert "- optimum-onnx float32: skipped, optimum-onnx exports AutoencoderKL only" in text
    for name in (raw, ours, stream):
        assert rows[name]["psnr_db"] > 100
        assert rows[name]["seconds"] > 0
    assert 0 <= rows[ours]["host_share"] < 1
    assert values["work"]["quick-ltx2-decode"] > 1e6
    assert min(values["rates"][0][f"{library} float32"] for library in ("torch", "openvino")) > 1e8
    assert f"quick-ltx2-decode: {ours}, its time over {raw}'s" in text
    assert [(row["ours"], len(row["ratios"])) for row in values["turns"]] == [(ours, 1)]
    assert f"- in turns, {ours} over {raw}: " in text
    assert str(tmp_path) not in text, "a report is for others: no path of this machine"

    values["runs"] = [row for row in values["runs"] if row["contender"] != raw]
    (tmp_path / "peers.json").write_text(json.dumps(values))
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    measured = [line for line in done.stdout.splitlines() if line.startswith("quick-ltx2-decode, round 1")]
    assert [line.split(", ")[2].partition(":")[0] for line in measured] == [raw], "only what was missing"
    assert len(json.loads((tmp_path / "peers.json").read_text())["runs"]) == len(rows)


def test_ratios_are_taken_within_rounds_and_limits_judged(peers: Any) -> None:
    def row(contender: str, number: int, seconds: float, **more: Any) -> dict[str, Any]:
        values = {"case": "sd-decode", "contender": contender, "round": number, "status": "ok", "seconds": seconds}
        return values | {"host_share": None, "psnr_db": 50.0} | more

    reference, bfloat16 = "diffusers float32", "LatentRT openvino bfloat16"
    runs = [row(reference, 0, 10.0), row(reference, 1, 30.0), row(bfloat16, 0, 4.0, host_share=0.1)]
    runs += [row(bfloat16, 1, 10.0, host_share=0.2), row("openvino bfloat16", 0, 4.0), row("openvino bfloat16", 1, 9.9)]
    rates = [{"case": "sd-decode", "round": number, "openvino bfloat16": 1e9} for number in (0, 1)]
    turns = [{"case": "sd-decode", "ours": bfloat16, "raw": "x", "status": "ok", "ratios": [1.1, 0.9, 1.0]}]
    turns += [{"case": "sd-decode", "ours": "LatentRT openvino float32", "raw": "x", "status": "failed", "reason": "-"}]
    results = peers.Results(runs, rates, {"sd-decode": 2e9}, turns)
    assert results.over_raw("sd-decode", bfloat16) == 1.0
    assert results.ratio("sd-decode", reference, bfloat16) == pytest.approx((2.5 + 3.0) / 2)
    assert results.rate_share("sd-decode", bfloat16) == pytest.approx((0.5 + 0.2) / 2)
    judged = {verdict["promise"]: verdict["passed"] for verdict in peers.verdicts(results)}
    assert judged == {
        "sd-decode: LatentRT openvino bfloat16, its time over openvino bfloat16's": True,
        "sd-decode: times as fast as diffusers float32, bfloat16": True,
        "sd-decode: LatentRT openvino bfloat16, PSNR in dB": True,
        "sd-decode: LatentRT openvino bfloat16, share of the host": False,
    }


def test_ours_that_never_ran_is_missed(peers: Any) -> None:
    def row(contender: str, status: str) -> dict[str, Any]:
        return {"case": "sd-decode", "contender": contender, "round": 0, "status": status, "reason": "it ended"}

    rows = [
        row("LatentRT openvino float32", "failed"),
        row("LatentRT openvino bfloat16", "skipped"),
        row("x", "failed"),
    ]
    judged = {verdict["promise"]: verdict["passed"] for verdict in peers.verdicts(peers.Results(rows, [], {}))}
    assert judged == {"sd-decode: LatentRT openvino float32, rounds that ran": False}


def test_it_is_executable_and_documented() -> None:
    assert os.access(SCRIPT, os.X_OK)
    done = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True)
    assert "--quick" in done.stdout
    assert "--resume" in done.stdout
