"""A damaged file of measurements counts as absent, and is replaced."""

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentrt.runtime.backends.memory_model import Reopening
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.calls.strategy import WHOLE
from latentrt.runtime.planner.calibration import Calibration
from latentrt.runtime.planner.probe import Point, Probe

ENGINE = Reopening("onnxruntime", "cpu", "float32", 1)
SMALL = Probe("decoder", (2, 2, 2), WHOLE)
POINT = Point(7, 5, 0.5, 0.25, 3)
FIELDS = vars(POINT)
DAMAGES: dict[str, Any] = {
    "empty": b"",
    "cut": b'{"identity": {"sch',
    "zeros": bytes(4096),
    "binary": bytes(range(256)),
    "deep": b"[" * 100_000,
    "list": b"[1, 2]",
    "null": b"null",
    "huge number": b"9" * 10_000,
    "no points": {},
    "points are a list": {"points": [1]},
    "points are a text": {"points": "many"},
    "no field": {"points": {SMALL.key: {"peak_bytes": 1}}},
    "text": {"points": {SMALL.key: FIELDS | {"peak_bytes": "7"}}},
    "null field": {"points": {SMALL.key: FIELDS | {"seconds": None}}},
    "flag": {"points": {SMALL.key: FIELDS | {"seconds": True}}},
    "infinite": b'{"identity": IDENTITY, "points": {KEY: {"peak_bytes": 1e999, "loaded_bytes": 1, "seconds": 1}}}',
    "NaN": b'{"identity": IDENTITY, "points": {KEY: {"peak_bytes": NaN, "loaded_bytes": 1, "seconds": 1}}}',
    "too large": {"points": {SMALL.key: FIELDS | {"peak_bytes": 10**30}}},
    "seconds too large": {"points": {SMALL.key: FIELDS | {"seconds": 1e300}}},
    "another key": {"points": {"a key": FIELDS}},
    "key of another kind": {"points": {json.dumps({"component": "decoder", "cells": 1, "strategy": {}}): FIELDS}},
}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Probe]:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))
    calls: list[Probe] = []

    def fake(bundle: Path, engine: Reopening, probe: Probe, check: Any) -> Point:
        calls.append(probe)
        return POINT

    monkeypatch.setattr("latentrt.runtime.planner.calibration.measure", fake)
    return calls


@pytest.mark.parametrize("damage", [*DAMAGES, "folder", "full folder", "unreadable"])
def test_a_damaged_file_is_measured_again_and_replaced(
    damage: str, measured: list[Probe], bundle_of: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    manifest = Manifest.open(bundle_of("ltx20"))
    calibration = Calibration(manifest, ENGINE)
    path = calibration.path
    content = DAMAGES.get(damage)
    if isinstance(content, dict):
        path.write_text(json.dumps({"identity": calibration.identity, **content}))
    elif isinstance(content, bytes):
        identity = json.dumps(calibration.identity).encode()
        path.write_bytes(content.replace(b"IDENTITY", identity).replace(b"KEY", json.dumps(SMALL.key).encode()))
    elif damage == "unreadable":
        if sys.platform == "win32" or os.geteuid() == 0:
            pytest.skip("this user may read every file")
        path.write_text("{}")
        path.chmod(0)
    else:
        path.mkdir()
        if damage == "full folder":
            (path / "file").touch()
    caplog.clear()
    assert Calibration(manifest, ENGINE).point(SMALL) == POINT
    assert any("the kept calibration cannot be read" in record.message for record in caplog.records)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert measured == [SMALL]
    assert Calibration(manifest, ENGINE).point(SMALL) == POINT
    assert measured == [SMALL], "the file was replaced"
    assert Calibration(manifest, ENGINE).to_json()[0]["peak_bytes"] == POINT.peak_bytes
