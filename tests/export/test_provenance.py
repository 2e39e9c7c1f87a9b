"""A manifest says where the weights come from; two exports of one checkpoint give the same bytes."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import LATENTRT, invoke
from fake_hub import COMMIT, fake_hub

from latentrt.export import ExportSettings, export_bundle
from latentrt.export.checkpoints import open_checkpoint
from latentrt.export.provenance import source_record
from latentrt.runtime import InputError
from latentrt.runtime.bundle.manifest import Manifest

SMALL = "no_attention"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def checkpoint(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint_of(SMALL), tmp_path / "model"))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def licence_of(folder: Path, card: str) -> str | None:
    (folder / "README.md").write_text(card)
    return source_record(open_checkpoint(folder), "model", None, fetch=False).licence


def test_two_exports_give_the_same_bytes(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ExportSettings(dtypes=("float32", "float16"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for name in ("a", "b"):
        export_bundle(checkpoint, tmp_path / name, settings)
    names = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("a", "b")]
    assert names[0] == names[1]
    assert len(names[0]) > 20
    for name in names[0]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert Manifest.open(tmp_path / "a").produced_by["date"] == "2023-11-14T22:13:20+00:00"


def test_without_a_stated_date_the_manifests_differ_in_date_and_duration_alone(
    checkpoint: Path, tmp_path: Path
) -> None:
    manifests = []
    for name in ("a", "b"):
        export_bundle(checkpoint, tmp_path / name, ExportSettings(components=("decoder",)))
        values = json.loads((tmp_path / name / "manifest.json").read_text())
        assert values["produced_by"].pop("date")
        assert values["produced_by"].pop("seconds")
        manifests.append(values)
    assert manifests[0] == manifests[1]


def test_a_date_that_is_no_number_is_one_sentence(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(InputError, match="SOURCE_DATE_EPOCH must be whole seconds since 1970, got 'yesterday'"):
        export_bundle(checkpoint, tmp_path / "bundle", ExportSettings(components=("decoder",)))
    assert not (tmp_path / "bundle").exists()


def test_a_manifest_names_the_source_its_files_and_the_licence(checkpoint: Path, tmp_path: Path) -> None:
    invoke("export", checkpoint, tmp_path / "bundle", "--component", "decoder", "--license", "my-licence-1.0")
    source = Manifest.open(tmp_path / "bundle").source
    assert source is not None
    assert (source.name, source.revision, source.licence) == ("model", None, "my-licence-1.0")
    assert {file.name: file.sha256 for file in source.files} == {
        name: sha256(checkpoint / name) for name in ("config.json", WEIGHTS)
    }
    text, long = (invoke("inspect", tmp_path / "bundle", *words).output for words in ((), ("--files",)))
    assert "my-licence-1.0" in text
    assert "from model" in text
    assert f"{WEIGHTS}  sha256 {sha256(checkpoint / WEIGHTS)}" in long
    assert json.loads(invoke("inspect", tmp_path / "bundle", "--json").output)["source"] == source.to_json()


def test_provenance_has_no_part_in_the_digest(checkpoint: Path, tmp_path: Path) -> None:
    digests = set()
    for licence in ("a", "b"):
        settings = ExportSettings(components=("decoder",), license=licence)
        digests.add(export_bundle(checkpoint, tmp_path / licence, settings).digest)
    assert len(digests) == 1


def test_a_licence_that_is_no_line_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    for licence in ("", "  ", "a\nb", "\x1b[2J", "x" * 201):
        with pytest.raises(InputError, match="license must be one line of at most 200 characters"):
            export_bundle(checkpoint, tmp_path / "bundle", ExportSettings(license=licence))


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags:\n- x\n---\n# Model", "apache-2.0"),
        ("---\ntags:\n- license\nlicense: 'openrail++' # see the paper\n---\n", "openrail++"),
        ('\ufeff---\r\nlicense: "mit"\r\n---\r\n', "mit"),
        (
            "---\nlicense: other\nlicense_name: flux-1-dev-non-commercial-license\n---\n",
            "flux-1-dev-non-commercial-license",
        ),
        ("---\nlicense: other\n---\n", "other"),
        ("---\nlicense:\n- mit\n- apache-2.0\n---\n", "mit, apache-2.0"),
        ("---\nlicense:\ntags: a\n---\n", None),
        ("---\nlicense: a\x1b[2J\n---\n", None),
        (f"---\nlicense: {'x' * 300}\n---\n", None),
        ("license: mit\n", None),
        ("# Model\n---\nlicense: mit\n---\n", None),
        ("---\nmy_license: mit\n---\n", None),
        ("", None),
    ],
)
def test_the_licence_of_a_model_card_is_read(card: str, licence: str | None, checkpoint: Path) -> None:
    assert licence_of(checkpoint, card) == licence


def test_the_card_of_a_pipeline_holds_for_its_vae(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    checkpoint.rename(tmp_path / "pipeline" / "vae")
    (tmp_path / "pipeline" / "README.md").write_text("---\nlicense: mit\n---\n")
    opened = open_checkpoint(tmp_path / "pipeline")
    assert source_record(opened, "pipeline", None, fetch=False).licence is None, "a folder around it may be any folder"
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    assert source_record(opened, "pipeline", None, fetch=False).licence == "mit"


def test_a_checkpoint_in_the_cache_of_the_hub_has_its_model_and_commit(checkpoint: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots" / COMMIT
    (snapshot / "vae").mkdir(parents=True)
    for file in (WEIGHTS, "config.json"):
        blob = repository / "blobs" / (sha256(checkpoint / file) if file == WEIGHTS else "0" * 40)
        shutil.copy(checkpoint / file, blob)
        (snapshot / "vae" / file).symlink_to(blob)
    (snapshot / "README.md").write_text("---\nlicense: mit\n---\n")
    record = source_record(open_checkpoint(snapshot / "vae"), "vae", None, fetch=False)
    assert (record.name, record.revision, record.licence) == ("org/name", COMMIT, "mit")
    assert {file.name: file.sha256 for file in record.files} == {
        f"vae/{name}": sha256(checkpoint / name) for name in ("config.json", WEIGHTS)
    }


@pytest.mark.slow
def test_an_export_from_the_hub_records_model_commit_and_the_licence_of_the_card(
    checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(checkpoint, tmp_path / "hub" / "org" / "model")
    (tmp_path / "hub" / "org" / "model" / "README.md").write_text("---\nlicense: openrail++\n---\n")
    with fake_hub(tmp_path / "hub") as hub:
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
        command = [*LATENTRT, "export", "org/model", "bundle", "--component", "decoder", "--json"]
        variables = {**os.environ, **settings, "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=variables, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        assert sorted(hub.fetched) == ["README.md", "config.json", WEIGHTS]
    source = Manifest.open(tmp_path / "bundle").source
    assert source is not None
    assert (source.name, source.revision, source.licence) == ("org/model", COMMIT, "openrail++")
    assert {file.name for file in source.files} == {"config.json", WEIGHTS}
