"""Latents files of other programs: ComfyUI, NumPy archives, PyTorch; and files that are something else."""

import collections
import io
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.numpy import save_file

from latentrt.runtime import InputError, LatentRTError, MediaError, decode_file, open_bundle, read_latents
from latentrt.runtime.media.torch_archive import torch_tensors

LATENTS = np.random.default_rng(0).standard_normal((1, 4, 6, 8)).astype(np.float32)
TENSOR = torch.from_numpy(LATENTS)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def test_comfyui_files_are_read_as_comfyui_reads_them(tmp_path: Path) -> None:
    """As its node LoadLatent: a file without the version is multiplied by 1 / 0.18215."""
    path, metadata = tmp_path / "a.latent", {"prompt": '{"1": {}}', "format": "pt"}
    safetensors.torch.save_file({"latent_tensor": TENSOR, "latent_format_version_0": torch.tensor([])}, path, metadata)
    back = read_latents(path)
    assert back.origin == "comfyui"
    assert (back.scaled, back.height) == (None, None)
    np.testing.assert_array_equal(back.latents, LATENTS)
    safetensors.torch.save_file({"latent_tensor": TENSOR.half()}, path)
    wanted = TENSOR.half().float() * (1.0 / 0.18215)
    np.testing.assert_array_equal(read_latents(path).latents, wanted.numpy())


def test_numbers_that_float32_cannot_hold_are_infinite_without_a_warning(tmp_path: Path) -> None:
    """The decoder refuses them, with their place."""
    safetensors.torch.save_file({"latent_tensor": torch.full((1, 4, 2, 2), 3e38)}, tmp_path / "a.latent")
    np.save(tmp_path / "b.npy", np.full((1, 4, 2, 2), 1e300))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("a.latent", "b.npy"):
            assert np.isinf(read_latents(tmp_path / name).latents).all()


def archived(tensor: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(tensor, file, **options)
    return file.getvalue()


class Named(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.latents = torch.nn.Parameter(TENSOR)


TORCH_FILES = {
    "a tensor": (TENSOR, LATENTS),
    "a view": (torch.cat([TENSOR, TENSOR + 1])[1:].transpose(2, 3), LATENTS.swapaxes(2, 3) + np.float32(1)),
    "a parameter": (torch.nn.Parameter(TENSOR), LATENTS),
    "float16": (TENSOR.half(), LATENTS.astype(np.float16)),
    "float64": (TENSOR.double(), LATENTS),
    "bfloat16": (TENSOR.bfloat16(), TENSOR.bfloat16().float().numpy()),
    "a dict": ({"latents": TENSOR, "step": 3, "ids": torch.arange(3)}, LATENTS),
    "ComfyUI's dict": ({"samples": TENSOR, "batch_index": [0]}, LATENTS),
    "an ordered dict": (collections.OrderedDict(z=TENSOR), LATENTS),
    "a state dict": (Named().state_dict(), LATENTS),
    "a list": ([TENSOR], LATENTS),
    "a tuple": ((TENSOR, "text", 1.5, None, True), LATENTS),
}


@pytest.mark.parametrize("name", TORCH_FILES)
def test_a_file_of_torch_save_is_read_without_torch(name: str, tmp_path: Path) -> None:
    saved, wanted = TORCH_FILES[name]
    (tmp_path / "a.pt").write_bytes(archived(saved))
    back = read_latents(tmp_path / "a.pt").latents
    assert back.dtype == wanted.dtype
    np.testing.assert_array_equal(back, wanted)


class Harmful:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/tmp/latentrt-harm"),))


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ({"latents": TENSOR, "x": Harmful()}, "and only tensors are read from such a file"),
        (np.zeros((1, 4, 2, 2), np.float32), "and only tensors are read"),
        (Named(), "and only tensors are read"),
        ({"a": TENSOR, "b": TENSOR}, r"holds 2 tensors \(a, b\), none named latents: give key="),
        (TENSOR.to(torch.float8_e4m3fn), "as float8_e4m3fn: convert them"),
        (TENSOR.long(), "as int64: convert them"),
        ({"step": 3}, "holds no tensors"),
    ],
)
def test_a_pickle_is_never_run(saved: Any, words: str, tmp_path: Path) -> None:
    harm = Path("/tmp/latentrt-harm")
    harm.unlink(missing_ok=True)
    (tmp_path / "a.pt").write_bytes(archived(saved))
    with pytest.raises(MediaError, match=words) as caught:
        read_latents(tmp_path / "a.pt")
    assert "\n" not in str(caught.value)
    assert not harm.exists()


def test_a_hostile_description_of_a_tensor_is_refused(tmp_path: Path) -> None:
    """The shape and the strides in the pickle are changed, so that they would reach beyond the values."""
    whole = archived(torch.zeros(1, 4, 2, 2))
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in members if name.endswith("data.pkl"))
    for old, new in ((b"(K\x01K\x04", b"(K\x01K\x99"), (b"(K\x10K\x04", b"(K\x10K\xff"), (b"K\x00(", b"K\x77(")):
        assert old in members[name]
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
            for each, content in members.items():
                archive.writestr(each, content.replace(old, new) if each == name else content)
        with pytest.raises(MediaError, match="is not a whole file of torch"):
            read_latents(tmp_path / "a.pt")


def test_numpy_archives_are_read(tmp_path: Path) -> None:
    for name, arrays in {
        "one": {"x": LATENTS},
        "named": {"other": LATENTS[0, 0], "latents": LATENTS},
        "swapped": {"latents": LATENTS.astype(">f8")},
        "fortran": {"latents": np.asfortranarray(LATENTS)},
    }.items():
        for save in (np.savez, np.savez_compressed):
            save(tmp_path / f"{name}.npz", **arrays)
            back = read_latents(tmp_path / f"{name}.npz").latents
            assert back.flags.writeable
            assert back.dtype == np.float32
            np.testing.assert_array_equal(back, LATENTS)
    np.savez(tmp_path / "two.npz", a=LATENTS, b=LATENTS + 1)
    with pytest.raises(MediaError, match=r"holds 2 tensors \(a, b\)"):
        read_latents(tmp_path / "two.npz")
    np.testing.assert_array_equal(read_latents(tmp_path / "two.npz", key="b").latents, LATENTS + 1)
    with pytest.raises(MediaError, match="holds no tensor named 'c', but a, b"):
        read_latents(tmp_path / "two.npz", key="c")
    np.savez(tmp_path / "objects.npz", latents=np.array([{}]))
    with pytest.raises(MediaError, match=r"no array of numbers as 'latents\.npy'"):
        read_latents(tmp_path / "objects.npz")


def test_a_bomb_in_an_archive_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", latents=np.zeros((1, 4, 64, 64), np.float32))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # the claimed size of the member
        start = content.find(signature)
        content[start + place : start + place + 4] = (0x7FFFFFFF).to_bytes(4, "little")
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(MediaError, match="not a whole archive"):
        read_latents(tmp_path / "a.npz")


def test_the_bytes_decide_and_not_the_ending(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", LATENTS)
    np.savez(tmp_path / "b.npz", latents=LATENTS)
    save_file({"latents": LATENTS}, tmp_path / "c.safetensors")
    (tmp_path / "d.pt").write_bytes(archived(TENSOR))
    for name in ("a.npy", "b.npz", "c.safetensors", "d.pt"):
        for ending in (".npy", ".npz", ".safetensors", ".pt", ".latent", ""):
            path = tmp_path / f"x{ending}"
            path.write_bytes((tmp_path / name).read_bytes())
            np.testing.assert_array_equal(read_latents(path).latents, LATENTS)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (POINTER, "is a Git LFS pointer, not the file itself: run `git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "is a web page: download the file itself"),
        (b'{"error": "no"}', "is a JSON text: give a latents file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "is a PNG picture: give a latents file"),
        (pickle.dumps(LATENTS), "is a pickle, which can run code"),
        (archived(TENSOR, _use_new_zipfile_serialization=False), "is a pickle, which can run code"),
        (b"", "is not a whole safetensors file"),
    ],
)
@pytest.mark.parametrize("ending", [".safetensors", ".latent"])
def test_another_kind_of_file_is_named(content: bytes, words: str, ending: str, tmp_path: Path) -> None:
    (tmp_path / f"a{ending}").write_bytes(content)
    with pytest.raises(MediaError, match=words):
        read_latents(tmp_path / f"a{ending}")


def test_an_array_of_ml_dtypes_says_what_to_do(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", LATENTS.astype(ml_dtypes.bfloat16))
    with pytest.raises(MediaError, match="bfloat16: save it as float32"):
        read_latents(tmp_path / "a.npy")


def test_latents_without_a_batch_decode_as_with_one(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    with open_bundle(bundle_of("sd"), backend="onnxruntime") as vae:
        wanted = vae.decode(LATENTS).sample
        for name, latents in {"a": LATENTS[0], "b": LATENTS}.items():
            save_file({"latents": np.ascontiguousarray(latents)}, tmp_path / f"{name}.safetensors")
            decode_file(vae, tmp_path / f"{name}.safetensors", tmp_path / f"{name}.npy")
            np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), wanted)
        np.savez(tmp_path / "c.npz", a=LATENTS, b=LATENTS + 1)
        decode_file(vae, tmp_path / "c.npz", tmp_path / "c.npy", key="a")
        np.testing.assert_array_equal(np.load(tmp_path / "c.npy"), wanted)
        with pytest.raises(InputError, match="holds no packed latents of a FLUX pipeline: leave size"):
            decode_file(vae, tmp_path / "a.safetensors", tmp_path / "d.npy", size=(48, 64))


def test_comfyui_latents_are_in_the_space_of_comfyui(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    """Model latents, except for LTX-2 and FLUX.2, whose VAEs normalise in ComfyUI."""
    for name in ("sd", "ltx20", "flux2"):
        with open_bundle(bundle_of(name), backend="onnxruntime") as vae:
            scaled = vae.config.scaled_in_comfyui
            assert scaled == (name != "sd")
            channels = vae.config.diffusion_channels if scaled else vae.config.latent_channels
            shape = (1, channels, 2, 4, 4) if vae.video else (1, channels, 4, 4)
            latents = np.random.default_rng(0).standard_normal(shape, np.float32)
            tensors = {"latent_tensor": latents, "latent_format_version_0": np.zeros(0, np.float32)}
            save_file(tensors, tmp_path / f"{name}.latent")
            options: dict[str, Any] = {"temb": 0.05} if vae.config.timestep_conditioning else {}
            decode_file(vae, tmp_path / f"{name}.latent", tmp_path / f"{name}.npy", **options)
            model = vae.unscale_latents(latents) if scaled else latents
            conditions: dict[str, Any] = {"temb": np.full(1, 0.05, np.float32)} if options else {}
            np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), vae.decode(model, **conditions).sample)
            if not scaled:
                with pytest.raises(InputError, match="was written by ComfyUI, so it holds model latents"):
                    decode_file(vae, tmp_path / "sd.latent", tmp_path / "x.npy", scaled=True)


def changed(content: bytes, random: np.random.Generator) -> bytes:
    new = bytearray(content)
    for _ in range(int(random.integers(1, 6))):
        place = int(random.integers(len(new)))
        action = int(random.integers(4))
        if action == 0:
            new[place] = int(random.integers(256))
        elif action == 1:
            new[place] = int(random.choice([0, 1, 0x7F, 0x80, 0xFF]))
        elif action == 2:
            del new[place : place + int(random.integers(1, 9))]
        else:
            new[place:place] = new[place : place + int(random.integers(1, 17))]
    return bytes(new[: int(random.integers(1, len(new)))]) if random.integers(10) == 0 else bytes(new)


def test_changed_bytes_give_latents_or_our_error(tmp_path: Path) -> None:
    random, path = np.random.default_rng(2), tmp_path / "a.bin"
    small = LATENTS[:, :, :2, :2]
    np.save(tmp_path / "a.npy", small.astype(np.float64))
    np.savez(tmp_path / "b.npz", latents=small)
    np.savez_compressed(tmp_path / "c.npz", latents=small)
    save_file({"latents": small}, tmp_path / "d.safetensors", {"format": "latentrt-latents-1"})
    safetensors.torch.save_file({"latent_tensor": torch.from_numpy(small).bfloat16()}, tmp_path / "e.latent")
    (tmp_path / "f.pt").write_bytes(archived({"latents": torch.from_numpy(small)}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for source in sorted(tmp_path.iterdir()):
            whole = source.read_bytes()
            for _ in range(60):
                path.write_bytes(changed(whole, random))
                try:
                    assert read_latents(path).latents.dtype in (np.float32, np.float16)
                except LatentRTError as error:
                    assert "\n" not in str(error)  # noqa: PT017 # most cases raise, and some do not


def test_changed_pickles_give_tensors_or_our_error(tmp_path: Path) -> None:
    random, path = np.random.default_rng(3), tmp_path / "a.pt"
    with zipfile.ZipFile(io.BytesIO(archived({"latents": torch.zeros(1, 4, 2, 2)}))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in members if name.endswith("data.pkl"))
    for _ in range(250):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, changed(content, random) if name == pickled else content)
        try:
            for read in torch_tensors(path).values():
                read()
        except LatentRTError as error:
            assert "\n" not in str(error)  # noqa: PT017 # most cases raise, and some do not
