"""Which backend a program with PyTorch gets: an engine where one runs, else PyTorch."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from double_backend import DoubleBackend

from latentrt.export import ExportSettings, export_bundle
from latentrt.integrations.torch_backend.opening import TORCH, open_with_torch
from latentrt.runtime import BackendUnavailable, InputError

BundleOf = Callable[[str], Path]


def test_pytorch_is_taken_by_its_name_and_an_engine_by_auto(bundle_of: BundleOf) -> None:
    for backend, label in ((TORCH, "torch:cpu"), ("auto", "onnxruntime:cpu"), (DoubleBackend(), "double")):
        with open_with_torch(bundle_of("sd"), backend=backend, device="cpu") as vae:
            assert vae.backend == label


def test_auto_takes_pytorch_where_no_engine_can_run(
    checkpoint_of: BundleOf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = tmp_path / "bundle"  # no engine runs bfloat16 graphs on a CPU
    export_bundle(checkpoint_of("relu_one_block"), bundle, ExportSettings(dtypes=("bfloat16",)))
    caplog.set_level(logging.INFO, "latentrt.integrations")
    with open_with_torch(bundle, dtype="bfloat16", device="cpu") as vae:
        assert (vae.backend, vae.dtype) == ("torch:cpu", "bfloat16")
    assert "PyTorch runs the bundle" in caplog.text
    for options in ({"threads": 1}, {"planned": True}):  # PyTorch takes neither threads nor a memory budget
        with pytest.raises(BackendUnavailable, match="no backend can run"):
            open_with_torch(bundle, dtype="bfloat16", device="cpu", **options)
    with pytest.raises(InputError, match="threads"):
        open_with_torch(bundle, backend=TORCH, dtype="bfloat16", device="cpu", threads=1)
