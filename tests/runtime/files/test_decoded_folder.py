"""Folders of latents that are decoded: one output each, and files that fail do not stop the others."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke

from latentrt.runtime.errors import InputError, MediaError, OutputError
from latentrt.runtime.files.decoded_folder import decode_folder
from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.latents_file import LatentsFile, write_latents
from latentrt.runtime.media.pictures.picture_file import read_picture

BundleOf = Callable[[str], Path]
Opened = Callable[..., Any]


def latents(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of three latents files of pictures, one of them cut off, and an entry that is none."""
    folder = tmp_path / "latents"
    folder.mkdir()
    for name in ("a", "b"):
        write_latents(folder / f"{name}.safetensors", LatentsFile(latents(1, 4, 2, 3), scaled=False))
    (folder / "bad.safetensors").write_bytes((folder / "a.safetensors").read_bytes()[:-20])
    np.save(folder / "b.npy", latents(1, 4, 2, 2))
    (folder / "note.txt").touch()
    return folder


def test_each_latents_file_becomes_a_picture_and_bad_ones_are_reported(pictures: Path, bundle_of: BundleOf) -> None:
    out = pictures.parent / "out"
    arguments = ("decode", bundle_of("sd"), pictures, "-o", out, "--backend", "onnxruntime")
    result = invoke(*arguments, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [Path(one["source"]).name for one in report["failed"]] == ["bad.safetensors"]
    assert [Path(one["file"]).name for one in report["skipped"]] == ["note.txt"]
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.npy.png", "b.safetensors.png"]
    assert read_picture(out / "a.png").shape == (16, 24, 3)
    write_latents(pictures / "bad.safetensors", LatentsFile(latents(1, 4, 2, 3), scaled=False))
    times = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    again = invoke(*arguments)
    assert again.exit_code == 0
    assert "1 file written, 3 were there already; " in again.stdout
    assert times.items() < {path.name: path.stat().st_mtime_ns for path in out.iterdir()}.items()


def test_an_output_that_is_older_than_its_latents_is_named_and_force_replaces_it(
    pictures: Path, opened: Opened
) -> None:
    vae, out = opened("sd"), pictures.parent / "out"
    (pictures / "bad.safetensors").unlink()
    decode_folder(vae, pictures, out)
    before = (out / "a.png").read_bytes()
    write_latents(pictures / "a.safetensors", LatentsFile(2 * latents(1, 4, 2, 3), scaled=False))
    report = decode_folder(vae, pictures, out)
    assert {job.source.name: job.reason for job in report.kept} == {
        "a.safetensors": "older than its latents",
        "b.npy": "",
        "b.safetensors": "",
    }
    assert len(decode_folder(vae, pictures, out, overwrite=True).written) == 3
    assert (out / "a.png").read_bytes() != before


def test_clips_become_clips_and_single_frames_become_pictures(tmp_path: Path, opened: Opened) -> None:
    vae, folder = opened("ltx20"), tmp_path / "latents"
    folder.mkdir()
    write_latents(
        folder / "clip.safetensors", LatentsFile(latents(1, 16, 2, 2, 2), frame_rate=Fraction(25), scaled=False)
    )
    write_latents(folder / "one.safetensors", LatentsFile(latents(1, 16, 1, 2, 2), scaled=False))
    write_latents(folder / "two.safetensors", LatentsFile(latents(2, 16, 1, 2, 2), scaled=False))
    report = decode_folder(vae, folder, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clip.mp4", "one.png"]
    assert [(one.source.name, "holds one" in one.error) for one in report.failed] == [("two.safetensors", True)]
    with open_clip(tmp_path / "out" / "clip.mp4") as clip:
        assert clip.frame_rate == 25
        assert clip.frame_count == 9
    arrays = decode_folder(vae, folder, tmp_path / "arrays", ending=".npy")
    assert [run.output.name for run in arrays.written] == ["clip.npy", "one.npy", "two.npy"]
    assert not arrays.failed


def test_wrong_options_are_refused_before_the_first_file(pictures: Path, opened: Opened) -> None:
    vae, out = opened("sd"), pictures.parent / "out"
    wrong: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"seed": 1}, InputError),
        ({"temb": 0.05}, InputError),
        ({"memory": "lots"}, InputError),
        ({"frame_rate": Fraction(24)}, InputError),
        ({"ending": ".mp4"}, OutputError),
        ({"ending": "png"}, OutputError),
    ]
    for options, error in wrong:
        with pytest.raises(error):
            decode_folder(vae, pictures, out, **options)
        assert not out.exists()
    with pytest.raises(OutputError, match="name a folder for them"):
        decode_folder(vae, pictures, pictures.parent / "out.png")
    with pytest.raises(InputError, match="timestep-conditioned"):
        decode_folder(opened("noise_timestep"), pictures, out)
    (pictures.parent / "empty").mkdir()
    with pytest.raises(MediaError, match="holds no latents files"):
        decode_folder(vae, pictures.parent / "empty", out)


def test_a_folder_of_latents_and_its_outputs_may_be_the_same_folder(pictures: Path, opened: Opened) -> None:
    before = {path.name: path.read_bytes() for path in pictures.iterdir()}
    report = decode_folder(opened("sd"), pictures, pictures, ending=".npy", overwrite=True)
    assert {path.name: path.read_bytes() for path in pictures.iterdir() if path.name in before} == before
    assert [run.output.name for run in report.written] == ["a.npy", "b.npy.npy", "b.safetensors.npy"]
