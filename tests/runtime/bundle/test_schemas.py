"""Manifests of earlier schemas open, and a manifest of a later schema is refused with the version that reads it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentrt.runtime import BundleError, open_bundle
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.bundle.schemas import FIRST_READER, OLDEST_SCHEMA, SCHEMA_VERSION
from latentrt.runtime.extras import installed_version

SMALL = "relu_one_block"


@pytest.fixture
def bundle(bundle_of: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_of(SMALL), tmp_path / "bundle"))


def edit(bundle: Path, **fields: Any) -> None:
    values = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(values | fields))


def refusal(bundle: Path) -> str:
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_later_schema_is_refused_with_the_version_that_reads_it(bundle: Path) -> None:
    own = installed_version("latentrt")
    start = f"has manifest schema 3, and this latentrt ({own}) reads 1 to 2: "
    edit(bundle, schema_version=SCHEMA_VERSION + 1, first_reader="0.7.0")
    assert f"{start}latentrt 0.7.0 or later reads it, so update latentrt, or export" in refusal(bundle)
    edit(bundle, first_reader=None, produced_by={"latentrt": "0.9.1"})
    assert f"{start}latentrt 0.9.1 or later reads it" in refusal(bundle)
    for named in (FIRST_READER, "0.9\x1b[2J", 9, ["0.9"], "9" * 99, ""):
        edit(bundle, first_reader=named, produced_by={"latentrt": FIRST_READER})
        assert f"{start}a later latentrt reads it, so update" in refusal(bundle), named


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "2", None, [2]])
def test_what_is_no_schema_is_refused(version: Any, bundle: Path) -> None:
    edit(bundle, schema_version=version)
    assert "reads 1 to 2: export the checkpoint again" in refusal(bundle)


def test_a_manifest_names_the_first_version_that_reads_it(bundle: Path) -> None:
    assert json.loads((bundle / "manifest.json").read_text())["first_reader"] == FIRST_READER
    assert OLDEST_SCHEMA < SCHEMA_VERSION


def test_fields_that_an_earlier_version_did_not_write_may_be_absent(bundle: Path) -> None:
    digest = Manifest.open(bundle).digest
    values = json.loads((bundle / "manifest.json").read_text())
    for key in ("first_reader", "source", "verifications", "weight_bytes", "ranges", "engines"):
        del values[key]
    (bundle / "manifest.json").write_text(json.dumps(values))
    manifest = Manifest.open(bundle)
    assert (manifest.digest, manifest.source, manifest.verifications) == (digest, None, ())


def test_fields_of_a_later_version_are_left_out(bundle: Path) -> None:
    digest = Manifest.open(bundle).digest
    edit(bundle, something_new={"a": 1})
    assert Manifest.open(bundle).digest == digest


@pytest.mark.parametrize(
    "source",
    [
        1,
        {},
        {"name": None, "revision": None, "files": [], "license": None},
        {"name": "a", "revision": 1, "files": [], "license": None},
        {"name": "a", "revision": None, "files": [{"name": "b"}], "license": None},
        {"name": "a", "revision": None, "files": [], "license": "x" * 501},
    ],
)
def test_a_damaged_source_is_refused(source: Any, bundle: Path) -> None:
    edit(bundle, source=source)
    assert "damaged" in refusal(bundle)


def test_a_bundle_of_schema_1_opens_without_its_streaming_graphs(
    bundle_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(bundle_of("ltx20"), tmp_path / "bundle"))
    values = json.loads((folder / "manifest.json").read_text())
    streams = [graph for entry in values["components"].values() for graph in entry["streams"]]
    assert streams
    for graph in streams:
        del graph["stage"]["ratio"]
    (folder / "manifest.json").write_text(json.dumps(values | {"schema_version": 1}))
    manifest = Manifest.open(folder)
    assert manifest.streams == ()
    gone = {graph["file"] for graph in streams}
    assert not gone & {file.name for file in manifest.files}
    assert len(manifest.graphs) == len(Manifest.open(bundle_of("ltx20")).graphs)
    manifest.verify_hashes()
