"""The range check: what overflows float16 is found on samples, kept in float32, and written down."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from architectures import KL, LTX, picture
from click.testing import CliRunner
from rounding import run_rounded
from scaled import scale_weights

from latentrt.export.bundle import ExportSettings, export_bundle
from latentrt.export.cli import cli
from latentrt.export.quality import psnr
from latentrt.export.ranges import LIMIT
from latentrt.runtime import EngineError, LatentRTError, open_bundle
from latentrt.runtime.manifest import Manifest

BOTH = ("float32", "float16")


@pytest.fixture(scope="module")
def overflowing(checkpoint_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose decoder passes 65504 from its mid block's attention on, and comes back to the usual scale
    before its last block, as SDXL's does; beside it sample.npy. (Attention's result is transposed, which ONNX Runtime's
    CPU does in float16; elsewhere it computes in float32 whatever the graph says.)"""
    folder = tmp_path_factory.mktemp("overflowing") / "source"
    shutil.copytree(checkpoint_of("sdxl"), folder)
    scale_weights(folder, "decoder.mid_block.attentions.0.to_out.0.weight", 4e5)
    scale_weights(folder, "decoder.up_blocks.3.resnets.0.conv_shortcut.weight", 1e-5)
    np.save(folder / "sample.npy", picture(KL["sdxl"], batch=1, frames=1, height=64, width=64))
    return folder


@pytest.fixture(scope="module")
def plain(overflowing: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle without a range check."""
    bundle = tmp_path_factory.mktemp("plain") / "bundle"
    export_bundle(overflowing, bundle, ExportSettings(dtypes=BOTH))
    return bundle


def exact_strips(vae: Any) -> None:
    vae.enable_tiling(exact=True, strip=16)


def latents_and_sample(bundle: Path, source: Path) -> tuple[np.ndarray, np.ndarray]:
    """The sample's latents and what float32 decodes them to."""
    with open_bundle(bundle, threads=1) as vae:
        latents = np.ascontiguousarray(vae.encode(np.load(source / "sample.npy")).latent_dist.mode())
        return latents, vae.decode(latents).sample


def test_a_model_that_overflows_plain_float16_comes_out_right(
    overflowing: Path, plain: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = ExportSettings(dtypes=BOTH, check_range=(overflowing / "sample.npy",))
    manifest = export_bundle(overflowing, tmp_path / "checked", settings)
    latents, wanted = latents_and_sample(plain, overflowing)
    assert not np.isfinite(run_rounded(plain / "decoder.float16.onnx", {"latents": latents})).any()
    assert psnr(run_rounded(tmp_path / "checked" / "decoder.float16.onnx", {"latents": latents}), wanted) >= 45
    with open_bundle(tmp_path / "checked", dtype="float16", threads=1) as vae:
        assert psnr(vae.decode(latents).sample, wanted) < 150, "it is not the float32 graph that ran"
        assert psnr(vae.decode(latents).sample, wanted) >= 45
        exact_strips(vae)
        caplog.clear()
        assert 45 <= psnr(vae.decode(latents).sample, wanted) < 150, "in strips it keeps the same in float32"
        assert not caplog.records
    model = onnx.load(str(tmp_path / "checked" / "decoder.float16.onnx"), load_external_data=False)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    convolutions = [kinds[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]
    wide = convolutions.count(onnx.TensorProto.FLOAT)
    assert 0 < wide < len(convolutions) / 3, "what does not overflow stays in float16"
    assert manifest.ranges is not None


def test_the_table_holds_the_largest_value_of_every_tensor(overflowing: Path, plain: Path, tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    samples.mkdir()
    first = np.load(overflowing / "sample.npy")
    np.save(samples / "a.npy", first)
    np.save(samples / "b.npy", 0.5 * first[:, :, ::-1])
    settings = ExportSettings(dtypes=BOTH, check_range=(samples / "a.npy", samples / "b.npy"))
    ranges = export_bundle(overflowing, tmp_path / "b", settings).ranges
    assert ranges is not None
    assert ranges["samples"] == ["a.npy", "b.npy"]
    assert set(ranges["largest"]) == {"encoder.onnx", "decoder.onnx"}
    name = "decoder.mid_block.resnets.1/Add"
    wanted = 0.0
    for sample in (first, 0.5 * first[:, :, ::-1]):
        with open_bundle(plain, threads=1) as vae:
            latents = np.ascontiguousarray(vae.encode(np.ascontiguousarray(sample)).latent_dist.mode())
        wanted = max(wanted, float(np.abs(intermediate(plain / "decoder.onnx", name, {"latents": latents})).max()))
    table = ranges["largest"]["decoder.onnx"]
    assert table[name] == pytest.approx(wanted, rel=1e-3)
    assert wanted > 65504 > LIMIT
    assert name in ranges["kept_in_float32"]["decoder.onnx"]
    kept, large = set(ranges["kept_in_float32"]["decoder.onnx"]), {key for key, value in table.items() if value > LIMIT}
    assert kept < large
    assert all("norm" in key.rpartition("/")[0] for key in large - kept), "norms are in float32 anyway"
    assert ranges["kept_in_float32"]["encoder.onnx"] == []
    model = onnx.shape_inference.infer_shapes(onnx.load(str(plain / "decoder.onnx"), load_external_data=False))
    floats = {v.name for v in model.graph.value_info if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    assert floats <= set(table)
    assert Manifest.open(tmp_path / "b").ranges == ranges


def test_float16_alone_is_checked_too_and_nothing_else_is_left(overflowing: Path, tmp_path: Path) -> None:
    settings = ExportSettings(dtypes=("float16",), exact=False, check_range=(overflowing / "sample.npy",))
    export_bundle(overflowing, tmp_path / "b", settings)
    parts = {f"{part}.float16.{end}" for part in ("encoder", "decoder") for end in ("onnx", "safetensors")}
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"manifest.json", *parts}
    Manifest.open(tmp_path / "b").verify_hashes()


def test_a_video_model_with_conditions_is_checked(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", picture(LTX["ltx20"], batch=1, frames=9, height=64, width=64))
    settings = ExportSettings(dtypes=BOTH, check_range=(tmp_path / "clip.npy",))
    ranges = export_bundle(checkpoint_of("noise_timestep"), tmp_path / "b", settings).ranges
    assert ranges is not None
    assert ranges["largest"]["decoder.onnx"]["temb"] == pytest.approx(0.05)
    assert all(value > 0 for value in ranges["largest"]["encoder.onnx"].values())


def test_bfloat16_needs_no_exceptions(overflowing: Path, tmp_path: Path) -> None:
    settings = ExportSettings(dtypes=("float32", "bfloat16"), check_range=(overflowing / "sample.npy",))
    export_bundle(overflowing, tmp_path / "b", settings)
    model = onnx.load(str(tmp_path / "b" / "decoder.bfloat16.onnx"), load_external_data=False)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    convolutions = {kinds[node.input[1]] for node in model.graph.node if node.op_type == "Conv"}
    assert convolutions == {onnx.TensorProto.BFLOAT16}
    latents, wanted = latents_and_sample(tmp_path / "b", overflowing)
    assert psnr(run_rounded(tmp_path / "b" / "decoder.bfloat16.onnx", {"latents": latents}), wanted) >= 35


@pytest.mark.parametrize(
    ("component", "samples", "sentence"),
    [
        (("decoder",), "sample.npy", "export both components"),
        (("encoder", "decoder"), "nothing", "there is no such file"),
        (("encoder", "decoder"), "empty", "holds no pictures"),
    ],
)
def test_what_cannot_be_checked_is_one_sentence_and_leaves_nothing(
    component: tuple[str, ...], samples: str, sentence: str, overflowing: Path, tmp_path: Path
) -> None:
    (overflowing / "empty").mkdir(exist_ok=True)
    settings = ExportSettings(components=component, dtypes=BOTH, check_range=(overflowing / samples,))
    with pytest.raises(LatentRTError, match=sentence) as caught:
        export_bundle(overflowing, tmp_path / "b", settings)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_command_tells_what_it_kept(overflowing: Path, tmp_path: Path) -> None:
    arguments = ["export", overflowing, tmp_path / "b", "--dtype", "float32", "--dtype", "float16"]
    arguments += ["--check-range", overflowing / "sample.npy"]
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)
    ranges = Manifest.open(tmp_path / "b").ranges
    assert ranges is not None
    kept = len(ranges["kept_in_float32"]["decoder.onnx"])
    assert 0 < kept < 30
    assert f"decoder.onnx: {kept} tensors" in result.stdout
    assert "too large for float16 on these samples, kept in float32" in result.stdout
    assert "force_upcast" not in result.stdout, "the pictures have been looked at"
    result = CliRunner().invoke(cli, ["inspect", str(tmp_path / "b")], catch_exceptions=False)
    assert f"range checked: decoder.onnx keeps {kept}" in result.stdout


def test_a_decode_that_overflows_runs_again_in_float32_and_says_so_once(
    overflowing: Path, plain: Path, caplog: pytest.LogCaptureFixture
) -> None:
    latents, wanted = latents_and_sample(plain, overflowing)
    out = np.full_like(wanted, 7)
    with open_bundle(plain, dtype="float16", threads=1) as vae:
        caplog.clear()
        np.testing.assert_array_equal(vae.decode(latents).sample, wanted)
        assert vae.decode(latents, out=out).sample is out
        np.testing.assert_array_equal(out, wanted)
        moments = vae.encode(np.load(overflowing / "sample.npy")).latent_dist.parameters
    assert np.isfinite(moments).all()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    size = wanted.size
    assert warnings == [
        f"decoder.float16.onnx: {size} of {size} values are NaN or infinite in float16: run again in float32"
    ]


def test_a_tile_of_exact_strips_that_overflows_runs_again_in_float32(
    overflowing: Path, plain: Path, caplog: pytest.LogCaptureFixture
) -> None:
    latents, wanted = latents_and_sample(plain, overflowing)
    with open_bundle(plain, dtype="float16", threads=1) as vae:
        exact_strips(vae)
        caplog.clear()
        assert 45 <= psnr(vae.decode(latents).sample, wanted) < 150, "the other steps are in float16"
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    told = [
        re.fullmatch(r"decoder\.exact_(\d\d)\.float16\.onnx: .* in float16: run again in float32", w) for w in warnings
    ]
    steps = [match[1] for match in told if match is not None]
    assert len(steps) == len(warnings)
    assert steps == sorted(set(steps)), "a step is told once, whatever its tiles"
    upsamplers = [
        graph.segment.index for graph in Manifest.open(plain).segments if graph.segment and graph.segment.up > 1
    ]
    assert steps == ["04", *(f"{index:02d}" for index in sorted(set(upsamplers)))], (
        "attention, and what moves its values"
    )


def test_without_a_wider_graph_it_is_an_error_that_says_what_to_do(
    overflowing: Path, plain: Path, tmp_path: Path
) -> None:
    latents, _ = latents_and_sample(plain, overflowing)
    export_bundle(overflowing, tmp_path / "b", ExportSettings(dtypes=("float16",)))
    with (
        open_bundle(tmp_path / "b", dtype="float16", threads=1) as vae,
        pytest.raises(EngineError, match=r"NaN or infinite in float16, .*--dtype float32 .*--check-range"),
    ):
        vae.decode(latents)


def test_only_the_batch_element_that_overflows_runs_again(
    overflowing: Path, plain: Path, caplog: pytest.LogCaptureFixture
) -> None:
    latents, wanted = latents_and_sample(plain, overflowing)
    with open_bundle(plain, dtype="float16", threads=1) as vae:
        vae.enable_slicing()
        both = vae.decode(np.concatenate([latents, latents[:, :, ::-1]])).sample
    np.testing.assert_allclose(both[:1], wanted, atol=1e-5)
    assert np.isfinite(both).all()


def intermediate(path: Path, name: str, feed: dict[str, np.ndarray]) -> np.ndarray:
    """A tensor within a graph."""
    model = onnx.load(str(path))
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return np.asarray(session.run([name], feed)[0])


def test_a_wider_graph_that_cannot_run_either_is_named(overflowing: Path, plain: Path, tmp_path: Path) -> None:
    latents, _ = latents_and_sample(plain, overflowing)
    bundle = Path(shutil.copytree(plain, tmp_path / "bundle"))
    graph = bundle / "decoder.cpu.onnx"  # what float32 runs here
    content = graph.read_bytes()
    graph.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with (
        open_bundle(bundle, dtype="float16", threads=1) as vae,
        pytest.raises(EngineError, match=r"in float16, and the float32 graph cannot run instead: .*was altered"),
    ):
        vae.decode(latents)
