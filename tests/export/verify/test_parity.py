"""What `verify` compares: backends, engines, streams and strips; and what was not compared has not passed."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import host_device
import numpy as np
import pytest
from command_line import LATENTRT, invoke

from latentrt.export import Comparison, ParityReport, VerifySettings, verify_bundle
from latentrt.export.bundle import ExportSettings, export_bundle
from latentrt.export.engines.planning import plan_profiles
from latentrt.export.engines.settings import BuildSettings, Extent
from latentrt.export.engines.stream_profiles import stream_profiles
from latentrt.export.engines.strip_profiles import strip_profiles
from latentrt.runtime import CheckpointError, EngineError
from latentrt.runtime.autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video
from latentrt.runtime.bundle.added_outputs import added_outputs
from latentrt.runtime.bundle.graph import Graph
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.bundle.profiles import Profile, choose_profile

pytestmark = pytest.mark.slow

BundleOf = Callable[[str], Path]
KINDS = ("whole", "stream", "exact")


@pytest.fixture
def copied(bundle_of: BundleOf, tmp_path: Path) -> BundleOf:
    return lambda name: Path(shutil.copytree(bundle_of(name), tmp_path / name))


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    host_device.install(monkeypatch)


def give_engines(bundle: Path, settings: BuildSettings, kinds: tuple[str, ...] = KINDS, component: str = "") -> None:
    manifest = Manifest.open(bundle)
    config: Any = manifest.config

    def profiles(graph: Graph) -> tuple[Profile, ...]:
        if graph.stage is not None:
            return stream_profiles(config, graph, settings)
        return (strip_profiles if graph.strip_stage else plan_profiles)(config, graph, settings)

    host_device.with_engines(bundle, profiles, lambda graph: added_outputs(manifest, graph))
    built = Manifest.open(bundle)
    kept = [one for one in built.engines if one.kind in kinds and component in one.component]
    dataclasses.replace(built, engines=tuple(kept)).write()


def ways(report: ParityReport, backend: str) -> set[tuple[str, str]]:
    return {(row.component, row.strategy) for row in report.comparisons if row.backend == backend}


def shapes(report: ParityReport, component: str, strategy: str = "whole") -> set[tuple[int, ...]]:
    rows = [row for row in report.comparisons if row.backend == "tensorrt"]
    return {row.shape for row in rows if (row.component, row.strategy) == (component, strategy)}


def test_streams_are_compared_where_a_bundle_holds_streaming_graphs(copied: BundleOf, checkpoint_of: BundleOf) -> None:
    bundle = copied("ltx20")
    report = verify_bundle(bundle, checkpoint_of("ltx20"), VerifySettings(threads=1))
    both = {"encoder", "decoder"}
    assert ways(report, "onnxruntime:cpu") == {(one, way) for one in both for way in ("whole", "stream")}
    assert ways(report, "openvino") == ways(report, "onnxruntime:cpu")
    frames = {row.shape[2] for row in report.comparisons if (row.component, row.strategy) == ("decoder", "stream")}
    assert min(frames) > 5, "long enough for states to go from step to step"
    assert report.passed
    stored: Any = Manifest.open(bundle).verification
    assert {row["strategy"] for row in stored["comparisons"]} == {"whole", "stream"}
    assert stored["not_compared"] == []


def test_a_bundle_without_streaming_graphs_is_compared_without(checkpoint_of: BundleOf, tmp_path: Path) -> None:
    export_bundle(checkpoint_of("ltx20"), tmp_path / "bundle", ExportSettings(stream=False, causal=(True,)))
    report = verify_bundle(
        tmp_path / "bundle", checkpoint_of("ltx20"), VerifySettings(threads=1, backend="onnxruntime")
    )
    assert {row.strategy for row in report.comparisons} == {"whole"}
    assert {(row.component, row.causal) for row in report.comparisons} == {
        ("encoder", True),
        ("decoder", False),
        ("decoder", True),
    }


def test_exact_strips_are_compared_where_a_bundle_holds_their_steps(
    copied: BundleOf, checkpoint_of: BundleOf, tmp_path: Path
) -> None:
    report = verify_bundle(copied("sd"), checkpoint_of("sd"), VerifySettings(threads=1, backend="onnxruntime"))
    both = {"encoder", "decoder"}
    assert ways(report, "onnxruntime:cpu") == {(one, way) for one in both for way in ("whole", "strips")}
    assert report.passed
    export_bundle(checkpoint_of("sd"), tmp_path / "plain", ExportSettings(exact=False))
    plain = verify_bundle(tmp_path / "plain", checkpoint_of("sd"), VerifySettings(threads=1, backend="onnxruntime"))
    assert {row.strategy for row in plain.comparisons} == {"whole"}


def test_a_stream_that_gives_something_else_is_seen(
    copied: BundleOf, checkpoint_of: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = AutoencoderKLLTX2Video.decode_stream

    def other(*given: Any, **options: Any) -> Any:
        return (frames + 0.1 for frames in decode(*given, **options))

    monkeypatch.setattr(AutoencoderKLLTX2Video, "decode_stream", other)
    report = verify_bundle(copied("ltx20"), checkpoint_of("ltx20"), VerifySettings(threads=1, backend="onnxruntime"))
    assert not report.passed
    assert {row.strategy for row in report.comparisons if row.psnr_db < 45} == {"stream"}


def test_a_stream_that_ends_with_an_error_has_not_passed(
    copied: BundleOf, checkpoint_of: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise EngineError("3 of 9 values are NaN")

    monkeypatch.setattr(AutoencoderKLLTX2Video, "decode_stream", failing)
    result = invoke("verify", copied("ltx20"), "--source", checkpoint_of("ltx20"), "--backend", "onnxruntime")
    assert result.exit_code == 1
    assert "not compared: onnxruntime:cpu, float32: decoder, stream: 3 of 9 values are NaN" in result.stdout
    assert "FAILED" in result.stdout


def test_an_engine_for_one_size_is_compared_at_that_size(
    device: None, copied: BundleOf, checkpoint_of: BundleOf
) -> None:
    bundle = copied("sd")
    settings = BuildSettings("tensorrt", tiles=(Extent(1, 160, 96),), static=True, picture=(256, 256))
    give_engines(bundle, settings)
    report = verify_bundle(bundle, checkpoint_of("sd"), VerifySettings(threads=1))
    assert (shapes(report, "encoder"), shapes(report, "decoder")) == ({(1, 3, 160, 96)}, {(1, 4, 20, 12)})
    assert ways(report, "tensorrt") == ways(report, "onnxruntime:cpu"), "and its strips"
    assert report.passed


def test_every_profile_is_called_and_streams_run_in_sizes_that_engines_take(
    device: None, copied: BundleOf, checkpoint_of: BundleOf
) -> None:
    bundle = copied("ltx20")
    low, high = Extent(1, 64, 64, 9), Extent(1, 96, 160, 9)
    settings = BuildSettings("tensorrt", shapes=((low, low, low), (low, high, high), (high, high, high)), chunk=8)
    give_engines(bundle, settings)
    report = verify_bundle(bundle, checkpoint_of("ltx20"), VerifySettings(threads=1, backend="tensorrt"))
    assert report.passed
    for record in Manifest.open(bundle).engines:
        name = {"encoder": "sample", "decoder": "latents"}[record.component]
        if record.kind == "whole":
            called = {choose_profile(record.profiles, {name: of}) for of in shapes(report, record.component)}
            assert called == {0, 1, 2}, "the middle one takes what the static ones do not"
    sizes = {(2, 2), (3, 2), (3, 5)}
    assert {shape[3:] for shape in shapes(report, "decoder", "stream")} == sizes
    assert {(shape[3] // 32, shape[4] // 32) for shape in shapes(report, "encoder", "stream")} == sizes


def test_engines_of_one_component_or_of_streams_alone_are_compared(
    device: None, copied: BundleOf, checkpoint_of: BundleOf
) -> None:
    settings = BuildSettings("tensorrt", tiles=(Extent(1, 64, 64, 17),), chunk=8)
    for kinds, component, wanted in (
        (("whole",), "decoder", {("decoder", "whole")}),
        (("stream",), "", {("encoder", "stream"), ("decoder", "stream")}),
    ):
        bundle = copied("ltx20")
        give_engines(bundle, settings, kinds, component)
        report = verify_bundle(bundle, checkpoint_of("ltx20"), VerifySettings(threads=1))
        assert ways(report, "tensorrt") == wanted
        assert report.passed
        shutil.rmtree(bundle)


def test_a_backend_of_which_nothing_was_compared_has_not_passed(
    device: None, copied: BundleOf, checkpoint_of: BundleOf
) -> None:
    bundle = copied("ltx20")
    give_engines(bundle, BuildSettings("tensorrt", tiles=(Extent(1, 64, 64, 9),), static=True), ("whole",))
    manifest = Manifest.open(bundle)

    def for_no_size(profile: Profile) -> Profile:
        cells = {name: (1, *of.minimum[1:-2], 1, 1) for name, of in profile.ranges.items()}
        return Profile({name: type(of)(*[cells[name]] * 3) for name, of in profile.ranges.items()})

    engines = (dataclasses.replace(one, profiles=tuple(map(for_no_size, one.profiles))) for one in manifest.engines)
    dataclasses.replace(manifest, engines=tuple(engines)).write()
    sentence = "its engines take none of the sizes that could be compared: build with another --tile"
    result = invoke("verify", bundle, "--source", checkpoint_of("ltx20"), "--threads", 1)
    assert result.exit_code == 1
    assert f"not compared: tensorrt, float32: {sentence}" in result.stdout
    assert "onnxruntime:cpu" in result.stdout
    stored: Any = Manifest.open(bundle).verification
    assert stored["not_compared"] == [{"backend": "tensorrt", "dtype": "float32", "reason": sentence}]
    assert not stored["passed"]
    assert " dB, not compared: tensorrt float32\n" in invoke("inspect", bundle).stdout
    with pytest.raises(EngineError, match=f"tensorrt float32 was not compared: {sentence}"):
        verify_bundle(bundle, checkpoint_of("ltx20"), VerifySettings(backend="tensorrt"))


def test_engines_for_another_machine_are_told(
    device: None, copied: BundleOf, checkpoint_of: BundleOf, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = copied("sd")
    give_engines(bundle, BuildSettings("tensorrt", tiles=(Extent(1, 64, 64),)), ("whole",))
    manifest = Manifest.open(bundle)
    engines = (dataclasses.replace(one, compute_capabilities=("8.9",)) for one in manifest.engines)
    dataclasses.replace(manifest, engines=tuple(engines)).write()
    report = verify_bundle(bundle, checkpoint_of("sd"), VerifySettings(threads=1))
    assert "tensorrt" not in {row.backend for row in report.comparisons}
    assert "not compared: backend tensorrt cannot run" in caplog.text
    assert "built for compute capability 8.9, and this GPU has 0.0" in caplog.text


@pytest.mark.parametrize(("bundle", "source"), [("sd", "ltx20"), ("flux", "ltx20"), ("ltx20", "flux"), ("sd", "flux2")])
def test_a_source_of_another_family_is_one_sentence_and_no_table(
    bundle: str, source: str, bundle_of: BundleOf, checkpoint_of: BundleOf
) -> None:
    import subprocess

    command = [*LATENTRT, "verify", str(bundle_of(bundle)), "--source", str(checkpoint_of(source))]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    families = [Manifest.open(bundle_of(name)).family for name in (source, bundle)]
    assert f"is an {families[0]} and {bundle_of(bundle)} holds an {families[1]}: give the checkpoint" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "--shift-factor" not in result.stderr


def test_a_source_with_other_numbers_than_the_bundles_is_taken_with_these(
    checkpoint_of: BundleOf, tmp_path: Path
) -> None:
    settings = ExportSettings(overrides={"scaling_factor": 0.5})
    export_bundle(checkpoint_of("sd"), tmp_path / "bundle", settings)
    assert verify_bundle(
        tmp_path / "bundle", checkpoint_of("sd"), VerifySettings(threads=1, backend="onnxruntime")
    ).passed
    with pytest.raises(CheckpointError, match="their configs differ"):
        verify_bundle(tmp_path / "bundle", checkpoint_of("flux"))


def test_a_verification_without_a_finite_number_is_shown(copied: BundleOf) -> None:
    manifest = Manifest.open(copied("sd"))
    dataclasses.replace(manifest, verification={"passed": False, "worst_psnr_db": None}).write()
    assert "verification failed: results that are not finite\n" in invoke("inspect", manifest.folder).stdout


def test_rows_of_a_report_are_finite_in_json() -> None:
    row = Comparison("a", "float32", "decoder", None, "random", (1,), np.nan, np.inf, -np.inf, 1.0, 1.0)
    values = ParityReport((row,), 45.0).to_json()
    told = values["comparisons"][0]
    assert (values["worst_psnr_db"], told["max_abs"], told["relative"], told["strategy"]) == (None, None, None, "whole")
