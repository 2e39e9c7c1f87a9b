"""`latentrt bench`: every case in a process of its own, numbers that are what they say, what did not run is told."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from click.testing import CliRunner, Result

from latentrt.cli.main import cli
from latentrt.export.benchmark.case import Case, Measurement
from latentrt.export.benchmark.machine import describe_machine
from latentrt.export.benchmark.process import measure
from latentrt.export.benchmark.report import BenchReport
from latentrt.export.benchmark.selection import Selection, select_cases
from latentrt.export.benchmark.worker import measured
from latentrt.runtime import BackendUnavailable, BundleError, EngineError, InputError, MissingExtra, OutputError
from latentrt.runtime.backends.component import CallScope
from latentrt.runtime.backends.openvino.models import Models
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.calls.strategy import Strategy
from latentrt.runtime.execution import stream
from latentrt.runtime.execution.streaming import run_stages
from latentrt.runtime.planner.decision import Decision, JudgedStrategy
from latentrt.runtime.planner.policy import CallPlanner
from latentrt.runtime.planner.probe import Point

pytestmark = pytest.mark.slow

BundleOf = Callable[[str], Path]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["bench", *map(str, arguments)], catch_exceptions=False)


def case(**changes: Any) -> Case:
    values: dict[str, Any] = {"component": "decoder", "size": (64, 64), "batch": 1, "backend": "onnxruntime"}
    values |= {"provider": "cpu", "dtype": "float32", "strategy": "whole", "threads": 1, "repeats": 3}
    return Case(**values | changes)


def measurement(seconds: tuple[float, ...], **changes: Any) -> Measurement:
    return Measurement(case(**changes), 1, seconds, 1.0, 64 << 20, 32 << 20)


def test_a_plain_call_and_tiles_are_measured_and_the_report_is_written_three_times(
    bundle_of: BundleOf, tmp_path: Path
) -> None:
    files = {"--markdown": tmp_path / "bench.md", "--plot": tmp_path / "bench.png"}
    options = ["--component", "decoder", "--size", "128x128", "--tile", "64x64", "--backend", "onnxruntime"]
    options += ["--threads", "1", "--repeats", "3", *(str(part) for pair in files.items() for part in pair)]
    report = json.loads(invoke(bundle_of("sd"), *options, "--json").stdout)
    plain, tiled = report["measurements"]
    assert (plain["strategy"], plain["ran"], plain["tiles"]) == ("default", "whole", 1)
    assert (tiled["strategy"], tiled["ran"]) == ("tiled", None)
    assert tiled["tiles"] > 1
    for row in (plain, tiled):
        assert len(row["seconds"]) == 3
        assert row["low_seconds"] <= row["median_seconds"] <= row["high_seconds"]
        assert row["first_seconds"] > row["low_seconds"]
        assert row["peak_bytes"] > row["start_bytes"] > 10 << 20
    assert report["not_measured"] == []
    text = files["--markdown"].read_text()
    assert "| decoder | 128x128 | onnxruntime:cpu | float32 | default (whole) |" in text
    assert str(bundle_of("sd")) not in text, "a report is for others: no path of this machine"
    assert files["--plot"].read_bytes().startswith(b"\x89PNG")


def test_by_default_every_backend_here_is_measured_and_the_others_are_told(bundle_of: BundleOf) -> None:
    result = invoke(bundle_of("ltx20"), "--size", "60x64x9", "--repeats", "1", "--threads", "1")
    lines = result.stdout.splitlines()
    measured = [line.split()[:6] for line in lines if line.startswith(("encoder", "decoder"))]
    assert measured == [
        [component, "64x64x9", engine, "float32", "default", ran]
        for component in ("encoder", "decoder")
        for engine, ran in (("onnxruntime:cpu", "(whole)"), ("openvino", "(whole)"))
    ], "as `decode` does, and the size is padded to the model's grid"
    assert any(line.startswith("not measured: tensorrt: ") for line in lines)


@pytest.mark.parametrize(("name", "size"), [("noise", "64x64x9"), ("sd", "64x64"), ("flux2", "64x64")])
def test_what_a_decoder_takes_beside_latents_is_given(name: str, size: str, bundle_of: BundleOf) -> None:
    options = ["--size", size, "--backend", "openvino", "--repeats", "1", "--threads", "1", "--strategy", "whole"]
    report = json.loads(invoke(bundle_of(name), *options, "--json").stdout)
    assert [row["component"] for row in report["measurements"]] == ["encoder", "decoder"]


def test_tiles_that_would_be_one_are_not_measured_twice(bundle_of: BundleOf) -> None:
    options = ["--size", "64x64", "--component", "decoder", "--strategy", "whole", "--strategy", "tiled"]
    report = json.loads(invoke(bundle_of("sd"), *options, "--json").stdout)
    assert {row["strategy"] for row in report["measurements"]} == {"whole"}
    told = [row["reason"] for row in report["not_measured"] if row["what"].endswith("tiled")]
    assert set(told) == {"the sample fits into one tile, which is the same as whole"}


@pytest.mark.parametrize(
    ("name", "size", "strategy"),
    [("ltx20", "64x64x9", "stream"), ("ltx20", "64x64x9", "strips"), ("sd", "64x64", "strips")],
)
def test_streams_and_strips_are_measured_where_they_are_asked_for(
    name: str, size: str, strategy: str, bundle_of: BundleOf
) -> None:
    options = ["--size", size, "--strategy", strategy, "--component", "decoder", "--repeats", "1", "--threads", "1"]
    report = json.loads(invoke(bundle_of(name), *options, "--backend", "onnxruntime", "--json").stdout)
    assert [row["strategy"] for row in report["measurements"]] == [strategy]
    assert report["measurements"][0]["peak_bytes"] > 0
    if name == "sd":
        with pytest.raises(InputError, match="--strategy stream is for video models, not AutoencoderKL"):
            invoke(bundle_of(name), "--strategy", "stream")


@pytest.mark.parametrize("component", ["encoder", "decoder"])
def test_whole_is_one_pass_also_of_a_clip_that_a_plain_call_streams_as_it_might_not_fit(
    component: str, bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def noted(*given: Any, **options: Any) -> Any:
        steps.append("stream")
        return run_stages(*given, **options)

    monkeypatch.setattr(stream, "run_stages", noted)
    monkeypatch.setattr("latentrt.runtime.planner.policy.ALWAYS_FITS_BYTES", 1)
    monkeypatch.setattr("latentrt.runtime.planner.policy.default_budget", lambda: 1)
    chosen = JudgedStrategy(Strategy(streaming=True), "stream", True, None, None)
    planner = SimpleNamespace(decide=lambda *_, **__: Decision(0, (chosen,), chosen, "it was made up"))
    monkeypatch.setattr(CallPlanner, "planner", lambda *_: (planner, None))
    bundle, clip = bundle_of("ltx20"), {"component": component, "size": (9, 64, 64), "repeats": 1}
    for strategy, wanted, ran in (("whole", 0, None), ("default", 2, "stream"), ("stream", 2, None)):
        steps.clear()
        answer = measured(bundle, case(strategy=strategy, **clip).to_json())
        assert (len(steps), answer["ran"]) == (wanted, ran)


def test_warm_sizes_run_in_models_of_their_own(bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool | None] = []
    choose = Models.of_call

    def noted(self: Any, inputs: Any, call: CallScope) -> Any:
        seen.append(call.specialise)
        return choose(self, inputs, call)

    monkeypatch.setattr(Models, "of_call", noted)
    for warm in (False, True):
        seen.clear()
        measured(bundle_of("rgba_gelu"), case(backend="openvino", provider=None, warm=warm, repeats=1).to_json())
        assert seen == [True if warm else None, None], "the decoder alone, at first and then as any call"
    options = ["--size", "64x64", "--component", "decoder", "--backend", "openvino", "--repeats", "1", "--threads", "1"]
    lines = invoke(bundle_of("sd"), *options, "--warm").stdout.splitlines()
    assert any("default (whole), warm" in line for line in lines)
    assert any("OpenVINO then has a model for each" in line for line in lines)


@pytest.mark.usefixtures("without_bounds")
def test_calls_within_memory_are_planned_and_the_table_tells_how_they_ran(
    bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def points(self: Any, probe: Any) -> Point:
        area = probe.cells[-2] * probe.cells[-1]
        return Point((50 + area * (1 if probe.strategy.kind == "whole" else 0)) << 20, 50 << 20, 0.01 * area)

    monkeypatch.setattr("latentrt.runtime.planner.calibration.Calibration.point", points)
    own = case(size=(128, 128), strategy="default", memory="200MiB", repeats=1)
    answer = measured(bundle_of("sd"), own.to_json())
    assert answer["ran"].startswith("strips of")
    assert Measurement(own, **answer | {"seconds": (1.0,)}).strategy == f"default ({answer['ran']}), within 200MiB"
    exact = measured(bundle_of("sd"), case(size=(128, 128), strategy="strips", memory="200MiB", repeats=1).to_json())
    assert exact["ran"].startswith("strips of")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--dtype", "int8"], "'int8' is not one of 'float32', 'float16', 'bfloat16'"),
        (["--memory", "lots"], "got 'lots'"),
        (["--memory", "1GiB", "--strategy", "whole"], "give it with --strategy default, stream or strips"),
        (["--memory", "1GiB", "--tile", "64x64"], "--memory chooses the tiles"),
        (["--memory", "1GiB", "--warm"], "leave --warm out"),
        (["--tile", "64x64", "--strategy", "whole"], "are for --strategy tiled"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(
    options: list[str], sentence: str, bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentrt.cli.bench.measure", lambda *_: pytest.fail("measured"))
    result = invoke(bundle_of("sd"), *options)
    assert result.exit_code == 2
    assert sentence in result.output


def test_peak_memory_is_of_one_case_alone(bundle_of: BundleOf) -> None:
    bundle = bundle_of("no_attention")
    large = measure(bundle, case(size=(512, 512), repeats=1))
    small = measure(bundle, case(repeats=1))
    assert large.peak_bytes is not None
    assert small.peak_bytes is not None
    assert large.peak_bytes - small.peak_bytes > 4 * 512 * 512 * 32, "at least one activation at full size"


def test_a_case_that_does_not_run_is_one_sentence(bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="holds no float16 graphs"):
        measure(bundle_of("sd"), case(dtype="float16"))
    monkeypatch.setattr("latentrt.runtime.system.subprocess_call.module_command", lambda module: ["/bin/false"])
    with pytest.raises(EngineError, match="the process ended with code 1"):
        measure(bundle_of("sd"), case())


def test_a_process_that_the_system_ends_is_told_as_such(
    bundle_of: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nread order\nkill -9 $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(EngineError, match="ended by the system, as when memory runs out"):
        measure(bundle_of("sd"), case())


def test_of_several_that_are_named_those_that_run_are_measured(bundle_of: BundleOf) -> None:
    several = Selection(
        backends=("onnxruntime", "openvino"), dtypes=("float32", "float16"), components=("decoder",), provider="cpu"
    )
    cases, skipped = select_cases(Manifest.open(bundle_of("sd")), several)
    found = [(case.backend, case.provider, case.dtype) for case in cases]
    assert found == [("onnxruntime", "cpu", "float32"), ("openvino", None, "float32")]
    assert [row.what for row in skipped] == ["onnxruntime float16", "openvino float16"]
    assert all("float16" in row.reason and str(bundle_of("sd")) not in row.reason for row in skipped)


def test_bad_arguments_are_refused_before_anything_is_measured(
    bundle_of: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentrt.cli.bench.measure", lambda *_: pytest.fail("measured"))
    bundle = bundle_of("sd")
    with pytest.raises(InputError, match="--size: AutoencoderKL takes HEIGHTxWIDTH, got 64x64x9"):
        invoke(bundle, "--size", "64x64x9")
    with pytest.raises(BackendUnavailable, match="backend tensorrt-rtx cannot run"):
        invoke(bundle, "--backend", "tensorrt-rtx")
    with pytest.raises(InputError, match="holds no float16 graphs"):
        invoke(bundle, "--backend", "onnxruntime", "--dtype", "float16")
    with pytest.raises(BackendUnavailable, match="holds no float16 graphs"):
        invoke(bundle, "--dtype", "float16")
    with pytest.raises(BackendUnavailable, match=r"onnxruntime float16: .*; openvino float16: "):
        invoke(bundle, "--dtype", "float16", "--backend", "onnxruntime", "--backend", "openvino")
    with pytest.raises(OutputError, match="does not exist"):
        invoke(bundle, "--markdown", tmp_path / "absent" / "bench.md")
    with pytest.raises(OutputError, match=r"end its name in \.png"):
        invoke(bundle, "--plot", tmp_path / "bench.txt")
    with pytest.raises(BundleError, match="is not a bundle"):
        invoke(tmp_path)
    assert invoke(bundle, "--overlap", "8").exit_code == 2
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"latentrt\[plot\]"):
        invoke(bundle, "--plot", tmp_path / "bench.png")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_an_encoder_says_so(bundle_of: BundleOf) -> None:
    manifest = Manifest.open(bundle_of("sd"))
    alone = Manifest(
        manifest.config,
        tuple(graph for graph in manifest.graphs if graph.component == "decoder"),
        manifest.files,
        manifest.produced_by,
        folder=manifest.folder,
    )
    cases, _ = select_cases(alone, Selection(backends=["onnxruntime"]))
    assert {case.component for case in cases} == {"decoder"}
    with pytest.raises(BundleError, match="holds no encoder"):
        select_cases(alone, Selection(components=["encoder"]))


def test_the_table_compares_rows_of_one_component_and_size() -> None:
    rows = (
        measurement((0.2, 0.1, 0.4)),
        measurement((0.05, 0.06, 0.07), backend="openvino", provider=None),
        measurement((3.0,), size=(128, 128)),
        measurement((30.0,), component="encoder"),
    )
    report = BenchReport("bundle", "AutoencoderKL", describe_machine(), rows, ())
    lines = [line.split() for line in report.table().splitlines()[1:]]
    assert [line[5:9] for line in lines] == [
        ["0.200", "0.100", "0.400", "3.33x"],
        ["0.0600", "0.0500", "0.0700", "1.00x"],
        ["3.000", "3.000", "3.000", "1.00x"],
        ["30.0", "30.0", "30.0", "1.00x"],
    ]
    assert report.to_json()["measurements"][0]["median_seconds"] == 0.2
    assert len({len(line) for line in report.table().splitlines()}) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as a terminal does on POSIX")
def test_ctrl_c_ends_the_measuring_process_too(bundle_of: BundleOf) -> None:
    code = "from latentrt.cli.main import main; main()"
    command = [sys.executable, "-c", code, "bench", str(bundle_of("no_attention")), "--size", "512x512"]
    process = subprocess.Popen(
        [*command, "--repeats", "1000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 60
        while not (workers := psutil.Process(process.pid).children()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, said.decode().splitlines()[-1]) == (
        -signal.SIGINT,
        "Interrupted: nothing unfinished was left behind.",
    )
    assert not any(worker.is_running() for worker in workers)
