"""The processes of a case: each inherits a mark in its environment, by which the frame finds and ends it."""

import contextlib
import time

import psutil

__all__ = ["CASE_MARK", "MARK", "end_marked", "marked_processes", "wait_for_end"]

MARK = "LATENTRT_CAMPAIGN"
"""The environment variable that holds the mark of a child process of the frame."""

CASE_MARK = "LATENTRT_CAMPAIGN_CASE"
"""The environment variable that holds the mark of a command that a case runs."""


def marked_processes(mark: str, variable: str = MARK) -> list[psutil.Process]:
    """The living processes whose environment holds the mark."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # it ended meanwhile, or is another user's
            if process.environ().get(variable) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def wait_for_end(mark: str, seconds: float, variable: str = MARK) -> list[psutil.Process]:
    """Wait until no marked process is alive. Returns those that still are."""
    deadline = time.monotonic() + seconds
    while (alive := marked_processes(mark, variable)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive


def end_marked(mark: str, variable: str = MARK) -> None:
    """End all marked processes."""
    for _ in range(3):  # a process may start another one meanwhile
        alive = marked_processes(mark, variable)
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if not alive:
            return
        psutil.wait_procs(alive, timeout=5)
