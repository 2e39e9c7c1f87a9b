"""Convolutions with fewer multiplications: the same numbers, in OpenVINO's models of known sizes and nowhere
else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from architectures import relative_error
from openvino import opset13 as ops

from latentrt.export.verify.quality import psnr
from latentrt.runtime import open_bundle
from latentrt.runtime.backends.component import CallScope
from latentrt.runtime.backends.openvino.component import OpenVinoComponent
from latentrt.runtime.backends.openvino.graph import rewrite_for_cpu
from latentrt.runtime.backends.openvino.winograd import apply_winograd
from latentrt.runtime.backends.winograd import filtering
from latentrt.runtime.calls.conditions import neutral_conditions
from latentrt.runtime.system.processor import Processor

BundleOf = Callable[[str], Path]
EXACTLY = {"INFERENCE_PRECISION_HINT": "f32"}
IMAGES = ["sd", "odd_groups", "mish", "flux2"]
VIDEOS = ["ltx20", "ltx23", "causal_decoder", "conv_down", "patch_2"]


def convolution(
    sources: int, results: int, height: int, *, stride: int = 1, taps: int = 3, padding: int = 1, known: bool = True
) -> Any:
    """A model of one convolution between two other operations, over pictures as wide as high."""
    kernel = np.random.default_rng(0).standard_normal((results, sources, taps, taps)).astype(np.float32)
    source = ops.parameter([1, sources, height if known else -1, height], openvino.Type.f32)
    pads = [padding, padding]
    result = ops.convolution(ops.relu(source), kernel, [stride, stride], pads, pads, [1, 1])
    return openvino.Model([ops.relu(result)], [source])


def count_of(model: Any, kind: str) -> int:
    return sum(node.get_type_name() == kind for node in model.get_ordered_ops())


@pytest.mark.parametrize("results", [2, 4])
def test_filtering_is_the_sum_of_products(results: int) -> None:
    rng = np.random.default_rng(0)
    values, taps = rng.standard_normal(results + 2), rng.standard_normal(3)
    how = filtering(results)
    got = how.after @ ((how.of_taps @ taps) * (how.before @ values))
    np.testing.assert_allclose(got, np.correlate(values, taps, "valid"), rtol=0, atol=1e-12)
    assert how.results == results
    assert len(how.of_taps) == results + 2 < 3 * results


@pytest.mark.slow
@pytest.mark.usefixtures("every_layer_is_large")
@pytest.mark.parametrize("name", IMAGES + VIDEOS)
@pytest.mark.parametrize("component", ["decoder", "encoder"])
def test_every_architecture_gives_the_same_numbers(name: str, component: str, bundle_of: BundleOf) -> None:
    core = openvino.Core()
    plain, other = (core.read_model(str(bundle_of(name) / f"{component}.onnx")) for _ in range(2))
    video = name in VIDEOS
    # A decoder's lowest layers have 6 rows, which two divides, and those above 12, 24 and so on.
    size = ([2, 6, 3] if component == "decoder" else [9, 64, 96])[not video :]
    shape = [2, plain.inputs[0].partial_shape[1].get_length(), *size]
    rewrite_for_cpu(other)
    other.reshape(shape)
    before = count_of(other, "Convolution")
    found = apply_winograd(other)
    assert found > before // 3
    assert count_of(other, "Convolution") >= before + 3 * found
    array = np.random.default_rng(0).standard_normal(shape, np.float32)
    wanted, got = (next(iter(core.compile_model(each, "CPU", EXACTLY)(array).values())) for each in (plain, other))
    assert relative_error(got, wanted) < 2e-5


@pytest.mark.slow
@pytest.mark.usefixtures("every_layer_is_large")
@pytest.mark.parametrize("name", ["sd", "ltx20", "noise_timestep"])
def test_warm_sizes_run_on_it_in_float32(name: str, bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []

    def noted(model: Any) -> int:
        found.append(apply_winograd(model))
        return found[-1]

    monkeypatch.setattr("latentrt.runtime.backends.openvino.winograd.apply_winograd", noted)
    with open_bundle(bundle_of(name), backend="openvino", threads=1) as vae:
        size = (4, 4, 5) if vae.video else (8, 12)
        latents = np.random.default_rng(0).standard_normal((1, vae.config.latent_channels, *size), np.float32)
        options: dict[str, Any] = neutral_conditions(vae.config, 1) | ({"rng": 0} if "noise" in name else {})
        before = vae.decode(latents, **options).sample
        assert not found, "a size that nobody has named"
        vae.warmup([latents.shape])
        assert len(found) == 1
        assert found[0] > 5
        after = vae.decode(latents, **options).sample
        assert 0 < relative_error(after, before) < 2e-5


@pytest.mark.slow
@pytest.mark.usefixtures("every_layer_is_large")
def test_a_call_within_a_budget_runs_on_what_was_measured(
    bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path))
    with open_bundle(bundle_of("no_attention"), backend="openvino", threads=1) as vae:
        latents = np.random.default_rng(0).standard_normal((1, vae.config.latent_channels, 8, 8), np.float32)
        before = vae.decode(latents).sample
        vae.warmup([latents.shape])
        assert not np.array_equal(vae.decode(latents).sample, before), "the model of its own rounds in another way"
        assert np.array_equal(vae.decode(latents, memory="8GiB").sample, before)


@pytest.mark.slow
@pytest.mark.usefixtures("every_layer_is_large", "needs_bfloat16")
@pytest.mark.parametrize("name", ["sd", "ltx20"])
def test_bfloat16_has_them_too_but_where_the_cpu_multiplies_matrices(
    name: str, bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums and differences of rows cost some of what precision bfloat16 has: 1 to 2.5 dB, and up to 6 in these narrow
    models, whose layers would all go without."""
    graph = bundle_of(name) / "decoder.onnx"
    shape = next(iter(openvino.Core().read_model(str(graph)).inputs)).partial_shape
    size = (2, 8, 12) if name in VIDEOS else (16, 24)
    latents = np.random.default_rng(0).standard_normal((1, shape[1].get_length(), *size), np.float32)

    def decoded(dtype: str, *instructions: str, specialise: bool = True) -> Any:
        monkeypatch.setattr(
            "latentrt.runtime.backends.openvino.compiler.processor", lambda: Processor("", frozenset(instructions))
        )
        component = OpenVinoComponent(graph, dtype=dtype, threads=1)
        return component.run({"latents": latents}, call=CallScope(specialise=specialise))

    def refused(model: Any) -> int:
        raise AssertionError("this CPU may have AMX")

    wanted, other = decoded("float32", specialise=False), decoded("bfloat16", "avx512_bf16")
    monkeypatch.setattr("latentrt.runtime.backends.openvino.winograd.apply_winograd", refused)
    plain = decoded("bfloat16", "avx512_bf16", "amx_bf16")
    assert np.array_equal(decoded("bfloat16"), plain), "nor where the system does not tell"
    assert not np.array_equal(other, plain)
    assert psnr(other, wanted) > max(45, psnr(plain, wanted) - 6)


@pytest.mark.parametrize(
    ("model", "products"),
    [
        (convolution(256, 256, 16), 6),
        (convolution(256, 256, 18), 4),  # by two
        (convolution(160, 160, 18), 0),  # by two, and too small to gain by it
        (convolution(160, 160, 16), 6),
        (convolution(128, 128, 16), 0),
        (convolution(256, 3, 16), 0),
        (convolution(256, 256, 17), 0),
        (convolution(513, 256, 16), 0),
        (convolution(256, 256, 16, stride=2), 0),
        (convolution(256, 256, 16, padding=0), 0),
        (convolution(256, 256, 16, taps=1, padding=0), 0),
        (convolution(256, 256, 16, known=False), 0),
    ],
)
def test_it_is_for_large_convolutions_of_three_rows_of_taps(model: Any, products: int) -> None:
    assert apply_winograd(model) == bool(products)
    assert count_of(model, "Convolution") == (products or 1)


def test_rows_stay_apart_from_convolution_to_convolution() -> None:
    rng = np.random.default_rng(0)
    kernels = [rng.standard_normal((256, 256, 3, 3)).astype(np.float32) / 50 for _ in range(3)]

    def model() -> Any:
        source = ops.parameter([1, 256, 8, 12], openvino.Type.f32)
        hidden = ops.relu(source)
        for kernel in kernels:
            inner = ops.convolution(ops.sigmoid(hidden), kernel, [1, 1], [1, 1], [1, 1], [1, 1])
            hidden = ops.add(hidden, ops.add(inner, rng.standard_normal((1, 256, 1, 1)).astype(np.float32)))
        mean = ops.reduce_mean(hidden, np.array([1]), True)
        return openvino.Model([ops.subtract(hidden, mean), ops.transpose(hidden, np.array([0, 2, 3, 1]))], [source])

    rng = np.random.default_rng(1)
    plain = model()
    rng = np.random.default_rng(1)
    other = model()
    assert apply_winograd(other) == 3
    # Twice: what comes in, and its sigmoid. Each convolution then sees a row above and below its own.
    assert count_of(other, "Slice") == 2 * 4 + 3 * 2
    assert count_of(other, "Reshape") == 2, "put together where rows are mixed, and for the result"
    core = openvino.Core()
    array = rng.standard_normal((1, 256, 8, 12)).astype(np.float32)
    for got, wanted in zip(
        *(core.compile_model(each, "CPU", EXACTLY)(array).values() for each in (other, plain)), strict=True
    ):
        assert relative_error(got, wanted) < 1e-5
