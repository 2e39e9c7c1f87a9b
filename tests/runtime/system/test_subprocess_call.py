"""A call in a separate process: its answer, its failures, and that it never outlives the caller's exception."""

import os
import time
from pathlib import Path

import pytest

from latentrt.runtime.system.subprocess_call import call_in_subprocess

WORKER = """
import os, signal, sys, time
from latentrt.runtime.errors import EngineError
from latentrt.runtime.system.worker import serve_one_call

def work(order):
    print("printed by a library")
    match order["do"]:
        case "add":
            return {"sum": order["a"] + order["b"]}
        case "refuse":
            raise EngineError("it does not run")
        case "fail":
            raise KeyError("a bug")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            open(order["file"], "w").write(str(os.getpid()))
            time.sleep(60)

serve_one_call(work)
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that serves one call."""
    (tmp_path / "adding_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return "adding_worker"


def test_a_call_gives_its_answer_and_prints_nothing_into_it(worker: str) -> None:
    result = call_in_subprocess(worker, {"do": "add", "a": 2, "b": 3})
    assert (result.answer, result.stderr_tail) == ({"sum": 5}, "printed by a library")


def test_an_error_of_ours_is_an_answer(worker: str) -> None:
    assert call_in_subprocess(worker, {"do": "refuse"}).answer == {"error": "it does not run"}


def test_a_bug_gives_no_answer_and_the_last_line_of_its_traceback(worker: str) -> None:
    result = call_in_subprocess(worker, {"do": "fail"})
    assert result.answer is None
    assert result.failure == "the process ended with code 1: KeyError: 'a bug'"


def test_a_killed_process_gives_no_answer_and_no_line_of_its_log(worker: str) -> None:
    result = call_in_subprocess(worker, {"do": "die"})
    assert result.answer is None
    assert result.failure == "the process was ended by the system, as when memory runs out"


def test_an_exception_of_the_check_ends_the_process(worker: str, tmp_path: Path) -> None:
    file = tmp_path / "pid"

    def stop_once_it_works() -> None:
        if file.exists() and file.read_text():
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        call_in_subprocess(worker, {"do": "sleep", "file": str(file)}, stop_once_it_works)
    assert time.monotonic() - started < 50
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)
