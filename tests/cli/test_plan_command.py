"""`latentrt plan` for what will be written, and the line that tells of measurements; all with made-up points."""

import json
import logging
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architectures import LTX
from command_line import invoke

from latentrt.cli.printing.progress import calibration_notice
from latentrt.runtime import InputError, OutputError
from latentrt.runtime.files.decoded_file import DecodedFile
from latentrt.runtime.media.clips.video_writer import VideoWriter
from latentrt.runtime.media.latents_file import LatentsFile, write_latents
from latentrt.runtime.planner.planner import Planner
from latentrt.runtime.planner.probe import Point

BundleOf = Callable[[str], Path]
NOTICE = "measuring once, and kept: small call"
CLIP = ("--size", "60x64x9", "--backend", "onnxruntime")


@pytest.fixture
def measured(without_bounds: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LATENTRT_CACHE", str(tmp_path / "cache"))

    def point(bundle: Path, engine: Any, probe: Any, check: Any) -> Point:
        area = probe.cells[-2] * probe.cells[-1]
        return Point((50 + area) << 20, 50 << 20, 0.01 * area)

    monkeypatch.setattr("latentrt.runtime.planner.calibration.measure", point)


@pytest.fixture
def works(measured: None, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, int]]:
    """What the planner is asked, and the budget that it is given."""
    asked: list[tuple[Any, int]] = []
    decide = Planner.decide

    def noted(self: Planner, work: Any, budget: int, *rest: Any, **options: Any) -> Any:
        asked.append((work, budget))
        return decide(self, work, budget, *rest, **options)

    monkeypatch.setattr(Planner, "decide", noted)
    return asked


def test_a_clip_in_a_file_is_planned_with_what_decode_gives_the_planner(
    works: list[tuple[Any, int]], bundle_of: BundleOf, opened: Callable[..., Any], tmp_path: Path
) -> None:
    told = json.loads(invoke("plan", bundle_of("ltx20"), *CLIP, "--memory", "1GiB", "--output", "mp4", "--json").stdout)
    held = VideoWriter.held_bytes(60, 64)
    assert (told["memory_bytes"], told["video_encoder_bytes"], told["output"]) == (1 << 30, held, "frames")
    z = np.zeros((1, LTX["ltx20"]["latent_channels"], 2, 2, 2), np.float32)
    vae = opened("ltx20", backend="onnxruntime")
    DecodedFile(vae, z, (9, 60, 64), None, {}, "1GiB").write(tmp_path / "clip.mp4", Fraction(24))
    assert works[0] == works[1], "as `decode` plans the same clip"
    assert (works[0][0].caller_bytes, works[0][1]) == (held, 1 << 30)
    text = invoke("plan", bundle_of("ltx20"), *CLIP, "--memory", "1GiB", "--output", "webm").stdout
    assert "the video encoder is part of every row's memory: 25 MiB" in text
    with pytest.raises(InputError, match="nothing fits into 20 MiB: the least would be"):
        invoke("plan", bundle_of("ltx20"), *CLIP, "--memory", "20MiB", "--output", "mp4")


@pytest.mark.parametrize(
    ("name", "output", "batch", "held"),
    [
        ("ltx20", None, 2, "frames"), ("ltx20", "folder", 1, "frames"), ("ltx20", "npy", 2, "float32"),
        ("ltx20", "uint8", 1, "uint8"), ("sd", None, 2, "float32"), ("sd", "png", 1, "uint8"),
        ("sd", "folder", 2, "uint8"), ("sd", "npy", 1, "float32"),
    ],
)  # fmt: skip
def test_the_plan_is_for_what_will_be_written(
    name: str, output: str | None, batch: int, held: str, works: list[tuple[Any, int]], bundle_of: BundleOf
) -> None:
    size = CLIP if name == "ltx20" else ("--size", "64x64", "--backend", "onnxruntime")
    options = ("--memory", "1GiB", "--batch", batch, *(() if output is None else ("--output", output)))
    told = json.loads(invoke("plan", bundle_of(name), *size, *options, "--json").stdout)
    work, budget = works[0]
    assert (work.output, work.batch, budget) == (held, batch, 1 << 30)
    assert (told["output"], told["batch"]) == (held, batch)
    assert "video_encoder_bytes" not in told


def test_an_encoder_keeps_its_moments_and_reads_its_clip_as_it_goes(
    works: list[tuple[Any, int]], bundle_of: BundleOf, opened: Callable[..., Any]
) -> None:
    invoke("plan", bundle_of("ltx20"), *CLIP, "--component", "encoder", "--memory", "1GiB")
    opened("ltx20", backend="onnxruntime").clip_strategy(lambda: (9, 64, 64), "1GiB", stream=False)
    assert works[0] == works[1], "as `encode` plans the same clip"
    assert (works[0][0].output, works[0][0].comes_in_chunks) == ("float32", True)


def test_streams_and_strips_are_planned_as_decode_has_them(
    measured: None, bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = json.loads(invoke("plan", bundle_of("ltx20"), *CLIP, "--stream", "--json").stdout)
    assert {row["kind"] for row in clip["candidates"]} <= {"stream", "stream + tiles", "stream in strips"}
    picture = ("--size", "64x64", "--backend", "onnxruntime", "--strips", "--storage", "float16", "--json")
    rows = json.loads(invoke("plan", bundle_of("sd"), *picture).stdout)["candidates"]
    assert {(row["kind"], row["exact"]) for row in rows} == {("strips", False)}
    with pytest.raises(InputError, match="--stream is for video models"):
        invoke("plan", bundle_of("sd"), "--size", "64x64", "--stream")


def test_the_chosen_strategy_is_the_first_row_and_eight_more_follow(measured: None, bundle_of: BundleOf) -> None:
    options = ("plan", bundle_of("ltx20"), "--size", "512x512x49", "--backend", "onnxruntime", "--memory", "300MiB")
    report = json.loads(invoke(*options, "--json").stdout)
    others = [row["strategy"] for row in report["candidates"] if row["strategy"] != report["chosen"]]
    assert len(others) > 8, "this proves nothing where every strategy is shown"
    assert report["candidates"][0]["strategy"] != report["chosen"], "nor where the chosen strategy comes first anyway"
    short, full = (invoke(*options, *more).stdout.splitlines() for more in ((), ("--all",)))
    assert short[1].startswith(f"->  {report['chosen']}  ")
    assert [line.startswith(f"    {name}  ") for line, name in zip(short[2:10], others, strict=False)] == [True] * 8
    assert short[10:] == [
        report["reason"],
        *filter(None, [report["faster"]]),
        f"{len(others) - 8} more strategies are not shown: give --all to see every strategy",
        "sizes are height x width x frames",
    ]
    below = [report["reason"], *filter(None, [report["faster"]]), "sizes are height x width x frames"]
    assert full[1 + len(report["candidates"]) :] == below


def test_the_video_encoder_counts_without_a_budget_too(works: list[tuple[Any, int]], bundle_of: BundleOf) -> None:
    told = json.loads(invoke("plan", bundle_of("ltx20"), *CLIP, "--output", "mp4", "--json").stdout)
    assert told["video_encoder_bytes"] == works[0][0].caller_bytes > 0


def test_where_a_drawing_cannot_go_nothing_is_measured(
    works: list[tuple[Any, int]], bundle_of: BundleOf, tmp_path: Path
) -> None:
    for drawing, sentence in ((tmp_path / "plan.gif", "end its name in"), (tmp_path / "none" / "plan.png", "folder")):
        with pytest.raises(OutputError, match=sentence):
            invoke("plan", bundle_of("ltx20"), *CLIP, "--draw", drawing)
    assert not works


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--output", "mp4", "--component", "encoder"), "leave it out for the encoder"),
        (("--output", "mp4", "--batch", 2), "one mp4 file holds one sample"),
        (("--output", "avi"), "'avi' is not one of"),
        (("--output", "npy", "--tile", "64x64"), "tiles are the same for every --output"),
        (("--batch", 2, "--tile", "64x64"), "tiles are the same for every --output"),
        (("--stream", "--tile", "64x64"), "leave --stream and --strips out"),
        (("--memory", "lots"), "got 'lots'"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(options: tuple[Any, ...], sentence: str, bundle_of: BundleOf) -> None:
    result = invoke("plan", bundle_of("ltx20"), *CLIP, *options)
    assert result.exit_code == 2
    assert sentence in result.output


def test_what_a_model_does_not_decode_to_is_refused(bundle_of: BundleOf) -> None:
    with pytest.raises(InputError, match="--output png: AutoencoderKLLTX2Video decodes to a clip"):
        invoke("plan", bundle_of("ltx20"), *CLIP, "--output", "png")
    for output in ("mp4", "frames"):
        with pytest.raises(InputError, match=f"--output {output}: AutoencoderKL decodes to a picture"):
            invoke("plan", bundle_of("sd"), "--size", "64x64", "--output", output)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error that says it is a terminal, also where click's runner has put another one in its place."""
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)


def commands(bundle: Path, folder: Path) -> dict[str, tuple[Any, ...]]:
    write_latents(folder / "z.safetensors", LatentsFile(np.zeros((1, 4, 8, 8), np.float32)))
    np.save(folder / "x.npy", np.zeros((3, 64, 64), np.float32))
    return {
        "plan": (bundle, "--size", "64x64"),
        "calibrate": (bundle,),
        "decode": (bundle, folder / "z.safetensors", "-o", folder / "y.npy", "--memory", "1GiB"),
        "encode": (bundle, folder / "x.npy", "-o", folder / "y.safetensors", "--memory", "1GiB"),
    }


@pytest.mark.parametrize("command", ["plan", "calibrate", "decode", "encode"])
def test_measuring_is_told_on_a_terminal(
    command: str, measured: None, terminal: None, bundle_of: BundleOf, tmp_path: Path
) -> None:
    arguments = (command, *commands(bundle_of("sd"), tmp_path)[command], "--backend", "onnxruntime")
    first = invoke(*arguments)
    assert first.stderr.count(f"{NOTICE} 1, calibrating onnxruntime: ") == 1
    assert first.stderr.rindex("\r") > first.stderr.rindex(NOTICE), "and taken back at the end"
    assert NOTICE not in first.stdout
    for path in tmp_path.glob("y.*"):
        path.unlink()
    assert NOTICE not in invoke(*arguments).stderr, "nothing is measured again"


@pytest.mark.parametrize("command", ["plan", "calibrate", "decode", "encode"])
def test_measuring_is_not_told_with_json_or_without_a_terminal(
    command: str, measured: None, bundle_of: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (command, *commands(bundle_of("sd"), tmp_path)[command], "--backend", "onnxruntime")
    assert NOTICE not in invoke(*arguments).stderr
    for path in [*tmp_path.glob("y.*"), *(tmp_path / "cache").rglob("*.json")]:
        path.unlink()
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)
    assert NOTICE not in invoke(*arguments, "--json").stderr


def test_warnings_pass_and_the_log_is_as_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    log = logging.getLogger("latentrt.runtime.planner.calibration")
    before = log.level, list(log.filters)
    with calibration_notice():
        log.info("calibrating")
        log.info("calibrating")
        log.warning("the calibration is not kept")
    assert (log.level, log.filters) == before
    assert capsys.readouterr().err.count(NOTICE) == 2
    assert caplog.messages == ["the calibration is not kept"]
    log.setLevel(logging.INFO)
    try:
        with calibration_notice():
            log.info("calibrating")
    finally:
        log.setLevel(before[0])
    assert NOTICE not in capsys.readouterr().err, "--verbose tells it"
    assert caplog.messages[-1] == "calibrating"
