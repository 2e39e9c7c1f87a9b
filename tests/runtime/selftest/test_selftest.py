"""Engines prove themselves with the golden samples of their bundle before their first result."""

import dataclasses
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architectures import latents_of
from double_backend import DoubleBackend
from places import TESTS

from latentrt.runtime import SelftestError, open_bundle
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.errors import BundleError, Cancelled, InputError
from latentrt.runtime.selftest import selftest as selftest_module
from latentrt.runtime.selftest.passed_tests import PassedTests
from latentrt.runtime.selftest.report import LEAST_PSNR_DB
from latentrt.runtime.selftest.sample_run import run_sample
from latentrt.runtime.system.hashing import sha256_of

SMALL = "relu_one_block"
MUSEUM = TESTS / "museum" / "362aa54"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test is remembered."""
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bundle(bundle_of: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_of(SMALL), tmp_path / "bundle"))


def damage(folder: Path, component: str = "decoder") -> None:
    """Change weights of a component, and renew their hash."""
    manifest = Manifest.open(folder)
    name = manifest.find_graphs(component)[0].weights
    content = bytearray((folder / name).read_bytes())
    values = np.frombuffer(bytes(content[-64:]), "<f4")
    content[-64:] = (1.5 * values + 0.1).astype("<f4").tobytes()
    (folder / name).write_bytes(content)
    values_of = json.loads((folder / "manifest.json").read_text())
    for entry in values_of["files"]:
        if entry["name"] == name:
            entry["sha256"] = sha256_of(folder / name)
    (folder / "manifest.json").write_text(json.dumps(values_of))


def spoil_samples(folder: Path) -> None:
    """Damage the file of samples, so that reading it is an error."""
    path = folder / str(Manifest.open(folder).samples)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("name", ["sd", "flux2", "noise_timestep"])
def test_a_good_bundle_passes_in_every_way(name: str, opened: Callable[..., Any]) -> None:
    vae = opened(name, selftest="never")
    report = vae.selftest()
    assert report.passed, report
    ways = {"whole", "stream", "stream in strips"} if vae.video else {"whole", "strips"}
    assert {row.way for row in report.rows} == ways
    assert {row.component for row in report.rows} == {"encoder", "decoder", "latents"}


def test_a_damaged_decoder_is_refused_before_its_first_result(bundle: Path) -> None:
    damage(bundle)
    with open_bundle(bundle) as vae:
        vae.encode(np.zeros((1, 3, 64, 64), np.float32), check_range=False)
        for _ in range(2):  # a failure is not remembered as a pass
            with pytest.raises(
                SelftestError, match=r"the decoder \(whole\) on onnxruntime:cpu in float32 reaches .* dB"
            ):
                vae.decode(latents_of(vae, (8, 8)))
    with open_bundle(bundle, selftest="never") as vae:
        vae.decode(latents_of(vae, (8, 8)))


def test_always_refuses_when_the_bundle_is_opened(bundle: Path) -> None:
    open_bundle(bundle, selftest="always").close()
    damage(bundle, "encoder")
    with pytest.raises(SelftestError, match="failed its self-test: the encoder"):
        open_bundle(bundle, selftest="always")


def test_a_wrong_scaling_factor_is_refused(bundle: Path) -> None:
    manifest = Manifest.open(bundle)
    config: Any = manifest.config
    dataclasses.replace(manifest, config=dataclasses.replace(config, scaling_factor=1.001)).write()
    with open_bundle(bundle) as vae, pytest.raises(SelftestError, match="the conversion of latents"):
        vae.decode(latents_of(vae, (8, 8)))


@pytest.mark.parametrize(("name", "way"), [("sd", "strips"), ("ltx20", "stream")])
def test_streams_and_strips_prove_themselves_before_their_first_use(
    name: str, way: str, bundle_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(bundle_of(name), tmp_path / "bundle"))
    damage(folder)
    with open_bundle(folder) as vae:
        latents = latents_of(vae, (1, 2, 2) if vae.video else (8, 8))
        if way == "strips":
            vae.enable_tiling(exact=True, strip=32)  # type: ignore[call-arg]
            with pytest.raises(SelftestError, match=r"decoder \(strips\)"):
                vae.decode(latents)
        else:
            with pytest.raises(SelftestError, match=r"decoder \(stream\)"):
                next(iter(vae.decode_stream(latents)))


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_stage_with_too_small_a_halo_is_refused_before_its_first_strips(
    stage: int, bundle_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(bundle_of("ltx20"), tmp_path / "bundle"))
    manifest = Manifest.open(folder)
    given = manifest.find_streams("decoder", "float32")[stage]
    assert given.halo is not None
    small = dataclasses.replace(given, halo=given.halo - 1)
    streams = tuple(small if one is given else one for one in manifest.streams)
    dataclasses.replace(manifest, streams=streams).write()
    with open_bundle(folder) as vae:
        latents = latents_of(vae, (1, 2, 2))
        assert next(iter(vae.decode_stream(latents))) is not None, "a stream of whole frames needs no halo"
        vae.enable_tiling(exact=True, strip=32)  # type: ignore[call-arg]
        with pytest.raises(SelftestError, match=r"decoder \(stream in strips\)"):
            next(iter(vae.decode_stream(latents)))


def test_a_passed_test_is_remembered_for_the_same_options(bundle: Path) -> None:
    with open_bundle(bundle, threads=1) as vae:
        vae.decode(latents_of(vae, (8, 8)))
    spoil_samples(bundle)  # from here on a test fails
    with open_bundle(bundle, threads=1) as vae:
        vae.decode(latents_of(vae, (8, 8)))
        with pytest.raises(BundleError, match="was altered"):  # the encoder has not run before
            vae.encode(np.zeros((1, 3, 64, 64), np.float32), check_range=False)
    with open_bundle(bundle, threads=2) as vae, pytest.raises(BundleError, match="was altered"):
        vae.decode(latents_of(vae, (8, 8)))
    with pytest.raises(BundleError, match="was altered"):
        open_bundle(bundle, threads=1, selftest="always")


def test_a_changed_model_in_the_backends_cache_is_tested_again(bundle: Path) -> None:
    with open_bundle(bundle, selftest="never") as vae:
        record = PassedTests(vae.manifest, vae.opened.backend, {})
        record.add("decoder whole", {"model": "a" * 64})
        again = PassedTests(vae.manifest, vae.opened.backend, {})
        assert again.holds("decoder whole", {"model": "a" * 64, "for another size": "b" * 64})
        assert not again.holds("decoder whole", {"model": "b" * 64})
        assert not again.holds("decoder whole", {})
        assert not again.holds("encoder whole", {})
        assert not PassedTests(vae.manifest, vae.opened.backend, {"threads": 1}).holds("decoder whole", {})


def test_without_a_cache_folder_each_process_tests(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "file" / "cache"))
    with open_bundle(bundle) as vae:
        vae.decode(latents_of(vae, (8, 8)))
    damage(bundle)
    with open_bundle(bundle) as vae, pytest.raises(SelftestError):
        vae.decode(latents_of(vae, (8, 8)))


def test_bundles_of_earlier_versions_open_as_before_and_cannot_prove_themselves() -> None:
    folder = MUSEUM / "autoencoder-kl" / "bundle"
    with open_bundle(folder) as vae:
        vae.decode(latents_of(vae, (8, 8)))
        with pytest.raises(BundleError, match="holds no golden samples"):
            vae.selftest()
    with pytest.raises(BundleError, match="holds no golden samples to test engines with: export it again"):
        open_bundle(folder, selftest="always")


def test_a_backend_object_is_tested_with_always_alone(bundle: Path) -> None:
    with open_bundle(bundle, backend=DoubleBackend(1)) as vae:
        vae.decode(latents_of(vae, (8, 8)))
    with pytest.raises(SelftestError, match="on double in float32"):
        open_bundle(bundle, backend=DoubleBackend(1), selftest="always")


def test_an_unknown_policy_is_refused(bundle: Path) -> None:
    with pytest.raises(InputError, match="selftest must be one of once, always, never, got True"):
        open_bundle(bundle, selftest=True)  # type: ignore[arg-type]


def test_threads_test_once_and_a_waiting_call_can_be_cancelled(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, go = threading.Event(), threading.Event()
    runs: list[str] = []

    def slow(*arguments: Any) -> Any:
        runs.append(arguments[2].component)
        started.set()
        go.wait(30)
        return run_sample(*arguments)

    monkeypatch.setattr(selftest_module, "run_sample", slow)
    with open_bundle(bundle) as vae:
        latents, ends = latents_of(vae, (8, 8)), []

        def decode() -> None:
            try:
                vae.decode(latents)
                ends.append("result")
            except Cancelled:
                ends.append("cancelled")

        threads = [threading.Thread(target=decode) for _ in range(2)]
        threads[0].start()
        assert started.wait(30)
        threads[1].start()
        while len(vae.opened.engines.calls) < 2:
            threading.Event().wait(0.01)
        vae.cancel()
        threads[1].join(30)
        assert ends == ["cancelled"], "the second call does not wait for the test of the first"
        go.set()
        threads[0].join(30)
        assert ends == ["cancelled"] * 2
        runs.clear()
        vae.decode(latents)
        vae.decode(latents)
        assert runs == ["decoder"] * 2, "two samples, once"


def test_the_thresholds_are_those_of_the_precisions() -> None:
    assert LEAST_PSNR_DB == {"float32": 100.0, "float16": 60.0, "bfloat16": 45.0}
