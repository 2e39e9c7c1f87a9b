"""Activations in memory and in files, and statistics of a whole from those of its tiles."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from latentrt.runtime import OutputError
from latentrt.runtime.execution.activations import Activation, ActivationStore
from latentrt.runtime.execution.row_statistics import GroupStatistics
from latentrt.runtime.execution.spill_file import SpillFile
from latentrt.runtime.system.page_memory import ReusedPages

SHAPE = (2, 3, 10, 8)
SIZE = 4 * int(np.prod(SHAPE))
FLOAT32 = np.dtype(np.float32)
VALUES = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
WIDE = slice(0, 8)


def put(store: ActivationStore, activation: Activation, rows: slice, columns: slice = WIDE) -> None:
    tile = VALUES[:, :, rows, columns]
    place = store.place(tile.shape)
    if place is not None:
        place[...] = tile
    store.keep(activation, rows, columns, tile if place is None else place, place)


def taken(activation: Activation, rows: slice, columns: slice = WIDE) -> np.ndarray:
    return activation.read(rows, columns, ReusedPages())


@pytest.mark.parametrize("budget", [0, SIZE // 2, SIZE])
def test_what_is_written_in_tiles_is_read_in_others(budget: int, tmp_path: Path) -> None:
    with closing(ActivationStore(budget, tmp_path, FLOAT32)) as store:
        activation = store.empty(SHAPE)
        for rows in (slice(0, 4), slice(4, 5), slice(5, 10)):
            for columns in (slice(0, 3), slice(3, 8)) if rows.start else (WIDE,):
                put(store, activation, rows, columns)
        for rows, columns in ((slice(0, 10), WIDE), (slice(3, 6), slice(2, 4)), (slice(9, 10), WIDE)):
            tile = taken(activation, rows, columns)
            assert np.array_equal(tile, VALUES[:, :, rows, columns])
            assert tile.flags.c_contiguous
        assert 0 <= budget - store.held_bytes < SIZE // 2, "as much in memory as fits"


def test_a_tile_that_is_read_as_it_was_made_is_not_copied(tmp_path: Path) -> None:
    with closing(ActivationStore(SIZE, tmp_path, FLOAT32)) as store:
        activation, place = store.empty(SHAPE), store.place((2, 3, 4, 8))
        assert place is not None
        store.keep(activation, slice(0, 4), WIDE, place, place)
        assert taken(activation, slice(0, 4)) is place
        assert not np.shares_memory(taken(activation, slice(0, 3)), place)
        given = store.given(VALUES)
        assert taken(given, slice(0, 10)) is VALUES
        assert store.held_bytes == place.nbytes, "what is given is somebody else's"


def test_only_what_fits_into_the_budget_is_held_in_memory(tmp_path: Path) -> None:
    with closing(ActivationStore(2 * SIZE, tmp_path, FLOAT32)) as store:
        first, second, third = (store.empty(SHAPE) for _ in range(3))
        for one in (first, second, third):
            put(store, one, slice(0, 10))
        assert store.held_bytes == 2 * SIZE, "the third lies in a file"
        first.drop()
        assert store.held_bytes == SIZE
        put(store, store.empty(SHAPE), slice(0, 10))
        assert store.held_bytes == 2 * SIZE
        assert np.array_equal(taken(third, slice(0, 10)), VALUES)
    with pytest.raises(ValueError, match="closed"):
        taken(third, slice(0, 1))


def test_rows_that_are_dropped_make_room_while_others_are_read(tmp_path: Path) -> None:
    with closing(ActivationStore(SIZE, tmp_path, FLOAT32)) as store:
        source, target = store.empty(SHAPE), store.empty(SHAPE)
        for row in range(0, 10, 2):
            put(store, source, slice(row, row + 2))
        for row in range(0, 10, 2):
            source.drop(row + 1)
            put(store, target, slice(row, row + 2))
            assert np.array_equal(taken(source, slice(row, row + 2)), VALUES[:, :, row : row + 2])
        assert store.held_bytes == SIZE
        assert np.array_equal(taken(target, slice(0, 10)), VALUES), "one tile of it in the file"


def test_pages_of_what_went_are_taken_again(tmp_path: Path) -> None:
    with closing(ActivationStore(2 * SIZE, tmp_path, FLOAT32)) as store:
        activation, place = store.empty(SHAPE), store.place(SHAPE)
        assert place is not None
        store.keep(activation, slice(0, 10), WIDE, place, place)
        activation.drop()
        again = store.place(SHAPE)
        assert again is not None
        assert np.shares_memory(again, place)
        assert not np.shares_memory(store.place(SHAPE), again)


def test_room_in_a_file_is_taken_again(tmp_path: Path) -> None:
    file = SpillFile(tmp_path)
    places = [file.write(np.full(count, count, np.float32)) for count in (10, 20, 30, 10)]
    assert places == [0, 40, 120, 240]
    file.free(places[2], 120)
    file.free(places[1], 80)
    assert file.write(np.full(50, 50, np.float32)) == 40, "two pieces side by side are one"
    assert file.write(np.full(1, 1, np.float32)) == 280, "behind the end, where nothing is free"
    for place, count in ((0, 10), (40, 50), (240, 10), (280, 1)):
        found = np.empty(count, np.float32)
        file.read(place, found)
        assert (found == count).all()
    file.close()


@pytest.mark.skipif(sys.platform == "win32", reason="files vanish there with their handle, which a kill closes later")
def test_a_process_that_is_killed_leaves_no_file(tmp_path: Path) -> None:
    code = (
        "import sys, time, numpy as np; from pathlib import Path\n"
        "from latentrt.runtime.execution.spill_file import SpillFile\n"
        "file = SpillFile(Path(sys.argv[1])); file.write(np.ones((64, 64), np.float32))\n"
        "print('written', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"written"
        os.kill(process.pid, signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        SpillFile(tmp_path / "missing")


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_statistics_of_tiles_merge_to_those_of_the_whole(offset: float) -> None:
    rng = np.random.default_rng(0)
    whole = offset + rng.standard_normal((2, 6, 12, 10)) * np.arange(1, 13)[:, None]
    statistics = GroupStatistics(2, 3)
    for rows in (slice(0, 1), slice(1, 8), slice(8, 12)):
        for columns in (slice(0, 7), slice(7, 10)):
            tile = whole[:, :, rows, columns]
            statistics.add(tile.mean(axis=3), tile.var(axis=3), tile.shape[3])
    groups = whole.reshape(2, 3, -1)
    got = statistics.result
    np.testing.assert_allclose(got["mean"], groups.mean(axis=2), rtol=1e-12)
    np.testing.assert_allclose(got["variance"], groups.var(axis=2), rtol=1e-9)
    mean_of_variances = np.mean([whole[:, :, row].reshape(2, 3, -1).var(axis=2) for row in range(12)], axis=0)
    assert not np.allclose(got["variance"], mean_of_variances, rtol=1e-3), "what others pool is not it"
