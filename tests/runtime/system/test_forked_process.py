"""What a forked child process gives up, and what it keeps."""

import gc
import os
import weakref
from collections.abc import Callable

import pytest

from latentrt.runtime.system.forked_process import (
    finalize_in_own_process,
    keep_in_forked_child,
    observe_forks,
)

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # of Python 3.12
]


class Engine:
    """Stands for a native object."""


def in_child(work: Callable[[], bool]) -> bool:
    """What `work` gives in a forked process."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_observer_is_called_in_the_child_alone() -> None:
    class Observer:
        calls = 0

        def after_fork(self) -> None:
            self.calls += 1

    observer = Observer()
    observe_forks(observer)
    assert in_child(lambda: observer.calls == 1)
    assert observer.calls == 0


def test_a_kept_object_is_never_freed_in_the_child() -> None:
    def is_alive_without_references() -> bool:
        del held[:]
        gc.collect()
        return watched() is not None

    held = [Engine()]
    keep_in_forked_child(held[0])
    watched = weakref.ref(held[0])
    assert in_child(is_alive_without_references)
    del held[:]
    assert watched() is None, "the parent process frees it"


def test_a_finalizer_runs_in_the_process_that_set_it() -> None:
    def runs_none() -> bool:
        del held[:]
        return ended == []

    ended: list[int] = []
    held = [Engine()]
    finalize_in_own_process(held[0], ended.append, 1)
    assert in_child(runs_none)
    del held[:]
    assert ended == [1]
