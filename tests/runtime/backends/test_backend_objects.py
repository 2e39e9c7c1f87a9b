"""A backend that is an object of the caller's runs a bundle: `open_bundle(backend=...)`."""

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import double_backend
import numpy as np
import pytest
from double_backend import DoubleBackend, DoubleComponent

import latentrt.runtime
from latentrt.runtime import BackendUnavailable, EngineError, InputError, open_bundle
from latentrt.runtime.backends.choose import choose_backend
from latentrt.runtime.backends.onnxruntime.options import OnnxRuntimeOptions
from latentrt.runtime.backends.tensorrt.options import TensorRtOptions
from latentrt.runtime.backends.wrapped import WrappedBackend
from latentrt.runtime.bundle.manifest import Manifest

BundleOf = Callable[[str], Path]
RUNTIME = Path(latentrt.runtime.__file__).parent
LINES_LIMIT = 40


def picture(height: int = 64, width: int = 96, batch: int = 2) -> Any:
    return np.random.default_rng(0).uniform(-1, 1, (batch, 3, height, width)).astype(np.float32)


def blocks(mean: Any) -> Any:
    return mean.repeat(8, -2).repeat(8, -1)


def test_a_double_encodes_and_decodes_a_picture(bundle_of: BundleOf) -> None:
    backend, x = DoubleBackend(), picture()
    with open_bundle(bundle_of("sd"), backend=backend) as vae:
        assert (vae.backend, vae.dtype, vae.device) == ("double", "float32", "cpu")
        latents = vae.encode(x).latent_dist.mode()
        y = vae.decode(latents).sample
    wanted = x.mean(1).reshape(2, 8, 8, 12, 8).mean((2, 4))
    np.testing.assert_allclose(latents, np.broadcast_to(wanted[:, None], (2, 4, 8, 12)), atol=1e-6)
    np.testing.assert_allclose(y, np.broadcast_to(blocks(wanted)[:, None], x.shape), atol=1e-6)
    assert backend.calls == [(2, 3, 64, 96), (2, 4, 8, 12)]
    assert backend.opened == ["encoder.onnx", "decoder.onnx"]


def test_a_backend_may_give_an_object_of_its_own_for_each_bundle(bundle_of: BundleOf) -> None:
    class Bound(DoubleBackend):
        def for_bundle(self, manifest: Manifest) -> DoubleBackend:
            return DoubleBackend(manifest.config.spatial_ratio)

    backend = Bound(ratio=0)
    for name in ("sd", "odd_groups"):
        with open_bundle(bundle_of(name), backend=backend) as vae:
            assert vae.decode(np.ones((1, 4, 2, 2), np.float32)).sample.shape[2] == 2 * vae.grid.spatial
    assert backend.opened == []


def test_the_double_is_short() -> None:
    code = [line for line in inspect.getsource(double_backend).splitlines() if line.strip()]
    start = next(number for number, line in enumerate(code) if line.startswith("class DoubleBackend"))
    assert len(code) - start < LINES_LIMIT, "a backend of the caller's has to bring too much"


def asked_by_name(code: str) -> list[str]:
    """The names that a module asks an object for with hasattr or getattr."""
    calls = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call))
    asking = (call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("hasattr", "getattr"))
    return [ast.unparse(call.args[1]) for call in asking]


def test_capabilities_are_values_and_not_looked_for() -> None:
    rooms = [*RUNTIME.glob("execution/*.py"), *RUNTIME.glob("planner/*.py"), *RUNTIME.glob("backends/*.py")]
    assert len(rooms) > 30
    found = {(path.name, name) for path in rooms for name in asked_by_name(path.read_text())}
    assert {name for _, name in found} <= {"'__dlpack__'", "'shape'"}, f"of arrays of the caller's alone: {found}"
    assert asked_by_name("getattr(component, 'gives_pixels', False)") == ["'gives_pixels'"]


def test_tiles_and_slices_run_in_a_double(bundle_of: BundleOf) -> None:
    backend, z = DoubleBackend(), np.ones((3, 4, 16, 16), np.float32)
    with open_bundle(bundle_of("sd"), backend=backend) as opened:
        vae: Any = opened
        whole = vae.decode(z).sample
        vae.enable_slicing()
        assert np.array_equal(vae.decode(z).sample, whole)
        assert backend.calls[1:] == [(1, 4, 16, 16)] * 3
        vae.disable_slicing()
        vae.enable_tiling(tile_sample_min_size=64)
        np.testing.assert_allclose(vae.decode(z).sample, whole, atol=1e-6)
        assert backend.calls[-1] == (3, 4, 8, 8)


def test_a_double_that_runs_no_steps_refuses_strips_and_its_memory_is_not_planned(bundle_of: BundleOf) -> None:
    z = np.ones((1, 4, 16, 16), np.float32)
    with open_bundle(bundle_of("sd"), backend=DoubleBackend()) as opened:
        vae: Any = opened
        with pytest.raises(BackendUnavailable, match="it is not known how much a call takes on double: enable tiling"):
            vae.decode(z, memory="1GiB")
        vae.enable_tiling(exact=True)
        with pytest.raises(BackendUnavailable, match="backend double runs no strips"):
            vae.decode(z)


def test_a_double_of_lower_precision_is_checked_and_run_again(bundle_of: BundleOf) -> None:
    opened: list[str] = []

    class Lowered(DoubleBackend):
        dtype = "bfloat16"

        def open(self, graph: Any, file: Path, *, dtype: str) -> Any:
            opened.append(dtype)
            component: Any = DoubleComponent(graph, self)
            if dtype == "bfloat16":
                run = component.run
                component.run = lambda inputs, **options: run(inputs, **options) * np.float32(np.nan)
            return component

    z = np.ones((1, 4, 8, 8), np.float32)
    with open_bundle(bundle_of("sd"), backend=Lowered(), dtype="bfloat16") as vae:
        assert (vae.decode(z).sample == 1).all()
    assert opened == ["bfloat16", "float32"]


def test_a_result_of_a_wrong_shape_is_an_error_of_the_engine(bundle_of: BundleOf) -> None:
    with (
        open_bundle(bundle_of("sd"), backend=DoubleBackend(ratio=4)) as vae,
        pytest.raises(EngineError, match=r"decoder\.onnx"),
    ):
        vae.decode(np.ones((1, 4, 8, 8), np.float32))


def test_a_wrapped_backend_gives_what_its_backend_gives(bundle_of: BundleOf) -> None:
    graphs: list[str] = []

    def noted(graph: Any, component: Any) -> Any:
        graphs.append(graph.file)
        return component

    inner = choose_backend(Manifest.open(bundle_of("sd")), backend="onnxruntime", provider="cpu", threads=1)
    x = picture()
    with (
        open_bundle(bundle_of("sd"), backend=WrappedBackend(inner, noted)) as wrapped,
        open_bundle(bundle_of("sd"), backend="onnxruntime", threads=1) as plain,
    ):
        assert wrapped.backend == plain.backend == "onnxruntime:cpu"
        assert np.array_equal(wrapped(x).sample, plain(x).sample)
    assert graphs == ["encoder.onnx", "decoder.onnx"]


@pytest.mark.parametrize(
    ("backend", "options", "sentence"),
    [
        (object(), {}, "backend must be a name or an object of a subclass of Backend, got object"),
        (DoubleBackend, {}, "backend must be a name or an object of a subclass of Backend, got ABCMeta"),
        (DoubleBackend(), {"dtype": "float16"}, "dtype: the backend double computes in float32, and float16 was asked"),
        (DoubleBackend(), {"threads": 2}, "threads: the backend double was given as an object, which has options of"),
        (DoubleBackend(), {"provider": "cpu"}, "leave provider out"),
        (DoubleBackend(), {"session_options": {}}, "leave session_options out"),
        (
            "onnxruntime",
            {"session_options": 3},
            "session_options must be OnnxRuntimeOptions, TensorRtOptions or a mapp",
        ),
    ],
)
def test_wrong_objects_and_options_are_one_sentence(
    backend: Any, options: dict[str, Any], sentence: str, bundle_of: BundleOf
) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        open_bundle(bundle_of("sd"), backend=backend, **options)
    assert len(str(caught.value).splitlines()) == 1


def test_a_bundle_without_graphs_of_the_objects_precision_is_refused(bundle_of: BundleOf) -> None:
    class Half(DoubleBackend):
        dtype = graph_dtype = "float16"

    with pytest.raises(InputError, match="holds no float16 graphs"):
        open_bundle(bundle_of("sd"), backend=Half(), dtype="float16")


def test_typed_options_of_onnx_runtime_are_those_of_the_mapping(bundle_of: BundleOf) -> None:
    mapping = {"session.intra_op.allow_spinning": "0", "enable_mem_pattern": True}
    typed = OnnxRuntimeOptions({"enable_mem_pattern": True}, {"session.intra_op.allow_spinning": "0"})
    assert OnnxRuntimeOptions.of(mapping) == typed == OnnxRuntimeOptions.of(typed)
    assert typed.to_json() == mapping
    assert OnnxRuntimeOptions.of(None).to_json() is None
    x = picture()
    with (
        open_bundle(bundle_of("sd"), backend="onnxruntime", threads=1, session_options=typed) as by_type,
        open_bundle(bundle_of("sd"), backend="onnxruntime", threads=1, session_options=mapping) as by_mapping,
    ):
        assert np.array_equal(by_type(x).sample, by_mapping(x).sample)
    wrong = OnnxRuntimeOptions({"colour": 1})
    with (
        open_bundle(bundle_of("sd"), backend="onnxruntime", session_options=wrong) as vae,
        pytest.raises(InputError, match="SessionOptions has no 'colour'"),
    ):
        vae.load("decoder")


def test_options_of_another_backend_are_refused(bundle_of: BundleOf) -> None:
    with pytest.raises(BackendUnavailable, match="are OnnxRuntimeOptions or a mapping, got TensorRtOptions"):
        open_bundle(bundle_of("sd"), backend="onnxruntime", session_options=TensorRtOptions(device=1))
    with pytest.raises(BackendUnavailable, match="OpenVINO takes none"):
        open_bundle(bundle_of("sd"), backend="openvino", session_options=OnnxRuntimeOptions())


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"device": -1}, "device must be the number of a GPU, got -1"),
        ({"device": True}, "device must be the number of a GPU, got True"),
        ({"device_memory_bytes": 0}, "device_memory_bytes must be a whole number of bytes, got 0"),
        ({"workspace": 3}, "workspace must be a device array, got int"),
    ],
)
def test_wrong_options_of_tensorrt_are_refused_as_values_and_in_a_mapping(
    values: dict[str, Any], sentence: str
) -> None:
    makers: tuple[Callable[[], object], ...] = (lambda: TensorRtOptions(**values), lambda: TensorRtOptions.of(values))
    for make in makers:
        with pytest.raises(InputError, match=sentence):
            make()
    with pytest.raises(InputError, match="TensorRT takes device, device_memory_bytes, workspace, got colour"):
        TensorRtOptions.of({"colour": 1})
