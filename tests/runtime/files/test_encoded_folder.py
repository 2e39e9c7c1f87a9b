"""Folders that are encoded: files that fail do not stop the others, and several processes share the work."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import LATENTRT, invoke

from latentrt.runtime.errors import Cancelled, DeviceMemoryError, EngineError, InputError, OutputError
from latentrt.runtime.files import encoded_folder
from latentrt.runtime.files.encoded_file import encode_file
from latentrt.runtime.files.encoded_folder import encode_folder
from latentrt.runtime.files.output_names import output_names
from latentrt.runtime.media.clips.clip_writer import write_clip
from latentrt.runtime.media.latents_file import read_latents
from latentrt.runtime.media.pictures.picture_file import write_picture
from latentrt.runtime.system.outputs.partial_output import output_error

BundleOf = Callable[[str], Path]
Opened = Callable[..., Any]


def picture(seed: int, height: int = 16, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def pictures(folder: Path, count: int, broken: int = 0) -> list[str]:
    """Fill a folder, with every `broken`-th picture cut off. Gives the names of these."""
    folder.mkdir()
    write_picture(folder / "whole.png", picture(0))
    whole = (folder / "whole.png").read_bytes()
    (folder / "whole.png").unlink()
    bad = []
    for place in range(count):
        name = f"p{place:05d}.png"
        is_bad = broken and place % broken == broken // 2
        (folder / name).write_bytes(whole[: len(whole) // 2] if is_bad else whole)
        bad += [name] if is_bad else []
    return bad


def campaign(tmp_path: Path, bundle: Path, count: int) -> None:
    """Encode a folder with 1 % of broken pictures, mend them, and encode it again."""
    bad = pictures(tmp_path / "in", count, broken=100)
    arguments = ("encode", bundle, tmp_path / "in", "-o", tmp_path / "out", "--json", "--backend", "onnxruntime")
    first = invoke(*arguments)
    report = json.loads(first.stdout)
    assert first.exit_code == 1
    assert [Path(one["source"]).name for one in report["failed"]] == bad
    assert all("damaged or incomplete" in one["error"] for one in report["failed"])
    assert len(report["written"]) == count - len(bad)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert len(before) == count - len(bad), "nothing else is left in the folder"
    write_picture(tmp_path / "in" / bad[0], picture(1))
    second = invoke(*arguments)
    report = json.loads(second.stdout)
    assert second.exit_code == (1 if len(bad) > 1 else 0)
    assert [Path(one).name for one in report["written"]] == [bad[0].replace(".png", ".safetensors")]
    assert [Path(one["source"]).name for one in report["failed"]] == bad[1:]
    for name in bad:
        write_picture(tmp_path / "in" / name, picture(1))
    third = invoke(*arguments[:-3])
    assert third.exit_code == 0
    assert f"{len(bad) - 1} latents file" in third.stdout
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert len(after) == count
    assert before.items() <= after.items(), "a rerun touches nothing that was done"


def test_one_bad_picture_in_a_hundred_stops_no_other_and_a_rerun_tries_only_these(
    tmp_path: Path, bundle_of: BundleOf
) -> None:
    campaign(tmp_path, bundle_of("sd"), 300)


@pytest.mark.long
def test_ten_thousand_pictures_with_one_percent_broken_ones_are_done_in_one_run(
    tmp_path: Path, bundle_of: BundleOf
) -> None:
    campaign(tmp_path, bundle_of("sd"), 10_000)


def test_the_names_of_many_files_take_time_in_proportion_to_their_number(tmp_path: Path) -> None:
    def seconds(count: int) -> float:
        sources = [Path(f"p{place:06d}.png") for place in range(count)]
        held: dict[str, str | None] = {f"p{place:06d}.safetensors": f"p{place:06d}.png" for place in range(count)}
        best = float("inf")
        for _ in range(2):
            started = time.process_time()
            output_names(sources, tmp_path, held)
            best = min(best, time.process_time() - started)
        return best

    assert seconds(8_000) < 4 * 2.5 * seconds(2_000)  # a square would take 16 times as long


def test_every_kind_of_bad_file_is_reported_with_its_reason(tmp_path: Path, opened: Opened) -> None:
    vae, folder = opened("sd"), tmp_path / "in"
    pictures(folder, 3)
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no picture")
    (folder / "page.png").write_text("<!DOCTYPE html><html></html>")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "p00001.safetensors").mkdir()  # an output that cannot be written
    seen: list[Path] = []
    counts: list[tuple[str, int, int]] = []
    (tmp_path / "out" / "p00001.safetensors" / "x").touch()
    report = encode_folder(
        vae,
        folder,
        tmp_path / "out",
        overwrite=True,
        on_failed=lambda one: seen.append(one.source),
        progress=lambda *one: counts.append(one),
    )
    assert {one.source.name for one in report.failed} == {"empty.png", "text.jpg", "page.png", "p00001.png"}
    assert [one.source for one in report.failed] == seen
    assert all(len(one.error.splitlines()) == 1 for one in report.failed)
    assert [run.source.name for run in report.written] == ["p00000.png", "p00002.png"]
    assert [one for one in counts if one[0] == "files"] == [("files", done, 6) for done in range(7)]


def test_bad_clips_of_a_folder_are_reported(tmp_path: Path, bundle_of: BundleOf) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "c"):
        with write_clip(tmp_path / "in" / f"{name}.mp4", 24) as clip:
            clip.write(np.stack([picture(seed, 32, 32) for seed in range(9)]))
    (tmp_path / "in" / "b.mp4").write_bytes((tmp_path / "in" / "a.mp4").read_bytes()[:300])
    (tmp_path / "in" / "d.webm").touch()
    result = invoke("encode", bundle_of("ltx20"), tmp_path / "in", "-o", tmp_path / "out", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [Path(one["source"]).name for one in report["failed"]] == ["b.mp4", "d.webm"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.safetensors", "c.safetensors"]


def test_wrong_options_are_refused_before_the_first_file(tmp_path: Path, opened: Opened) -> None:
    vae = opened("sd")
    pictures(tmp_path / "in", 2)
    for options in (
        {"seed": -1},
        {"memory": "lots"},
        {"stream": True},
        {"matrix": "bt2020"},
        {"background": "nothing"},
    ):
        with pytest.raises(InputError):
            encode_folder(vae, tmp_path / "in", tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="matrix must be one of bt709, bt601, got 'bt2020'"):
        encode_file(vae, tmp_path / "in" / "p00000.png", tmp_path / "a.safetensors", matrix="bt2020")


@pytest.mark.parametrize(
    "error",
    [
        output_error(Path("x"), OSError(28, "No space left on device")),
        Cancelled("stopped"),
        RuntimeError("a bug"),
    ],
)
def test_an_error_that_every_file_would_meet_ends_the_run(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    vae = opened("sd")
    pictures(tmp_path / "in", 3)
    calls: list[Path] = []

    def fails(vae: Any, source: Path, output: Path, **options: Any) -> None:
        calls.append(source)
        try:
            raise OSError(28, "No space left on device")
        except OSError as cause:
            raise error from (cause if isinstance(error, OutputError) else None)

    monkeypatch.setattr(encoded_folder, "encode_file", fails)
    with pytest.raises(type(error)):
        encode_folder(vae, tmp_path / "in", tmp_path / "out")
    assert len(calls) == 1
    assert list((tmp_path / "out").iterdir()) == [], "no claim is left"


def failing(error: Exception, names: set[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the encode of some files raise. Gives the list of the files that are tried."""
    tried: list[str] = []

    def encode(vae: Any, source: Path, output: Path, **options: Any) -> Any:
        tried.append(source.name)
        if source.name in names:
            raise error
        return encode_file(vae, source, output, **options)

    monkeypatch.setattr(encoded_folder, "encode_file", encode)
    return tried


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "there is not enough memory for this file: give memory"),
        (DeviceMemoryError("the GPU has 2 GiB free"), "the GPU has 2 GiB free"),
        (EngineError("the engine failed"), "the engine failed"),
    ],
)
def test_a_file_that_the_engine_fails_stops_no_other_and_a_rerun_tries_it_again(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    vae = opened("sd")
    pictures(tmp_path / "in", 6)
    with monkeypatch.context() as patch:
        failing(error, {"p00001.png", "p00004.png"}, patch)
        report = encode_folder(vae, tmp_path / "in", tmp_path / "out")
    assert [one.source.name for one in report.failed] == ["p00001.png", "p00004.png"]
    assert all(one.error.startswith(words) for one in report.failed)
    assert len(report.written) == 4
    again = encode_folder(vae, tmp_path / "in", tmp_path / "out")
    assert [run.source.name for run in again.written] == ["p00001.png", "p00004.png"]
    assert not again.failed


def test_an_engine_that_fails_ten_files_in_a_row_ends_the_run(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = opened("sd")
    pictures(tmp_path / "in", 23)
    (tmp_path / "in" / "p00005.png").write_bytes(b"broken")  # a bad file says nothing about the engine
    works = {"p00000.png", "p00009.png"}
    names = {path.name for path in (tmp_path / "in").iterdir()} - works
    tried = failing(EngineError("no kernel"), names - {"p00005.png"}, monkeypatch)
    with pytest.raises(EngineError, match=r"10 files in a row failed in the engine.*\(no kernel\)"):
        encode_folder(vae, tmp_path / "in", tmp_path / "out")
    assert tried[-1] == "p00019.png", "the file that worked starts the count again"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"p00000.safetensors", "p00009.safetensors"}


def test_two_runs_at_a_time_share_a_folder_and_both_succeed(tmp_path: Path, opened: Opened) -> None:
    vae = opened("sd", contexts=2)
    bad = pictures(tmp_path / "in", 40, broken=20)
    reports: list[Any] = []
    threads = [
        threading.Thread(target=lambda: reports.append(encode_folder(vae, tmp_path / "in", tmp_path / "out")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = [[run.source.name for run in report.written] for report in reports]
    assert len(written[0]) + len(written[1]) == 38, "no file is encoded twice"
    assert all(len(names) > 3 for names in written), "both work"
    for report in reports:
        assert sorted(one.source.name for one in report.failed) == bad
        assert len(report.written) + len(report.shared) + len(report.kept) == 38
    assert len(list((tmp_path / "out").iterdir())) == 38


@pytest.mark.slow
def test_a_run_takes_over_the_file_of_a_process_that_was_killed(tmp_path: Path, bundle_of: BundleOf) -> None:
    pictures(tmp_path / "in", 400)
    command = [*LATENTRT, "encode", str(bundle_of("sd")), str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "out").is_dir() or len(os.listdir(tmp_path / "out")) < 20:  # noqa: PTH208 # only their number
        assert first.poll() is None
        time.sleep(0.01)
    first.kill()
    first.wait()
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert time.monotonic() - started < 40, "it does not wait for a dead process"
    assert "were there already" in done.stdout
    left = {path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".safetensors"}
    assert not [name for name in left if name.endswith(".claim")]
    assert len(list((tmp_path / "out").glob("p*.safetensors"))) == 400


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_awkward_names_are_encoded_and_found_again(tmp_path: Path, bundle_of: BundleOf) -> None:
    (tmp_path / "in").mkdir()
    write_picture(tmp_path / "in" / "a.png", picture(0))
    whole = (tmp_path / "in" / "a.png").read_bytes()
    names: list[bytes] = [
        b"\xff\xfe.png",
        b"new\nline.png",
        b"-o.png",
        b"--help.png",
        b"trailing .png",
        b"with:colon.png",
        b"%d.png",
        b"a b'c\"d.png",
        "é日本語.png".encode(),
    ]
    if sys.platform == "darwin":
        names.pop(0)
    for name in names:
        (tmp_path / "in" / os.fsdecode(name)).write_bytes(whole)
    (tmp_path / "in" / "broken\x1b[31m.png").write_bytes(b"broken")
    arguments = ("encode", bundle_of("sd"), tmp_path / "in", "-o", tmp_path / "out")
    result = invoke(*arguments, "--json")
    report = json.loads(result.stdout)
    assert len(report["written"]) == len(names) + 1
    assert len(report["failed"]) == 1
    text = invoke(*arguments)
    assert f"1 failed, {len(names) + 1} were there already" in text.stdout
    assert text.stdout.count("\n") == 3
    assert "\x1b" not in text.output
    for path in report["written"]:
        assert read_latents(path).latents.shape == (1, 4, 2, 2)
