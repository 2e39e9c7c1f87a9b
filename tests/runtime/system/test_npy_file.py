"""Arrays on disk: every layout of numbers reads right, and every damage is one sentence before memory is allocated."""

import io
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentrt.runtime.errors import LatentRTError, MediaError
from latentrt.runtime.system.npy_file import load_npy

VALUES = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)


def npy(header: str, values: bytes = bytes(96), version: int = 1) -> bytes:
    text = header.encode("latin-1")
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text + values


@pytest.mark.parametrize("mode", ["r", None])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", ">f8", "|u1", "<i8", "|b1", "<c8"])
@pytest.mark.parametrize("array", [VALUES, np.asfortranarray(VALUES), VALUES[:, :0], VALUES[0, 0, 0], VALUES[..., ::2]])
def test_numbers_of_every_layout_come_back(tmp_path: Path, array: Any, dtype: str, mode: Any) -> None:
    wanted = np.asarray(array * 10, order="K").astype(dtype)
    np.save(tmp_path / "a.npy", wanted)
    back = load_npy(tmp_path / "a.npy", mmap_mode=mode)
    assert back.dtype == wanted.dtype
    np.testing.assert_array_equal(back, wanted)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(tmp_path: Path, version: tuple[int, int]) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, VALUES, version)
        file.write(b"more")  # as when several arrays are saved into one file
    np.testing.assert_array_equal(load_npy(tmp_path / "a.npy"), VALUES)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 4)}",
        '{"shape":(2,3,4,),"fortran_order":False,"descr":"<f4"}\n',
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L, 4L), }   \n",
    ],
)
def test_headers_of_other_programs_are_read(tmp_path: Path, header: str) -> None:
    (tmp_path / "a.npy").write_bytes(npy(header, VALUES.tobytes()))
    np.testing.assert_array_equal(load_npy(tmp_path / "a.npy"), VALUES)


def zipped() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=VALUES)
    return file.getvalue()


HOSTILE = {
    "a huge shape": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000, 1000)}"),
    "a shape that overflows": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}"),
    "nothing of a huge size": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 4611686018427387904)}"),
    "a number of many digits": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",)}"),
    "many axes": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "1," * 1000 + ")}"),
    "a negative length": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}"),
    "deep nesting": npy("{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 9000 + ")" * 9000 + "}"),
    "an expression": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2*3,)}"),
    "a name twice": npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}"),
    "a name too few": npy("{'descr': '<f4', 'shape': (2,)}"),
    "a type that does not exist": npy("{'descr': '<f3', 'fortran_order': False, 'shape': (2,)}"),
    "a name that is no name": npy("{descr: '<f4', 'fortran_order': False, 'shape': (2,)}"),
    "text after the end": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} 1"),
    "a large header": b"\x93NUMPY\x02\0" + (1 << 31).to_bytes(4, "little") + bytes(1000),
    "an unknown version": npy("{}", version=9),
    "an archive that is none": b"PK\x03\x04" + bytes(60),
    "a pickle": pickle.dumps([1, 2, 3]),
    "an archive": zipped(),
    "nothing": b"",
}


@pytest.mark.parametrize("mode", ["r", None])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_file_is_one_sentence_and_allocates_nothing(tmp_path: Path, name: str, mode: Any) -> None:
    (tmp_path / "a.npy").write_bytes(HOSTILE[name])
    tracemalloc.start()
    try:
        with pytest.raises(MediaError, match=r"a\.npy (is|cannot) .*: |a\.npy cannot be read") as caught:
            load_npy(tmp_path / "a.npy", mmap_mode=mode)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_what_holds_no_numbers_is_named(tmp_path: Path) -> None:
    cases: list[tuple[Any, str]] = [
        (np.array([{}]), "Python objects"),
        (np.zeros(2, [("a", "f4"), ("b", "i4")]), "records"),
        (np.array(["text"]), "of the type '<U4'"),
        (np.array(["2020-01-01"], "M8[D]"), "and not numbers"),
        (np.zeros(2, "V2"), "probably bfloat16: save it as float32"),
    ]
    for array, words in cases:
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
        with pytest.raises(MediaError, match=words):
            load_npy(tmp_path / "a.npy")


def test_an_archive_of_arrays_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(zipped())
    with pytest.raises(MediaError, match=r"is a NumPy archive \(\.npz\): give a \.npy array"):
        load_npy(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "b.npy", "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(MediaError, match="is a zip archive: extract it"):
        load_npy(tmp_path / "b.npy")


def test_changed_bytes_give_the_array_or_our_error(tmp_path: Path) -> None:
    """Bytes of the header are changed, removed and doubled at random."""
    file = io.BytesIO()
    np.save(file, VALUES)
    whole, random = file.getvalue(), np.random.default_rng(1)
    head = len(whole) - VALUES.nbytes
    path = tmp_path / "a.npy"
    read = 0
    for _ in range(1500):
        content = bytearray(whole)
        for _ in range(int(random.integers(1, 4))):
            place = int(random.integers(head))
            action = random.integers(3)
            if action == 0:
                content[place] = int(random.choice([*b"<>|{}()'\",:0123456789fFTOVL", *range(256)]))
            elif action == 1:
                del content[place]
            else:
                content[place:place] = content[place : place + 8]
        path.write_bytes(content)
        try:
            read += load_npy(path).nbytes > 0
        except LatentRTError as error:
            assert "\n" not in str(error)  # noqa: PT017 # most cases raise, and some do not
    assert read > 5
