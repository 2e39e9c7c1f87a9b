"""The kind of a file by its bytes: each kind has a name, and unknown bytes have none."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save

from latentrt.runtime.system.file_kinds import kind_of, kind_of_bytes, not_the_wanted_kind

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def saved(save: object, *arguments: object, **options: object) -> bytes:
    file = io.BytesIO()
    save(*(file if argument is io else argument for argument in arguments), **options)  # type: ignore[operator]
    return file.getvalue()


def picture(kind: str) -> bytes:
    return saved(Image.new("RGB", (8, 8)).save, io, kind)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("notes.txt", "x")
    return file.getvalue()


ARRAY = np.zeros((2, 3), np.float32)
KINDS = {
    "empty": b"",
    "zeros": bytes(100),
    "git-lfs": POINTER,
    "git-annex": b"/annex/objects/SHA256E-s123--abc.safetensors\n",
    "html": b"\n<!DOCTYPE HTML><html><body>404</body></html>",
    "xml": b'<?xml version="1.0"?><note>hello</note>',
    "answer": b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>',
    "safetensors": save({"a": ARRAY}),
    "torch-zip": saved(torch.save, torch.zeros(2), io),
    "npz": saved(np.savez, io, a=ARRAY),
    "zip": zipped(),
    "pickle": pickle.dumps([1, 2]),
    "npy": saved(np.save, io, ARRAY),
    "png": picture("PNG"),
    "jpeg": picture("JPEG"),
    "webp": picture("WEBP"),
    "gif": picture("GIF"),
    "tiff": picture("TIFF"),
    "avif": picture("AVIF"),
    "json": b"\xef\xbb\xbf" + json.dumps({"a": [1, 2]}).encode(),
    "text": "Grüße\n".encode(),
    "mp4": b"\0\0\0\x18ftypisom\0\0\0\0",
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0",
    "gzip": b"\x1f\x8b\x08\0",
    "gguf": b"GGUF\3\0\0\0",
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_known_by_its_bytes(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(KINDS[name])
    kind = kind_of(tmp_path / "a.bin")
    assert kind is not None
    assert kind.name == name


@pytest.mark.parametrize("first", [b"BM", b"\x1f\x8b", b"\xff\x0a", b"MZ", b"BZh", b"\x80\x02", b"II*\0", b"ID3"])
def test_the_length_of_a_safetensors_header_is_no_other_kind(first: bytes) -> None:
    """Writers that do not pad the header give it any length, which the file begins with."""
    head = first.ljust(8, b"\0") + b'{"latents":'
    kind = kind_of_bytes(head, 1 << 20)
    assert kind is not None
    assert kind.name == "safetensors"


def test_a_legacy_torch_file_is_a_pickle() -> None:
    content = saved(torch.save, torch.zeros(2), io, _use_new_zipfile_serialization=False)
    kind = kind_of_bytes(content[:1024], len(content))
    assert kind is not None
    assert kind.name == "pickle"


def test_unknown_bytes_and_absent_files_have_no_kind(tmp_path: Path) -> None:
    assert kind_of_bytes(bytes(range(128, 256)), 128) is None
    assert kind_of(tmp_path / "absent") is None
    assert kind_of(tmp_path) is None
    assert not_the_wanted_kind(tmp_path / "absent", "a picture") is None


def test_the_sentence_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(POINTER)
    (tmp_path / "b.png").write_bytes(KINDS["npy"])
    sentence = f"{tmp_path / 'a.png'} is a Git LFS pointer, not the file itself: run `git lfs pull` in its repository"
    assert not_the_wanted_kind(tmp_path / "a.png", "a picture") == sentence
    assert not_the_wanted_kind(tmp_path / "b.png", "a picture") == (
        f"{tmp_path / 'b.png'} is a NumPy array (.npy): give a picture"
    )


def test_any_bytes_are_judged_without_an_error() -> None:
    random = np.random.default_rng(0)
    for content in KINDS.values():
        for length in range(min(len(content), 64)):
            kind_of_bytes(content[:length], length)
        for _ in range(50):
            changed = bytearray(content[:1024] or b"\0")
            changed[int(random.integers(len(changed)))] = int(random.integers(256))
            kind_of_bytes(bytes(changed), len(changed))
