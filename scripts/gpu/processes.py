"""Measurements in processes of their own, each with a time limit: one that hangs or dies costs its own row."""

import multiprocessing
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["Budget", "attempt"]

_SPAWN = multiprocessing.get_context("spawn")


class Budget:
    """The time that is left for the whole run."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left_seconds(self) -> float:
        return self._end - time.monotonic()


def attempt(budget: Budget, limit_seconds: float, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """`function(*arguments)` in a fresh process: {"status": "ok", ...} with what it gave, or "failed", "timed out" or
    "skipped" with the reason."""
    limit = min(limit_seconds, budget.left_seconds)
    if limit < 1:
        return {"status": "skipped", "reason": "no time left"}
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_serve, args=(theirs, function, arguments), daemon=False)
    process.start()
    theirs.close()
    try:
        if not ours.poll(limit):
            return {"status": "timed out", "reason": f"after {limit:.0f} s"}
        status, value = ours.recv()
    except EOFError:
        process.join()
        return {"status": "failed", "reason": f"the process ended with code {process.exitcode}"}
    finally:
        if process.is_alive():
            process.join(1)
            process.kill()
        process.join()
    return {"status": "ok", **value} if status else {"status": "failed", "reason": value}


def _serve(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        value = function(*arguments)
        pipe.send((True, value if isinstance(value, dict) else {"value": value}))
    except Exception as error:
        traceback.print_exc()
        pipe.send((False, (str(error).strip() or type(error).__name__).splitlines()[0]))
