"""The weights that run are the ones of the manifest, and the ones that were there when the bundle was opened."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentrt.runtime import open_bundle
from latentrt.runtime.backends.names import BackendName
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.errors import BundleError, InputError
from latentrt.runtime.system import file_identity as identity_module
from latentrt.runtime.system.cache_folder import cache_folder
from latentrt.runtime.system.file_identity import FileIdentity, UnchangedFiles, verified_sha256
from latentrt.runtime.system.hashing import sha256_of

BundleOf = Callable[..., Path]
BACKENDS = ["onnxruntime", "openvino"]
Z = np.random.default_rng(0).standard_normal((1, 4, 4, 4), np.float32)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(bundle_of: BundleOf, tmp_path: Path, cache: Path) -> Path:
    return shutil.copytree(bundle_of("sd"), tmp_path / "bundle")


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as written long ago: tests make theirs just before."""
    monkeypatch.setattr(FileIdentity, "is_settled", lambda self, now_ns: True)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are hashed."""
    names: list[str] = []

    def hashing(path: Path) -> str:
        names.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(identity_module, "sha256_of", hashing)
    return names


def flip_a_bit(path: Path, place: float = 0.5) -> None:
    """In place: the inode stays."""
    with path.open("r+b") as file:
        file.seek(int(path.stat().st_size * place))
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def zero_a_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(512))


def take_anothers(path: Path, other: Path) -> None:
    shutil.copy(other / path.name, path)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("damage", ["bit", "first bit", "last bit", "zeros", "half deployed"])
def test_altered_weights_are_refused_before_the_first_result(
    damage: str, backend: BackendName, bundle: Path, bundle_of: BundleOf, checkpoint_of: Any, tmp_path: Path
) -> None:
    weights = bundle / "decoder.safetensors"
    if damage == "zeros":
        zero_a_page(weights)
    elif damage == "half deployed":
        reversed_bytes = bytearray(weights.read_bytes())
        reversed_bytes[-4096:] = reversed_bytes[-4096:][::-1]  # other weights of the same names and shapes
        weights.write_bytes(reversed_bytes)
    else:
        flip_a_bit(weights, {"bit": 0.5, "first bit": 0.4, "last bit": 0.9999}[damage])
    with open_bundle(bundle, backend=backend, threads=1) as vae:
        with pytest.raises(BundleError, match=r"decoder\.safetensors was altered: its SHA-256 is"):
            vae.decode(Z)
        with pytest.raises(BundleError, match="was altered"):  # not only the first time
            vae.decode(Z)
        vae.encode(np.zeros((1, 3, 32, 32), np.float32))  # of the other file


@pytest.mark.usefixtures("settled")
def test_weights_are_read_once_for_each_file(bundle: Path, read: list[str]) -> None:
    for count in (1, 1):
        with open_bundle(bundle, threads=1) as vae:
            vae.decode(Z)
            vae.release()
            vae.decode(Z)
        assert read == ["decoder.safetensors"] * count
    os.utime(bundle / "decoder.safetensors", (1, 1))  # another identity, the same content
    with open_bundle(bundle, threads=1) as vae:
        vae.decode(Z)
    assert read == ["decoder.safetensors"] * 2


def test_without_a_cache_folder_an_open_bundle_still_reads_its_weights_once(
    bundle: Path, read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exact strips load a graph for each step."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "file"))
    with open_bundle(bundle, threads=1) as vae:
        for _ in range(3):
            vae.decode(Z)
            vae.release()
    assert read == ["decoder.safetensors"]


@pytest.mark.slow
@pytest.mark.usefixtures("settled")
def test_always_reads_at_every_load_and_never_reads_nothing(bundle: Path, read: list[str]) -> None:
    with open_bundle(bundle, threads=1, verify="always") as vae:
        vae.decode(Z)
        vae.release()
        vae.decode(Z)
    assert read == ["decoder.safetensors"] * 2
    read.clear()
    flip_a_bit(bundle / "decoder.safetensors")
    with open_bundle(bundle, threads=1, verify="never") as vae:
        vae.decode(Z)
    assert read == []
    with open_bundle(bundle, threads=1, verify="always") as vae, pytest.raises(BundleError, match="was altered"):
        vae.decode(Z)
    with pytest.raises(InputError, match="verify must be one of once, always, never, got 'often'"):
        open_bundle(bundle, verify="often")  # type: ignore[arg-type]


@pytest.mark.usefixtures("settled")
def test_a_file_that_was_right_once_and_is_written_again_is_read_again(bundle: Path) -> None:
    with open_bundle(bundle, threads=1) as vae:
        vae.decode(Z)
    weights = bundle / "decoder.safetensors"
    times = weights.stat()
    flip_a_bit(weights)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))  # the time of change betrays it
    with open_bundle(bundle, threads=1) as vae, pytest.raises(BundleError, match="was altered"):
        vae.decode(Z)


def test_a_file_written_a_moment_ago_is_not_remembered(cache: Path, tmp_path: Path) -> None:
    """It could be written once more within the same tick of the clock."""
    file = tmp_path / "file"
    file.write_bytes(b"1")
    found = FileIdentity.of(file)
    assert not found.is_settled(found.changed_ns + 1_000_000)
    assert found.is_settled(found.changed_ns + 10_000_000_000)
    whole_seconds = FileIdentity(1, 1, 1, 5_000_000_000, 5_000_000_000)  # as FAT keeps them
    assert not whole_seconds.is_settled(6_000_000_000)
    assert whole_seconds.is_settled(8_000_000_000)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"identity": 1, "sha256": 2}', "\0" * 40, "[" * 50_000, '{"identity": ' + "9" * 5000]
)
def test_a_damaged_record_is_no_proof(content: str, cache: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    wanted = verified_sha256(file)
    (record,) = (cache / "verified").iterdir()
    record.write_text(content)
    assert verified_sha256(file) == wanted == sha256_of(file)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bundle_that_changes_while_it_is_open_is_an_error(backend: BackendName, bundle: Path, tmp_path: Path) -> None:
    """A new version in its place has other weights, another config or both: never half of each."""
    with open_bundle(bundle, backend=backend, threads=1) as vae:
        wanted = vae.decode(Z).sample.copy()
        bundle.rename(tmp_path / "old")
        shutil.copytree(tmp_path / "old", bundle)
        assert np.array_equal(vae.decode(Z).sample, wanted)  # what is loaded stays
        vae.release()
        with pytest.raises(BundleError, match="changed after the bundle was opened: close the autoencoder, and open"):
            vae.decode(Z)
        with pytest.raises(BundleError, match="changed after the bundle was opened"):
            vae.encode(np.zeros((1, 3, 32, 32), np.float32))
        shutil.rmtree(bundle)
        with pytest.raises(BundleError, match="changed after the bundle was opened"):
            vae.decode(Z)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("act", ["chmod", "touch", "backup", "written again"])
def test_a_bundle_whose_files_keep_their_content_stays_usable(
    act: str, backend: BackendName, bundle: Path, tmp_path: Path
) -> None:
    """Backups make hard links, and administrators change modes, while a server holds the bundle open."""
    with open_bundle(bundle, backend=backend, threads=1) as vae:
        wanted = vae.decode(Z).sample.copy()
        for number, file in enumerate(bundle.iterdir()):
            if act == "chmod":
                file.chmod(0o444)
            elif act == "touch":
                os.utime(file, (number, number))
            elif act == "backup":
                os.link(file, tmp_path / file.name)
            else:
                file.write_bytes(file.read_bytes())
        if backend == "openvino":
            vae.warmup([Z.shape])  # compiled of the files once more
        vae.release()
        np.testing.assert_allclose(vae.decode(Z).sample, wanted, rtol=0, atol=1e-4)
        vae.release()
        flip_a_bit(bundle / "decoder.safetensors")
        with pytest.raises(BundleError, match="changed after the bundle was opened"):
            vae.decode(Z)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_graph_that_is_replaced_while_it_is_loaded_is_refused(
    backend: BackendName, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment that copies graphs before weights."""
    check_graph = Manifest.check_graph

    def replaced(self: Manifest, graph: Any, file: str) -> None:
        check_graph(self, graph, file)
        other = self.folder / "other"
        shutil.copy(self.path_of(file), other)
        other.replace(self.path_of(file))

    monkeypatch.setattr(Manifest, "check_graph", replaced)
    with (
        open_bundle(bundle, backend=backend, threads=1) as vae,
        pytest.raises(BundleError, match=r"\.onnx changed after the bundle was opened"),
    ):
        vae.decode(Z)


def test_sizes_that_become_known_later_are_compiled_of_the_same_files(bundle: Path) -> None:
    with open_bundle(bundle, backend="openvino", threads=1) as vae:
        vae.decode(Z)
        flip_a_bit(bundle / "decoder.safetensors")
        with pytest.raises(BundleError, match="changed after the bundle was opened"):
            vae.warmup([Z.shape])


@pytest.mark.slow
def test_a_relative_path_and_a_link_are_resolved_when_the_bundle_is_opened(
    bundle: Path, bundle_of: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(bundle_of("sd"), tmp_path / "elsewhere" / "bundle")
    (tmp_path / "current").symlink_to(bundle)
    with open_bundle(bundle, threads=1) as vae:
        wanted = vae.decode(Z).sample.copy()
    monkeypatch.chdir(tmp_path)
    relative, linked = open_bundle("bundle", threads=1), open_bundle(tmp_path / "current", threads=1)
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to(tmp_path / "elsewhere" / "bundle")
    for vae in (relative, linked):
        with vae:
            assert vae.manifest.folder == bundle.resolve()
            assert np.array_equal(vae.decode(Z).sample, wanted)
            assert np.allclose(vae.decode(Z, memory="8GiB").sample, wanted, atol=1e-5)  # planned in another process


def test_a_home_folder_is_expanded_and_a_folder_of_that_name_wins(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(bundle.parent))
    monkeypatch.chdir(tmp_path / "cache" if (tmp_path / "cache").is_dir() else tmp_path)
    open_bundle("~/bundle").close()
    with pytest.raises(BundleError, match="~no-such-user/bundle is not a bundle: there is no such folder"):
        open_bundle("~no-such-user/bundle")
    shutil.copytree(bundle, "~")
    assert open_bundle("~").manifest.folder.name == "~"


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["sd", "ltx20"])
def test_a_file_cut_short_in_place_does_not_end_the_process(
    name: str, backend: BackendName, bundle_of: BundleOf, tmp_path: Path, cache: Path
) -> None:
    """`cp new.safetensors bundle/` begins so. A mapped file would end the process with SIGBUS."""
    code = """
import sys, numpy as np
from latentrt.runtime import open_bundle
from latentrt.runtime.errors import BundleError
for _ in range(2): # OpenVINO's model comes from its cache the second time
    vae = open_bundle(sys.argv[1], backend=sys.argv[2], threads=1)
    z = np.zeros((1, vae.config.latent_channels, *(2,) * vae.video, 4, 4), np.float32)
    wanted = vae.decode(z).sample
    content = open(sys.argv[1] + "/decoder.safetensors", "rb").read()
    open(sys.argv[1] + "/decoder.safetensors", "wb").close()
    assert np.array_equal(vae.decode(z).sample, wanted)
    if vae.video:
        with_streams = open_bundle(sys.argv[1].replace("bundle", "other"), backend=sys.argv[2], threads=1)
        stream = with_streams.decode_stream(np.repeat(z, 8, 2), 8)
        next(stream)
        open(sys.argv[1].replace("bundle", "other") + "/decoder.safetensors", "wb").close()
        try:
            list(stream)
        except BundleError:  # a backend may read the weights again for the steps of most frames
            pass
        open(sys.argv[1].replace("bundle", "other") + "/decoder.safetensors", "wb").write(content)
    vae.release()
    try:
        vae.decode(z)
    except BundleError as error:
        print(error)
    open(sys.argv[1] + "/decoder.safetensors", "wb").write(content)
"""
    for folder in ("bundle", "other"):
        shutil.copytree(bundle_of(name), tmp_path / folder)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bundle"), backend], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert done.stdout.count("changed after the bundle was opened") == 2


# OpenVINO's compiled models


def digest_of(blob: Path) -> Path:
    """The file with the SHA-256 of a compiled model."""
    return blob.with_name(f"{blob.name}.sha256")


def alter(blob: Path, how: str) -> None:
    blob.chmod(0o600)
    if how == "cut":
        os.truncate(blob, blob.stat().st_size * 2 // 3)
    elif how == "no digest":
        digest_of(blob).unlink()
    elif how == "another's digest":
        digest_of(blob).write_text("0" * 64)
    elif how == "garbage digest":
        digest_of(blob).write_bytes(b"\xff\0")
    else:
        flip_a_bit(blob, float(how))


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", ["0.01", "0.4", "0.7", "0.98", "cut", "no digest", "another's digest", "garbage digest"]
)
def test_an_altered_compiled_model_is_compiled_again(
    how: str, bundle: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_bundle(bundle, backend="openvino", threads=1) as vae:
        wanted = vae.decode(Z).sample.copy()
    (blob,) = cache.glob("openvino/*/*.blob")
    alter(blob, how)
    with open_bundle(bundle, backend="openvino", threads=1) as vae:
        assert np.array_equal(vae.decode(Z).sample, wanted)
    assert "it is removed and compiled again" in caplog.text
    caplog.clear()
    with open_bundle(bundle, backend="openvino", threads=1) as vae:
        assert np.array_equal(vae.decode(Z).sample, wanted)
    assert "removed" not in caplog.text


def test_a_compiled_model_of_another_version_is_replaced_once(
    bundle: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenVINO compiles anew, under the same name, what another version of it has written."""
    with open_bundle(bundle, backend="openvino", threads=1) as vae:
        wanted = vae.decode(Z).sample.copy()
    (blob,) = cache.glob("openvino/*/*.blob")
    content = blob.read_bytes()
    version = re.search(rb'ie_version="([^"]+)"', content)
    assert version is not None
    blob.chmod(0o600)
    blob.write_bytes(content.replace(version[1], version[1][::-1]))
    digest_of(blob).write_text(sha256_of(blob))
    for _ in range(2):
        with open_bundle(bundle, backend="openvino", threads=1) as vae:
            assert np.array_equal(vae.decode(Z).sample, wanted)
        assert digest_of(blob).read_text() == sha256_of(blob)
    assert version[1] in blob.read_bytes()
    assert "damaged" not in caplog.text


# The cache folder


@pytest.mark.usefixtures("without_bounds")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_user_without_a_home_folder_has_no_cache(
    backend: BackendName, bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A container may run under a user number without an account, and without HOME."""

    def no_home(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    for name in ("LATENTRT_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OSError, match="no home folder to keep a cache in: set LATENTRT_CACHE to a folder"):
        cache_folder("verified")
    with open_bundle(bundle, backend=backend, threads=1) as vae:
        assert vae.decode(Z).sample.shape == (1, 3, 32, 32)
        assert vae.decode(Z, memory="2GiB").exact
    assert "set LATENTRT_CACHE to a folder" in caplog.text


def test_the_cache_folder_is_this_users_alone(cache: Path) -> None:
    folder = cache_folder("a/b")
    assert folder == cache / "a" / "b"
    for path in (cache, cache / "a", folder):
        assert path.stat().st_mode & 0o077 == 0
    assert cache.parent.is_dir()


@pytest.mark.parametrize("place", [".", "openvino"])
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away")
def test_a_cache_folder_of_another_user_is_not_used(
    place: str, bundle: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = cache / place
    folder.mkdir(parents=True)
    os.chown(folder, 12345, 12345)
    with pytest.raises(PermissionError, match=r"belongs to another user \(number 12345\), so it is not used"):
        cache_folder("openvino/x")
    with open_bundle(bundle, backend="openvino", threads=1) as vae:
        vae.decode(Z)
    assert "OpenVINO compiles anew each time: " in caplog.text
    assert not list(cache.rglob("*.blob"))


def test_a_cache_folder_that_every_user_may_write_is_not_used(cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(PermissionError, match="every user may write the cache folder, so it is not used: run `chmod"):
        cache_folder("openvino")
    cache.chmod(0o1777)  # as /tmp is: others' folders in it are refused as theirs
    assert cache_folder("openvino").is_dir()
    cache.chmod(0o755)
    assert cache_folder("openvino").is_dir()


def test_unchanged_files_says_which_one_changed(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        path.write_bytes(b"content")
    files = UnchangedFiles({path: sha256_of(path) for path in (one, other)})
    files.check()
    other.unlink()
    files.check(one)
    with pytest.raises(BundleError, match="other changed after the bundle was opened"):
        files.check()
