"""Which backend is chosen, and what is said about those that are not."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import latentrt.runtime.backends.onnxruntime.component as onnxruntime_backend
from latentrt.runtime import BackendUnavailable, InputError, MissingExtra, open_bundle
from latentrt.runtime.backends.choose import backends_here
from latentrt.runtime.backends.names import ProviderName

BundleOf = Callable[[str], Path]


@pytest.fixture
def built_with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX Runtime that was built with CUDA; whether there is a driver is another matter."""
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: providers)


def test_auto_says_once_what_it_took_and_why_it_skipped_the_rest(
    bundle_of: BundleOf, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "latentrt"), open_bundle(bundle_of("sd")) as vae:
        assert vae.backend == "onnxruntime:cpu"
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "backend onnxruntime:cpu; skipped tensorrt (" in caplog.text
    assert caplog.text.count("; skipped ") == 3
    assert "; skipped onnxruntime:cuda (" in caplog.text


@pytest.mark.usefixtures("built_with_cuda")
def test_a_machine_without_a_driver_is_not_taken_for_one_with_a_gpu(
    bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime_backend, "has_nvidia_driver", lambda: False)
    assert open_bundle(bundle_of("sd")).backend == "onnxruntime:cpu"
    assert dict(backends_here())["onnxruntime:cuda"] == "no NVIDIA driver answers on this machine"
    monkeypatch.setattr(onnxruntime_backend, "has_nvidia_driver", lambda: True)
    assert open_bundle(bundle_of("sd")).backend == "onnxruntime:cuda"


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_named_provider_that_cannot_run_is_an_error(bundle_of: BundleOf, provider: ProviderName) -> None:
    with pytest.raises(BackendUnavailable, match=r"cannot run: .*latentrt\[gpu\]"):
        open_bundle(bundle_of("sd"), provider=provider)


def test_a_named_backend_that_is_not_there_is_an_error(bundle_of: BundleOf) -> None:
    with pytest.raises(
        BackendUnavailable, match="backend must be one of auto, onnxruntime, openvino, tensorrt, tensorrt-rtx"
    ):
        open_bundle(bundle_of("sd"), backend="cudnn")  # type: ignore[arg-type] # the sentence for those who have no type checker


def test_without_onnx_runtime_the_sentence_holds_the_pip_line(
    bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundle_of("sd")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert open_bundle(bundle).backend == "openvino"
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match=r"pip install \"latentrt\[cpu\]\""):
        open_bundle(bundle)
    with pytest.raises(MissingExtra, match=r"pip install \"latentrt\[gpu\]\""):
        open_bundle(bundle, provider="cuda")
    assert all(reason is not None for _, reason in backends_here())


def test_a_precision_that_the_bundle_lacks_is_never_replaced(bundle_of: BundleOf) -> None:
    with pytest.raises(InputError, match=r"holds no float16 graphs .*export with --dtype float16"):
        open_bundle(bundle_of("sd"), dtype="float16")
    with pytest.raises(InputError, match="dtype must be one of"):
        open_bundle(bundle_of("sd"), dtype="half")  # type: ignore[arg-type] # the same
