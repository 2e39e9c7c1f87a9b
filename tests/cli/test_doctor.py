"""What `doctor` says about this machine and about a bundle."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from command_line import invoke

from latentrt.cli.main import cli
from latentrt.runtime import open_bundle
from latentrt.runtime.backends import choices
from latentrt.runtime.backends.onnxruntime import component as onnxruntime_component
from latentrt.runtime.system import processor

BundleOf = Callable[[str], Path]


def report(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(invoke("doctor", *arguments, "--json").stdout)
    return found


@pytest.mark.slow
def test_the_cores_are_those_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(processor, "_allowed_cores", lambda: 3)
    assert (report()["cores"], report()["machine_cores"]) == (3, 16)
    assert "3 of 16 cores (affinity or CPU quota)" in invoke("doctor").stdout


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), [("sd", "float32"), ("ltx20", "float32")])
def test_a_bundles_backend_is_the_one_that_auto_takes(name: str, dtype: str, bundle_of: BundleOf) -> None:
    found = report(bundle_of(name), "--dtype", dtype)
    with open_bundle(bundle_of(name), dtype=dtype) as vae:  # type: ignore[arg-type]
        assert found["takes"] == vae.backend
    others = [row for row in found["backends"] if row["name"] != found["takes"]]
    assert len(others) == 5
    assert all(row["reason"] for row in others)
    usable = [row["name"] for row in others if row["usable"]]
    assert len(usable) == 1  # OpenVINO for pictures, ONNX Runtime for clips
    text = invoke("doctor", bundle_of(name)).stdout
    assert f"a call in {dtype} takes {found['takes']}" in text
    assert f"it can run, and auto takes {found['takes']} first" in text


def test_a_precision_that_the_bundle_lacks_is_the_reason(bundle_of: BundleOf) -> None:
    found = report(bundle_of("sd"), "--dtype", "float16")
    assert found["takes"] is None
    reasons = {row["name"]: row["reason"] for row in found["backends"]}
    assert reasons["tensorrt"] == reasons["onnxruntime:cpu"] == "the bundle holds no float16 graphs"
    assert reasons["openvino"] == "on the CPU it runs float32 and bfloat16, not float16"
    assert "no backend can run it in float16" in invoke("doctor", bundle_of("sd"), "--dtype", "float16").stdout


def test_the_reasons_come_from_the_choice_of_auto(bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from a second copy: what `auto` skips, and why, is in the report."""
    monkeypatch.setattr(choices.Choices, "_openvino", lambda self: "a reason of its own")
    found = report(bundle_of("ltx20"))
    assert found["takes"] == "onnxruntime:cpu"
    assert {"name": "openvino", "usable": False, "reason": "a reason of its own"} in found["backends"]


@pytest.mark.parametrize(
    ("name", "size", "call"),
    [("sd", "64x96", "64x96: in one pass"), ("sd", "20000x20000", "20000x20000: not in one pass, since an activation")],
)
def test_a_size_says_how_a_call_runs(name: str, size: str, call: str, bundle_of: BundleOf) -> None:
    assert str(report(bundle_of(name), "--size", size)["call"]).startswith(call)


def test_options_of_a_call_need_a_bundle() -> None:
    done = CliRunner().invoke(cli, ["doctor", "--dtype", "float16"])
    assert done.exit_code == 2
    assert "--dtype and --size are those of a call: give BUNDLE too" in done.output


def test_two_onnxruntimes_hide_each_other(bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch) -> None:
    both = ["onnxruntime", "onnxruntime-gpu"]
    monkeypatch.setattr(onnxruntime_component, "packages_of", lambda module: both)
    monkeypatch.setattr("latentrt.cli.doctor.packages_of", lambda module: both)
    reasons = {row["name"]: row["reason"] for row in report(bundle_of("sd"))["backends"]}
    assert "onnxruntime and onnxruntime-gpu are both installed and hide each other" in reasons["onnxruntime:cuda"]
    assert "run `pip uninstall onnxruntime onnxruntime-gpu`" in invoke("doctor").stdout
