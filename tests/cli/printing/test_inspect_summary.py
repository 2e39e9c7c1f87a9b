"""`inspect` fits a screen: 24 lines of 80 columns. --files has the lists, and --json everything."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import invoke

BundleOf = Callable[..., Path]
LINES, COLUMNS = 24, 80


@pytest.mark.parametrize("name", ["sd", "ltx20", "ltx23", "flux2"])
def test_a_bundle_fits_a_screen(name: str, bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle_of(name).parent)
    text = invoke("inspect", name).stdout
    assert too_large("\n".join(text.splitlines()[1:])) == []  # the first line holds the path
    for word in ("digest sha256:", "encoder", "decoder", "float32", "multiples of", "UTC from", "latentrt", "verif"):
        assert word in text


@pytest.mark.parametrize("name", ["sd", "ltx20", "ltx23", "flux2"])
def test_a_checkpoint_fits_a_screen(name: str, checkpoint_of: BundleOf) -> None:
    text = invoke("inspect", checkpoint_of(name)).stdout
    assert too_large("\n".join(text.splitlines()[1:])) == []
    for word in ("parameters in", "latent_channels:", "block_out_channels:"):
        assert word in text


def test_a_screen_that_is_too_large_is_seen() -> None:
    assert too_large("a\n" * LINES + "b" * (COLUMNS + 1)) == ["25 lines", "b" * (COLUMNS + 1)]


def test_the_lists_of_files_come_with_an_option(bundle_of: BundleOf) -> None:
    short, long = (invoke("inspect", bundle_of("sd"), *words).stdout for words in ((), ("--files",)))
    assert long.startswith(short)  # the bundle has no engines, which only one of the two names
    files = json.loads(invoke("inspect", bundle_of("sd"), "--json").stdout)["files"]
    assert all(file["name"] in long for file in files)
    assert "decoder.exact_00.onnx" in long
    assert "decoder.exact_00.onnx" not in short


def test_a_verification_is_a_table(bundle_of: BundleOf, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_of("sd"), folder)
    values = json.loads((folder / "manifest.json").read_text())
    row = {"backend": "openvino", "dtype": "float32", "psnr_db": 90.25, "strategy": "whole", "sample": "random"}
    comparisons = [
        row | {"component": "encoder"},
        row | {"component": "decoder", "psnr_db": 80.5},
        row | {"component": "decoder"},
        row | {"component": "decoder", "dtype": "bfloat16", "psnr_db": None},
    ]
    del values["verifications"]  # as an earlier version wrote it
    values["verification"] = {
        "passed": False,
        "min_psnr_db": 45.0,
        "worst_psnr_db": None,
        "comparisons": comparisons,
        "not_compared": [],
    }
    (folder / "manifest.json").write_text(json.dumps(values))
    lines = [line.split() for line in invoke("inspect", folder).stdout.splitlines()]
    assert ["verified", "precision", "encoder", "dB", "decoder", "dB", "wanted", "date"] in lines
    assert ["openvino", "float32", "90.2", "80.5", "45", "passed", "-"] in lines
    assert ["openvino", "bfloat16", "-", "not", "finite", "45", "failed", "-"] in lines


def too_large(text: str) -> list[str]:
    """The number of lines if they are too many, and the lines that are too long."""
    lines = text.splitlines()
    many = [f"{len(lines)} lines"] if len(lines) > LINES else []
    return many + [line for line in lines if len(line) > COLUMNS]
