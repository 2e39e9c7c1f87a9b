"""Files of `torch.save`, which two rooms read: latents, and checkpoints if pickles are allowed."""

import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peak_memory import peak_bytes

from latentrt.export.checkpoints.pickle_file import open_pickle
from latentrt.runtime.errors import CheckpointError, LatentRTError, MediaError
from latentrt.runtime.media.torch_archive import torch_tensors

VALUES = torch.linspace(-3, 3, 24).reshape(1, 4, 2, 3)
# A dict that holds itself many times on each of eight levels: a few hundred bytes, and 60 ** 8 names.
NESTED = (
    b"\x80\x02}q\0U\1aK\1s" + b"".join(b"}q" + bytes([n]) + b"(" + b"".join(
        b"U\2%02dh%c" % (key, n - 1) for key in range(60)
    ) + b"u" for n in range(1, 9)) + b"."
)  # fmt: skip


def saved(content: Any, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def of_pickle(pickled: bytes, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/version", "3\n")
    return path


def as_latents(path: Path) -> dict[str, Any]:
    return {name: read() for name, read in torch_tensors(path).items()}


def as_weights(path: Path) -> dict[str, Any]:
    return {name: tensor.read() for name, tensor in open_pickle(path, allowed=True).tensors.items()}


@pytest.mark.parametrize(
    "tensor",
    [
        VALUES.half(),
        VALUES.double(),
        VALUES.bfloat16(),
        torch.nn.Parameter(VALUES),
        VALUES.transpose(2, 3),
        torch.cat([VALUES, VALUES])[1:],
        VALUES[:, 1:, ::2],
        torch.zeros(0, 4, 2, 3),
        torch.tensor(1.5),
    ],
)
def test_latents_and_weights_are_read_alike(tensor: torch.Tensor, tmp_path: Path) -> None:
    path = saved({"latents": tensor}, tmp_path / "a.pt")
    wanted = tensor.detach().float().numpy()
    for read in (as_latents, as_weights):
        np.testing.assert_array_equal(read(path)["latents"].astype(np.float32), wanted)


def test_numbers_of_either_byte_order_are_read_alike(tmp_path: Path) -> None:
    with zipfile.ZipFile(saved({"latents": VALUES}, tmp_path / "little.pt")) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in members if name.endswith("data.pkl"))
    root = pickled.removesuffix("data.pkl")
    members |= {f"{root}byteorder": b"big", f"{root}data/0": VALUES.numpy().astype(">f4").tobytes()}
    with zipfile.ZipFile(tmp_path / "big.pt", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    for read in (as_latents, as_weights):
        np.testing.assert_array_equal(read(tmp_path / "big.pt")["latents"], VALUES.numpy())


def test_a_changed_value_of_latents_is_noticed(tmp_path: Path) -> None:
    content = bytearray(saved({"latents": VALUES}, tmp_path / "a.pt").read_bytes())
    content[content.index(VALUES.numpy().tobytes()) + 5] ^= 1
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(MediaError, match="CRC"):
        as_latents(tmp_path / "a.pt")


def test_a_file_that_calls_functions_is_refused_by_both(tmp_path: Path) -> None:
    path = of_pickle(b"\x80\x02}(U\1acposix\nsystem\n(U\4truetRu.", tmp_path / "a.pt")
    with pytest.raises(MediaError, match=r"holds posix\.system, and only tensors are read"):
        as_latents(path)
    with pytest.raises(CheckpointError, match=r"it calls .posix\.system., which no model needs"):
        as_weights(path)


@pytest.mark.parametrize(
    "pickled",
    [
        NESTED,
        b"\x80\x02}q\0U\1ah\0s.",  # a dict that holds itself
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a place in the memo that costs Python 16 GiB
        b"\x80\x02)q\0" + b"h\0h\0\x86q\0" * 60 + b"}h\0K\1s.",  # a key whose hash takes for ever
        b"\x80\x02]q\0" + b"h\0h\0\x86q\0" * 60 + b".",  # a pair of pairs of pairs
    ],
    ids=["names", "itself", "memo", "hash", "pairs"],
)
@pytest.mark.parametrize("read", [as_latents, as_weights])
def test_a_small_file_costs_little(pickled: bytes, read: Callable[[Path], Any], tmp_path: Path) -> None:
    path = of_pickle(pickled, tmp_path / "a.pt")
    start, before = time.monotonic(), peak_bytes()
    try:
        assert read(path) == {}
    except LatentRTError as error:
        assert "\n" not in str(error)  # noqa: PT017 # some cases raise, and some hold no tensors
    assert peak_bytes() - before < 500 << 20
    assert time.monotonic() - start < 5


def test_an_archive_with_a_huge_directory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = io.BytesIO()
    torch.save({"latents": VALUES}, file)
    content = bytearray(file.getvalue())
    end = content.rindex(b"PK\x05\x06")
    content[end + 12 : end + 16] = (1 << 30).to_bytes(4, "little")
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a whole file of torch"):
        as_weights(tmp_path / "a.pt")
    with pytest.raises(MediaError, match="is not a whole"):
        as_latents(tmp_path / "a.pt")
