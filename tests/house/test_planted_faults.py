"""Faults that are planted in bundles are refused by the self-test, and good bundles raise no false alarm."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from architectures import ALL, diffusers_model
from campaigns.planted_faults import SHORT, Outcome, outcome_of, planted_faults

from latentrt.export.bundle import ExportSettings, export_bundle
from latentrt.runtime import open_bundle
from latentrt.runtime.backends.openvino.component import missing_openvino

LEAST_REFUSED = 58  # of the sixty faults


@pytest.fixture(scope="module")
def bundles(checkpoint_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Good bundles by architecture, in float32 and for pictures in float16 too. "sd*" is another fine-tune of "sd"."""

    @cache
    def export(name: str) -> Path:
        folder = tmp_path_factory.mktemp("planted")
        source, own = checkpoint_of(name.rstrip("*")), name.rstrip("*")
        if name != own:
            source = folder / "checkpoint"
            diffusers_model(ALL[own], seed=1).save_pretrained(source)
        dtypes: Any = ("float32", "float16") if own == "sd" else ("float32",)
        export_bundle(source, folder / "bundle", ExportSettings(dtypes=dtypes))
        return folder / "bundle"

    return export


@pytest.mark.slow
def test_a_fault_of_each_kind_is_refused(bundles: Callable[[str], Path], tmp_path: Path) -> None:
    chosen = [fault for fault in planted_faults() if fault.name in SHORT]
    assert len(chosen) == len(SHORT)
    outcomes = [outcome_of(fault, bundles, tmp_path / str(number)) for number, fault in enumerate(chosen)]
    assert not_refused(outcomes) == []


@pytest.mark.long
def test_nearly_all_of_sixty_planted_faults_are_refused(bundles: Callable[[str], Path], tmp_path: Path) -> None:
    faults = [
        fault
        for fault in planted_faults()
        if fault.engine.get("dtype") != "bfloat16" or missing_openvino("bfloat16") is None
    ]
    outcomes = [outcome_of(fault, bundles, tmp_path / str(number)) for number, fault in enumerate(faults)]
    wrong = not_refused(outcomes)
    assert len(wrong) <= 60 - LEAST_REFUSED, wrong


@pytest.mark.long
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", sorted(ALL))
def test_no_architecture_raises_a_false_alarm(name: str, backend: Any, checkpoint_of: Any, tmp_path: Path) -> None:
    export_bundle(checkpoint_of(name), tmp_path / "bundle", ExportSettings(dtypes=("float32", "float16")))
    lowered = "float16" if backend == "onnxruntime" else "bfloat16"
    for dtype in ("float32", lowered):
        if dtype == "bfloat16" and missing_openvino(dtype) is not None:
            continue
        with open_bundle(tmp_path / "bundle", backend=backend, dtype=dtype, selftest="never") as vae:  # type: ignore[arg-type]
            report = vae.selftest()
        assert report.passed, [row for row in report.rows if not row.passed]


def not_refused(outcomes: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.kind != "refused"]
