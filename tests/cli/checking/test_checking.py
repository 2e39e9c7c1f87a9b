"""`latentrt selftest` and `latentrt compare`: tables, JSON, exit codes and the picture."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke
from places import TESTS

from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.errors import BundleError, InputError
from latentrt.runtime.media.pictures.picture_file import write_picture

SMALL = "relu_one_block"
ORT = ("--backend", "onnxruntime")


def test_a_good_bundle_passes_as_table_and_as_json(bundle_of: Callable[[str], Path]) -> None:
    result = invoke("selftest", bundle_of(SMALL), *ORT)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[0] == "onnxruntime:cpu, float32"
    assert result.output.splitlines()[-1].startswith("passed: ")
    report = json.loads(invoke("selftest", bundle_of(SMALL), *ORT, "--json").output)
    assert report["passed"] is True
    assert report["digest"] == Manifest.open(bundle_of(SMALL)).digest
    assert {(row["component"], row["way"]) for row in report["rows"]} >= {("encoder", "whole"), ("decoder", "strips")}


def test_a_wrong_bundle_fails_with_exit_code_one(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle_of(SMALL), tmp_path / "bundle"))
    manifest = Manifest.open(folder)
    config: Any = manifest.config
    dataclasses.replace(manifest, config=dataclasses.replace(config, scaling_factor=2.0)).write()
    result = invoke("selftest", folder, *ORT)
    assert result.exit_code == 1
    assert "FAILED: 1 of " in result.output
    assert invoke("selftest", folder, *ORT, "--json").exit_code == 1


def test_a_bundle_of_an_earlier_version_has_nothing_to_test() -> None:
    folder = TESTS / "museum" / "362aa54" / "autoencoder-kl" / "bundle"
    with pytest.raises(BundleError, match="export it again"):
        invoke("selftest", folder, *ORT)


def test_two_backends_are_compared_as_table_json_and_picture(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    both = ("compare", bundle_of(SMALL), *ORT, "--backend", "openvino")
    result = invoke(*both, "--plot", tmp_path / "differences.png")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[0] == "compared with onnxruntime:cpu, float32"
    assert (tmp_path / "differences.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads(invoke(*both, "--json").output)
    assert report["passed"] is True
    assert {row["component"] for row in report["rows"]} == {"encoder", "decoder"}
    assert all(row["reference_psnr_db"] > 100 for row in report["rows"])
    assert {row["backend"] for row in report["rows"]} == {"openvino"}


@pytest.mark.slow
def test_your_own_samples_and_a_lower_precision_are_compared(
    bundle_of: Callable[[str], Path], tmp_path: Path, needs_bfloat16: None
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 72, 3), dtype=np.uint8)
    write_picture(tmp_path / "mine.png", pixels)
    options = ("--backend", "openvino", "--dtype", "float32", "--dtype", "bfloat16", "--samples", tmp_path / "mine.png")
    report = json.loads(invoke("compare", bundle_of(SMALL), *options, "--json").output)
    assert report["base"] == "openvino, float32"
    assert {(row["dtype"], row["sample"]) for row in report["rows"]} == {("bfloat16", "mine.png")}
    assert all(row["least_psnr_db"] == 45 and row["reference_psnr_db"] is None for row in report["rows"])


def test_a_comparison_of_one_backend_is_refused(bundle_of: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="a comparison needs two backends or precisions"):
        invoke("compare", bundle_of(SMALL), *ORT)
