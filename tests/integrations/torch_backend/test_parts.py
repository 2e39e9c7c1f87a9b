"""The parts of PyTorch as a backend, each by itself: settings of the process, frames, pixels, devices."""

import sys
import threading
from typing import Any

import numpy as np
import pytest
import torch

from latentrt.integrations.torch_backend import TorchBackend
from latentrt.integrations.torch_backend.devices import device_of
from latentrt.integrations.torch_backend.frames import TorchFrames
from latentrt.integrations.torch_backend.full_float32 import full_float32
from latentrt.integrations.torch_backend.pixels import to_pixels
from latentrt.runtime import BackendUnavailable, InputError, MissingExtra
from latentrt.runtime.arrays.pixels import to_pixels as to_pixels_on_the_host
from latentrt.runtime.execution.frame_queue import FrameQueue


def settings() -> tuple[Any, ...]:
    backends: Any = torch.backends
    places = (backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.conv, backends.mkldnn.matmul)
    return tuple(place.fp32_precision for place in (*places, backends.cuda.matmul))


def test_float32_is_exact_within_the_context_and_the_settings_come_back() -> None:
    before = settings()
    torch.set_float32_matmul_precision("medium")
    try:
        changed = settings()
        assert changed != before, "this proves nothing if the setting has no effect"
        with full_float32():
            assert set(settings()) <= {"ieee", "none"}
            assert torch.get_float32_matmul_precision() == "highest"
        assert settings() == changed
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_float32_is_exact_where_the_process_uses_the_newer_settings() -> None:
    conv: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before, conv.fp32_precision = conv.fp32_precision, "ieee"
    matmul: Any = torch.backends.cuda.matmul
    was, matmul.fp32_precision = matmul.fp32_precision, "tf32"
    try:
        with pytest.raises(RuntimeError):
            _ = torch.backends.cudnn.allow_tf32
        changed = settings()
        with full_float32():
            assert set(settings()) <= {"ieee", "none"}
        assert settings() == changed
    finally:
        conv.fp32_precision, matmul.fp32_precision = before, was


def test_the_settings_come_back_with_the_last_thread_that_leaves() -> None:
    before, entered, leave = settings(), threading.Event(), threading.Event()

    def compute() -> None:
        with full_float32():
            entered.set()
            leave.wait(60)

    with full_float32():
        other = threading.Thread(target=compute)
        other.start()
        assert entered.wait(60)
    assert set(settings()) <= {"ieee", "none"}
    leave.set()
    other.join()
    assert settings() == before


def test_a_queue_cuts_and_joins_frames_as_it_does_arrays() -> None:
    values = np.random.default_rng(0).standard_normal((1, 2, 7, 3, 4)).astype(np.float32)
    arrays, tensors = FrameQueue(), FrameQueue()
    for part in (values[:, :, :2], values[:, :, 2:6], values[:, :, 6:]):
        arrays.put(part)
        tensors.put(TorchFrames(torch.from_numpy(part.copy())))
    for count in (1, 4, 2):
        assert np.array_equal(tensors.take(count).numpy(), arrays.take(count))
    assert tensors.count == 0


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 4, 2, 5, 7)])
def test_pixels_are_those_of_the_host(shape: tuple[int, ...]) -> None:
    sample = np.random.default_rng(0).uniform(-1.2, 1.2, shape).astype(np.float32)
    halves = (np.arange(24, dtype=np.float32) + 0.5) / 127.5 - 1
    sample.ravel()[:24], sample.ravel()[24:27] = halves, (np.nan, np.inf, -np.inf)
    made = to_pixels(torch.from_numpy(sample.copy()))
    assert made.is_contiguous()
    assert np.array_equal(made.numpy(), to_pixels_on_the_host(sample))


def test_auto_is_the_cpu_where_there_is_no_accelerator() -> None:
    wanted = "cpu" if not torch.accelerator.is_available() else str(torch.accelerator.current_accelerator())
    assert device_of("auto").type == torch.device(wanted).type
    assert TorchBackend("cpu").label == "torch:cpu"


@pytest.mark.parametrize(
    ("arguments", "kind", "sentence"),
    [
        ({"device": "gpu"}, InputError, "device must be a device of PyTorch such as 'cuda' or 'cpu', got 'gpu'"),
        ({"device": 1.5}, InputError, "device must be a device of PyTorch such as 'cuda' or 'cpu', got 1.5"),
        ({"device": "meta"}, InputError, "PyTorch's device 'meta' holds none: take 'cpu'"),
        ({"device": "cuda:99"}, BackendUnavailable, "PyTorch reaches no device 'cuda:99' here"),
        ({"device": "xpu:99"}, BackendUnavailable, "PyTorch reaches no device 'xpu:99' here"),
        ({"dtype": "float64"}, InputError, "dtype must be one of float32, float16, bfloat16, got 'float64'"),
        ({"dtype": torch.int8}, InputError, "dtype must be one of float32, float16, bfloat16, got torch.int8"),
        ({"channels_last": "yes"}, InputError, "channels_last must be True or False, got 'yes'"),
    ],
)
def test_a_wrong_argument_is_one_sentence(arguments: dict[str, Any], kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence) as caught:
        TorchBackend(**{"device": "cpu"} | arguments)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("library", ["torch", "onnx"])
def test_a_missing_library_is_one_sentence_with_the_command(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf'this needs {library}, .*`pip install "latentrt\[torch\]"`'):
        TorchBackend("cpu")


def test_a_precision_may_be_pytorchs() -> None:
    assert TorchBackend("cpu", torch.bfloat16).dtype == "bfloat16"
