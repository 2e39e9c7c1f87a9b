"""A bundle keeps one verification record for each backend and precision, also from reports of earlier versions."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentrt.runtime import BundleError
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.bundle.verification_record import VerificationRecord, with_records

ROW = {"backend": "openvino", "dtype": "float32", "component": "decoder", "strategy": "whole", "sample": "random"}
RECORD = VerificationRecord(
    backend="openvino",
    dtype="float32",
    passed=True,
    min_psnr_db=100.0,
    worst_psnr_db=120.0,
    date="2026-11-30T12:00:00+00:00",
    versions={"latentrt": "0.1.0", "openvino": "2026.4.1", "torch": None},
    samples=("random", "photo.png"),
    comparisons=(ROW | {"psnr_db": 120.0},),
)


@pytest.fixture
def bundle(bundle_of: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_of("relu_one_block"), tmp_path / "bundle"))


def edit(bundle: Path, **fields: Any) -> None:
    values = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(values | fields))


def test_a_record_reads_back_as_it_was_written(bundle: Path) -> None:
    dataclasses.replace(Manifest.open(bundle), verifications=(RECORD,)).write()
    assert Manifest.open(bundle).verifications == (RECORD,)


def test_a_new_record_replaces_that_of_its_backend_and_precision_alone() -> None:
    low = dataclasses.replace(RECORD, dtype="bfloat16", min_psnr_db=45.0, worst_psnr_db=50.0)
    other = dataclasses.replace(RECORD, backend="onnxruntime:cpu")
    again = dataclasses.replace(low, worst_psnr_db=48.0)
    assert with_records((RECORD, low, other), [again]) == (other, again, RECORD)
    assert with_records((), [RECORD]) == (RECORD,)


def test_the_report_of_an_earlier_version_becomes_records(bundle: Path) -> None:
    low = ROW | {"dtype": "bfloat16", "psnr_db": 50.0}
    rows = [ROW | {"psnr_db": 44.0}, low, low | {"component": "encoder", "psnr_db": None}]
    missing = [{"backend": "tensorrt", "dtype": "float32", "reason": "no GPU"}]
    report = {"passed": False, "min_psnr_db": 45.0, "comparisons": rows, "not_compared": missing}
    edit(bundle, verifications=None, verification=report)
    by_key = {(one.backend, one.dtype): one for one in Manifest.open(bundle).verifications}
    high, broken, absent = (
        by_key[key] for key in (("openvino", "float32"), ("openvino", "bfloat16"), ("tensorrt", "float32"))
    )
    assert (high.passed, high.worst_psnr_db, high.date, high.samples) == (False, 44.0, None, ("random",))
    assert (broken.passed, broken.worst_psnr_db) == (False, None)
    assert (broken.worst_of("decoder"), broken.worst_of("encoder")) == (50.0, -float("inf"))
    assert (absent.passed, absent.not_compared) == (False, ("no GPU",))


def test_damaged_records_are_refused(bundle: Path) -> None:
    good = RECORD.to_json()
    wrong: list[Any] = [
        1,
        ["a"],
        [good, good],
        *([good | {key: value}] for key, value in {"passed": 1, "dtype": 2, "worst_psnr_db": "x"}.items()),
        [good | {"comparisons": [1]}],
        [good | {"comparisons": [ROW | {"psnr_db": "120"}]}],
        [good | {"versions": {"latentrt": 1}}],
        [{key: value for key, value in good.items() if key != "samples"}],
    ]
    for records in wrong:
        edit(bundle, verifications=records)
        with pytest.raises(BundleError, match="damaged"):
            Manifest.open(bundle)
