"""scripts/gpu_check without a GPU: the same steps on small models, so that the run on a GPU finds no surprises; and
each of its own parts, with what stands in for a GPU and for TensorRT."""

import dataclasses
import importlib
import importlib.metadata
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import host_device
import numpy as np
import psutil
import pytest
import torch
from places import ROOT

from latentrt.export.engines.planning import plan_profiles
from latentrt.export.engines.settings import BuildSettings, Extent
from latentrt.export.verify.quality import psnr
from latentrt.runtime import open_bundle
from latentrt.runtime.arrays.pixels import to_pixels, to_samples
from latentrt.runtime.bundle.added_outputs import added_outputs
from latentrt.runtime.bundle.manifest import Manifest

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "scripts" / "gpu_check"
Rows = list[dict[str, Any]]

# What there is no stand-in for without a GPU; everything else is measured in the dry run.
NOT_ON_A_CPU = {
    "backend": r"is not installed: run|has no (CUDA|Tensorrt)ExecutionProvider|no NVIDIA driver answers",
    "caller's stream": "onnxruntime has no stream of the caller's",
    "memory cap": "onnxruntime has no device_memory_bytes",
    "caller's workspace": "onnxruntime has no workspace",
    "refitted": "onnxruntime has no engine without weights",
    "engine that is refitted": "--strip-weights: tensorrt-rtx",
    "engine without weights": "--strip-weights: tensorrt-rtx",
    "engine for other weights": "--strip-weights: tensorrt-rtx",
    "version-compatible engine": "--version-compatible: engines of tensorrt-rtx",
    "hardware-compatible engine": "--hardware-compatible: tensorrt-rtx",
    "timing cache": "tensorrt-rtx times nothing while it builds",
    "decode, on the device": "measured on a GPU only|no bfloat16 convolution for the CPU",
    "decode, on the host": "measured on a GPU only|no bfloat16 convolution for the CPU",
    "decode, uint8": "no bfloat16 convolution for the CPU",
}
STEPS = {"weights", "export", "reference", "backends"}  # what the parts that are promised need


@pytest.fixture(scope="module")
def gpu() -> Iterator[Callable[[str], ModuleType]]:
    """`gpu(name)`: a module of scripts/gpu."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        yield lambda name: importlib.import_module(f"gpu.{name}")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, str]:
    """The dry run's JSON, its Markdown, and what it printed."""
    out = tmp_path_factory.mktemp("gpu")
    command = [sys.executable, str(SCRIPT), "--dry-run", "--seconds", "3000", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["cpu-dry-run.json", "cpu-dry-run.md"]
    values = json.loads((out / "cpu-dry-run.json").read_text(), parse_constant=pytest.fail)
    return values, (out / "cpu-dry-run.md").read_text(), done.stdout


@pytest.mark.long
def test_what_is_not_measured_in_the_dry_run_is_what_only_a_gpu_can(report: tuple[dict[str, Any], str, str]) -> None:
    rows: Rows = report[0]["rows"]
    assert {row["status"] for row in rows} == {"ok", "skipped"}
    for row in rows:
        if row["status"] == "skipped":
            assert re.search(NOT_ON_A_CPU[row["part"]], row["reason"]), row
    skipped = {row["part"] for row in rows if row["status"] == "skipped"}
    assert skipped == set(NOT_ON_A_CPU), "the list is of this"


@pytest.mark.long
def test_every_promise_of_the_issue_is_measured_for_both_families(
    report: tuple[dict[str, Any], str, str], gpu: Callable[[str], ModuleType]
) -> None:
    values, text, _ = report
    promises = gpu("promises").PROMISES
    for promise in promises:
        for (part, model), rows in promise.found(values["rows"]).items():
            assert rows, f"{promise.text}: nothing measures {part} of {model}"
        assert f"| {promise.text} |" in text
    promised = {part for promise in promises for part in promise.parts}
    assert {row["part"] for row in values["rows"]} == promised | STEPS, "and nothing else"
    assert [one["text"] for one in values["promises"]] == [promise.text for promise in promises]


@pytest.mark.long
def test_a_part_that_disappears_is_noticed(
    report: tuple[dict[str, Any], str, str], gpu: Callable[[str], ModuleType]
) -> None:
    rows: Rows = report[0]["rows"]
    for part, model in ((row["part"], row["case"].split()[0]) for row in rows if row["part"] not in STEPS):
        left = [row for row in rows if (row["part"], row["case"].split()[0]) != (part, model)]
        assert not all(all(one.found(left).values()) for one in gpu("promises").PROMISES), f"{part} of {model}"


@pytest.mark.long
def test_decodes_of_both_families_come_first(report: tuple[dict[str, Any], str, str]) -> None:
    rows: Rows = report[0]["rows"]
    decodes = [
        index for index, row in enumerate(rows) if row["by"] == "onnxruntime cpu float16" and "decode," in row["part"]
    ]
    assert {rows[index]["case"] for index in decodes} == {"sdxl 64x64", "ltx2 64x96x9"}
    before = {row["part"] for row in rows[: max(decodes)]}
    assert not before & {"memory cap", "warm start", "stream", "verify", "engines of parts", "engine of the encoder"}
    assert rows[0]["part"] == "machine"


@pytest.mark.long
def test_torch_and_our_backends_are_measured_alike(report: tuple[dict[str, Any], str, str]) -> None:
    rows: Rows = report[0]["rows"]
    found = {(row["case"], row["by"], row["part"]): row for row in rows if row["status"] == "ok"}
    layouts = {"sdxl 64x64": "channels_last", "ltx2 64x96x9": "channels_last_3d"}
    for case, layout in layouts.items():
        for by in ("torch float32", "torch float16", f"torch {layout} float16", f"torch {layout} bfloat16"):
            for part in ("decode, on the device", "decode, on the host", "decode, uint8"):
                assert found[case, by, part]["seconds"] > 0
        for by, least in (("onnxruntime cpu float16", 45), ("onnxruntime cpu float32", 100)):
            row = found[case, by, "decode, on the host"]
            assert least <= row["psnr_db"] < (150 if least == 100 else 100)
            assert found[case, by, "decode, on the device"]["psnr_db"] == pytest.approx(row["psnr_db"], abs=5)
            assert found[case, by, "decode, uint8"]["psnr_db"] >= 40
        assert found[case, "torch float32", "decode, on the host"]["psnr_db"] == 200, "it is the reference"
        assert found[case, "torch float32", "decode, on the device"]["psnr_db"] == 200
        assert 0 < found[case, "torch float32", "decode, on the device"]["share_of_matrix_rate"] < 5
        assert found[case, "onnxruntime cpu float16", "encode, on the host"]["psnr_db"] >= 45
        assert found[case, "onnxruntime cpu float16", "host overhead, tiles"]["host_share"] < 1
    clip = found["ltx2 64x96x9", "onnxruntime cpu float16", "stream to a clip"]
    assert 0 < clip["first_frame_seconds"] <= clip["seconds"]
    assert found["ltx2 64x96x9", "onnxruntime cpu float32", "stream"]["psnr_db"] >= 100
    assert found["sdxl 64x64", "onnxruntime cpu float32", "exact strips"]["psnr_db"] >= 100
    built = {(row["case"], row["by"]) for row in rows if row["part"] == "engines of parts" and row["status"] == "ok"}
    assert built >= {("ltx2 64x96x9", f"tensorrt-rtx {dtype}") for dtype in ("float16", "float32")}
    assert ("sdxl 64x64", "tensorrt-rtx float16") in built
    overflow = found["sdxl small", "onnxruntime cpu float16", "overflow"]
    assert "run again in float32" in overflow["says"]


@pytest.mark.long
def test_the_report_names_the_machine_and_what_is_installed(report: tuple[dict[str, Any], str, str]) -> None:
    values, text, printed = report
    for package in ("torch", "onnxruntime", "tensorrt-rtx-cu13", "cuda-core", "cuda-bindings"):
        assert f"{package} {importlib.metadata.version(package)}" in text
        assert values["machine"]["packages"][package] == importlib.metadata.version(package)
    assert text in printed
    assert "| ltx2 64x96x9 | onnxruntime cpu float16 | stream |" in text
    assert "## Not as it should be" not in text


@pytest.mark.long
def test_what_there_is_no_time_for_is_left_out_and_said(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--dry-run", "--seconds", "0.5", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "unknown.json").read_text())
    assert {row["status"] for row in values["rows"]} == {"skipped"}
    assert "- skipped, no time left:\n" in done.stdout
    assert "  - sdxl 64x64, torch float32, decode, on the host\n" in done.stdout


@pytest.mark.long
def test_a_run_that_is_ended_leaves_what_it_has_and_nothing_else(tmp_path: Path) -> None:
    out, work = tmp_path / "out", tmp_path / "work"
    work.mkdir()
    command = [sys.executable, str(SCRIPT), "--dry-run", "--model", "ltx2", "--part", "decodes", "--out", str(out)]
    environment = {**os.environ, "TMPDIR": str(work)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "export: ok" in line:
                break
        run.terminate()
        run.communicate(timeout=60)
    assert run.returncode == 143
    values = json.loads((out / "cpu-dry-run-decodes.json").read_text())
    assert [row["part"] for row in values["rows"]][-2:] == ["weights", "export"]
    assert "not measured |" in (out / "cpu-dry-run-decodes.md").read_text()
    assert not list(work.glob("latentrt-gpu-*"))
    ended = time.monotonic() + 20
    while time.monotonic() < ended and any(_works_in(process, work) for process in psutil.process_iter()):
        time.sleep(0.1)
    assert not [process for process in psutil.process_iter() if _works_in(process, work)]


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        ended: bool = process.status() == psutil.STATUS_ZOMBIE
        return not ended and process.environ().get("TMPDIR") == str(folder)
    except psutil.Error:
        return False


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing where there is no GPU")
def test_without_a_gpu_it_ends_and_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert re.search("machine, torch, machine: .*(CUDA|NVIDIA)", done.stderr)
    assert "- machine, torch, machine: " in (tmp_path / "unknown.md").read_text()


def test_it_is_executable_and_documented() -> None:
    assert os.access(SCRIPT, os.X_OK)
    done = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True)
    assert "--dry-run" in done.stdout
    assert "--wheels" in done.stdout


# Processes


@pytest.fixture
def doubles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What is measured, in a module that a new process finds."""
    (tmp_path / "gpu_doubles.py").write_text(
        """
import os, time
from gpu.processes import Unable

class DeviceMemoryError(Exception): pass
class BackendUnavailable(Exception): pass

def fine(): return {"pid": os.getpid(), "said": os.environ.get("SAID")}
def wrong(): raise ValueError("it is wrong\\nand more")
def unable(): raise Unable("nobody can")
def too_large(): raise DeviceMemoryError("no room")
def absent(): raise BackendUnavailable("it is not here")
def no_kernel(): raise RuntimeError("CUDA error: no kernel image is available for execution on the device")
def dies(): os._exit(3)
def hangs(): time.sleep(600)
def measures(): return {(name, "x"): globals()[name] for name in list(globals())}
def broken(): raise BackendUnavailable("nothing of it")
"""
    )
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.syspath_prepend(str(tmp_path))
    return importlib.import_module("gpu_doubles")


def rows_of(gpu: Callable[[str], ModuleType], measures: Any, *names: str, seconds: float = 60, **options: Any) -> Rows:
    processes = gpu("processes")
    job = processes.Job("case", tuple((name, "x") for name in names), measures, **options)
    return list(processes.Running(processes.Budget(seconds), job).rows())


def test_one_measurement_that_fails_or_dies_costs_its_own_row(gpu: Callable[[str], ModuleType], doubles: Any) -> None:
    names = ("fine", "wrong", "dies", "unable", "too_large", "absent", "no_kernel", "fine", "nowhere")
    rows = rows_of(gpu, doubles.measures, *names, environment={"SAID": "yes"})
    states = {row["part"]: row["status"] for row in rows}
    assert [row["part"] for row in rows] == list(names)
    assert states == {"fine": "ok", "wrong": "failed", "dies": "failed", "nowhere": "failed"} | dict.fromkeys(
        ("unable", "too_large", "absent", "no_kernel"), "skipped"
    ), "what this machine cannot do is no failure"
    assert rows[0]["said"] == "yes"
    assert "SAID" not in os.environ
    assert rows[0]["pid"] != rows[7]["pid"], "the rest went on in a new process"
    assert (rows[1]["reason"], rows[2]["reason"]) == ("ValueError: it is wrong", "the process ended with code 3")
    assert "in wrong" in rows[1]["trace"]
    assert [row["reason"] for row in rows[3:5]] == ["nobody can", "no room"]
    assert {row["reason"] for row in rows_of(gpu, doubles.broken, "fine", "wrong")} == {"nothing of it"}


def test_one_that_hangs_is_stopped_and_what_was_to_follow_is_left_out(
    gpu: Callable[[str], ModuleType], doubles: Any
) -> None:
    rows = rows_of(gpu, doubles.measures, "fine", "hangs", "wrong", limit_seconds=8.0)
    assert [row["status"] for row in rows] == ["ok", "timed out", "skipped"]
    assert rows[1]["reason"] == "stopped after 8 s"
    assert rows[2]["reason"] == "not tried after hangs was stopped"
    started = time.monotonic()
    rows = rows_of(gpu, doubles.measures, "hangs", "fine", seconds=3.0)
    assert time.monotonic() - started < 8, "the run's own end comes before the limit"
    assert [row["status"] for row in rows] == ["timed out", "skipped"]
    rows = rows_of(gpu, doubles.measures, "fine", unless="no reason")
    assert [(row["status"], row["reason"]) for row in rows] == [("skipped", "no reason")]


# The schedule on a GPU


class Said:
    """A report in which every engine has the same status."""

    def __init__(self, status: str) -> None:
        self._status = status

    def status(self, part: str, case: str, by: str) -> str:
        return self._status


@pytest.fixture
def on_a_gpu(gpu: Callable[[str], ModuleType], tmp_path: Path) -> Callable[..., list[Any]]:
    """`on_a_gpu(engines, providers)`: the jobs of a run with these backends."""
    cases = gpu("cases")

    def jobs(engines: tuple[str, ...], providers: tuple[str, ...] = (), status: str = "ok", **groups: Any) -> list[Any]:
        setup = gpu("setup").Setup(
            dry=False,
            work=tmp_path,
            cases=cases.REAL_CASES,
            small=cases.DRY_CASES,
            engines=engines,
            libraries=tuple(one for one in engines if one.startswith("tensorrt")),
            providers=providers,
            capability="8.9",
        )
        schedule = gpu("schedule")
        return list(schedule.schedule(setup, Said(status), groups.get("groups", tuple(schedule.GROUPS))))

    return jobs


@pytest.mark.parametrize(
    "engines", [("tensorrt",), ("tensorrt-rtx",), ("tensorrt", "tensorrt-rtx"), ("onnxruntime:cuda",)]
)
def test_on_a_gpu_there_are_jobs_for_every_promise(
    engines: tuple[str, ...], on_a_gpu: Callable[..., list[Any]], gpu: Callable[[str], ModuleType]
) -> None:
    jobs = on_a_gpu(engines, ("onnxruntime:cuda", "onnxruntime:tensorrt"))
    rows = [{"part": part, "case": job.case, "by": by} for job in jobs for part, by in job.asked]
    builds = {"engine", "engine of the encoder", "engines of parts", "engine that is refitted"}
    for promise in gpu("promises").PROMISES:
        for (part, _), found in promise.found(rows).items():
            without_engines = engines == ("onnxruntime:cuda",) and part in builds
            assert found or without_engines or not promise.models, f"{promise.text}: {part}"
    names = {
        f"{engine.replace(':', ' ')} {dtype}" for engine in engines for dtype in ("float32", "float16", "bfloat16")
    }
    names |= {f"onnxruntime {one}" for one in ("cuda float32", "cuda bfloat16", "tensorrt float32", "tensorrt float16")}
    assert names <= {row["by"] for row in rows if row["part"] == "decode, on the host"}
    assert all(job.unless is None for job in jobs)
    assert [job for job in jobs if job.environment] == [
        job for job in jobs if "onnxruntime tensorrt" in job.asked[0][1]
    ]
    sizes = [row["case"] for row in rows if row["part"] == "decode, on the device"]
    assert list(dict.fromkeys(sizes)) == ["sdxl 1024x1024", "ltx2 512x768x121", "ltx2 704x1216x121"]


def test_everything_that_a_job_asks_for_is_there(on_a_gpu: Callable[..., list[Any]]) -> None:
    flags: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn]
    before = [flag.allow_tf32 for flag in flags]
    try:
        for flag in flags:
            flag.allow_tf32 = True
        for job in on_a_gpu(("tensorrt", "tensorrt-rtx"), ("onnxruntime:cuda", "onnxruntime:tensorrt")):
            pickle.dumps(job)
            assert set(job.asked) <= set(job.measures(*job.arguments)), job.case
        assert [flag.allow_tf32 for flag in flags] == [False, False], "torch computes float32 as ours does"
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


def test_what_searches_for_too_long_is_built_again_with_less(on_a_gpu: Callable[..., list[Any]]) -> None:
    for status, tries in (("ok", 1), ("failed", 1), ("skipped", 1), ("timed out", 2)):
        jobs = on_a_gpu(("tensorrt",), status=status, groups=("decodes",))
        builds = [job.arguments[0] for job in jobs if job.asked == (("engine", "tensorrt float16"),)]
        assert [build.options for build in builds[:tries]] == [{}, {"optimization_level": 1}][:tries]
        assert len(builds) == 2 * tries
        (run,) = [
            job for job in jobs if job.case == "sdxl 1024x1024" and job.asked[0][1] == "tensorrt float16" and job.alone
        ]
        assert run.unless == (None if status == "ok" else f"there is no engine (engine: {status})")


# Wheels


def wheel(folder: Path, name: str, *files: str, commands: str = "") -> Path:
    info, path = f"{name}-1.0.dist-info", folder / f"{name}-1.0-py3-none-any.whl"
    held = dict.fromkeys(files, "") | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{commands}\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in held.items():
            archive.writestr(file, content)
        archive.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in (*held, f"{info}/RECORD")))
    return path


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Wheels of which two share a folder, as cuda-core and cuda-bindings do, and one that is installed already."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    wheel(folder, "shared_core", "sharedspace/core/__init__.py")
    wheel(folder, "shared_bindings", "sharedspace/bindings/__init__.py", commands="bind = sharedspace.bindings:main")
    (folder / "numpy-99.0-py3-none-any.whl").write_text("it is not looked at")
    return folder


@pytest.mark.long
def test_wheels_that_share_a_folder_are_all_installed(
    shelf: Path, tmp_path: Path, gpu: Callable[[str], ModuleType]
) -> None:
    wheels, target = gpu("wheels"), tmp_path / "target"
    archives = wheels.missing(shelf)
    assert [path.name.partition("-")[0] for path in archives] == ["shared_bindings", "shared_core"]
    wheels.install(archives, target, 60)
    assert {path.name for path in (target / "sharedspace").iterdir() if path.name != "__pycache__"} == {
        "bindings",
        "core",
    }


def test_of_several_wheels_the_one_for_this_python_is_taken(
    tmp_path: Path, gpu: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels, here = gpu("wheels"), f"cp{sys.version_info.major}{sys.version_info.minor}"
    names = [
        *(f"several-2.0-{python}-abi3-any.whl" for python in ("cp27", "cp99")),
        *(f"several-{version}-{here}-none-any.whl" for version in ("1.0", "2.0", "10.0")),
        "several-10.0-py3-none-any.whl",
        "source-1.0.tar.gz",
        "source-1.0-cp27-cp27m-win32.whl",
        "misnamed-1.whl",
        "others-1.0-cp27-cp27m-win32.whl",
    ]
    for name in names:
        (tmp_path / name).touch()
    taken = {"misnamed-1.whl", f"several-10.0-{here}-none-any.whl", "source-1.0.tar.gz"}
    assert {path.name for path in wheels.missing(tmp_path)} == taken
    assert [path.name for path in wheels.foreign(tmp_path)] == ["others-1.0-cp27-cp27m-win32.whl"]
    monkeypatch.setattr(wheels, "_packaging", lambda: None)
    assert len(wheels.missing(tmp_path)) == 4, "one of each: pip says what is wrong with it"


@pytest.mark.long
def test_a_folder_that_pip_leaves_out_is_an_error(
    shelf: Path, tmp_path: Path, gpu: Callable[[str], ModuleType]
) -> None:
    wheels, target = gpu("wheels"), tmp_path / "target"
    first, second = wheels.missing(shelf)
    wheels.install([first], target, 60)
    with pytest.raises(
        wheels.NotInstalled, match=r"pip reported no error, but shared_core-1\.0-py3-none-any\.whl cannot be found"
    ):
        wheels.install([second], target, 60)


@pytest.mark.long
def test_wheels_that_cannot_be_used_are_told_and_the_rest_is_measured(
    shelf: Path, tmp_path: Path, gpu: Callable[[str], ModuleType]
) -> None:
    (shelf / "damaged-1.0-py3-none-any.whl").write_text("no archive")
    (shelf / "foreign-1.0-cp27-cp27m-win32.whl").write_text("it is not looked at")
    command = [sys.executable, str(SCRIPT), "--dry-run", "--wheels", str(shelf), "--out", str(tmp_path / "out")]
    work = ["--work", str(tmp_path / "work"), "--seconds", "15", "--part", "decodes", "--model", "sdxl"]
    done = subprocess.run([*command, *work], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert re.search(r"machine: damaged-1.0-py3-none-any.whl, wheel: failed, pip ended with 1: .*damaged", done.stderr)
    assert "machine: foreign-1.0-cp27-cp27m-win32.whl, wheel: skipped, it is not for this Python" in done.stderr
    assert "machine: torch, machine: ok" in done.stderr
    assert sorted(path.name for path in (tmp_path / "work" / "wheels-0" / "sharedspace").iterdir()) == [
        "bindings",
        "core",
    ]
    with pytest.raises(gpu("wheels").NotInstalled, match="pip took longer than 0 s for 1 packages"):
        gpu("wheels").install([shelf / "shared_core-1.0-py3-none-any.whl"], tmp_path / "target", 0.01)


@pytest.mark.long
def test_installing_counts_and_a_second_run_finds_what_is_installed(shelf: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--dry-run", "--wheels", str(shelf), "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, "--seconds", "0.3"], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert "pip took longer than 0 s for 2 packages" in done.stderr
    for _ in range(2):
        work = ["--work", str(tmp_path / "work"), "--seconds", "4"]
        done = subprocess.run([*command, *work], capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        assert [path.name for path in (tmp_path / "work").glob("wheels-*")] == ["wheels-0"]


# What is measured, with stand-ins


def test_the_distance_on_a_device_is_that_of_verify(gpu: Callable[[str], ModuleType]) -> None:
    distance, rng = gpu("distance"), np.random.default_rng(0)
    wanted = rng.standard_normal((2, 3, 9, 16, 24), np.float32)
    ours = wanted + np.float32(1e-3) * rng.standard_normal(wanted.shape, np.float32)
    for result in (ours, torch.from_numpy(ours)):
        assert distance.psnr_db(result, wanted, "cpu") == pytest.approx(psnr(ours, wanted), abs=1e-6)
    pixels = to_pixels(ours)
    clipped = psnr(to_samples(pixels), np.clip(wanted, -1, 1))
    for result in (pixels, torch.from_numpy(pixels)):
        assert distance.psnr_db(result, wanted, "cpu") == pytest.approx(clipped, abs=1e-4)
    np.testing.assert_array_equal(gpu("peer").to_pixels(torch.from_numpy(ours)), pixels)
    ours[0, 0, 0, 0, 0] = np.nan
    assert distance.psnr_db(ours, wanted, "cpu") == distance.psnr_db(torch.from_numpy(ours), wanted, "cpu") == 0
    assert distance.psnr_db(torch.from_numpy(wanted), wanted, "cpu") == 200
    with pytest.raises(ValueError, match="wanted a result of shape"):
        distance.psnr_db(torch.from_numpy(ours[:1]), wanted, "cpu")


def test_times_within_several_spans_count_once(gpu: Callable[[str], ModuleType]) -> None:
    assert gpu("overhead").covered_seconds([(5, 6), (0, 2), (1, 3), (1.5, 2)]) == 4
    assert gpu("overhead").covered_seconds([]) == 0


def test_what_is_not_as_promised_is_told(gpu: Callable[[str], ModuleType], tmp_path: Path) -> None:
    report = gpu("report").Report(tmp_path)
    row = {"part": "release and reload", "case": "sdxl 1024x1024", "by": "tensorrt float16", "status": "ok"}
    report.add(
        row | {"reload_seconds": 0.1, "most": {"reload_seconds": 0.2}, "psnr_db": None, "least": {"psnr_db": 45}}, 1
    )
    assert report.complaints == []
    report.add(
        row | {"reload_seconds": 0.3, "most": {"reload_seconds": 0.2}, "psnr_db": 44, "least": {"psnr_db": 45}}, 1
    )
    report.add(row | {"status": "failed", "reason": "it broke"}, 1)
    report.add(row | {"status": "timed out", "reason": "stopped after 4 s"}, 1)
    named = "sdxl 1024x1024, tensorrt float16, release and reload"
    assert report.complaints == [
        f"{named}: it broke",
        f"{named}: psnr_db is 44, wanted at least 45",
        f"{named}: reload_seconds is 0.3, wanted at most 0.2",
    ]
    assert f"- {named}: it broke" in (tmp_path / "unknown.md").read_text()


def test_the_work_of_a_case_is_what_the_model_does(gpu: Callable[[str], ModuleType]) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from latentrt.export.graphs.components import meta_model
    from latentrt.runtime.config.families import config_from_dict

    cases = gpu("cases")
    assert [case.name for case in cases.REAL_CASES] == ["sdxl 1024x1024", "ltx2 512x768x121", "ltx2 704x1216x121"]
    for case in (*cases.REAL_CASES[:2], *cases.DRY_CASES):
        model: Any = meta_model(config_from_dict(case.config))
        for component, run in (("decoder", model.decode), ("encoder", model.encode)):
            shape = case.sample if component == "encoder" else case.latents
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                run(torch.empty(shape, device="meta"))
            assert counter.get_total_flops() == round(1e12 * case.tflop(component))


@pytest.fixture
def on_engines(
    bundle_of: Callable[[str], Path], tmp_path: Path, gpu: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A `Subject` whose backend is "tensorrt", on stand-ins for engines and for a GPU."""
    bundle = Path(shutil.copytree(bundle_of("sd"), tmp_path / "bundle"))
    manifest, settings = (
        Manifest.open(bundle),
        BuildSettings("tensorrt", tiles=(Extent(1, 64, 64), Extent(1, 32, 32)), static=True),
    )
    config: Any = manifest.config
    host_device.install(monkeypatch)
    whole = dataclasses.replace(manifest, strip_graphs=())
    whole.write()
    host_device.with_engines(
        bundle, lambda graph: plan_profiles(config, graph, settings), lambda graph: added_outputs(manifest, graph)
    )
    cases = gpu("cases")
    case, wanted = cases.Case("sdxl", {}, (1, 4, 8, 8), 1.0, 1.0), tmp_path / "wanted.npy"
    with open_bundle(bundle, backend="onnxruntime", provider="cpu") as vae:
        np.save(wanted, vae.decode(case.array("decoder")).sample)
    return gpu("subject").Subject(case, cases.Contender("tensorrt", "float32"), bundle, wanted, "cpu")


class Memory(host_device.OnDevice):
    def __getitem__(self, part: slice) -> "Memory":
        return Memory(self.values[part])


@pytest.mark.long
def test_what_is_measured_of_living_beside_others(
    on_engines: Any, gpu: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(on_engines), "empty_bytes", lambda self, size: Memory(np.empty(size, np.uint8)))
    measures = gpu("residency").residency_measures(on_engines)
    rows = {part: {"status": "ok", **measure()} for (part, _), measure in measures.items()}
    assert rows["release and reload"].pop("most") == {"reload_seconds": 0.2}, "of engines; stand-ins take longer"
    assert {part: gpu("report").missed(row) for part, row in rows.items()} == {part: [] for part in rows}
    assert all(row["psnr_db"] >= 100 for row in rows.values() if "psnr_db" in row)
    assert rows["release and reload"]["reload_seconds"] >= rows["release and reload"]["release_seconds"]
    assert rows["replayed call"]["to_first_db"] == rows["replayed call"]["to_plain_db"] == 200
    assert rows["two contexts"]["to_alone_db"] == 200
    assert "device_memory_bytes" in rows["memory cap"]["says"]
    assert rows["memory cap"]["refused_bytes"] < rows["memory cap"]["cap_bytes"]
    assert rows["caller's workspace"]["says"].startswith("decoder.onnx.engine, latents (1, 4, 8, 8): the workspace has")
    assert len(rows) == 6


def test_a_replayed_call_was_recorded_and_a_plain_one_was_not(
    on_engines: Any, gpu: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = []
    record = host_device.HostGpu.record_graph

    def spied(self: host_device.HostGpu, *arguments: Any) -> Any:
        recorded.append(self)
        return record(self, *arguments)

    monkeypatch.setattr(host_device.HostGpu, "record_graph", spied)
    with gpu("residency").without_graphs():
        for _ in range(3):
            on_engines.on_host()
    assert not recorded
    row = gpu("residency").residency_measures(on_engines)["replayed call", "tensorrt float32"]()
    assert len(recorded) == 1
    assert "says" not in row
    monkeypatch.setattr(host_device.HostGpu, "records_graphs", False)
    row = gpu("residency").residency_measures(on_engines)["replayed call", "tensorrt float32"]()
    assert row["says"].startswith("calls run one kernel after the other: CUDA records no graph")


def test_tensorrt_rtx_records_no_graphs_either(gpu: Callable[[str], ModuleType]) -> None:
    import tensorrt_rtx

    of = tensorrt_rtx.CudaGraphStrategy
    before = of.WHOLE_GRAPH_CAPTURE
    with gpu("residency").without_graphs():
        assert of.WHOLE_GRAPH_CAPTURE == of.DISABLED
    assert of.WHOLE_GRAPH_CAPTURE == before != of.DISABLED


def test_calls_pixels_and_tiles_of_engines_are_measured(
    on_engines: Any, gpu: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    by = "tensorrt float32"
    calls, features = (
        gpu("calls").call_measures(on_engines, tmp_path),
        gpu("features").feature_measures(on_engines, tmp_path),
    )
    assert calls["decode, on the host", by]()["psnr_db"] >= 100
    assert calls["decode, uint8", by]()["psnr_db"] >= 40
    ways = [features[f"tiles, {how}", by]() for how in ("overlapped", "one by one")]
    assert [way["in_flight"] for way in ways] == [2, 1]
    assert ways[0]["psnr_db"] == ways[1]["psnr_db"]
    overhead = gpu("overhead").overhead_measures(on_engines)["host overhead, on the host", by]()
    assert 0 < overhead["engine_share"] <= 1
    assert on_engines.backend().capabilities.calls_in_flight == 2
