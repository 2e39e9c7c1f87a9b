"""Engines that are opened while the one before them is at work."""

import gc
import threading
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from latentrt.runtime import EngineError
from latentrt.runtime.backends.opened_ahead import OpenedAhead

GRAPHS: list[Any] = [SimpleNamespace(name=name) for name in "abc"]


def test_the_next_one_opens_while_one_is_at_work() -> None:
    opened: list[str] = []
    second = threading.Event()

    def open_engine(graph: Any) -> str:
        opened.append(graph.name)
        if graph.name == "b":
            second.set()
        return f"engine {graph.name}"

    with OpenedAhead(open_engine, GRAPHS) as engines:
        assert engines(GRAPHS[0]) == "engine a"
        assert second.wait(10), "nobody has asked for it yet"
        assert engines(GRAPHS[1]) == "engine b"
        assert engines(GRAPHS[2]) == "engine c"
    assert opened == ["a", "b", "c"]


def test_what_does_not_open_is_told_when_it_is_asked_for() -> None:
    def open_engine(graph: Any) -> str:
        if graph.name == "b":
            raise EngineError("b is damaged")
        return "engine"

    with OpenedAhead(open_engine, GRAPHS) as engines:
        engines(GRAPHS[0])
        with pytest.raises(EngineError, match="b is damaged"):
            engines(GRAPHS[1])


def test_leaving_lets_go_of_what_nobody_asked_for() -> None:
    held: list[weakref.ref[Any]] = []

    class Engine:
        pass

    def open_engine(graph: Any) -> Engine:
        engine = Engine()
        held.append(weakref.ref(engine))
        return engine

    with OpenedAhead(open_engine, GRAPHS) as engines:
        engines(GRAPHS[0])
    gc.collect()
    assert held
    assert all(one() is None for one in held)
