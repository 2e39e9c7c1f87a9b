"""What a forked child process gives up, and what it keeps.

Each case forks a process of its own: the process of the tests holds engines of other tests, and a child that frees one
may wait without end.
"""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

START = """
import gc, os, weakref
from latentrt.runtime.system.forked_process import finalize_in_own_process, keep_in_forked_child, observe_forks

class Engine:
    pass

def in_child(work):
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def run(case: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", START + textwrap.dedent(case)]  # Python 3.12 warns of each fork
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_observer_is_called_in_the_child_alone() -> None:
    run("""
        class Observer:
            calls = 0
            def after_fork(self):
                self.calls += 1

        observer = Observer()
        observe_forks(observer)
        assert in_child(lambda: observer.calls == 1)
        assert observer.calls == 0
    """)


def test_a_kept_object_is_never_freed_in_the_child() -> None:
    run("""
        def is_alive_without_references():
            del held[:]
            gc.collect()
            return watched() is not None

        held = [Engine()]
        keep_in_forked_child(held[0])
        watched = weakref.ref(held[0])
        assert in_child(is_alive_without_references)
        del held[:]
        assert watched() is None, "the parent process frees it"
    """)


def test_a_finalizer_runs_in_the_process_that_set_it() -> None:
    run("""
        def runs_none():
            del held[:]
            return ended == []

        ended = []
        held = [Engine()]
        finalize_in_own_process(held[0], ended.append, 1)
        assert in_child(runs_none)
        del held[:]
        assert ended == [1]
    """)
