"""Flax folders: a fixture that diffusers' Flax model made, and files that are damaged or hostile."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from architectures import relative_error
from places import TESTS

from latentrt.export.bundle import export_bundle
from latentrt.export.checkpoints import SourceOptions, open_checkpoint
from latentrt.export.convert import convert_checkpoint
from latentrt.runtime import open_bundle
from latentrt.runtime.errors import CheckpointError, MissingExtra

FIXTURE = TESTS / "flax_fixture"
NAME = "diffusion_flax_model.msgpack"
EXPECTED = dict(np.load(FIXTURE / "expected.npz"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The fixture, to change."""
    return Path(shutil.copytree(FIXTURE / "float32", tmp_path / "model"))


def packed(array: np.ndarray, dtype: str | None = None, shape: Any = None) -> msgpack.ExtType:
    """An array as Flax packs it."""
    content = (array.shape if shape is None else shape, dtype or array.dtype.name, array.tobytes())
    return msgpack.ExtType(1, msgpack.packb(content))


def test_decode_and_encode_are_those_of_the_flax_model(tmp_path: Path) -> None:
    export_bundle(FIXTURE / "float32", tmp_path / "bundle")
    with open_bundle(tmp_path / "bundle", threads=1) as vae:
        assert relative_error(vae.decode(EXPECTED["latents"]).sample, EXPECTED["decoded"]) < 1e-4
        assert relative_error(vae.encode(EXPECTED["sample"]).latent_dist.mean, EXPECTED["mean"]) < 1e-4
        assert vae.config.scaling_factor == 0.18215


def test_arrays_are_renamed_and_transposed_exactly() -> None:
    checkpoint = open_checkpoint(FIXTURE / "float32")
    assert checkpoint.format == "Flax folder"
    stored = checkpoint.tensors["encoder.conv_in.weight"].read()
    np.testing.assert_array_equal(stored, EXPECTED["kernel"].transpose(3, 2, 0, 1))
    assert checkpoint.tensors["decoder.up_blocks.1.resnets.1.conv2.weight"].shape == (8, 8, 3, 3)


def test_bfloat16_arrays_are_widened_exactly() -> None:
    whole, half = (open_checkpoint(FIXTURE / name).tensors for name in ("float32", "bfloat16"))
    assert {tensor.dtype for tensor in half.values()} == {"BF16"}
    for name, tensor in whole.items():
        bits = tensor.read().view(np.uint32).astype(np.uint64)
        nearest_even = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)
        np.testing.assert_array_equal(half[name].read(), nearest_even, err_msg=name)


def test_converting_gives_a_folder_that_diffusers_reads(tmp_path: Path) -> None:
    import diffusers

    convert_checkpoint(FIXTURE / "float32", tmp_path / "folder")
    model: Any = diffusers.AutoencoderKL
    theirs = model.from_pretrained(tmp_path / "folder").state_dict()
    ours = open_checkpoint(FIXTURE / "float32").tensors
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(tensor.read(), theirs[name].numpy()) for name, tensor in ours.items())


def test_the_file_and_a_pipeline_mean_the_folder(folder: Path) -> None:
    config = open_checkpoint(FIXTURE / "float32").config
    assert open_checkpoint(folder / NAME).config == config
    shutil.copytree(folder, folder / "vae")
    (folder / "config.json").unlink()
    assert open_checkpoint(folder).config == config
    assert open_checkpoint(folder, options=SourceOptions(subfolder="vae")).config == config


def test_safetensors_beside_it_come_first(folder: Path) -> None:
    convert_checkpoint(FIXTURE / "float32", folder.with_name("converted"))
    shutil.copy(folder.with_name("converted") / "diffusion_pytorch_model.safetensors", folder)
    values = json.loads((folder / "config.json").read_text()) | {"_class_name": "AutoencoderKL"}
    (folder / "config.json").write_text(json.dumps(values))
    assert open_checkpoint(folder).format == "diffusers folder"


def test_large_arrays_in_pieces_and_a_params_root_are_read(folder: Path) -> None:
    tree = msgpack.unpackb((folder / NAME).read_bytes())
    whole = open_checkpoint(folder).tensors["decoder.conv_in.weight"].read()
    flat = np.ascontiguousarray(whole.transpose(2, 3, 1, 0)).reshape(-1)
    pieces = {str(index): packed(piece) for index, piece in enumerate(np.array_split(flat, 11))}
    shape = {str(index): length for index, length in enumerate((3, 3, 4, 16))}
    tree["decoder"]["conv_in"]["kernel"] = {"__msgpack_chunked_array__": True, "shape": shape, "chunks": pieces}
    (folder / NAME).write_bytes(msgpack.packb({"params": tree}))
    np.testing.assert_array_equal(open_checkpoint(folder).tensors["decoder.conv_in.weight"].read(), whole)
    tree["decoder"]["conv_in"]["kernel"]["shape"]["0"] = 4
    (folder / NAME).write_bytes(msgpack.packb({"params": tree}))
    with pytest.raises(CheckpointError, match="the pieces of a large array contradict its shape"):
        open_checkpoint(folder)


ONE = np.ones(2, np.float32)
DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "a web page": b"<!DOCTYPE html><html><body>404 not found</body></html>",
    "a number": msgpack.packb(7),
    "a list": msgpack.packb([1, 2]),
    "a text": msgpack.packb({"x": "text"}),
    "bytes": msgpack.packb({"x": b"bytes"}),
    "numbers as names": msgpack.packb({1: packed(ONE)}),
    "a name twice": b"\x82\xa1x\x80\xa1x\x80",
    "names that are no UTF-8": b"\x81\xa2\xff\xfe\x80",
    "more after the end": msgpack.packb({"x": packed(ONE)}) + b"\0",
    "a map of 2^32 entries": b"\xdf\xff\xff\xff\xff" + b"\xa1x\x80",
    "a list of 2^32 entries": b"\x81\xa1x\xdd\xff\xff\xff\xff",
    "a text of 4 GB": b"\x81\xa1x\xdb\xff\xff\xff\xff",
    "bytes of 4 GB": b"\x81\xa1x\xc6\xff\xff\xff\xff",
    "an array of 4 GB": b"\x81\xa1x\xc9\xff\xff\xff\xff\x01",
    "nested a million deep": b"\x81\xa1x" * 1_000_000,
    "nested 100 deep": b"\x81\xa1x" * 100 + b"\x80",
    "complex numbers": msgpack.packb({"x": msgpack.ExtType(2, msgpack.packb((1.0, 2.0)))}),
    "an unknown extension": msgpack.packb({"x": msgpack.ExtType(9, b"")}),
    "an array that is no msgpack": msgpack.packb({"x": msgpack.ExtType(1, b"\xc1")}),
    "an array of two parts": msgpack.packb({"x": msgpack.ExtType(1, msgpack.packb(((2,), "float32")))}),
    "a shape that contradicts": msgpack.packb({"x": packed(ONE, shape=(3,))}),
    "a negative shape": msgpack.packb({"x": packed(ONE, shape=(-2,))}),
    "a huge shape": msgpack.packb({"x": packed(ONE, shape=(2**60, 2**60))}),
    "a shape of texts": msgpack.packb({"x": packed(ONE, shape=("2",))}),
    "whole numbers": msgpack.packb({"x": packed(np.ones(2, np.int32))}),
    "an unknown dtype": msgpack.packb({"x": packed(ONE, dtype="object")}),
    "an array in an array": msgpack.packb({"x": msgpack.ExtType(1, msgpack.packb(packed(ONE)))}),
    "no pieces": msgpack.packb({"x": {"__msgpack_chunked_array__": True, "shape": {}, "chunks": {}}}),
    "too many names": msgpack.packb({str(index): {} for index in range(100_001)}),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_one_sentence(kind: str, folder: Path) -> None:
    (folder / NAME).write_bytes(DAMAGED[kind])
    with pytest.raises(CheckpointError, match="is not a usable Flax file: ") as caught:
        open_checkpoint(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [1, 0.1, 0.5, 0.9999])
def test_a_truncated_file_is_one_sentence(kept: float, folder: Path) -> None:
    content = (folder / NAME).read_bytes()
    (folder / NAME).write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(CheckpointError, match="it is not msgpack, or it is truncated"):
        open_checkpoint(folder)


def test_names_that_become_the_same_are_refused(folder: Path) -> None:
    tree = msgpack.unpackb((folder / NAME).read_bytes())
    tree["encoder"]["conv_in"]["weight"] = tree["encoder"]["conv_in"]["bias"]
    (folder / NAME).write_bytes(msgpack.packb(tree))
    with pytest.raises(CheckpointError, match=r"holds encoder\.conv_in\.weight twice"):
        open_checkpoint(folder)


def test_missing_and_unknown_arrays_are_named(folder: Path) -> None:
    tree = msgpack.unpackb((folder / NAME).read_bytes())
    kept = tree["encoder"].pop("conv_in")
    (folder / NAME).write_bytes(msgpack.packb(tree))
    with pytest.raises(
        CheckpointError, match=r"2 tensors are missing \(encoder\.conv_in\.bias, encoder\.conv_in\.weight"
    ):
        open_checkpoint(folder)
    tree["encoder"] |= {"conv_in": kept, "extra": kept}
    (folder / NAME).write_bytes(msgpack.packb(tree))
    with pytest.raises(CheckpointError, match=r"not of this model \(encoder\.extra\.bias, encoder\.extra\.weight\)"):
        open_checkpoint(folder)


def test_without_msgpack_the_pip_line_is_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "msgpack", None)
    with pytest.raises(MissingExtra, match=r'pip install "latentrt\[flax\]"'):
        open_checkpoint(folder)


def test_a_flax_file_without_its_config_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    for source in (folder, folder / NAME):
        with pytest.raises(CheckpointError, match=r"no config\.json"):
            open_checkpoint(source)
