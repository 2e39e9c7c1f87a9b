"""Threads that the system does not start are one sentence, and no hang."""

import threading

import pytest

from latentrt.runtime.errors import EngineError
from latentrt.runtime.system.thread_limit import check_threads


def test_threads_that_start_are_ended_again() -> None:
    before = threading.active_count()
    check_threads(4)
    check_threads(None)
    assert threading.active_count() == before


def test_a_limit_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    start, count = threading.Thread.start, iter(range(9))

    def limited(thread: threading.Thread) -> None:
        if next(count) >= 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(EngineError, match="needs 4 more threads, and the system starts 2: raise the limit of the user"):
        check_threads(4)
