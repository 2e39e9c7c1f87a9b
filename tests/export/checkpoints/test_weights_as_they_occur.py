"""Weights as people have them: wrong endings, wrappers around names, links of the hub's cache, files that are none."""

import hashlib
import json
import logging
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_checks import assert_same
from originals import ldm_tensors
from safetensors.numpy import save_file

from latentrt.export.checkpoints import SourceOptions, open_checkpoint
from latentrt.runtime.errors import CheckpointError, ConfigError, LatentRTError

STEM = "diffusion_pytorch_model"
SCALING = {"scaling_factor": 0.18215}
ALLOWED = SourceOptions(allow_pickle=True)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"
Tensors = dict[str, np.ndarray]


@pytest.fixture
def tensors(tensors_of: Callable[[str], Tensors]) -> Tensors:
    return tensors_of("sd")


@pytest.fixture
def folder(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint_of("sd"), tmp_path / "model"))


@pytest.mark.parametrize("ending", [".ckpt", ".bin", ".pt", ".pth", ".sft", ".model", "", ".SafeTensors"])
def test_safetensors_under_any_ending_are_read(ending: str, tensors: Tensors, tmp_path: Path) -> None:
    save_file(ldm_tensors(tensors), tmp_path / f"vae{ending}")
    assert_same(open_checkpoint(tmp_path / f"vae{ending}", SCALING), tensors)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_pickle_under_the_ending_of_safetensors_needs_permission(
    zipped: bool, tensors: Tensors, tmp_path: Path
) -> None:
    path = tmp_path / "vae.safetensors"
    torch.save(
        {name: torch.from_numpy(value) for name, value in ldm_tensors(tensors).items()},
        path,
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(CheckpointError, match=r"is a pickle, .* pass --allow-pickle"):
        open_checkpoint(path, SCALING)
    assert_same(open_checkpoint(path, SCALING, ALLOWED), tensors)


def tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "model.safetensors")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"GGUF\3\0\0\0" + bytes(99), "GGUF file"),
        (b"\x93NUMPY\1\0", "a NumPy array .* all weights of a model"),
        (b"\x1f\x8b\x08\0", "a gzip archive: decompress it"),
        (b"\x08\x08\x12\x07pytorch", "an ONNX model: give the model that it came from"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture: give the weights of a model"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file: convert it to safetensors"),
        (b"ptrt\0\0\0\0", "a TensorRT engine: give the weights"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "an MP4 or MOV clip: give the weights"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "a WebP picture: give the weights"),
        (b"BZh91AY", "a bzip2 archive: decompress it"),
        (b"%PDF-1.7", "a PDF document: give the weights"),
        (LFS, "Git LFS pointer, .*git lfs pull"),
        (b"<!doctype html>\n<html>", "web page"),
        (b"\xef\xbb\xbf<html lang=en>", "web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "error message of a server"),
        (b"", "it is an empty file"),
        (bytes(4096), "begins with zeros only, as unfinished downloads do"),
        (tar, "a tar archive: extract it"),
    ],
)
@pytest.mark.parametrize("ending", [".safetensors", ".ckpt", ".data"])
def test_a_file_of_another_kind_is_named_by_its_bytes(content: Any, reason: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"vae{ending}"
    content(path) if callable(content) else path.write_bytes(content)
    with pytest.raises(CheckpointError, match=reason) as caught:
        open_checkpoint(path, SCALING, ALLOWED)
    assert "\n" not in str(caught.value)


def test_an_unfinished_download_and_an_unknown_kind_are_named(tmp_path: Path) -> None:
    (tmp_path / "vae.safetensors.incomplete").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(CheckpointError, match=r"unfinished download .\.incomplete.: fetch it again"):
        open_checkpoint(tmp_path / "vae.safetensors.incomplete")
    (tmp_path / "vae.data").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match=r"unknown kind .\.data.: give safetensors weights"):
        open_checkpoint(tmp_path / "vae.data")


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "model.",
        "vae.",
        "first_stage_model.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model._orig_mod.module.",
        "state_dict.module.first_stage_model.",
        "first_stage_model._orig_mod.",
        "autoencoder.module.",
        "_forward_module.model.vae.",
        "ema.",
        "ema_model.module.",
    ],
)
def test_names_of_wrappers_around_the_parameters_are_taken_away(prefix: str, tensors: Tensors, tmp_path: Path) -> None:
    named = {f"{prefix}{name}": value for name, value in ldm_tensors(tensors).items()}
    if prefix != "_orig_mod.":
        named["optimizer.step"] = np.ones(1, np.float32)
    save_file(named, tmp_path / "vae.safetensors")
    assert_same(open_checkpoint(tmp_path / "vae.safetensors", SCALING), tensors)


def test_wrappers_of_single_modules_are_taken_away(tensors: Tensors, tmp_path: Path) -> None:
    """`model.decoder = torch.compile(model.decoder)` and FSDP leave these."""
    named = {
        name.replace("decoder.", "decoder._orig_mod.", 1).replace(".mid.", ".mid._fsdp_wrapped_module."): value
        for name, value in ldm_tensors(tensors).items()
    }
    assert any("._orig_mod." in name for name in named)
    save_file(named, tmp_path / "vae.safetensors")
    assert_same(open_checkpoint(tmp_path / "vae.safetensors", SCALING), tensors)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "vae.", "model.module."])
def test_a_folder_whose_names_have_wrappers_is_read(prefix: str, folder: Path, tensors: Tensors) -> None:
    save_file({f"{prefix}{name}": value for name, value in tensors.items()}, folder / f"{STEM}.safetensors")
    assert_same(open_checkpoint(folder), tensors)


def test_moving_averages_next_to_the_weights_are_left_out_and_alone_are_noted(
    tensors: Tensors, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = ldm_tensors(tensors, "first_stage_model.")
    averages = {f"ema.{name}": value + 1 for name, value in own.items()}
    save_file(own | averages, tmp_path / "both.safetensors")
    assert_same(open_checkpoint(tmp_path / "both.safetensors", SCALING), tensors)
    save_file(averages, tmp_path / "averages.safetensors")
    with caplog.at_level(logging.WARNING):
        found = open_checkpoint(tmp_path / "averages.safetensors", SCALING)
    assert_same(found, {name: value + 1 for name, value in tensors.items()})
    assert "its only weights are moving averages, under ema." in caplog.text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_config_of_a_windows_editor_is_read(encoding: str, newline: str, folder: Path, tensors: Tensors) -> None:
    text = json.dumps(json.loads((folder / "config.json").read_text()), indent=1).replace("\n", newline)
    (folder / "config.json").write_bytes(text.encode(encoding))
    assert_same(open_checkpoint(folder), tensors)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LFS, "Git LFS pointer"),
        (b"<html><body>404", "web page"),
        (b"Entry not found", "error message of a server"),
        (b"", "it is an empty file"),
        (b'{\n// the VAE\n"a": 1}', "JSON has no comments"),
        (b'{"scaling_factor": NaN}', "it holds NaN, which is not a JSON number"),
        (b"\xff\xfe{\0\0", "neither UTF-8 nor UTF-16"),
        (b'{"a": "\xe9"}', "it is not UTF-8 text"),
        (b'{"a": 1,}', "it is not JSON"),
    ],
)
def test_a_config_that_is_none_is_named(content: bytes, reason: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=reason) as caught:
        open_checkpoint(folder)
    assert "\n" not in str(caught.value)


def as_hub_cache(folder: Path, root: Path) -> Path:
    """The files of a folder as the hub's cache holds them: links to files that are named by their hashes."""
    snapshot = root / "models--org--name" / "snapshots" / ("0123456789" * 4)
    (root / "models--org--name" / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in folder.iterdir():
        blob = root / "models--org--name" / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


@pytest.mark.parametrize("sharded", [False, True])
def test_a_model_in_the_hubs_cache_is_read_through_its_links(
    sharded: bool, folder: Path, tensors: Tensors, tmp_path: Path
) -> None:
    if sharded:
        names = sorted(tensors)
        places: dict[str, str] = {}
        for number in (1, 2):
            file = f"{STEM}-0000{number}-of-00002.safetensors"
            save_file({name: tensors[name] for name in names[number - 1 :: 2]}, folder / file)
            places |= dict.fromkeys(names[number - 1 :: 2], file)
        (folder / f"{STEM}.safetensors").unlink()
        index = json.dumps({"metadata": {}, "weight_map": places})
        (folder / f"{STEM}.safetensors.index.json").write_bytes(index.encode("utf-8-sig"))
    assert_same(open_checkpoint(as_hub_cache(folder, tmp_path / "hub")), tensors)


def test_a_blob_of_the_hubs_cache_without_an_ending_is_read(tensors: Tensors, tmp_path: Path) -> None:
    save_file(ldm_tensors(tensors), tmp_path / ("a1" * 32))
    assert_same(open_checkpoint(tmp_path / ("a1" * 32), SCALING), tensors)


def test_a_single_file_with_an_unusual_structure_asks_for_the_folder(tmp_path: Path, tensors: Tensors) -> None:
    narrow = {name: value[..., :1] if value.ndim == 4 and "attn" in name else value for name, value in tensors.items()}
    narrow["encoder.conv_in.weight"] = np.ones((16, 3, 3, 3), np.float32)
    save_file(narrow, tmp_path / "vae.safetensors")
    with pytest.raises(LatentRTError) as caught:
        open_checkpoint(tmp_path / "vae.safetensors", SCALING)
    assert "correct config.json" not in str(caught.value)
    assert not isinstance(caught.value, ConfigError) or "give the diffusers folder" in str(caught.value)
