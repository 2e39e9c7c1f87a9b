"""The file of golden samples: what it holds, and what is refused."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.errors import BundleError
from latentrt.runtime.selftest.golden_samples import MOST_BYTES, GoldenOutput, GoldenSamples
from latentrt.runtime.system.hashing import sha256_of


def test_a_part_of_a_result_has_values_of_every_channel_row_and_column() -> None:
    shape = (1, 3, 9, 64, 96)
    places = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    part = GoldenOutput.of(places, 4096)
    assert 3000 < part.values.size <= 4096
    for axis, length in enumerate(shape):
        assert set(np.unravel_index(part.values.astype(np.int64), shape)[axis]) == set(range(length))
    assert part.psnr_db(places) == 200
    assert part.psnr_db(places[:, ::-1]) < 20
    assert part.psnr_db(places[:, :2]) == -np.inf


def test_a_small_result_is_kept_whole() -> None:
    result = np.random.default_rng(0).standard_normal((1, 8, 8, 8), dtype=np.float32)
    assert GoldenOutput.of(result, 4096).values.size == result.size


def _without_values(tensors: dict[str, Any]) -> None:
    tensors["decoder.0.output"] = tensors["decoder.0.output"][:-1]


def _of_no_layout(tensors: dict[str, Any]) -> None:
    tensors["decoder.0.output.layout"] = np.array([0, 1], np.int64)


def _too_large(tensors: dict[str, Any]) -> None:
    tensors["more"] = np.zeros(MOST_BYTES // 4, np.float32)


@pytest.mark.parametrize(
    "change",
    [
        _without_values,
        _of_no_layout,
        _too_large,
        lambda tensors: tensors.pop("encoder.0.input"),
        lambda tensors: tensors.pop("decoder.1.output"),
    ],
)
def test_a_file_of_another_form_is_refused_in_one_sentence(
    change: Callable[[dict[str, Any]], None], bundle_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(bundle_of("relu_one_block"), tmp_path / "bundle"))
    path = folder / str(Manifest.open(folder).samples)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    values = json.loads((folder / "manifest.json").read_text())
    entry = next(one for one in values["files"] if one["name"] == path.name)
    entry["sha256"], entry["size_bytes"] = sha256_of(path), path.stat().st_size
    (folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(BundleError, match=r"golden.safetensors holds no golden samples \(.*\): copy") as caught:
        GoldenSamples.of(Manifest.open(folder))
    assert "\n" not in str(caught.value)


def test_samples_that_are_not_among_the_files_are_refused(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle_of("relu_one_block"), tmp_path / "bundle"))
    dataclasses.replace(Manifest.open(folder), samples="../other.safetensors").write()
    with pytest.raises(BundleError, match="the golden samples are not among the files"):
        Manifest.open(folder)
