"""One digest names a bundle: config, graphs and weights, and nothing that may change without changing pixels."""

import dataclasses
import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke

from latentrt.runtime import AutoencoderKL, open_bundle
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.bundle.source_record import SourceRecord
from latentrt.runtime.errors import BackendUnavailable, BundleError, InputError

SMALL = "relu_one_block"


@pytest.fixture
def bundle(bundle_of: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_of(SMALL), tmp_path / "bundle"))


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def test_the_digest_is_what_its_formula_makes_of_the_manifest_file(bundle: Path) -> None:
    values = json.loads((bundle / "manifest.json").read_text())
    keys = ("schema_version", "family", "config", "latent_statistics", "components")
    content = {key: values[key] for key in keys}
    content["files"] = sorted([file["name"], file["size_bytes"], file["sha256"]] for file in values["files"])
    text = json.dumps(without_nulls(content), sort_keys=True, separators=(",", ":"))
    assert Manifest.open(bundle).digest == "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def test_what_makes_no_pixels_leaves_the_digest_as_it_is(bundle: Path, tmp_path: Path) -> None:
    manifest = Manifest.open(bundle)
    digest = manifest.digest
    manifest.write()
    assert Manifest.open(bundle).digest == digest
    other: dict[str, Any] = {"source": SourceRecord("x", licence="y"), "ranges": {"kept_in_float32": {}}}
    dataclasses.replace(manifest, **other, produced_by={"tool": "x"}, files=manifest.files[::-1]).write()
    assert Manifest.open(bundle.rename(tmp_path / "moved")).digest == digest


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values["config"].update(scaling_factor=0.5),
        lambda values: values["files"][0].update(sha256="0" * 64),
        lambda values: values["components"]["decoder"]["graphs"][0].update(causal=True),
        lambda values: values["components"].pop("encoder"),
        lambda values: values["components"]["decoder"]["graphs"][0]["inputs"][0].update(name="other"),
    ],
)
def test_what_makes_pixels_changes_the_digest(change: Callable[[dict[str, Any]], None], bundle: Path) -> None:
    digest = Manifest.open(bundle).digest
    values = json.loads((bundle / "manifest.json").read_text())
    change(values)
    (bundle / "manifest.json").write_text(json.dumps(values))
    assert Manifest.open(bundle).digest != digest
    with pytest.raises(BundleError, match=f"has the digest sha256:.*, and {digest} was asked for"):
        open_bundle(bundle, digest=digest)
    with pytest.raises(BundleError, match="was asked for"):
        AutoencoderKL.from_pretrained(bundle, digest=digest)


def test_with_a_digest_the_files_are_read(bundle: Path) -> None:
    digest = Manifest.open(bundle).digest
    latents = np.zeros((1, 4, 8, 8), np.float32)
    with open_bundle(bundle, digest=digest, threads=1) as vae:
        assert vae.decode(latents).sample.shape[1] == 3
    content = bytearray((bundle / "decoder.safetensors").read_bytes())
    content[-1] ^= 1
    (bundle / "decoder.safetensors").write_bytes(content)
    with pytest.raises(BundleError, match=r"decoder\.safetensors"):
        open_bundle(bundle, digest=digest, threads=1).decode(latents)


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "0" * 64, "sha256:" + "0" * 63, "md5:" + "0" * 64, "SHA256:" + "0" * 64]
)
def test_what_is_no_digest_is_refused_as_one(digest: str, bundle: Path) -> None:
    with pytest.raises(InputError, match="digest must be sha256: and 64 hexadecimal digits"):
        open_bundle(bundle, digest=digest)


def test_the_command_line_prints_and_takes_it(bundle: Path, tmp_path: Path) -> None:
    digest = Manifest.open(bundle).digest
    assert f"  digest {digest}\n" in invoke("inspect", bundle).output
    assert json.loads(invoke("inspect", bundle, "--json").output)["digest"] == digest
    with pytest.raises(BundleError, match="was asked for"):
        invoke("plan", bundle, "--size", "64x64", "--digest", "sha256:" + "0" * 64)


def test_a_file_that_the_manifest_does_not_name_is_shown(bundle: Path) -> None:
    (bundle / "extra").mkdir()
    (bundle / "extra" / "weights.bin").write_bytes(b"x")
    report = json.loads(invoke("inspect", bundle, "--json").output)
    assert report["unlisted_files"] == ["extra/weights.bin"]
    assert "extra/weights.bin: not in the manifest" in invoke("inspect", bundle, "--verify").output


def test_without_engines_none_is_loaded(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    digest = Manifest.open(bundle).digest
    without: list[dict[str, Any]] = [{"engines": False}, {"digest": digest}, {"digest": digest, "engines": False}]
    for options in without:
        for backend in ("tensorrt", "tensorrt-rtx"):
            with pytest.raises(BackendUnavailable, match=f"backend {backend} cannot run: engines are compiled code"):
                open_bundle(bundle, backend=backend, **options)
    with caplog.at_level(logging.INFO), open_bundle(bundle, engines=False, threads=1):
        assert "skipped tensorrt (engines are compiled code" in caplog.text
    allowed: list[dict[str, Any]] = [{}, {"digest": digest, "engines": True}]
    for options in allowed:
        with pytest.raises(BackendUnavailable) as caught:  # no GPU here, or no engine in the bundle
            open_bundle(bundle, backend="tensorrt", **options)
        assert "compiled code" not in str(caught.value)
    with pytest.raises(InputError, match="engines must be True, False or None"):
        open_bundle(bundle, engines="no")  # type: ignore[arg-type]
