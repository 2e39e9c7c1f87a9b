"""Names of files that are no text, or that terminals and libraries take for something else."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke

from latentrt.runtime.files.decoded_file import decode_file
from latentrt.runtime.files.encoded_file import encode_file
from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.latents_file import LatentsFile, read_latents, write_latents
from latentrt.runtime.media.pictures.picture_file import read_picture

BundleOf = Callable[[str], Path]
Opened = Callable[..., Any]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names that are no text exist on Linux")

NAMES = [os.fsdecode(b"bad\xff\n\x1b[31m"), "--help", "concat:a|b %d "]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES, ids=["no text", "an option", "a protocol"])
def test_files_with_awkward_names_are_read_and_written(
    tmp_path: Path, bundle_of: BundleOf, opened: Opened, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    rng, image, video = np.random.default_rng(0), opened("sd"), opened("ltx20")
    clip, picture = tmp_path / f"{name}c.safetensors", tmp_path / f"{name}p.safetensors"
    write_latents(clip, LatentsFile(rng.standard_normal((1, 16, 2, 2, 2)).astype(np.float32), frame_rate=Fraction(25)))
    write_latents(picture, LatentsFile(rng.standard_normal((1, 4, 2, 2)).astype(np.float32)))
    for ending in (".mp4", ".webm", ".gif", ""):
        decode_file(video, clip, tmp_path / f"{name}{ending}")
        with open_clip(tmp_path / f"{name}{ending}") as frames:
            assert len(list(frames)) == 9
    decode_file(video, clip, tmp_path / f"{name}.npy")
    assert np.load(tmp_path / f"{name}.npy").shape == (1, 3, 9, 64, 64)
    decode_file(image, picture, tmp_path / f"{name}.png")
    assert read_picture(tmp_path / f"{name}.png").shape == (16, 16, 3)
    for vae, ending in ((image, ".png"), (video, ".mp4")):
        latents = tmp_path / f"{name}{ending}.safetensors"
        encode_file(vae, tmp_path / f"{name}{ending}", latents, seed=1)
        assert read_latents(latents).height is not None
    result = invoke("decode", bundle_of("sd"), picture, "-o", tmp_path / f"{name}.jpg", "--json")
    assert json.loads(result.stdout)["output"] == str(tmp_path / f"{name}.jpg")
    text = invoke("decode", bundle_of("sd"), picture, "-o", tmp_path / f"{name}.webp").output
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert caplog.text.replace("\n", "").isprintable(), "no record of the log acts on a terminal or is no text"


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_bundle_in_a_folder_whose_name_is_no_text_runs(tmp_path: Path, bundle_of: BundleOf, backend: str) -> None:
    bundle = tmp_path / os.fsdecode(b"bundle\xff")
    shutil.copytree(bundle_of("sd"), bundle)
    write_latents(tmp_path / "z.safetensors", LatentsFile(np.ones((1, 4, 2, 2), np.float32)))
    for folder, name in ((bundle, "a.npy"), (bundle_of("sd"), "b.npy")):
        invoke("decode", folder, tmp_path / "z.safetensors", "-o", tmp_path / name, "--backend", backend)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))
