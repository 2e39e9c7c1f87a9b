"""Files in and out: noise of each file's own, reruns, hints in metadata, --force, and reports of how it ran."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke
from safetensors.numpy import save_file

from latentrt.runtime.errors import MediaError, OutputError
from latentrt.runtime.files.decoded_file import decode_file
from latentrt.runtime.files.encoded_file import encode_file
from latentrt.runtime.files.named_seed import generator_for
from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.clips.clip_writer import write_clip
from latentrt.runtime.media.latents_file import LatentsFile, read_latents, read_metadata, write_latents
from latentrt.runtime.media.pictures.picture_file import read_picture, write_picture

BundleOf = Callable[[str], Path]
Opened = Callable[..., Any]


def pattern(height: int, width: int, shift: int = 0) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([(3 * columns + shift) % 256, rows * 255 // height, (rows + columns) % 256], -1).astype(np.uint8)


def encode(bundle: Path, source: Path, output: Path, *options: object) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(invoke("encode", bundle, source, "-o", output, "--json", *options).stdout)
    return report


# Noise


def test_every_file_gets_noise_of_its_own_which_other_files_do_not_change(tmp_path: Path, bundle_of: BundleOf) -> None:
    bundle, folder = bundle_of("sd"), tmp_path / "in"
    folder.mkdir()
    for name in ("b", "d"):
        write_picture(folder / f"{name}.png", pattern(64, 64))
    options = ("--sample", "--seed", 7)
    encode(bundle, folder, tmp_path / "two", *options)
    for name in ("a", "c"):
        write_picture(folder / f"{name}.png", pattern(64, 64))
    encode(bundle, folder, tmp_path / "four", *options)
    encode(bundle, folder / "d.png", tmp_path / "alone.safetensors", *options)
    encode(bundle, folder / "d.png", tmp_path / "other.safetensors", "--sample", "--seed", 8)
    four = {name: read_latents(tmp_path / "four" / f"{name}.safetensors").latents for name in "abcd"}
    for name in "bd":
        np.testing.assert_array_equal(read_latents(tmp_path / "two" / f"{name}.safetensors").latents, four[name])
    np.testing.assert_array_equal(read_latents(tmp_path / "alone.safetensors").latents, four["d"])
    # The picture is the same, so the latents differ by their noise alone.
    mean = encode_file_mean(bundle, folder / "a.png")
    noise = np.stack([(latents - mean).ravel() for latents in four.values()])
    noise = np.concatenate([noise, (read_latents(tmp_path / "other.safetensors").latents - mean).reshape(1, -1)])
    correlations = np.corrcoef(noise) - np.eye(len(noise))
    assert np.abs(correlations).max() < 0.3


def encode_file_mean(bundle: Path, picture: Path) -> np.ndarray:
    invoke("encode", bundle, picture, "-o", picture.parent.parent / "mean.safetensors")
    return read_latents(picture.parent.parent / "mean.safetensors").latents


def test_the_stream_of_a_name_is_the_documented_one_on_every_platform() -> None:
    from hashlib import sha256

    words = np.frombuffer(sha256("é b.png".encode()).digest(), "<u4").tolist()
    wanted = np.random.default_rng(np.random.SeedSequence([7, *words])).standard_normal(4)
    for path in (Path("é b.png"), Path("/some/where/é b.png"), Path("x/../e\u0301 b.png")):
        np.testing.assert_array_equal(generator_for(7, path).standard_normal(4), wanted)
    assert not np.array_equal(generator_for(7, Path("é b.PNG")).standard_normal(4), wanted)


def test_elements_of_one_batch_get_noise_of_their_own(tmp_path: Path, opened: Opened) -> None:
    vae = opened("sd")
    sample = np.repeat(pattern(64, 64).transpose(2, 0, 1)[np.newaxis].astype(np.float32) / 127.5 - 1, 2, axis=0)
    np.save(tmp_path / "in.npy", sample)
    mean = vae.encode(sample).latent_dist.mode()
    drawn = encode_file(vae, tmp_path / "in.npy", tmp_path / "z.safetensors", seed=7).latents
    noise = (drawn - mean).reshape(2, -1)
    assert abs(np.corrcoef(noise)[0, 1]) < 0.3


def test_decoders_that_inject_noise_get_it_by_seed_and_name(tmp_path: Path, opened: Opened) -> None:
    vae = opened("noise_timestep")
    latents = np.random.default_rng(0).standard_normal((1, 16, 2, 2, 2), np.float32)
    decoded = {}
    for name in ("a", "b", "sub/a"):
        path = tmp_path / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        write_latents(path, LatentsFile(latents, scaled=False))
        decode_file(vae, path, path.with_suffix(".npy"), temb=0.05, seed=7)
        decoded[name] = np.load(path.with_suffix(".npy"))
    np.testing.assert_array_equal(decoded["a"], decoded["sub/a"])
    assert np.abs(decoded["a"] - decoded["b"]).max() > 1e-4


# Reruns


@pytest.fixture
def three(tmp_path: Path, bundle_of: BundleOf) -> Path:
    """A folder `in` of three pictures, encoded to `out`."""
    (tmp_path / "in").mkdir()
    for index, name in enumerate(("a.png", "b.png", "c.webp")):
        write_picture(tmp_path / "in" / name, pattern(48, 64, index))
    assert len(encode(bundle_of("sd"), tmp_path / "in", tmp_path / "out")["written"]) == 3
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--scaled",), "--scaled"),
        (("--sample", "--seed", 7), "--sample or --seed"),
        (("--tile", "32x32"), "--tile"),
        (("bundle",), "the bundle"),
    ],
)
def test_a_rerun_with_other_settings_is_refused_and_force_replaces(
    three: Path, bundle_of: BundleOf, options: tuple[object, ...], named: str
) -> None:
    bundle = bundle_of("sd")
    if options == ("bundle",):
        bundle, options = bundle_of("sdxl"), ()  # the same weights' layout, another scaling factor
    before = {path.name: path.read_bytes() for path in (three / "out").iterdir()}
    write_picture(three / "in" / "d.png", pattern(48, 64))
    with pytest.raises(OutputError, match=f"3 of the latents files there differently .3 with other settings .{named}"):
        encode(bundle, three / "in", three / "out", *options)
    assert {path.name: path.read_bytes() for path in (three / "out").iterdir()} == before, "nothing was written"
    report = encode(bundle, three / "in", three / "out", "--force", *options)
    assert len(report["written"]) == 4
    fresh = encode(bundle, three / "in", three / "fresh", *options)
    for old, new in zip(report["written"], fresh["written"], strict=True):
        np.testing.assert_array_equal(read_latents(old).latents, read_latents(new).latents)
        assert read_metadata(Path(old)) == read_metadata(Path(new))
    again = encode(bundle, three / "in", three / "out", *options)
    assert (again["written"], len(again["skipped"])) == ([], 4)


def test_a_source_that_changed_is_not_kept_in_silence(three: Path, bundle_of: BundleOf) -> None:
    bundle, picture = bundle_of("sd"), three / "in" / "b.png"
    old = (picture.stat().st_atime_ns, picture.stat().st_mtime_ns)
    os.utime(picture, ns=(old[0], old[1] + 10**9))  # copied anew: the content is the same
    assert encode(bundle, three / "in", three / "out")["written"] == []
    write_picture(picture, pattern(48, 64, 99))
    with pytest.raises(OutputError, match="1 of a source that has changed since"):
        encode(bundle, three / "in", three / "out")
    report = encode(bundle, three / "in", three / "out", "--force")
    assert [Path(path).name for path in report["written"]] == ["b.safetensors"], "the others are the same"


def test_files_of_earlier_versions_and_damaged_ones_are_told_apart(three: Path, bundle_of: BundleOf) -> None:
    bundle, out = bundle_of("sd"), three / "out"
    read = read_latents(out / "a.safetensors")
    old = LatentsFile(read.latents, read.family, read.height, read.width, None, None, scaled=False)
    write_latents(out / "a.safetensors", old)
    result = invoke("encode", bundle, three / "in", "-o", out)
    assert "3 were there already (1 of them by a version that recorded no settings)" in result.stdout
    write_latents(out / "a.safetensors", LatentsFile(read.latents, read.family, scaled=True))
    with pytest.raises(OutputError, match="1 with other settings"):
        encode(bundle, three / "in", out)
    write_latents(out / "a.safetensors", read)
    whole = (out / "b.safetensors").read_bytes()
    (out / "b.safetensors").write_bytes(whole[:-10])
    save_file({"lora": np.zeros((2, 2), np.float32)}, out / "c.safetensors")
    with pytest.raises(OutputError, match="2 damaged or from elsewhere"):
        encode(bundle, three / "in", out)
    assert len(encode(bundle, three / "in", out, "--force")["written"]) == 2


def test_an_added_picture_of_the_same_stem_renames_no_output(three: Path, bundle_of: BundleOf) -> None:
    write_picture(three / "in" / "a.jpg", pattern(48, 64))
    report = encode(bundle_of("sd"), three / "in", three / "out")
    assert [Path(path).name for path in report["written"]] == ["a.jpg.safetensors"]
    assert encode(bundle_of("sd"), three / "in", three / "out")["written"] == []


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text exist on Linux")
def test_a_name_that_is_no_text_is_encoded_and_found_again(tmp_path: Path, bundle_of: BundleOf) -> None:
    (tmp_path / "in").mkdir()
    write_picture(tmp_path / "in" / "a.png", pattern(48, 64))
    (tmp_path / "in" / "a.png").rename(os.fsdecode(bytes(tmp_path / "in") + b"/\xff\n.png"))
    options = ("--sample", "--seed", 1)
    assert len(encode(bundle_of("sd"), tmp_path / "in", tmp_path / "out", *options)["written"]) == 1
    assert encode(bundle_of("sd"), tmp_path / "in", tmp_path / "out", *options)["written"] == []


def test_what_is_left_out_of_a_folder_is_listed_and_counted(three: Path, bundle_of: BundleOf) -> None:
    for name in ("a.txt", "b.txt", "clip.mp4", ".hidden.png"):
        (three / "in" / name).touch()
    report = encode(bundle_of("sd"), three / "in", three / "new")
    assert {Path(one["file"]).name: one["reason"] for one in report["skipped"]} == {
        "a.txt": "no picture by its ending",
        "b.txt": "no picture by its ending",
        "clip.mp4": "a clip, and the bundle holds an image model",
        ".hidden.png": "a hidden file",
    }
    text = invoke("encode", bundle_of("sd"), three / "in", "-o", three / "new").stdout
    assert text.count("\n") == 2
    assert "left out 4 of 7 entries: 2 .txt, 1" in text


# --force


def test_force_replaces_one_file_and_never_what_is_read_or_a_folder_of_other_things(
    tmp_path: Path, opened: Opened
) -> None:
    vae = opened("sd")
    write_picture(tmp_path / "in.png", pattern(48, 64))
    latents = tmp_path / "z.safetensors"
    encode_file(vae, tmp_path / "in.png", latents)
    with pytest.raises(OutputError, match=r"exists already.*--force"):
        encode_file(vae, tmp_path / "in.png", latents)
    first = encode_file(vae, tmp_path / "in.png", latents, scaled=True, overwrite=True)
    np.testing.assert_array_equal(read_latents(latents).latents, first.latents)
    for name in ("out.png", "out.npy", "out"):
        decode_file(vae, latents, tmp_path / name)
        with pytest.raises(OutputError, match=r"exists already.*--force"):
            decode_file(vae, latents, tmp_path / name)
        decode_file(vae, latents, tmp_path / name, overwrite=True)
    (tmp_path / "out" / "note.txt").write_text("mine")
    (tmp_path / "x.png").mkdir()
    (tmp_path / "x.png" / "00000.png").touch()
    np.save(tmp_path / "z.npy", first.latents)
    for source, output in ((latents, "out"), (latents, "x.png"), (tmp_path / "z.npy", "z.npy")):
        with pytest.raises(OutputError, match=r"is not replaced|is read"):
            decode_file(vae, source, tmp_path / output, overwrite=True)
    assert (tmp_path / "out" / "note.txt").read_text() == "mine"
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), first.latents)


# Metadata is a hint


def test_latents_edited_elsewhere_come_out_whole_and_keep_what_still_fits(
    tmp_path: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    vae, rng = opened("ltx20"), np.random.default_rng(0)
    z: Any = rng.standard_normal((1, 16, 3, 2, 3)).astype(np.float32)  # decodes to 17 frames of 64x96
    hints = {"family": vae.family, "height": 50, "width": 90, "frames": 12, "frame_rate": Fraction(25), "scaled": False}
    edits = {
        "as it was": (z, (12, 50, 90), ()),
        "upscaled": (z.repeat(2, 3).repeat(2, 4), (12, 128, 192), ("height 50, width 90", "height 128, width 192")),
        "joined in time": (np.concatenate([z, z], 2), (41, 50, 90), ("frames 12", "frames 41")),
        "joined in width": (np.concatenate([z, z], 4), (12, 50, 192), ("width 90", "width 192")),
        "cropped": (z[..., :2], (12, 50, 64), ("width 90", "width 64")),
        "cut in time": (z[:, :, :1], (1, 50, 90), ("frames 12", "frames 1")),
        "a batch": (np.concatenate([z, z]), (12, 50, 90), ()),
    }
    for name, (latents, size, words) in edits.items():
        path, output = tmp_path / f"{name}.safetensors", tmp_path / f"{name}.npy"
        write_latents(path, LatentsFile(np.ascontiguousarray(latents), **hints))
        caplog.clear()
        decode_file(vae, path, output)
        assert np.load(output).shape == (len(latents), 3, *size)
        messages = [record.getMessage() for record in caplog.records]
        assert len(messages) == bool(words)
        assert all(word in messages[0] for word in words)
    np.testing.assert_array_equal(
        np.load(tmp_path / "upscaled.npy"), vae.decode(edits["upscaled"][0]).sample[:, :, :12]
    )
    report = decode_file(vae, tmp_path / "upscaled.safetensors", tmp_path / "clip.mp4")
    assert report["frame_rate"] == "25"
    with open_clip(tmp_path / "clip.mp4") as clip:
        assert clip.frame_rate == 25


def test_parts_of_the_metadata_are_taken_alone(
    tmp_path: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    image, video = opened("sd"), opened("ltx20")
    picture = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)
    clip = np.random.default_rng(0).standard_normal((1, 16, 2, 2, 2)).astype(np.float32)
    for vae, content, shape in (
        (image, LatentsFile(picture, height=60, scaled=False), (1, 3, 60, 64)),
        (image, LatentsFile(picture, width=57, frames=9, frame_rate=Fraction(24), scaled=False), (1, 3, 64, 57)),
        (video, LatentsFile(clip, height=33, width=64, scaled=False), (1, 3, 9, 33, 64)),
        (video, LatentsFile(clip, frames=2, scaled=False), (1, 3, 2, 64, 64)),
        (image, LatentsFile(picture, height=10**17, width=10**17, scaled=False), (1, 3, 64, 64)),
    ):
        write_latents(tmp_path / "z.safetensors", content)
        decode_file(vae, tmp_path / "z.safetensors", tmp_path / "out.npy", overwrite=True)
        assert np.load(tmp_path / "out.npy").shape == shape
    assert len(caplog.records) == 1, "the size that no memory holds"


def test_metadata_of_other_tools_is_not_ours(tmp_path: Path, opened: Opened) -> None:
    latents = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)
    foreign = {
        "format": "pt",
        "family": "something",
        "scaled": "yes",
        "original_height": "tall",
        "frame_rate": "1e9999",
    }
    save_file({"latents": latents}, tmp_path / "z.safetensors", foreign)
    decode_file(opened("sd"), tmp_path / "z.safetensors", tmp_path / "out.npy")
    assert np.load(tmp_path / "out.npy").shape == (1, 3, 64, 64)
    for key, value in (("scaled", "yes"), ("original_height", "tall"), ("family", "x" * 1000)):
        save_file({"latents": latents}, tmp_path / "z.safetensors", {"format": "latentrt-latents-1", key: value})
        with pytest.raises(MediaError, match=key):
            read_latents(tmp_path / "z.safetensors")


# Reports


@pytest.mark.slow
def test_encode_and_decode_report_how_they_ran(tmp_path: Path, bundle_of: BundleOf) -> None:
    write_picture(tmp_path / "in.png", pattern(64, 96))
    report = encode(bundle_of("sd"), tmp_path / "in.png", tmp_path / "z.safetensors", "--backend", "onnxruntime")
    wanted = {"backend": "onnxruntime:cpu", "dtype": "float32", "strategy": "whole", "exact": True}
    assert wanted.items() <= report.items()
    assert report["planned_bytes"] is None
    assert report["seconds"] > 0
    assert wanted.items() <= report["files"][0].items()
    base = ("decode", bundle_of("sd"), tmp_path / "z.safetensors", "--backend", "onnxruntime", "-o")
    ways: dict[str, tuple[tuple[object, ...], str, bool]] = {
        "a": ((), "whole", True),
        "b": (("--tile", "32x32"), "tiles of 32x32", False),
        "c": (("--tile", "512x512"), "whole", True),
        "d": (("--strips", "--strip", 32), "strips of 32 rows", True),
    }
    for name, (options, strategy, exact) in ways.items():
        report = json.loads(invoke(*base, tmp_path / f"{name}.npy", "--json", *options).stdout)
        assert (report["strategy"], report["exact"]) == (strategy, exact)
        whole = np.load(tmp_path / "a.npy")
        assert bool(np.abs(np.load(tmp_path / f"{name}.npy") - whole).max() < 1e-4) is exact
    text = invoke(*base, tmp_path / "e.png", "--tile", "32x32").stdout
    assert "; onnxruntime:cpu, float32, tiles of 32x32, approximate, " in text


def test_clips_report_how_they_ran_on_every_way_out(tmp_path: Path, bundle_of: BundleOf) -> None:
    with write_clip(tmp_path / "in.mp4", 25) as writer:
        for index in range(17):
            writer.write(pattern(64, 96, 4 * index))
    bundle, z = bundle_of("ltx20"), tmp_path / "z.safetensors"
    report = encode(bundle, tmp_path / "in.mp4", z, "--stream", "--backend", "onnxruntime")
    assert (report["strategy"], report["exact"]) == ("stream", True)
    for name in ("out.mp4", "out.npy", "out"):
        for number, (options, strategy, exact) in enumerate(
            (((), "whole", True), (("--stream",), "stream", True), (("--tile", "64x64x9"), "tiles of", False))
        ):
            output = tmp_path / f"{number}{name}"
            arguments = ("decode", bundle, z, "-o", output, "--backend", "onnxruntime", "--json", *options)
            report = json.loads(invoke(*arguments).stdout)
            assert report["strategy"].startswith(strategy)
            assert (report["exact"], report["dtype"]) == (exact, "float32")


@pytest.mark.usefixtures("without_bounds")
def test_a_plan_is_reported_with_its_bytes(tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    from made_up_points import MadeUp

    vae = opened("sd", backend="onnxruntime")
    points = MadeUp(vae.grid)
    monkeypatch.setattr(
        "latentrt.runtime.planner.calibration.Calibration.point", lambda self, probe: points.point(probe)
    )
    write_picture(tmp_path / "in.png", pattern(64, 96))
    encoded = encode_file(vae, tmp_path / "in.png", tmp_path / "z.safetensors", memory="4GiB")
    assert 0 < (encoded.ran.planned_bytes or 0) <= 4 << 30
    report = decode_file(vae, tmp_path / "z.safetensors", tmp_path / "out.png", memory="4GiB")
    assert 0 < report["planned_bytes"] <= 4 << 30
    assert read_picture(tmp_path / "out.png").shape == (64, 96, 3)


def test_raw_frames_on_standard_output_stay_alone(tmp_path: Path, bundle_of: BundleOf) -> None:
    z = np.random.default_rng(0).standard_normal((1, 16, 2, 2, 2)).astype(np.float32)
    write_latents(tmp_path / "z.safetensors", LatentsFile(z, scaled=False))
    code = "from latentrt.cli.main import main; main()"
    command = [
        sys.executable,
        "-c",
        code,
        "decode",
        str(bundle_of("ltx20")),
        str(tmp_path / "z.safetensors"),
        "-o",
        "-",
    ]
    done = subprocess.run(command, capture_output=True, check=True)
    assert len(done.stdout) == 9 * 64 * 64 * 3
