"""Processes for measurements, so that engines share neither memory nor thread pools."""

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
_CALLS = 3  # timed calls of a measurement
_SPAWN = multiprocessing.get_context("spawn")  # a fresh interpreter: a fork would inherit memory and thread pools


class Worker:
    """A process that opens one engine and runs it on request. `make(*arguments)` returns the call to time."""

    def __init__(self, make: Callable[..., Run], *arguments: Any) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()  # the engine is open

    def result(self) -> NDArray[np.float32]:
        """Return the result of one call, which also warms up."""
        self._pipe.send("result")
        return self._pipe.recv()  # type: ignore[no-any-return]

    def seconds(self) -> tuple[float, float]:
        """Return the wall time and the CPU time of a call, in seconds: medians of three calls after a warm-up call.

        CPU time is that of all threads, and includes busy waiting.
        """
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
    """Run `function(*arguments)` in a new process, and return its result. All its memory is freed.

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
