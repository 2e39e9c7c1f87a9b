"""Bundles whose files are links: in the cache of the Hugging Face hub, and in a ConfigMap of Kubernetes."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentrt.runtime import open_bundle
from latentrt.runtime.backends.names import BackendName
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.errors import BundleError
from latentrt.runtime.system.file_identity import FileIdentity, verified_sha256
from latentrt.runtime.system.process_identity import ProcessIdentity

BundleOf = Callable[[str], Path]
BACKENDS = ["onnxruntime", "openvino"]
SMALL = "relu_one_block"
COMMIT = "0123456789" * 4
Z = np.random.default_rng(0).standard_normal((1, 4, 8, 8), np.float32)
X = np.random.default_rng(1).uniform(-1, 1, (1, 3, 16, 16)).astype(np.float32)


def in_hub(bundle: Path, root: Path, place: str = "") -> Path:
    """The bundle as the hub's cache holds it: links to blobs, which are named by their hashes and have no ending."""
    repository = root / "hub" / "models--org--name"
    snapshot = repository / "snapshots" / COMMIT / place
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for file in bundle.iterdir():
        content = file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()  # as of large files; small files have 40 digits
        blob = repository / "blobs" / (digest if file.suffix == ".safetensors" else digest[:40])
        blob.write_bytes(content)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


def in_config_map(bundle: Path, root: Path) -> Path:
    folder = root / "mount"
    shutil.copytree(bundle, folder / "..2026_11_30")
    (folder / "..data").symlink_to("..2026_11_30")
    for file in bundle.iterdir():
        (folder / file.name).symlink_to(f"..data/{file.name}")
    return folder


LAYOUTS: dict[str, Callable[[Path, Path], Path]] = {
    "hub": in_hub,
    "folder in hub": lambda bundle, root: in_hub(bundle, root, "vae/bundle"),
    "config map": in_config_map,
}


def run(folder: Path, backend: BackendName) -> tuple[Any, Any]:
    with open_bundle(folder, backend=backend, threads=1) as vae:
        return vae.decode(Z).sample, vae.encode(X).latent_dist.mean


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_bundle_of_links_runs_with_the_same_bits(
    layout: str, backend: BackendName, bundle_of: BundleOf, tmp_path: Path
) -> None:
    folder = LAYOUTS[layout](bundle_of(SMALL), tmp_path)
    wanted = run(bundle_of(SMALL), backend)
    for _ in range(2):  # the second time from the cache folder
        for found, expected in zip(run(folder, backend), wanted, strict=True):
            np.testing.assert_array_equal(found, expected)
    manifest = Manifest.open(folder)
    manifest.verify_hashes()
    assert manifest.digest == Manifest.open(bundle_of(SMALL)).digest


def test_engines_get_real_files_under_their_own_names_next_to_each_other(bundle_of: BundleOf, tmp_path: Path) -> None:
    for place, layout in LAYOUTS.items():
        manifest = Manifest.open(layout(bundle_of(SMALL), tmp_path / place))
        for graph in manifest.every_graph:
            path = manifest.engine_path(graph, graph.file)
            for found in (path, path.with_name(graph.weights)):
                assert found.is_file()
                assert found == found.resolve()
            assert path.name == graph.file
            assert path == manifest.engine_path(graph, graph.file)
    plain = Manifest.open(bundle_of(SMALL))
    assert plain.engine_path(plain.graphs[0], plain.graphs[0].file) == plain.path_of(plain.graphs[0].file)


def test_weights_are_copied_where_a_hard_link_is_not_possible(
    bundle_of: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))
    manifest = Manifest.open(in_hub(bundle_of(SMALL), tmp_path))
    graph = manifest.graphs[0]
    monkeypatch.setattr("os.link", refuse)
    weights = manifest.engine_path(graph, graph.file).with_name(graph.weights)
    assert not weights.samefile(manifest.path_of(graph.weights))
    assert weights.read_bytes() == manifest.path_of(graph.weights).read_bytes()
    weights.write_bytes(b"altered")
    manifest.engine_path(graph, graph.file)
    assert weights.read_bytes() == manifest.path_of(graph.weights).read_bytes()
    blob = manifest.path_of(graph.weights).resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(BundleError, match="was altered"):
        manifest.engine_path(graph, graph.file)


def test_copies_that_no_process_has_used_for_a_month_are_removed(
    bundle_of: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))
    manifest = Manifest.open(in_hub(bundle_of(SMALL), tmp_path))
    old, used = (manifest.engine_path(graph, graph.file).parent for graph in manifest.graphs[:2])
    (user,) = old.glob("*.user")
    weights = manifest.path_of(manifest.graphs[0].weights)
    assert weights.stat().st_nlink == 2
    month = time.time() - 31 * 86400

    def use_the_other() -> None:
        (used / "x.partial").touch()  # what a process left that was killed while it copied
        manifest.engine_path(manifest.graphs[1], manifest.graphs[1].file)
        assert sorted(path.suffix for path in used.iterdir()) == [".onnx", ".safetensors", ".user"]

    os.utime(old, (month, month))
    use_the_other()
    assert old.is_dir(), "this process has used it, and its engine may read it again"
    with subprocess.Popen([sys.executable, "-c", "print('x')"], stdout=subprocess.PIPE) as ended:
        identity = ProcessIdentity(ProcessIdentity.own().namespace, ended.pid, "1")
    user.write_text(identity.to_text())
    os.utime(old)
    use_the_other()
    assert old.is_dir(), "it is not old"
    os.utime(old, (month, month))
    use_the_other()
    assert not old.exists()
    assert weights.stat().st_nlink == 1
    assert manifest.engine_path(manifest.graphs[0], manifest.graphs[0].file).is_file()
    assert not list((tmp_path / "cache" / "linked").glob(".*.lock"))


def test_without_a_cache_folder_the_links_are_given_to_the_engine(
    bundle_of: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "file"))
    manifest = Manifest.open(in_hub(bundle_of(SMALL), tmp_path))
    graph = manifest.graphs[0]
    assert manifest.engine_path(graph, graph.file) == manifest.path_of(graph.file)
    assert "the cache folder takes no copy of it" in caplog.text


@pytest.mark.parametrize("kind", ["other repository", "no hash", "outside", "parent of blobs", "of a plain folder"])
def test_links_out_of_the_repository_are_refused(kind: str, bundle_of: BundleOf, tmp_path: Path) -> None:
    folder = in_hub(bundle_of(SMALL), tmp_path)
    link = folder / "decoder.safetensors"
    blob, name = link.resolve(), "models--evil--name"
    places = {
        "other repository": tmp_path / "hub" / name / "blobs" / blob.name,
        "no hash": blob.with_name("secret.safetensors"),
        "outside": tmp_path / blob.name,
        "parent of blobs": blob.parent.parent / blob.name,
        "of a plain folder": tmp_path / "blobs" / blob.name,
    }
    target = places[kind]
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(blob, target)
    link.unlink()
    link.symlink_to(target)
    if kind == "of a plain folder":  # "snapshots" and "blobs" in a folder that is no repository of the hub
        folder = Path(shutil.copytree(folder, tmp_path / "snapshots" / COMMIT, symlinks=True))
        for file in folder.iterdir():
            file.unlink()
            shutil.copy(
                tmp_path / "blobs" / blob.name if file.name == link.name else bundle_of(SMALL) / file.name, file
            )
        (folder / link.name).unlink()
        (folder / link.name).symlink_to(target)
    with pytest.raises(BundleError, match="lies outside the bundle; refused"):
        Manifest.open(folder)


def test_a_pointer_in_the_place_of_weights_is_named(bundle_of: BundleOf, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle_of(SMALL), tmp_path / "bundle"))
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"
    for name in ("decoder.safetensors", "encoder.onnx", "manifest.json"):
        kept = (folder / name).read_bytes()
        (folder / name).write_text(pointer)
        with pytest.raises(BundleError, match=rf"{name} .*Git LFS pointer, .*git lfs pull"):
            Manifest.open(folder)
        (folder / name).write_bytes(kept)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_manifest_of_a_windows_editor_is_read(encoding: str, bundle_of: BundleOf, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle_of(SMALL), tmp_path / "bundle"))
    text = json.dumps(json.loads((folder / "manifest.json").read_text()), indent=1).replace("\n", "\r\n")
    (folder / "manifest.json").write_bytes(text.encode(encoding))
    assert Manifest.open(folder).digest == Manifest.open(bundle_of(SMALL)).digest


def test_a_hard_link_made_while_a_file_is_hashed_is_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backups and other processes make them."""
    file = tmp_path / "file"
    file.write_bytes(b"content")
    links: list[Path] = []
    sha256_of = hashlib.sha256

    def reading(path: Path) -> str:
        if not links:
            links.append(tmp_path / "link")
            identity = FileIdentity.of(path)
            while FileIdentity.of(path) == identity:  # until the clock of the file system has moved on
                links[-1].unlink(missing_ok=True)
                links[-1].hardlink_to(path)
        return sha256_of(path.read_bytes()).hexdigest()

    monkeypatch.setattr("latentrt.runtime.system.file_identity.sha256_of", reading)
    assert verified_sha256(file) == sha256_of(b"content").hexdigest()

    def writing(path: Path) -> str:
        path.write_bytes(b"longer content")
        return "0"

    monkeypatch.setattr("latentrt.runtime.system.file_identity.sha256_of", writing)
    file.write_bytes(b"changed")
    with pytest.raises(BundleError, match="changed while it was read"):
        verified_sha256(file)
