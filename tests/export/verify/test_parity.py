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

from latentrt.export import Comparison, NotCompared, ParityReport, VerifySettings, verify_bundle
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
from latentrt.runtime.bundle.verification_record import VerificationRecord

pytestmark = pytest.mark.slow

BundleOf = Callable[[str], Path]
KINDS = ("whole", "stream", "exact")


@pytest.fixture
def copied(bundle_of: BundleOf, tmp_path: Path) -> BundleOf:
    return lambda name: Path(shutil.copytree(bundle_of(name), tmp_path / name))


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    host_device.install(monkeypatch)
    monkeypatch.setattr(
        "latentrt.runtime.backends.tensorrt.opener.missing_library", lambda name: None if name == "tensorrt" else "no"
    )


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
    for record in Manifest.open(bundle).verifications:
        assert {row["strategy"] for row in record.comparisons} == {"whole", "stream"}
        assert (record.passed, record.not_compared, record.samples) == (True, (), ("random",))


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
    stored = {record.backend: record for record in Manifest.open(bundle).verifications}
    assert (stored["tensorrt"].not_compared, stored["tensorrt"].passed) == ((sentence,), False)
    assert stored["onnxruntime:cpu"].passed
    assert any(
        line.split()[:3] == ["tensorrt", "float32", "-"] for line in invoke("inspect", bundle).stdout.splitlines()
    )
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
    row = {"backend": "openvino", "dtype": "float32", "component": "decoder", "strategy": "whole", "sample": "random"}
    record = VerificationRecord("openvino", "float32", False, 100.0, None, comparisons=(row | {"psnr_db": None},))
    dataclasses.replace(manifest, verifications=(record,)).write()
    lines = [line.split() for line in invoke("inspect", manifest.folder).stdout.splitlines()]
    assert ["openvino", "float32", "not", "finite", "100", "failed", "-"] in lines


def comparison(dtype: str, psnr_db: float, backend: str = "openvino") -> Comparison:
    return Comparison(backend, dtype, "decoder", None, "random", (1,), 0.0, 0.0, psnr_db, 1.0, 1.0)


@pytest.mark.parametrize(("dtype", "wanted"), [("float32", 100), ("float16", 60), ("bfloat16", 45)])
def test_each_precision_has_its_own_threshold(dtype: str, wanted: float) -> None:
    assert ParityReport((comparison(dtype, wanted),)).passed
    assert not ParityReport((comparison(dtype, wanted - 0.1),)).passed
    assert ParityReport((comparison(dtype, wanted - 0.1),), min_psnr_db=wanted - 0.1).passed
    assert not ParityReport((comparison("float32", 120), comparison(dtype, wanted - 1))).passed
    assert not ParityReport((comparison(dtype, np.nan),)).passed


def test_a_report_gives_a_record_for_each_backend_and_precision() -> None:
    rows = (comparison("float32", 120), comparison("bfloat16", 50), comparison("float32", 99, "onnxruntime:cpu"))
    missing = (NotCompared("tensorrt", "float32", "no GPU"),)
    versions: dict[str, dict[str, str | None]] = {
        name: {"latentrt": "0.1.0"} for name in ("openvino", "onnxruntime:cpu", "tensorrt")
    }
    records = ParityReport(rows, not_compared=missing).records("2026-11-30T12:00:00+00:00", versions)
    assert [(one.backend, one.dtype, one.passed, one.worst_psnr_db, one.min_psnr_db) for one in records] == [
        ("openvino", "float32", True, 120, 100),
        ("openvino", "bfloat16", True, 50, 45),
        ("onnxruntime:cpu", "float32", False, 99, 100),
        ("tensorrt", "float32", False, None, 100),
    ]
    assert records[3].not_compared == ("no GPU",)


def test_a_run_in_another_precision_leaves_the_record_of_the_first(
    copied: BundleOf, checkpoint_of: BundleOf, tmp_path: Path
) -> None:
    settings = ExportSettings(components=("decoder",), dtypes=("float32", "float16"), exact=False)
    export_bundle(checkpoint_of("no_attention"), tmp_path / "bundle", settings)
    for dtype in ("float32", "float16"):
        arguments = ("--source", checkpoint_of("no_attention"), "--backend", "onnxruntime", "--dtype", dtype)
        assert invoke("verify", tmp_path / "bundle", *arguments).exit_code == 0
    high, low = sorted(Manifest.open(tmp_path / "bundle").verifications, key=lambda one: -one.min_psnr_db)
    assert (high.dtype, low.dtype) == ("float32", "float16")
    assert high.date is not None
    assert high.versions["torch"]
    assert high.versions["onnxruntime"]
    lines = [line.split() for line in invoke("inspect", tmp_path / "bundle").stdout.splitlines()]
    rows = [line for line in lines if line[:1] == ["onnxruntime:cpu"]]
    assert [(row[1], row[3], row[4], row[5]) for row in rows] == [
        ("float16", "60", "passed", str(low.date)[:10]),
        ("float32", "100", "passed", high.date[:10]),
    ]


def test_rows_of_a_report_are_finite_in_json() -> None:
    row = Comparison("a", "float32", "decoder", None, "random", (1,), np.nan, np.inf, -np.inf, 1.0, 1.0)
    values = ParityReport((row,), 45.0).to_json()
    told = values["comparisons"][0]
    assert (values["worst_psnr_db"], told["max_abs"], told["relative"], told["strategy"]) == (None, None, None, "whole")
