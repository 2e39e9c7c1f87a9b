"""float16 and bfloat16 graphs: close to float32, strongly typed, and in float32 where range or rounding needs it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from architectures import ALL, LTX, picture
from click.testing import CliRunner
from onnx import TensorProto
from rounding import run_rounded
from scaled import scale_weights

import latentrt.export.demo
from latentrt.cli.main import cli
from latentrt.export import VerifySettings, verify_bundle
from latentrt.export.bundle import ExportSettings, export_bundle
from latentrt.export.precision import precision
from latentrt.export.verify.quality import psnr
from latentrt.export.weights.narrowing import narrowed
from latentrt.export.weights.safetensors_file import SafetensorsFile
from latentrt.runtime import BackendUnavailable, InputError, open_bundle
from latentrt.runtime.arrays.kinds import Dtype
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.calls.conditions import conditions_for
from latentrt.runtime.errors import CheckpointError

NAMES = ["sd", "flux", "rgba_gelu", "mish", "ltx20", "ltx23", "noise_timestep", "conv_down", "shortcuts"]
DEMO = Path(str(latentrt.export.demo.__file__)).parent
DTYPES: tuple[Dtype, ...] = ("float32", "float16", "bfloat16")
LOW_TYPES = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


@pytest.fixture(scope="module")
def mixed(checkpoint_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The bundle of an architecture in all three precisions. Copy it before changing it."""
    made: dict[str, Path] = {}

    def export(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("mixed") / name
            export_bundle(checkpoint_of(name), made[name], ExportSettings(dtypes=DTYPES))
        return made[name]

    return export


def inputs_of(name: str, bundle: Path) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """A sample, its mean latents by the float32 encoder, and what the decoder wants beside them."""
    options = {"temb": 0.05 if ALL[name].get("timestep_conditioning") else None, "rng": 0}
    with open_bundle(bundle, threads=1) as vae:
        sample = picture(ALL[name], batch=2, frames=9, height=64, width=96)
        return sample, np.ascontiguousarray(vae.encode(sample).latent_dist.mean), options


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_float16_is_close_to_float32_through_the_runtime(name: str, mixed: Callable[[str], Path]) -> None:
    sample, latents, options = inputs_of(name, mixed(name))
    with open_bundle(mixed(name), threads=1) as wide, open_bundle(mixed(name), threads=1, dtype="float16") as low:
        assert psnr(*(vae.encode(sample).latent_dist.parameters for vae in (low, wide))) >= 45
        decoded = [vae.decode(latents, **options).sample for vae in (low, wide)]
        assert decoded[0].dtype == np.float32
        assert 45 <= psnr(*decoded) < 150, "close, and not the same graph"


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "wanted_db"), [("float16", 45), ("bfloat16", 35)])
@pytest.mark.parametrize("name", ["sd", "ltx20", "ltx23", "noise_timestep"])
def test_rounded_after_every_operation_it_is_still_close(
    name: str, dtype: str, wanted_db: float, mixed: Callable[[str], Path]
) -> None:
    sample, latents, options = inputs_of(name, mixed(name))
    with open_bundle(mixed(name), threads=1) as vae:
        moments, decoded = vae.encode(sample).latent_dist.parameters, vae.decode(latents, **options).sample
        rng = options["rng"] if "noise" in name else None
        given = conditions_for(vae.config, latents, options["temb"], rng)
    conditions = {} if given is None else given.inputs()
    rounded = run_rounded(mixed(name) / f"encoder.{dtype}.onnx", {"sample": sample})
    assert wanted_db <= psnr(rounded, moments) < 100
    rounded = run_rounded(mixed(name) / f"decoder.{dtype}.onnx", {"latents": latents, **conditions})
    assert wanted_db <= psnr(rounded, decoded) < 100


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image", "video"])
def test_the_demo_models_are_close_in_float16(kind: str, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    export_bundle(DEMO / kind, bundle, ExportSettings(dtypes=("float32", "float16")))
    with open_bundle(bundle, threads=1) as wide, open_bundle(bundle, threads=1, dtype="float16") as low:
        ratio = wide.grid.spatial
        axes = (9, 4 * ratio, 2 * ratio) if wide.video else (8 * ratio, 10 * ratio)
        sample = np.tanh(np.random.default_rng(0).standard_normal((1, 3, *axes), np.float32))
        moments = wide.encode(sample).latent_dist
        assert psnr(low.encode(sample).latent_dist.parameters, moments.parameters) >= 45
        latents = np.ascontiguousarray(moments.mean)
        wanted = wide.decode(latents).sample
        assert psnr(low.decode(latents).sample, wanted) >= 45
        assert psnr(run_rounded(bundle / "decoder.float16.onnx", {"latents": latents}), wanted) >= 45


@pytest.mark.parametrize("dtype", LOW_TYPES)
@pytest.mark.parametrize("name", NAMES)
def test_every_type_is_written_out_and_the_islands_are_float32(
    name: str, dtype: str, mixed: Callable[[str], Path]
) -> None:
    for component in ("encoder", "decoder"):
        path = mixed(name) / f"{component}.{dtype}.onnx"
        model = onnx.load(str(path), load_external_data=False)
        assert model.opset_import[0].version == {"float16": 18, "bfloat16": 22}[dtype]
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
        kinds |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        for value in (*model.graph.input, *model.graph.output):
            assert value.type.tensor_type.elem_type == TensorProto.FLOAT
        seen: dict[str, set[int]] = {}
        for node in model.graph.node:
            if node.op_type != "Cast" and node.output[0] in kinds:
                seen.setdefault(node.op_type, set()).add(kinds[node.output[0]])
                floats = {kinds.get(i) for i in node.input[:1]} & {TensorProto.FLOAT, *LOW_TYPES.values()}
                assert node.op_type == "Shape" or floats <= {kinds[node.output[0]]}, node.name
        assert seen["Conv"] == {LOW_TYPES[dtype]}
        assert seen.get("MatMul", {LOW_TYPES[dtype]}) == {LOW_TYPES[dtype]}
        for operator in ("LayerNormalization", "ReduceMean", "Softmax", "Sqrt", "Cos"):
            assert seen.get(operator, {TensorProto.FLOAT}) == {TensorProto.FLOAT}, operator
        if dtype == "bfloat16":
            assert seen.get("Resize", {TensorProto.FLOAT}) == {TensorProto.FLOAT}


@pytest.mark.parametrize("name", ["sd", "ltx20"])
def test_weights_are_stored_in_the_precision_that_reads_them(name: str, mixed: Callable[[str], Path]) -> None:
    sizes = {}
    for dtype, code in (("float16", "F16"), ("bfloat16", "BF16")):
        file = SafetensorsFile(mixed(name) / f"decoder.{dtype}.safetensors")
        wide = SafetensorsFile(mixed(name) / "decoder.safetensors")
        assert set(file) == set(wide)
        kinds = {tensor: entry.dtype for tensor, entry in file.items()}
        assert set(kinds.values()) <= {code, "F32"}
        assert kinds["decoder.conv_in.weight" if name == "sd" else "decoder.conv_in.conv.weight"] == code
        assert all(kind == code for tensor, kind in kinds.items() if "conv" in tensor and "norm" not in tensor)
        for tensor in wide:
            limit = 2.0**-10 if kinds[tensor] == "F16" else 2.0**-7
            np.testing.assert_allclose(file.read(tensor), wide.read(tensor), rtol=limit, atol=1e-7)
        sizes[dtype] = file.path.stat().st_size / wide.path.stat().st_size
    assert all(size < 0.55 for size in sizes.values())


def test_a_bundle_of_float16_alone_holds_no_float32_weights(
    checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    export_bundle(checkpoint_of("sd"), tmp_path / "b", ExportSettings(dtypes=("float16",), exact=False))
    names = {file.name for file in Manifest.open(tmp_path / "b").files}
    parts = {f"{part}.float16.{end}" for part in ("encoder", "decoder") for end in ("onnx", "safetensors")}
    assert names == {"golden.safetensors", *parts}
    with pytest.raises(InputError, match=r"holds no float32 graphs .*open it with dtype='float16'"):
        open_bundle(tmp_path / "b")
    with open_bundle(tmp_path / "b", dtype="float16", threads=1) as vae:
        assert np.isfinite(vae.decode(np.zeros((1, 4, 8, 8), np.float32)).sample).all()


def test_bfloat16_says_why_the_cpu_cannot_run_it(mixed: Callable[[str], Path]) -> None:
    with pytest.raises(BackendUnavailable, match="no bfloat16 convolution"):
        open_bundle(mixed("sd"), dtype="bfloat16", backend="onnxruntime")
    with pytest.raises(BackendUnavailable, match="no bfloat16 convolution"):
        open_bundle(mixed("sd"), dtype="bfloat16", provider="cpu")


@pytest.mark.slow
def test_verify_compares_each_precision_that_can_run_here(
    mixed: Callable[[str], Path], checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(mixed("sd"), tmp_path / "bundle"))
    report = verify_bundle(bundle, checkpoint_of("sd"), VerifySettings(threads=1, min_psnr_db=40))
    assert report.passed
    by_onnxruntime = {row.dtype for row in report.comparisons if row.backend == "onnxruntime:cpu"}
    assert by_onnxruntime == {"float32", "float16"}, "no bfloat16 on the CPU"
    assert {row.dtype for row in report.comparisons} - by_onnxruntime <= {"bfloat16"}, "by OpenVINO, where the CPU can"
    with pytest.raises(BackendUnavailable, match="no bfloat16 convolution"):
        verify_bundle(bundle, checkpoint_of("sd"), VerifySettings(threads=1, dtype="bfloat16", backend="onnxruntime"))


@pytest.mark.slow
def test_a_pixel_norm_of_large_values_needs_its_island(
    checkpoint_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(shutil.copytree(checkpoint_of("ltx20"), tmp_path / "source"))
    scale_weights(source, "decoder.conv_in", 1000.0)  # the first norm then sees values of several hundred
    settings = ExportSettings(components=("decoder",), dtypes=("float32", "float16"))
    export_bundle(source, tmp_path / "b", settings)
    latents = 3 * np.random.default_rng(0).standard_normal((1, 16, 2, 2, 3)).astype(np.float32)
    with open_bundle(tmp_path / "b", threads=1) as vae:
        wanted = vae.decode(latents).sample
    assert psnr(run_rounded(tmp_path / "b" / "decoder.float16.onnx", {"latents": latents}), wanted) >= 45
    monkeypatch.setattr(precision, "_needs_float32", lambda *_: False)
    export_bundle(source, tmp_path / "plain", settings)
    plain = run_rounded(tmp_path / "plain" / "decoder.float16.onnx", {"latents": latents})
    assert np.isfinite(plain).all(), "nothing tells"
    assert psnr(plain, wanted) < 25


@pytest.mark.slow
def test_sliced_attention_and_causal_variants_have_low_precisions(
    checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = ExportSettings(dtypes=("float32", "float16"), attention="sliced")
    export_bundle(checkpoint_of("flux"), tmp_path / "image", settings)
    with open_bundle(tmp_path / "image", threads=1) as wide:
        latents = np.random.default_rng(0).standard_normal((1, 16, 8, 8)).astype(np.float32)
        with open_bundle(tmp_path / "image", threads=1, dtype="float16") as low:
            assert psnr(low.decode(latents).sample, wide.decode(latents).sample) >= 45
    settings = ExportSettings(dtypes=("float32", "float16"), causal=(True, False))
    manifest = export_bundle(checkpoint_of("ltx20"), tmp_path / "video", settings)
    assert {(graph.dtype, graph.causal) for graph in manifest.find_graphs("decoder")} == {
        (dtype, causal) for dtype in ("float32", "float16") for causal in (True, False)
    }
    assert len({graph.weights for graph in manifest.find_graphs("decoder")}) == 2, "weights once per precision"
    with open_bundle(tmp_path / "video", threads=1, dtype="float16") as vae:
        shape = (1, LTX["ltx20"]["latent_channels"], 2, 2, 2)
        latents = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        causal, not_causal = (vae.decode(latents, causal=flag).sample for flag in (True, False))
        assert psnr(causal, not_causal) < 60


def test_rounding_is_to_nearest_even_and_refuses_what_does_not_fit() -> None:
    import torch

    values = np.random.default_rng(0).standard_normal(4096).astype(np.float32) * 100
    values[:6] = [0.0, -0.0, np.inf, -np.inf, 1.0, 3.3895314e38]
    bits = narrowed(values, "bfloat16", "x").view(np.int16)
    assert np.array_equal(bits, torch.from_numpy(values).bfloat16().view(torch.int16).numpy())
    not_a_number = narrowed(np.array([np.nan, -np.nan], np.float32), "bfloat16", "x").astype("<u4") << 16
    assert np.isnan(not_a_number.view("<f4")).all()
    assert np.array_equal(narrowed(values[6:], "float16", "x"), values[6:].astype(np.float16))
    with pytest.raises(CheckpointError, match=r"^x holds 70000, which float16 cannot"):
        narrowed(np.array([1, 7e4], np.float32), "float16", "x")


@pytest.mark.slow
def test_the_command_exports_each_precision_and_says_what_bfloat16_lacks(
    checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    def export(bundle: str, *options: str) -> str:
        arguments = ["export", str(checkpoint_of("sd")), str(tmp_path / bundle), *options]
        return CliRunner().invoke(cli, arguments, catch_exceptions=False).stdout

    text = export("alone", "--dtype", "bfloat16", "--component", "decoder")
    assert "decoder.bfloat16.onnx: bfloat16, opset 22" in text
    assert "add --dtype float32 for a fallback to ONNX Runtime on a CPU" in text
    assert "force_upcast" not in text
    text = export("three", "--dtype", "float32", "--dtype", "float16", "--dtype", "bfloat16")
    assert "for a fallback to" not in text
    assert "--check-range PICTURES keeps such layers in float32" in text, "diffusers' default is force_upcast"
    assert [graph.dtype for graph in Manifest.open(tmp_path / "three").find_graphs("encoder")] == list(DTYPES)


def test_dtypes_are_checked(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    wrong: list[Any] = [(), ("float16", "float16"), ("half",)]
    for dtypes in wrong:
        with pytest.raises(InputError, match="dtypes must be some of float32, float16, bfloat16, each once"):
            export_bundle(checkpoint_of("sd"), tmp_path / "b", ExportSettings(dtypes=dtypes))
    assert not list(tmp_path.iterdir())
