"""Memory that runs out in a library is one sentence that says what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from latentrt.export import VerifySettings, verify_bundle
from latentrt.export.memory_errors import is_memory_error, memory_errors
from latentrt.export.verify.reference import Reference
from latentrt.export.verify.tiling_quality import compare_tiling
from latentrt.runtime import EngineError, open_bundle
from latentrt.runtime.autoencoders.autoencoder import Autoencoder
from latentrt.runtime.errors import DeviceMemoryError

HUGE = 1 << 50


def onnxruntime_array() -> None:
    tensor = onnx.helper.make_tensor("size", onnx.TensorProto.INT64, [1], [HUGE])
    output = onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["n"])
    node = onnx.helper.make_node("ConstantOfShape", ["size"], ["out"])
    graph = onnx.helper.make_graph([node], "huge", [], [output], [tensor])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {})


@pytest.mark.parametrize(
    "allocate", [onnxruntime_array, lambda: torch.empty(HUGE), lambda: np.empty(HUGE)], ids=["ORT", "torch", "NumPy"]
)
def test_each_librarys_error_becomes_the_sentence(allocate: Callable[[], Any]) -> None:
    wanted = r"^this ran out of memory: give a smaller picture or clip, .*$"
    with pytest.raises(EngineError, match=wanted) as caught, memory_errors("this"):
        allocate()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [ValueError("a wrong size"), DeviceMemoryError("out of memory: use tiles")])
def test_other_errors_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, memory_errors("this"):
        raise error
    assert caught.value is error
    assert not is_memory_error(ValueError("a wrong size"))


def run_out(*_: Any, **__: Any) -> None:
    torch.empty(HUGE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "method", "sentence"),
    [
        (Reference, "encode", r"the encoder of the PyTorch reference on \(1, 3, 64, 64\) ran out of memory: give"),
        (Reference, "decode", r"the decoder of the PyTorch reference on \(1, 4, 8, 8\) ran out of memory: give"),
        (Autoencoder, "decode", r"decoder\.onnx on \(1, 4, 8, 8\), whole, ran out of memory: give"),
    ],
)
def test_verify_says_what_ran_out_of_memory(
    owner: type,
    method: str,
    sentence: str,
    bundle_of: Callable[[str], Path],
    checkpoint_of: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owner, method, run_out)
    with pytest.raises(EngineError, match=sentence):
        verify_bundle(
            bundle_of("sdxl"), checkpoint_of("sdxl"), VerifySettings(backend="onnxruntime", provider="cpu", threads=1)
        )


def test_verify_tiling_says_what_ran_out_of_memory(
    bundle_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_bundle(bundle_of("sdxl"), threads=1) as vae:
        monkeypatch.setattr(type(vae), "encode", run_out)
        with pytest.raises(EngineError, match="drawn: the encoder in a single pass ran out of memory: give"):
            list(compare_tiling(vae, [("linear", lambda: None)]))
