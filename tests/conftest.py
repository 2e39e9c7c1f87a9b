"""Small checkpoints and bundles, one of each architecture, made when a test first asks and kept for the session."""

import os
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import ALL, diffusers_model
from safetensors.numpy import load_file

from latentrt.export.bundle import export_bundle
from latentrt.runtime import open_bundle
from latentrt.runtime.autoencoders import opened_bundle
from latentrt.runtime.backends.openvino import winograd as openvino_winograd
from latentrt.runtime.backends.openvino.component import missing_openvino

# A shell lets what runs in the background ignore Ctrl-C and Ctrl-\, and the processes that tests start inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGQUIT"):
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # for test files that import onnxruntime themselves

# The models are so narrow that a second thread only waits for the first: on busy cores it made tests ten times slower.
torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Logs, calibrations and what backends compile go to a folder of the test file's own, never to the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LATENTRT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", autouse=True)
def without_selftest(request: pytest.FixtureRequest) -> Iterator[None]:
    """Engines in this process run no golden samples before their first use, which every test file would wait for. The
    self-test has tests of its own, and processes that tests start run it."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent.name not in ("selftest", "checking") and request.path.stem != "test_planted_faults":
            patch.setattr(opened_bundle, "checked_policy", lambda policy: "never" if policy == "once" else policy)
        yield


@pytest.fixture(scope="session")
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The diffusers folder of an architecture in `architectures.ALL`, random weights. Copy it before changing it."""

    @cache
    def save(name: str) -> Path:
        folder = tmp_path_factory.mktemp("checkpoints") / name
        diffusers_model(ALL[name]).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def tensors_of(checkpoint_of: Callable[[str], Path]) -> Callable[[str], dict[str, np.ndarray]]:
    """The tensors of `checkpoint_of(name)`, by diffusers' names."""
    return lambda name: load_file(checkpoint_of(name) / "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="session")
def bundle_of(checkpoint_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The bundle exported from `checkpoint_of(name)`. Copy it before changing it."""

    @cache
    def export(name: str) -> Path:
        folder = tmp_path_factory.mktemp("bundles") / name
        export_bundle(checkpoint_of(name), folder)
        return folder

    return export


@pytest.fixture
def opened(bundle_of: Callable[[str], Path]) -> Iterator[Callable[..., Any]]:
    """`opened(name, **options)`: a fresh autoencoder of `bundle_of(name)`, on one thread, closed after the test."""
    vaes: list[Any] = []

    def open_one(name: str, **options: Any) -> Any:
        vaes.append(open_bundle(bundle_of(name), threads=1, **options))
        return vaes[-1]

    yield open_one
    for vae in vaes:
        vae.close()


@pytest.fixture
def without_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planner measures what it looks at, as for bundles of versions that derived no formulas."""
    monkeypatch.setattr("latentrt.runtime.planner.bounds.Bounds.of", lambda self, work, strategy: None)


@pytest.fixture
def needs_bfloat16() -> None:
    """The CPU has it."""
    reason = missing_openvino("bfloat16")
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def every_layer_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """All convolutions of three rows of taps get fewer multiplications in OpenVINO, however narrow."""
    monkeypatch.setattr(openvino_winograd, "_LEAST_WORK", {4: 0, 2: 0})
