"""The range check: what overflows float16 is found on samples, kept in float32, and written down."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
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

from latentrt.cli.main import cli
from latentrt.export.bundle import ExportSettings, export_bundle
from latentrt.export.precision import ranges
from latentrt.export.precision.range_probe import RangeProbe, held_bytes, with_reductions
from latentrt.export.precision.ranges import LIMIT, measure_ranges
from latentrt.export.verify.quality import psnr
from latentrt.runtime import EngineError, LatentRTError, open_bundle
from latentrt.runtime.arrays.kinds import Dtype
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.errors import InputError
from latentrt.runtime.media.pictures.downscaling import downscaled
from latentrt.runtime.media.pictures.picture_file import write_picture

BOTH: tuple[Dtype, ...] = ("float32", "float16")


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


@pytest.mark.slow
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


@pytest.mark.slow
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
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"manifest.json", "golden.safetensors", *parts}
    Manifest.open(tmp_path / "b").verify_hashes()


def test_a_video_model_with_conditions_is_checked(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", picture(LTX["ltx20"], batch=1, frames=9, height=64, width=64))
    settings = ExportSettings(dtypes=BOTH, check_range=(tmp_path / "clip.npy",))
    ranges = export_bundle(checkpoint_of("noise_timestep"), tmp_path / "b", settings).ranges
    assert ranges is not None
    assert ranges["largest"]["decoder.onnx"]["temb"] == pytest.approx(0.05)
    assert all(value > 0 for value in ranges["largest"]["encoder.onnx"].values())


@pytest.mark.slow
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
    assert "tensors overflow float16 on these samples and stay in float32" in result.stdout
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
    with open_bundle(plain, dtype="float16", threads=1, selftest="never") as vae:
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
        graph.strip_stage.index
        for graph in Manifest.open(plain).strip_graphs
        if graph.strip_stage and graph.strip_stage.up > 1
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


# What the check holds


@pytest.mark.parametrize(
    ("name", "file"), [("sdxl", "decoder.onnx"), ("sdxl", "encoder.onnx"), ("ltx20", "decoder.onnx")]
)
def test_each_reduction_stands_directly_behind_the_node_that_makes_its_tensor(
    name: str, file: str, bundle_of: Callable[[str], Path]
) -> None:
    plain = onnx.load(str(bundle_of(name) / file), load_external_data=False)
    probe, names = with_reductions(plain)
    kinds = ("ReduceMax", "ReduceMin")
    added = {output.name for output in probe.graph.output}
    assert len(added) == len(probe.graph.output) == 2 * len(names) > 200
    inputs = {value.name for value in plain.graph.input}
    current, others = inputs, []
    for node in probe.graph.node:
        if node.output[0] in added:
            assert node.op_type in kinds
            assert node.input[0] in current, "the node just before the reductions makes it, or it is an input"
        else:
            others.append(node)
            current = set(node.output)
    assert others == list(plain.graph.node), "the graph itself is as it was"
    assert not added & {read for node in others for read in node.input}


MEASURE = """
import json, sys
from pathlib import Path
from latentrt.export.precision.ranges import measure_ranges
from latentrt.runtime.errors import EngineError
from latentrt.runtime.system.process_memory import peak_bytes
bundle, small, *samples = map(Path, sys.argv[2:])
measure_ranges(bundle, [small])
peaks = [peak_bytes()]
if sys.argv[1] != "unlimited":
    import resource
    used = 4096 * int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]), -1))
try:
    for sample in samples:
        measure_ranges(bundle, [sample])
        peaks.append(peak_bytes())
except EngineError as error:
    print(json.dumps(str(error)))
else:
    print(json.dumps(peaks))
"""


def measured_alone(limit: str, bundle: Path, *samples: Path) -> Any:
    """What a process of its own prints that checks a small sample first and then the others, within a limit in bytes
    more address space: its peaks, or the sentence of its error."""
    command = [sys.executable, "-c", MEASURE, limit, str(bundle), *map(str, samples)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """small.npy, large.npy, huge.npy, and the folder many with pictures of other sizes, none larger than large.npy."""
    folder = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    np.save(folder / "small.npy", noise[:64, :64])
    np.save(folder / "large.npy", noise)
    np.save(folder / "huge.npy", np.zeros((768, 768, 3), np.uint8))
    (folder / "many").mkdir()
    for index, (height, width) in enumerate([(256, 208), (168, 256)]):
        write_picture(folder / "many" / f"{index}.png", noise[:height, :width])
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_the_check_holds_few_tensors_at_a_time_and_no_more_for_many_samples(
    bundle_of: Callable[[str], Path], pictures: Path
) -> None:
    bundle = bundle_of("sdxl")
    paths = [pictures / name for name in ("small.npy", "large.npy", "many")]
    small, large, many = measured_alone("unlimited", bundle, *paths)
    model = onnx.load(str(bundle / "decoder.onnx"), load_external_data=False)
    shapes = {"latents": (1, 4, 32, 32)}
    held, everything = held_bytes(model, shapes), all_bytes(model, shapes)
    assert held < everything / 8
    assert large - small > held / 2, "the large picture takes memory that can be measured"
    assert large - small < everything / 3, "its tensors are not all held"
    assert many - small < 1.25 * (large - small), "one sample after the other"


def all_bytes(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> int:
    """The sum of a graph's float tensors, held or not."""
    sized = onnx.ModelProto.FromString(model.SerializeToString())
    for value in sized.graph.input:
        for axis, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            axis.dim_value = size
    sized.graph.output[0].type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
    axes = [value.type.tensor_type.shape.dim for value in inferred.value_info]
    return sum(4 * int(np.prod([axis.dim_value for axis in dims], dtype=np.int64)) for dims in axes)


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited")
def test_running_out_of_memory_is_one_sentence(bundle_of: Callable[[str], Path], pictures: Path) -> None:
    paths = [pictures / name for name in ("small.npy", "huge.npy")]
    sentence = measured_alone(str(200 << 20), bundle_of("sdxl"), *paths)
    assert re.fullmatch(
        r"the range check of (en|de)coder\.onnx at \(1, \d+, \d+, \d+\) ran out of memory: give a smaller .*",
        sentence,
    )


def test_a_sample_that_cannot_fit_is_refused_before_it_runs(
    overflowing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "available_bytes", lambda: 1 << 20)
    settings = ExportSettings(dtypes=BOTH, check_range=(overflowing / "sample.npy",))
    with pytest.raises(
        InputError, match=r"sample\.npy: .* at 64x64 holds at least .* GiB and 0\.0 GiB .* are free: give"
    ):
        export_bundle(overflowing, tmp_path / "b", settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "sample"), [("sdxl", (1500, 40, 3)), ("ltx20", (9, 40, 1500, 3))])
def test_large_samples_are_scaled_down_and_one_line_says_so(
    name: str,
    sample: tuple[int, ...],
    bundle_of: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    np.save(tmp_path / "large.npy", np.random.default_rng(0).integers(0, 256, sample, np.uint8))
    np.save(tmp_path / "small.npy", np.zeros((9, 64, 64, 3) if name == "ltx20" else (64, 64, 3), np.uint8))
    seen: list[tuple[int, ...]] = []
    run = RangeProbe.run

    def noted(probe: RangeProbe, feed: Mapping[str, Any]) -> Any:
        seen.extend(array.shape for array in feed.values())
        return run(probe, feed)

    monkeypatch.setattr(RangeProbe, "run", noted)
    steps: list[tuple[str, int, int]] = []
    bundle = Path(shutil.copytree(bundle_of(name), tmp_path / "bundle"))
    paths = [tmp_path / "large.npy", tmp_path / "small.npy"]
    table = measure_ranges(bundle, paths, lambda *step: steps.append(step))
    assert max(side for shape in seen for side in shape) == 1024
    notes = [record.getMessage() for record in caplog.records if "scaled down" in record.getMessage()]
    assert len(notes) == 1
    full, run_at = ("1500x40", "1024x27") if name == "sdxl" else ("40x1500", "27x1024")
    assert notes[0].startswith("range check: 1 of 2 samples are larger than 1024x1024")
    assert f"large.npy, {full}, ran at {run_at}" in notes[0]
    assert list(table.to_json()["scaled_down"]) == ["large.npy"]
    graphs = len(Manifest.open(bundle).graphs)
    assert [done for _, done, _ in steps] == [n for run in range(2 * graphs) for n in (run, run + 1)]
    assert {total for _, _, total in steps} == {2 * graphs}
    assert {what for what, _, _ in steps} == {
        f"{part} of {file}.npy" for part in ("encoder", "decoder") for file in ("large", "small")
    }


def test_scaling_down_keeps_the_picture_and_its_range() -> None:
    rows = np.linspace(-1, 1, 1500, dtype=np.float32)
    planes = np.broadcast_to(rows[:, None], (2, 3, 1500, 900))
    small = downscaled(planes, 1000)
    assert small.shape == (2, 3, 1000, 600)
    assert small.dtype == np.float32
    assert np.abs(small - np.linspace(-1, 1, 1000, dtype=np.float32)[:, None]).max() < 2e-3
    edge = np.zeros((1, 1500, 1500), np.float32)
    edge[:, 700:] = 1
    assert downscaled(edge, 1000).min() == 0
    assert downscaled(edge, 1000).max() == 1, "the filter overshoots, and the result may not"
    assert downscaled(edge, 1500) is edge


@pytest.mark.slow
def test_a_batch_is_checked_sample_by_sample(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(bundle_of("sdxl"), tmp_path / "bundle"))
    batch = picture(KL["sdxl"], batch=2, frames=1, height=32, width=32)
    files = {"both": batch, "first": batch[:1], "second": batch[1:]}
    for name, array in files.items():
        np.save(tmp_path / f"{name}.npy", array)
    both, first, second = (measure_ranges(bundle, [tmp_path / f"{name}.npy"]).largest for name in files)
    for file, table in both.items():
        assert table == {name: max(first[file][name], second[file][name]) for name in table}
    np.save(tmp_path / "nan.npy", np.full_like(batch, np.nan))
    with pytest.raises(InputError, match=r"nan\.npy: \d+ of \d+ values are NaN or infinite"):
        measure_ranges(bundle, [tmp_path / "nan.npy"])
