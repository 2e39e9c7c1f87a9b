"""Plans of programs that cannot start Python: made from estimates, without a process."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentrt.runtime import EngineError
from latentrt.runtime.calls.strategy import WHOLE
from latentrt.runtime.planner.estimated_points import estimated_point
from latentrt.runtime.planner.probe import Probe
from latentrt.runtime.system.subprocess_call import call_in_subprocess


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is an application that PyInstaller made. It fails if it is started again."""

    def start(*_: Any, **__: Any) -> None:
        raise AssertionError("the application was started again")

    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(subprocess, "Popen", start)


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize(("name", "backend"), [("sd", "onnxruntime"), ("sd", "openvino"), ("ltx20", "openvino")])
def test_a_frozen_application_plans_and_starts_nothing(name: str, backend: str, opened: Callable[..., Any]) -> None:
    vae = opened(name, backend=backend)
    latents = np.zeros((1, vae.config.latent_channels, *((2, 4, 4) if vae.video else (8, 8))), np.float32)
    wanted = vae.decode(latents).sample
    planned = vae.decode(latents, memory="4GiB")
    assert planned.ran.strategy == "whole"
    assert np.array_equal(planned.sample, wanted)
    assert planned.ran.planned_bytes < 4 << 30


@pytest.mark.usefixtures("frozen")
def test_other_work_of_separate_processes_says_what_to_do() -> None:
    with pytest.raises(EngineError, match="run the command `latentrt` of an ordinary Python environment for this"):
        call_in_subprocess("latentrt.runtime.autoencoders.calibration_worker", {})


def test_an_estimate_exceeds_what_is_measured(opened: Callable[..., Any], tmp_path: Path) -> None:
    from latentrt.runtime.planner.probe import measure

    vae = opened("sd", backend="onnxruntime")
    probe = Probe("decoder", (32, 32), WHOLE)
    measured = measure(vae.manifest.folder, vae.opened.backend.memory.reopening, probe)
    estimated = estimated_point(vae.manifest, probe)
    assert measured.peak_bytes < estimated.peak_bytes
    assert measured.loaded_bytes < estimated.loaded_bytes
