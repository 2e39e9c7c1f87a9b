"""The campaigns find faults that are made on purpose, report them with the number that makes them again, and end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from campaigns.campaign import Case, Settings, run_campaign
from campaigns.campaigns import CAMPAIGNS
from campaigns.child import Child, Task
from campaigns.fuzz import FuzzCampaign
from campaigns.material import make_material
from campaigns.processes import marked_processes
from campaigns.soak_case import Held, growth
from campaigns.summary import Summary
from campaigns.verdict import sentence_fault
from places import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the campaigns use POSIX signals and limits")

SEED = 1


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with the demo models."""
    folder = tmp_path_factory.mktemp("campaign")
    make_material(folder)
    return folder


def assert_no_fault(summary: Summary, least: int) -> None:
    assert not summary.faults, summary.text()
    assert summary.broken is None, summary.broken
    assert summary.cases >= least, summary.text()


# The short seeds of continuous integration


@pytest.mark.slow
def test_no_parser_has_a_fault_with_a_few_damaged_files(work: Path) -> None:
    cheap = tuple(group for group in CAMPAIGNS["fuzz"].groups() if group != "openvino_cache")  # compiles each time
    assert_no_fault(run_campaign(CAMPAIGNS["fuzz"], Settings(work, SEED, cases=25, only=cheap)), 25 * len(cheap))


@pytest.mark.slow
def test_hostile_files_cause_no_harm(work: Path) -> None:
    groups = CAMPAIGNS["security"].groups()
    assert_no_fault(run_campaign(CAMPAIGNS["security"], Settings(work, SEED, cases=2)), 2 * len(groups))


@pytest.mark.slow
def test_killed_commands_leave_nothing(work: Path) -> None:
    """One case per signal; the `long` campaign in test_kills.py has every command."""
    only = ("encode", "decode_npy")
    assert_no_fault(run_campaign(CAMPAIGNS["kill"], Settings(work, SEED, cases=4, only=only)), 8)


@pytest.mark.slow
def test_storms_of_cancelled_calls_change_no_result(work: Path) -> None:
    only = ("image_openvino", "video_onnxruntime")
    assert_no_fault(run_campaign(CAMPAIGNS["cancel"], Settings(work, SEED, cases=1, only=only)), 2)


@pytest.mark.slow
def test_load_makes_nothing_wrong_and_nothing_grow(work: Path) -> None:
    settings = Settings(work, SEED, minutes=0.3, cases=1, only=("image_onnxruntime", "video_onnxruntime"))
    assert_no_fault(run_campaign(CAMPAIGNS["soak"], settings), 1)


# The campaigns can find a fault


class FaultyCampaign:
    """Cases that fail on purpose, in the functions at the end of this file."""

    name = "faulty"
    most_workers = 2
    batch = 1

    def __init__(self, seconds: float = 1.0, most_bytes: int = 100_000_000) -> None:
        self._seconds, self._most_bytes = seconds, most_bytes

    def groups(self) -> tuple[str, ...]:
        return ("right", "raises", "hangs", "crashes", "allocates")

    def cases_of(self, group: str) -> int | None:
        return None

    def task(self, case: Case, settings: Settings, place: Path) -> Task:
        return Task("faulty_cases", case.group, {"number": case.number}, self._seconds, self._most_bytes)

    def keep(self, case: Case, settings: Settings, place: Path, folder: Path) -> Task | None:
        return None


@pytest.mark.slow
def test_an_error_a_hang_a_crash_and_an_allocation_are_one_fault_each_and_the_campaign_goes_on(tmp_path: Path) -> None:
    summary = run_campaign(FaultyCampaign(), Settings(tmp_path, cases=2, keep=tmp_path / "kept"))
    kinds = {fault.group: (fault.kind, fault.count) for fault in summary.faults.values()}
    assert kinds == {
        "raises": ("traceback", 2),
        "hangs": ("hang", 2),
        "crashes": ("crash", 2),
        "allocates": ("memory", 2),
    }
    details = {fault.group: fault.detail for fault in summary.faults.values()}
    assert "KeyError: 'a foreign error'" in details["raises"]
    assert "in hangs" in details["hangs"], "the trace shows where it hangs"
    assert "SIGSEGV" in details["crashes"]
    rows = summary.to_json()["groups"]
    assert rows["right"] == {"right": 2, "refused": 0, "fault": 0, "cases": 2} | {
        key: rows["right"][key] for key in ("slowest", "peak_bytes")
    }
    assert rows["allocates"]["peak_bytes"] > 100_000_000
    kept = (tmp_path / "kept" / "faulty_raises_0" / "fault.txt").read_text()
    assert kept.startswith("scripts/campaign faulty --only raises --case 0 --seed 0\n")


@pytest.mark.long
@pytest.mark.slow
def test_the_fuzz_campaign_finds_faults_that_are_put_into_a_parser(work: Path, tmp_path: Path) -> None:
    class Faulty(FuzzCampaign):
        def groups(self) -> tuple[str, ...]:
            return ("faulty",)

        def task(self, case: Case, settings: Settings, place: Path) -> Task:
            task = super().task(case, settings, place)
            return Task("faulty_cases", task.function, task.arguments, 5, preparation=task.preparation)

        def keep(self, case: Case, settings: Settings, place: Path, folder: Path) -> Task | None:
            task = super().keep(case, settings, place, folder)
            assert task is not None
            return Task("faulty_cases", task.function, task.arguments, 5, preparation=task.preparation)

    settings = Settings(work, cases=200, keep=tmp_path)
    summary = run_campaign(Faulty(), settings)
    found = {fault.kind: fault for fault in summary.faults.values()}
    assert found.keys() == {"traceback", "pixels", "message", "memory"}, summary.text()
    number = found["traceback"].numbers[0]
    assert (tmp_path / f"fuzz_faulty_{number}" / "file.bin").is_file(), "the damaged file is kept"
    again = run_campaign(Faulty(), Settings(work, case=number))
    assert [(fault.kind, fault.numbers) for fault in again.faults.values()] == [("traceback", [number])]
    other = run_campaign(Faulty(), Settings(work, seed=99, cases=200))
    assert [fault.numbers for fault in other.faults.values()] != [fault.numbers for fault in summary.faults.values()]


@pytest.mark.slow
def test_a_valid_file_that_is_refused_is_a_fault_and_ends_its_group_alone(work: Path) -> None:
    class Refusing(FuzzCampaign):
        def groups(self) -> tuple[str, ...]:
            return ("refusing", "number")

        def task(self, case: Case, settings: Settings, place: Path) -> Task:
            task = super().task(case, settings, place)
            return Task("faulty_cases", task.function, task.arguments, 5, preparation=task.preparation)

    summary = run_campaign(Refusing(), Settings(work, cases=5, workers=1))
    assert [(fault.kind, fault.count) for fault in summary.faults.values()] == [("preparation", 1)]
    assert summary.to_json()["groups"]["number"]["cases"] == 5


def test_growth_of_threads_files_and_memory_is_found() -> None:
    before = [Held(10**9, 10, 20)] * 3
    assert growth(before, [Held(10**9 + 10**6, 11, 21)] * 3) is None
    assert "threads grew from 10 to 90" in str(growth(before, [Held(10**9, 90, 20)] * 3))
    assert "files grew" in str(growth(before, [Held(10**9, 10, 60)] * 3))
    assert "rss grew" in str(growth(before, [Held(2 * 10**9, 10, 20)] * 3))


@pytest.mark.parametrize("text", ["", "two\nlines", "a \0 byte", "x" * 5000])
def test_a_message_that_is_not_one_sentence_is_a_fault(text: str) -> None:
    assert sentence_fault(text) is not None
    assert sentence_fault("picture.png is empty: give another file") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "harm"),
    [
        ("outside.canary.touch()", "code in the file ran"),
        ("outside.secret.read_bytes()", "a file outside of the folder was opened"),
        ("import socket; socket.create_connection(('127.0.0.1', outside.port)).close()", "a connection was opened"),
        ("pass", None),
    ],
)
def test_harm_is_seen(code: str, harm: str | None, tmp_path: Path) -> None:
    if harm is not None and "opened" in harm and "file" in harm and sys.platform != "linux":
        pytest.skip("only Linux says which files are opened")
    from campaigns.watch import watched

    with watched(tmp_path / "outside") as outside:
        outside.forget()
        exec(code, {"outside": outside})
        assert outside.harm() == harm


# The command


def test_the_command_lists_the_groups_of_each_campaign() -> None:
    for name in ("fuzz", "kill", "soak", "cancel", "security"):
        done = command(name, "--list")
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) >= 4


@pytest.mark.slow
def test_the_command_writes_the_figures_and_ends_on_time(work: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    options = ["--minutes", "0.05", "--only", "number", "--work", str(work)]
    done = command("fuzz", *options, "--json", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - started < 60
    values: dict[str, Any] = json.loads((tmp_path / "a.json").read_text())
    assert values["faults"] == []
    assert values["groups"]["number"]["cases"] > 50
    text = (tmp_path / "a.md").read_text()
    assert "`scripts/campaign fuzz --minutes 0.05 --seed 0 --only number`" in text
    assert "| number |" in text
    assert command("fuzz", "--only", "nothing", "--work", str(work)).returncode == 2


@pytest.mark.long
@pytest.mark.slow
def test_ctrl_c_ends_a_campaign_with_the_summary_so_far_and_no_child(work: Path) -> None:
    words = [sys.executable, str(ROOT / "scripts" / "campaign"), "fuzz", "--work", str(work), "--only", "number"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        children = list(wait_for_children(process.pid))
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "fuzz stopped by Ctrl-C after" in output
    assert not [pid for pid in children if is_alive(pid)]


def test_the_processes_of_a_child_end_with_it(tmp_path: Path) -> None:
    child = Child(tmp_path)
    verdict = child.run(Task("faulty_cases", "starts_a_process", {"number": 0}, 10))
    assert verdict.ending == "right", verdict
    pid = int(verdict.detail)
    assert is_alive(pid)
    child.close()
    assert not is_alive(pid)
    assert marked_processes("no such mark") == []


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(ROOT / "scripts" / "campaign"), *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)


def wait_for_children(pid: int) -> Iterator[int]:
    import psutil

    for _ in range(600):
        found = psutil.Process(pid).children()
        if found:
            return iter([child.pid for child in found])
        time.sleep(0.1)
    raise AssertionError("the campaign started no child")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" not in status.read_text()
