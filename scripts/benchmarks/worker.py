"""Processes of their own for what is measured: engines keep their memory and their thread pools to themselves."""

import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Worker", "in_own_process"]

Run = Callable[[], NDArray[np.float32]]
_CALLS = 3
_SPAWN = multiprocessing.get_context("spawn")  # a fresh interpreter: a fork would inherit memory and thread pools


class Worker:
    """A process that opens one engine (`make(*arguments)` gives the call to time) and runs it when asked."""

    def __init__(self, make: Callable[..., Run], *arguments: Any) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()  # it is open

    def result(self) -> NDArray[np.float32]:
        """What one call gives; also a warm-up."""
        self._pipe.send("result")
        return self._pipe.recv()  # type: ignore[no-any-return]

    def seconds(self) -> tuple[float, float]:
        """A call's time on the clock, and its CPU time over all threads (waiting in a busy loop counts), in s: the
        medians of a few calls one after the other, as a server makes them, after one that is not counted."""
        self._pipe.send("seconds")
        return self._pipe.recv()  # type: ignore[no-any-return]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join()


def _serve(pipe: Connection, make: Callable[..., Run], arguments: tuple[Any, ...]) -> None:
    run = make(*arguments)
    gc.disable()
    pipe.send("open")
    while True:
        try:
            wanted = pipe.recv()
        except EOFError:
            return
        result = run()
        if wanted == "result":
            pipe.send(result)
            continue
        del result
        calls = [_timed(run) for _ in range(_CALLS)]
        pipe.send(tuple(map(statistics.median, zip(*calls, strict=True))))


def _timed(run: Run) -> tuple[float, float]:
    started, cpu_started = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - started, time.process_time() - cpu_started


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` in a fresh process; the result comes back, and all its memory is returned.

    Raises:
        RuntimeError: the process ended without a result; its traceback is on standard error.
    """
    pipe, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_answer, args=(theirs, function, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        return pipe.recv()
    except EOFError:
        raise RuntimeError(f"{function.__name__} failed") from None
    finally:
        process.join()


def _answer(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    pipe.send(function(*arguments))
