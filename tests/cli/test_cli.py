"""The command line as a user runs it: what each command writes, prints and returns."""

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from architectures import KL, picture
from command_line import LATENTRT, invoke

from latentrt.cli import main as cli_main
from latentrt.runtime import BundleError, LatentRTError, open_bundle
from latentrt.runtime.files.named_seed import generator_for
from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.clips.clip_writer import write_clip
from latentrt.runtime.media.latents_file import LatentsFile, read_latents, write_latents
from latentrt.runtime.media.pictures.picture_file import list_pictures, read_picture, write_picture
from latentrt.runtime.system.hashing import sha256_of

BundleOf = Callable[[str], Path]


def run(*arguments: object, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a command in a process of its own, as the console script does."""
    command = [*LATENTRT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


def gradient(height: int, width: int, shift: int = 0) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([(columns + shift) % 256, rows * 255 // height, (rows + columns) % 256], -1).astype(np.uint8)


def test_export_writes_a_bundle_that_opens(tmp_path: Path, checkpoint_of: BundleOf) -> None:
    result = invoke("export", checkpoint_of("sd"), tmp_path / "bundle", "--json")
    assert json.loads(result.stdout)["family"] == "AutoencoderKL"
    with open_bundle(tmp_path / "bundle") as vae:
        assert vae.decode(np.zeros((1, 4, 8, 8), np.float32)).sample.shape == (1, 3, 64, 64)


def test_export_of_one_component_leaves_the_other_out(tmp_path: Path, checkpoint_of: BundleOf) -> None:
    invoke("export", checkpoint_of("sd"), tmp_path / "bundle", "--component", "decoder")
    assert not list((tmp_path / "bundle").glob("encoder*"))
    with open_bundle(tmp_path / "bundle") as vae, pytest.raises(LatentRTError, match="holds no encoder"):
        vae.encode(np.zeros((1, 3, 64, 64), np.float32))


def test_a_picture_goes_through_and_keeps_its_size(tmp_path: Path, bundle_of: BundleOf) -> None:
    write_picture(tmp_path / "in.png", gradient(50, 70))
    invoke("encode", bundle_of("sd"), tmp_path / "in.png", "-o", tmp_path / "z.safetensors")
    invoke("decode", bundle_of("sd"), tmp_path / "z.safetensors", "-o", tmp_path / "out.png")
    assert read_picture(tmp_path / "out.png").shape == (50, 70, 3)


def test_files_give_the_same_numbers_as_the_python_interface(tmp_path: Path, bundle_of: BundleOf) -> None:
    sample = picture(KL["sd"], batch=1, frames=1, height=64, width=72)
    np.save(tmp_path / "in.npy", sample)
    invoke("encode", bundle_of("sd"), tmp_path / "in.npy", "-o", tmp_path / "z.safetensors", "--sample", "--seed", 5)
    invoke("decode", bundle_of("sd"), tmp_path / "z.safetensors", "-o", tmp_path / "out.npy")
    with open_bundle(bundle_of("sd")) as vae:
        latents = vae.encode(sample).latent_dist.sample(generator_for(5, tmp_path / "in.npy"))
        np.testing.assert_array_equal(read_latents(tmp_path / "z.safetensors").latents, latents)
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), vae.decode(latents).sample)


def test_scaled_latents_are_the_diffusion_latents_and_decode_alike(tmp_path: Path, bundle_of: BundleOf) -> None:
    write_picture(tmp_path / "in.png", gradient(64, 64))
    for name, options in (("plain", []), ("scaled", ["--scaled"])):
        invoke("encode", bundle_of("flux"), tmp_path / "in.png", "-o", tmp_path / f"{name}.safetensors", *options)
        invoke("decode", bundle_of("flux"), tmp_path / f"{name}.safetensors", "-o", tmp_path / f"{name}.npy")
    plain = read_latents(tmp_path / "plain.safetensors").latents
    scaled = read_latents(tmp_path / "scaled.safetensors").latents
    np.testing.assert_allclose(scaled, (plain - 0.1159) * 0.3611, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.load(tmp_path / "scaled.npy"), np.load(tmp_path / "plain.npy"), atol=1e-4)


def test_a_file_of_a_pipeline_without_metadata_decodes_with_scaled(tmp_path: Path, bundle_of: BundleOf) -> None:
    latents = np.random.default_rng(0).standard_normal((2, 16, 8, 8), np.float32)
    write_latents(tmp_path / "z.safetensors", LatentsFile(latents))
    invoke("decode", bundle_of("flux"), tmp_path / "z.safetensors", "-o", tmp_path / "out.npy", "--scaled")
    with open_bundle(bundle_of("flux")) as vae:
        wanted = vae.decode(vae.unscale_latents(latents)).sample
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), wanted)
    invoke("decode", bundle_of("flux"), tmp_path / "z.safetensors", "-o", tmp_path / "pictures", "--scaled")
    assert [path.name for path in list_pictures(tmp_path / "pictures")] == ["00000.png", "00001.png"]


def test_a_folder_of_pictures_is_a_batch_and_resumes(tmp_path: Path, bundle_of: BundleOf) -> None:
    (tmp_path / "in").mkdir()
    write_picture(tmp_path / "in" / "a.png", gradient(40, 40))
    write_picture(tmp_path / "in" / "b.png", gradient(48, 64))
    write_picture(tmp_path / "in" / "b.webp", gradient(16, 16))
    arguments = ("encode", bundle_of("sd"), tmp_path / "in", "-o", tmp_path / "out", "--json")
    assert len(json.loads(invoke(*arguments).stdout)["written"]) == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.safetensors",
        "b.png.safetensors",
        "b.webp.safetensors",
    ]
    (tmp_path / "out" / "a.safetensors").unlink()
    again = json.loads(invoke(*arguments).stdout)
    assert [Path(path).name for path in again["written"]] == ["a.safetensors"]
    assert [Path(one["file"]).name for one in again["skipped"]] == ["b.png", "b.webp"]


def test_pixels_that_are_not_square_stay_so_and_what_is_lost_is_said(tmp_path: Path, bundle_of: BundleOf) -> None:
    with write_clip(tmp_path / "in.mkv", 25, sample_aspect_ratio=Fraction(64, 45)) as writer:
        for index in range(9):
            writer.write(gradient(64, 96, 4 * index))
    latents = tmp_path / "z.safetensors"
    done = run("encode", bundle_of("ltx20"), tmp_path / "in.mkv", "-o", latents, "--colour-matrix", "bt709", "--stream")
    assert done.returncode == 0
    assert done.stderr.count("not square (64:45)") == 1
    assert read_latents(latents).sample_aspect_ratio == Fraction(64, 45)
    for name in ("out.mp4", "out.webm"):
        invoke("decode", bundle_of("ltx20"), latents, "-o", tmp_path / name)
        with open_clip(tmp_path / name) as clip:
            assert (clip.sample_aspect_ratio, clip.width, clip.height) == (Fraction(64, 45), 96, 64)


def test_a_clip_goes_through_and_keeps_size_frames_and_rate(tmp_path: Path, bundle_of: BundleOf) -> None:
    with write_clip(tmp_path / "in.mp4", 25) as writer:
        for index in range(12):
            writer.write(gradient(70, 90, 4 * index))
    invoke("encode", bundle_of("ltx20"), tmp_path / "in.mp4", "-o", tmp_path / "z.safetensors")
    invoke("decode", bundle_of("ltx20"), tmp_path / "z.safetensors", "-o", tmp_path / "out.mp4")
    invoke("decode", bundle_of("ltx20"), tmp_path / "z.safetensors", "-o", tmp_path / "frames")
    with open_clip(tmp_path / "out.mp4") as clip:
        frames = list(clip)
        assert clip.frame_rate == 25
        assert (len(frames), frames[0].shape) == (12, (70, 90, 3))
    pictures = list_pictures(tmp_path / "frames")
    assert len(pictures) == 12
    # Random weights give noise, of which H.264 keeps the means: of the frame, and of each frame's difference to it.
    exact = np.stack([read_picture(path).astype(float) for path in pictures])
    np.testing.assert_allclose(np.mean(frames, axis=(1, 2)), exact.mean(axis=(1, 2)), atol=4)


def test_a_folder_of_pictures_is_one_clip_and_a_folder_of_clips_many(tmp_path: Path, bundle_of: BundleOf) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "clips").mkdir()
    for index in range(3):
        write_picture(tmp_path / "frames" / f"{index}.png", gradient(64, 64, index))
    for name in ("one", "two"):
        with write_clip(tmp_path / "clips" / f"{name}.webm", 24) as writer:
            writer.write(gradient(64, 64))
    invoke("encode", bundle_of("ltx20"), tmp_path / "frames", "-o", tmp_path / "z.safetensors")
    assert read_latents(tmp_path / "z.safetensors").frames == 3
    invoke("encode", bundle_of("ltx20"), tmp_path / "clips", "-o", tmp_path / "many")
    assert sorted(path.stem for path in (tmp_path / "many").iterdir()) == ["one", "two"]


def test_a_conditioned_noisy_decoder_takes_timestep_and_seed(tmp_path: Path, bundle_of: BundleOf) -> None:
    latents = np.random.default_rng(0).standard_normal((1, 16, 2, 2, 2), np.float32)
    write_latents(tmp_path / "z.safetensors", LatentsFile(latents))
    base = ("decode", bundle_of("noise_timestep"), tmp_path / "z.safetensors", "--timestep", 0.05, "-o")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        invoke(*base, tmp_path / f"{name}.npy", "--seed", seed)
    first, same, other = (np.load(tmp_path / f"{name}.npy") for name in "abc")
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 1e-4
    with pytest.raises(LatentRTError, match="injects noise"):
        invoke(*base, tmp_path / "d.npy")


def test_a_latents_file_has_the_same_bytes_from_run_to_run(tmp_path: Path, bundle_of: BundleOf) -> None:
    write_picture(tmp_path / "in.png", gradient(16, 24))
    written = []
    for name in ("a", "b"):
        output = tmp_path / name / "z.safetensors"  # the noise depends on the name
        output.parent.mkdir()
        invoke("encode", bundle_of("relu_one_block"), tmp_path / "in.png", "-o", output, "--sample", "--seed", 3)
        written.append(output.read_bytes())
    assert written[0] == written[1]


@pytest.mark.slow
def test_verify_passes_prints_a_table_and_stores_the_result(
    tmp_path: Path, checkpoint_of: BundleOf, capsys: pytest.CaptureFixture[str]
) -> None:
    invoke("export", checkpoint_of("flux"), tmp_path / "bundle")
    write_picture(tmp_path / "own.png", gradient(60, 90))
    result = invoke("verify", tmp_path / "bundle", "--source", checkpoint_of("flux"), "--samples", tmp_path / "own.png")
    assert result.exit_code == 0
    assert "own.png" in result.stdout
    assert "passed" in result.stdout
    for stored in json.loads(invoke("inspect", tmp_path / "bundle", "--json").stdout)["verifications"]:
        assert stored["passed"]
        assert stored["samples"] == ["random", "own.png"]
        assert {row["component"] for row in stored["comparisons"]} == {"encoder", "decoder"}
        assert all(row["relative"] < 1e-4 for row in stored["comparisons"])
        assert len({tuple(row["shape"]) for row in stored["comparisons"]}) >= 6


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs mounts of Linux")
def test_verify_of_a_read_only_bundle_gives_its_table_and_says_that_nothing_is_stored(
    bundle_of: BundleOf, checkpoint_of: BundleOf
) -> None:
    if subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this system lets no user mount")
    bundle = bundle_of("no_attention")
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    arguments = ["verify", str(bundle), "--source", str(checkpoint_of("no_attention")), "--backend", "onnxruntime"]
    command = ["unshare", "-rm", "sh", "-c", script, str(bundle), *LATENTRT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "passed: the worst PSNR" in done.stdout
    assert done.stderr == f"the report is not stored in {bundle}, which may not be written\n"


@pytest.mark.slow
def test_verify_fails_below_the_threshold(tmp_path: Path, checkpoint_of: BundleOf) -> None:
    invoke("export", checkpoint_of("ltx20"), tmp_path / "bundle")
    arguments = ("verify", tmp_path / "bundle", "--source", checkpoint_of("ltx20"), "--json", "--min-psnr")
    passed, failed = invoke(*arguments, 60), invoke(*arguments, 300)
    assert (passed.exit_code, failed.exit_code) == (0, 1)
    assert not json.loads(failed.stdout)["passed"]


@pytest.mark.long
@pytest.mark.slow
def test_verify_sees_a_graph_that_computes_something_else(tmp_path: Path, checkpoint_of: BundleOf) -> None:
    invoke("export", checkpoint_of("sd"), tmp_path / "bundle")
    weights = tmp_path / "bundle" / "decoder.safetensors"
    data = bytearray(weights.read_bytes())
    data[-4000:] = np.float32(0.5).tobytes() * 1000
    weights.write_bytes(data)
    with pytest.raises(BundleError, match="was altered"):
        invoke("verify", tmp_path / "bundle", "--source", checkpoint_of("sd"), "--json")
    manifest = tmp_path / "bundle" / "manifest.json"
    values = json.loads(manifest.read_text())
    (entry,) = (file for file in values["files"] if file["name"] == weights.name)
    entry["sha256"] = sha256_of(weights)  # as an export that went wrong would have it
    manifest.write_text(json.dumps(values))
    result = invoke("verify", tmp_path / "bundle", "--source", checkpoint_of("sd"), "--json")
    assert result.exit_code == 1


def test_inspect_tells_of_bundles_and_checkpoints(tmp_path: Path, bundle_of: BundleOf, checkpoint_of: BundleOf) -> None:
    bundle = json.loads(invoke("inspect", bundle_of("ltx20"), "--json", "--verify").stdout)
    assert bundle["kind"] == "bundle"
    assert bundle["hashes_verified"]
    assert bundle["engines"] == []
    source = json.loads(invoke("inspect", checkpoint_of("sd"), "--json").stdout)
    assert source["kind"] == "checkpoint"
    assert source["family"] == "AutoencoderKL"
    assert source["parameters"] > 1e6
    folder = tmp_path / "old"
    folder.mkdir()
    config = json.loads((checkpoint_of("sd") / "config.json").read_text())
    config.pop("scaling_factor")
    (folder / "config.json").write_text(json.dumps(config))
    weights = "diffusion_pytorch_model.safetensors"
    (folder / weights).symlink_to(checkpoint_of("sd") / weights)
    assert "export needs --scaling-factor" in invoke("inspect", folder).stdout


def test_doctor_lists_what_every_extra_brings() -> None:
    import importlib.metadata
    import re

    packages = json.loads(invoke("doctor", "--json").stdout)["packages"]
    wanted = set()
    for line in importlib.metadata.requires("latentrt") or []:
        if found := re.match(
            r"([\w.-]+).*;\s*extra == ['\"](cpu|gpu|openvino|export|tensorrt|tensorrt-rtx|flax|hub|media|plot)['\"]",
            line,
        ):
            wanted.add(found[1].replace("_", "-"))
    assert {"matplotlib", "msgpack", "huggingface-hub"} < wanted
    assert wanted <= {name.replace("_", "-") for name in packages}
    assert packages["matplotlib"] == importlib.metadata.version("matplotlib")


def test_doctor_names_the_extra_of_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentrt.cli.doctor.installed_version", lambda name: None)
    lines = {line.split()[0]: line for line in invoke("doctor").stdout.splitlines() if line.strip()}
    for package, extra in (("matplotlib", "plot"), ("msgpack", "flax"), ("huggingface_hub", "hub")):
        assert f'pip install "latentrt[{extra}]"' in lines[package]


def test_doctor_says_what_can_run() -> None:
    report = json.loads(invoke("doctor", "--json").stdout)
    usable = {backend["name"]: backend["usable"] for backend in report["backends"]}
    assert usable["onnxruntime:cpu"]
    assert all(backend["usable"] or backend["reason"] for backend in report["backends"])


@pytest.mark.parametrize("command", ["export", "convert", "encode", "decode", "verify", "inspect", "doctor", "demo"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"Example: latentrt {command}" in result.stdout


@pytest.mark.slow
def test_our_errors_are_one_line_and_exit_with_1(tmp_path: Path, bundle_of: BundleOf, checkpoint_of: BundleOf) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").touch()
    write_latents(tmp_path / "z.safetensors", LatentsFile(np.zeros((1, 5, 8, 8), np.float32), origin="model"))
    for arguments, message in (
        (("export", checkpoint_of("sd"), tmp_path / "full"), "exists already"),
        (("export", tmp_path / "none", tmp_path / "new"), "does not exist"),
        (("encode", bundle_of("ltx20"), tmp_path / "empty.mp4", "-o", tmp_path / "a.safetensors"), "empty"),
        (("encode", bundle_of("sd"), tmp_path / "folder", "-o", tmp_path / "b"), "no pictures"),
        (("decode", bundle_of("sd"), tmp_path / "z.safetensors", "-o", tmp_path / "c.png"), "4 channels"),
        (("decode", bundle_of("sd"), tmp_path / "z.safetensors", "-o", tmp_path / "c.mp4"), "cannot write a picture"),
        (("inspect", tmp_path / "folder"), "not a diffusers model folder"),
    ):
        result = run(*arguments)
        assert result.returncode == 1, result
        assert message in result.stderr
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
    assert not list(tmp_path.glob("[abc].*"))
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_written_or_read_is_said_before_the_work(
    tmp_path: Path, bundle_of: BundleOf, checkpoint_of: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = tmp_path / "z.safetensors"
    write_latents(latents, LatentsFile(np.zeros((1, 4, 8, 8), np.float32)))
    clip = tmp_path / "clip.safetensors"
    write_latents(clip, LatentsFile(np.zeros((1, 16, 1, 2, 2), np.float32)))
    rgba = tmp_path / "rgba.safetensors"
    write_latents(rgba, LatentsFile(np.zeros((1, 4, 8, 8), np.float32)))
    write_picture(tmp_path / "a.png", gradient(16, 16))
    np.save(tmp_path / "empty.npy", np.zeros((3, 0, 8), np.float32))
    (tmp_path / "pictures").mkdir()
    write_picture(tmp_path / "pictures" / "a.png", gradient(16, 16))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("an engine ran")

    monkeypatch.setattr("latentrt.runtime.backends.onnxruntime.component.OnnxRuntimeComponent.run", never)
    out = tmp_path / "none" / "x"
    cases: list[tuple[tuple[object, ...], str]] = [
        (("decode", bundle_of("sd"), latents, "-o", out.with_suffix(".png")), "does not exist"),
        (("encode", bundle_of("sd"), tmp_path / "a.png", "-o", out.with_suffix(".safetensors")), "does not exist"),
        (("decode", bundle_of("rgba_gelu"), rgba, "-o", tmp_path / "x.jpg"), "4 channels"),
        (("decode", bundle_of("sd"), latents, "-o", tmp_path / "x.png", "--seed", 1), "injects no noise"),
        (("decode", bundle_of("ltx20"), clip, "-o", tmp_path / "x.mp4", "--fps", "1e12"), "frames per second"),
        (("decode", bundle_of("ltx20"), clip, "-o", tmp_path / "x.gif", "--fps", "120"), "frames per second"),
        (("encode", bundle_of("sd"), tmp_path / "no.npy", "-o", tmp_path / "y.safetensors"), "no.npy does not exist"),
        (("encode", bundle_of("sd"), tmp_path / "no", "-o", tmp_path / "y"), "no does not exist: give a picture"),
        (
            ("encode", bundle_of("sd"), tmp_path / "pictures", "-o", tmp_path / "y.safetensors"),
            "y.safetensors is one latents file, and each of the 1 files in .* gets its own: name a folder",
        ),
        (
            ("decode", bundle_of("sd"), latents, "-o", tmp_path / "x", "--fps", "24"),
            "--fps is for clips, and the bundle",
        ),
        (("encode", bundle_of("sd"), tmp_path / "empty.npy", "-o", tmp_path / "y.safetensors"), "at least one element"),
        (("encode", bundle_of("sd"), tmp_path / "pictures", "-o", tmp_path / "a.png"), "cannot write"),
        (("verify", bundle_of("sd"), "--source", checkpoint_of("sd"), "--dtype", "float16"), "holds no float16"),
        (("export", checkpoint_of("ltx20"), tmp_path / "new", "--shift-factor", 1), "has no shift_factor"),
    ]
    for arguments, message in cases:
        with pytest.raises(LatentRTError, match=message):
            invoke(*arguments)
    assert not list(tmp_path.glob("[xy].*"))
    assert not list(tmp_path.glob(".*"))


def test_a_name_that_the_system_refuses_is_one_line(bundle_of: BundleOf) -> None:
    result = run("decode", bundle_of("sd"), "z.safetensors", "-o", "x" * 300 + ".png")
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_an_odd_rate_is_written_and_a_repeated_causality_is_one(
    tmp_path: Path, bundle_of: BundleOf, checkpoint_of: BundleOf
) -> None:
    write_latents(tmp_path / "z.safetensors", LatentsFile(np.zeros((1, 16, 1, 2, 2), np.float32)))
    rate = "23.97602397602397602397"
    invoke("decode", bundle_of("ltx20"), tmp_path / "z.safetensors", "-o", tmp_path / "x.mp4", "--fps", rate)
    with open_clip(tmp_path / "x.mp4") as clip:
        assert float(clip.frame_rate or 0) == pytest.approx(24000 / 1001)
    invoke("export", checkpoint_of("ltx20"), tmp_path / "bundle", "--causal", "true", "--causal", "true")
    assert (tmp_path / "bundle" / "decoder.causal.onnx").is_file()


@pytest.mark.slow
def test_where_torch_and_onnx_are_missing_the_rest_works(
    tmp_path: Path, bundle_of: BundleOf, checkpoint_of: BundleOf
) -> None:
    write_latents(tmp_path / "z.safetensors", LatentsFile(np.zeros((1, 4, 8, 8), np.float32)))
    program = (
        "import sys; sys.modules['torch'] = sys.modules['onnx'] = None; from latentrt.cli.main import main; main()"
    )

    def without(*arguments: object) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", program, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)

    working: list[tuple[object, ...]] = [
        ("decode", bundle_of("sd"), "z.safetensors", "-o", "out.png"),
        ("encode", bundle_of("sd"), "out.png", "-o", "back.safetensors"),
        ("inspect", bundle_of("sd"), "--verify"),
        ("inspect", checkpoint_of("sd")),
        ("doctor",),
    ]
    refused: list[tuple[object, ...]] = [
        ("export", checkpoint_of("sd"), "new"),
        ("verify", bundle_of("sd"), "--source", checkpoint_of("sd")),
        ("demo", "demo"),
    ]
    for arguments in working:
        result = without(*arguments)
        assert result.returncode == 0, result.stderr
    for arguments in refused:
        result = without(*arguments)
        assert result.returncode == 1
        assert "latentrt[export]" in result.stderr
        assert result.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.safetensors", "out.png", "z.safetensors"]


@pytest.mark.parametrize("command", ["decode", "encode", "plan", "calibrate", "warmup", "verify", "bench", "export"])
def test_an_unknown_precision_is_wrong_usage_everywhere(command: str, bundle_of: BundleOf) -> None:
    rest = {"decode": ["z", "-o", "y"], "encode": ["x", "-o", "y"], "plan": ["--size", "64x64"], "export": ["new"]}
    result = invoke(command, bundle_of("sd"), *rest.get(command, []), "--dtype", "int8")
    assert result.exit_code == 2
    assert "Invalid value for '--dtype': 'int8' is not one of 'float32', 'float16', 'bfloat16'" in result.output


@pytest.mark.parametrize("command", ["decode", "encode", "plan", "bench"])
def test_what_is_no_size_of_memory_is_wrong_usage_everywhere(command: str, bundle_of: BundleOf) -> None:
    rest = {"decode": ["z", "-o", "y"], "encode": ["x", "-o", "y"], "plan": ["--size", "64x64"]}
    for text in ("lots", "0", "8 GiBs"):
        result = invoke(command, bundle_of("sd"), *rest.get(command, []), "--memory", text)
        assert result.exit_code == 2
        assert (
            f"""Invalid value for '--memory': wanted bytes, or a size such as "8GiB", "800MiB" or "8GB", got '{text}'"""
            in result.output
        )


def test_what_depends_on_the_bundle_exits_with_1(bundle_of: BundleOf) -> None:
    for bundle, *arguments in (
        ("sd", "--stream"),
        ("ltx20", "--strips"),
        ("sd", "--tile", "64x64x9"),
        ("sd", "--dtype", "float16"),
    ):
        with pytest.raises(LatentRTError):
            invoke("decode", bundle_of(bundle), "z.safetensors", "-o", "y", *arguments)


def test_a_folder_that_is_there_is_not_overwritten_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    with pytest.raises(LatentRTError, match="there exists already: choose another name, or remove it first"):
        invoke("demo", tmp_path / "there")
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "file"]


def test_wrong_usage_exits_with_2(bundle_of: BundleOf) -> None:
    picture_rate = run("decode", bundle_of("sd"), "x.safetensors", "-o", "y.png", "--fps", "24")
    assert (picture_rate.returncode, picture_rate.stderr.splitlines()[-1]) == (
        2,
        "Error: --fps is for clips, and y.png is a picture: leave it out",
    )
    assert run("encode", bundle_of("sd")).returncode == 2
    assert run("decode", bundle_of("sd"), "x.safetensors", "-o", "y.png", "--fps", "0").returncode == 2
    assert run("encode", bundle_of("sd"), "x.png", "-o", "y.safetensors", "--sample").returncode == 2


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize("command", ["export", "decode", "decode_writing", "encode_reading"])
def test_ctrl_c_stops_at_once_and_leaves_nothing(
    tmp_path: Path, bundle_of: BundleOf, checkpoint_of: BundleOf, command: str
) -> None:
    if command == "export":
        arguments = ["export", str(checkpoint_of("sd")), "out"]
        # The export is quick: hold it where the first weights are read.
        hold = "import latentrt.export.bundle as b; r = b._Writer._read; "
        hold += "b._Writer._read = lambda *a: (print('busy', flush=True), __import__('time').sleep(60), r(*a))[2]; "
    elif command == "decode_writing":
        write_latents(tmp_path / "z.safetensors", LatentsFile(np.zeros((1, 16, 3, 2, 2), np.float32), origin="model"))
        arguments = ["decode", str(bundle_of("ltx20")), "z.safetensors", "-o", "out"]
        hold = "import latentrt.runtime.media.clips.clip_writer as c; r = c.ClipWriter.write; "
        hold += "c.ClipWriter.write = lambda *a: (print('busy', flush=True), __import__('time').sleep(1), r(*a))[2]; "
    elif command == "encode_reading":
        with write_clip(tmp_path / "z.mp4", 24) as writer:
            writer.write(np.stack([gradient(64, 64, index) for index in range(9)]))
        arguments = ["encode", str(bundle_of("ltx20")), "z.mp4", "-o", "out.safetensors"]
        hold = "import latentrt.runtime.files.sources as s; r = s.to_samples; "
        hold += (
            "s.to_samples = lambda *a, **k: (print('busy', flush=True), __import__('time').sleep(1), r(*a, **k))[2]; "
        )
    else:
        write_latents(tmp_path / "z.safetensors", LatentsFile(np.zeros((1, 4, 192, 192), np.float32), origin="model"))
        arguments = ["decode", str(bundle_of("sd")), "z.safetensors", "-o", "out.png"]
        hold = "import latentrt.runtime.backends.onnxruntime.component as o; r = o.OnnxRuntimeComponent.run; "
        hold += "o.OnnxRuntimeComponent.run = lambda *a, **k: (print('busy', flush=True), r(*a, **k))[1]; "
    program = hold + "from latentrt.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n"
    time.sleep(0.3)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert errors.strip() == "Interrupted: nothing unfinished was left behind."
    assert time.monotonic() - started < 20
    assert [path.name for path in tmp_path.iterdir() if path.stem != "z"] == []


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "Error: this process may open no more files: raise its limit"),
        (OSError(errno.EMFILE, "Too many open files", "/a/file"), "Error: this process may open no more files"),
        (BlockingIOError(errno.EAGAIN, "try again"), "Error: the system starts no more processes or threads"),
        (RuntimeError("can't start new thread"), "Error: the system starts no more processes or threads"),
    ],
)
def test_a_limit_of_the_system_is_one_sentence(
    error: Exception, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli_main, "cli", fail)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # `main` sets both for its process
    monkeypatch.setattr(logging, "captureWarnings", lambda capture: None)
    with pytest.raises(SystemExit) as ended:
        cli_main.main()
    assert ended.value.code == 1
    written = capsys.readouterr().err
    assert written.startswith(sentence)
    assert written.count("\n") == 1
