"""`upgrade` brings a bundle to today's form: whole or not at all, without the checkpoint, and with its engines."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke

from latentrt.runtime import BundleError, OutputError
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.bundle.upgrade import upgrade_bundle

SMALL = "relu_one_block"


@pytest.fixture
def bundle(bundle_of: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_of(SMALL), tmp_path / "bundle"))


def make_older(bundle: Path, **fields: Any) -> None:
    """Write the manifest as an earlier version wrote it."""
    values = json.loads((bundle / "manifest.json").read_text()) | fields
    for key in ("first_reader", "source", "verifications", "weight_bytes"):
        del values[key]
    (bundle / "manifest.json").write_text(json.dumps(values))


def contents(bundle: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in bundle.iterdir() if path.name != "manifest.json"}


def engine(bundle: Path, name: str, **fields: Any) -> dict[str, Any]:
    """The record of an engine of the decoder."""
    manifest = Manifest.open(bundle)
    hashes = {file.name: file.sha256 for file in manifest.files}
    (graph,) = manifest.find_graphs("decoder")
    return {
        "component": "decoder",
        "causal": None,
        "dtype": "float32",
        "backend": "tensorrt-rtx",
        "graph": graph.file,
        "graph_sha256": hashes[graph.file],
        "weights_sha256": hashes[graph.weights],
        "library_version": "1.7",
        "compute_capabilities": ["8.9"],
        "profiles": [],
        "settings": {},
        "key": "k",
        "file": f"engines/{name}",
        "bytes": 1,
        "sha256": "0" * 64,
        **fields,
    }


def test_an_older_manifest_gets_todays_fields_and_its_files_stay(bundle: Path) -> None:
    before, files = Manifest.open(bundle), contents(bundle)
    make_older(bundle)
    report = upgrade_bundle(bundle)
    after = Manifest.open(bundle)
    assert after.weight_bytes == before.weight_bytes, "read from the graphs, without the ONNX library"
    assert after.digest == before.digest == report.digest
    assert contents(bundle) == files
    assert set(report.changes) == {"first_reader is new", "verifications is new", "weight_bytes is new"}
    assert not upgrade_bundle(bundle).changes


def test_an_engine_stays_if_its_graph_did_not_change(bundle: Path) -> None:
    kept, stale = engine(bundle, "kept"), engine(bundle, "stale", graph_sha256="1" * 64)
    refitted = engine(bundle, "refit", weights_sha256="1" * 64, settings={"refit": True})
    make_older(bundle, engines=[kept, stale, refitted])
    report = upgrade_bundle(bundle)
    assert [record.file for record in Manifest.open(bundle).engines] == ["engines/kept", "engines/refit"]
    assert (report.kept_engines, report.dropped_engines) == (("engines/kept", "engines/refit"), ("engines/stale",))
    stored = json.loads((bundle / "manifest.json").read_text())["engines"]
    assert {key: stored[0][key] for key in kept} == kept


def test_a_bundle_of_todays_form_is_not_written(bundle: Path) -> None:
    written = (bundle / "manifest.json").stat()
    assert "has today's form already (schema 2): nothing was written" in invoke("upgrade", bundle).output
    assert (bundle / "manifest.json").stat().st_mtime_ns == written.st_mtime_ns
    assert (bundle / "manifest.json").stat().st_ino == written.st_ino


def test_a_damaged_bundle_is_not_upgraded(bundle: Path) -> None:
    make_older(bundle)
    content = bytearray((bundle / "decoder.safetensors").read_bytes())
    content[-1] ^= 1
    (bundle / "decoder.safetensors").write_bytes(content)
    manifest = (bundle / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match=r"decoder\.safetensors was altered"):
        upgrade_bundle(bundle)
    assert (bundle / "manifest.json").read_bytes() == manifest


def test_an_upgrade_that_cannot_be_written_leaves_the_manifest_as_it_was(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_older(bundle)
    manifest = (bundle / "manifest.json").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="the disk is full"):
        upgrade_bundle(bundle)
    monkeypatch.undo()
    assert (bundle / "manifest.json").read_bytes() == manifest
    assert {path.name for path in bundle.iterdir()} == {"manifest.json", *contents(bundle)}


def test_the_report_is_text_or_json(bundle: Path) -> None:
    make_older(bundle)
    values = json.loads((bundle / "manifest.json").read_text())
    text = invoke("upgrade", bundle).output
    assert "has today's form now (schema 2)" in text
    assert f"  digest {Manifest.open(bundle).digest}\n" in text
    (bundle / "manifest.json").write_text(json.dumps(values))
    report = json.loads(invoke("upgrade", bundle, "--json").output)
    assert (report["schema_before"], report["schema_after"]) == (2, 2)
    assert "weight_bytes is new" in report["changes"]


@pytest.mark.slow
def test_an_upgrade_needs_neither_torch_nor_onnx(bundle: Path) -> None:
    make_older(bundle)
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'diffusers', 'onnxruntime'): sys.modules[name] = None\n"
        "from latentrt.cli.main import main; main()"
    )
    command = [sys.executable, "-c", code, "upgrade", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "weight_bytes is new" in done.stdout
