"""Activations in memory and in files, and statistics of a whole from those of its tiles."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latentrt.runtime import OutputError
from latentrt.runtime.activations import ActivationStore, InFile, InMemory
from latentrt.runtime.row_statistics import GroupStatistics

SHAPE = (2, 3, 10, 8)
FLOAT32 = np.dtype(np.float32)


def test_what_is_written_in_tiles_is_read_in_others(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    for activation in (InMemory(np.empty(SHAPE, np.float32)), InFile(SHAPE, FLOAT32, tmp_path)):
        for rows in (slice(0, 4), slice(4, 5), slice(5, 10)):
            for columns in (slice(0, 3), slice(3, 8)) if rows.start else (slice(0, 8),):
                activation.write(rows, columns, values[:, :, rows, columns])
        for rows, columns in ((slice(0, 10), slice(0, 8)), (slice(3, 6), slice(2, 4)), (slice(9, 10), slice(0, 8))):
            tile = activation.read(rows, columns)
            assert np.array_equal(tile, values[:, :, rows, columns])
            assert tile.flags.c_contiguous
        activation.close()


def test_only_what_fits_into_the_budget_is_held_in_memory(tmp_path: Path) -> None:
    size = int(np.prod(SHAPE)) * 4
    with ActivationStore(2 * size, tmp_path, FLOAT32) as store:
        first, second, third = (store.allocate(SHAPE) for _ in range(3))
        assert [type(one) for one in (first, second, third)] == [InMemory, InMemory, InFile]
        store.free(first)
        assert isinstance(store.allocate(SHAPE), InMemory)
        kept = third
    with pytest.raises(ValueError, match="closed"):
        kept.read(slice(0, 1), slice(0, 8))


@pytest.mark.skipif(sys.platform == "win32", reason="files vanish there with their handle, which a kill closes later")
def test_a_process_that_is_killed_leaves_no_file(tmp_path: Path) -> None:
    code = (
        "import sys, time, numpy as np; from pathlib import Path; from latentrt.runtime.activations import InFile\n"
        "file = InFile((1, 1, 64, 64), np.dtype(np.float32), Path(sys.argv[1]))\n"
        "file.write(slice(0, 64), slice(0, 64), np.ones((1, 1, 64, 64), np.float32))\n"
        "print('written', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"written"
        os.kill(process.pid, signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        InFile(SHAPE, FLOAT32, tmp_path / "missing")


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
    np.testing.assert_allclose(statistics.mean, groups.mean(axis=2), rtol=1e-12)
    np.testing.assert_allclose(statistics.variance, groups.var(axis=2), rtol=1e-9)
    mean_of_variances = np.mean([whole[:, :, row].reshape(2, 3, -1).var(axis=2) for row in range(12)], axis=0)
    assert not np.allclose(statistics.variance, mean_of_variances, rtol=1e-3), "what others pool is not it"
