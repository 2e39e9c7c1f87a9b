"""Measurements in processes of their own: one that hangs or dies costs its own row, and the run goes on."""

import contextlib
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

__all__ = ["Budget", "Job", "Measures", "Running", "Unable"]

_SPAWN = multiprocessing.get_context("spawn")
_MOST_TRACE = 3000  # characters: the end of a traceback, for whoever gets only the report
_GRACE_SECONDS = 3.0  # for a process that has answered everything, to end by itself

Key = tuple[str, str]
"""What is measured, and by whom."""
Measures = Mapping[Key, Callable[[], dict[str, Any]]]
"""Each gives plain values for JSON."""

# Other libraries' words for "not here": ONNX Runtime without a kernel for a type, CUDA without one for a GPU.
_CANNOT = (
    "NOT_IMPLEMENTED",
    "Could not find an implementation",
    "no kernel image is available",
)
_CANNOT_KINDS = ("BackendUnavailable", "MissingExtra", "DeviceMemoryError", "OutOfMemoryError", "Unable")


class Unable(Exception):
    """Something that cannot be measured here, and why."""


class Budget:
    """The time that is left for the whole run, from when this is made."""

    def __init__(self, seconds: float) -> None:
        self.started = time.monotonic()
        self._end = self.started + seconds

    @property
    def left_seconds(self) -> float:
        return self._end - time.monotonic()

    @property
    def spent_seconds(self) -> float:
        return time.monotonic() - self.started


@dataclass(frozen=True)
class Job:
    """What one process measures: `measures(*arguments)`, called there, gives a function for everything in `asked`.

    `limit_seconds` is for each of them; the first one's holds the start of the process. `unless`: why nothing of it is
    measured. `environment`: variables for that process. `meanwhile`: it needs no GPU, and the jobs after it that do not
    need the machine `alone` may run beside it.
    """

    case: str
    asked: tuple[Key, ...]
    measures: Callable[..., Measures]
    arguments: tuple[Any, ...] = ()
    limit_seconds: float = 60.0
    unless: str | None = None
    alone: bool = True
    meanwhile: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


class Running:
    """A job at work, from when this is made."""

    def __init__(self, budget: Budget, job: Job) -> None:
        self.job = job
        self._budget = budget
        self._pending = list(job.asked)
        self._stopped = job.unless
        self._process: Any = None
        if self._stopped is None and self._has_time:
            self._start()

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row for everything that was asked, as soon as it is measured: {"part", "case", "by", "status"} and what was
        measured, or the "reason" where the status is not "ok": "skipped", "timed out" or "failed".

        After one that was stopped the others are left out; after one that ended the process they go on in another.
        """
        try:
            while self._pending:
                status, values = self._next()
                part, by = self._pending.pop(0)
                yield {"part": part, "case": self.job.case, "by": by, "status": status, **values}
        finally:
            self.end()

    def end(self) -> int | None:
        """End the process and what it started; its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        connection.wait([process.sentinel], 0 if self._pending else _GRACE_SECONDS)
        with contextlib.suppress(ProcessLookupError):  # it has ended, or is not yet the head of a group
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
        self._pipe.close()
        return int(process.exitcode)

    @property
    def _has_time(self) -> bool:
        return self._budget.left_seconds >= 1

    def _next(self) -> tuple[str, dict[str, Any]]:
        if self._stopped is not None:
            return "skipped", {"reason": self._stopped}
        if not self._has_time:
            self.end()
            return "skipped", {"reason": "no time left"}
        if self._process is None:
            self._start()
        limit = min(self.job.limit_seconds, self._budget.left_seconds)
        if not self._pipe.poll(limit):
            self.end()
            self._stopped = f"not tried after {self._pending[0][0]} was stopped"
            return "timed out", {"reason": f"stopped after {limit:.0f} s"}
        try:
            answer: tuple[str, dict[str, Any]] = self._pipe.recv()
        except EOFError:
            return "failed", {"reason": f"the process ended with code {self.end()}"}
        return answer

    def _start(self) -> None:
        self._pipe, theirs = _SPAWN.Pipe(duplex=False)
        arguments = (theirs, self.job.measures, self.job.arguments, tuple(self._pending))
        self._process = _SPAWN.Process(target=_serve, args=arguments, daemon=False)
        before = dict(os.environ)
        os.environ.update(self.job.environment)
        try:
            self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        theirs.close()


def _serve(pipe: Any, measures: Callable[..., Measures], arguments: tuple[Any, ...], asked: tuple[Key, ...]) -> None:
    os.setsid()  # what it starts itself, as builds and compilers, ends with it
    failed: tuple[str, dict[str, Any]] | None = None
    found: Measures = {}
    try:
        found = measures(*arguments)
    except Exception as error:
        failed = _told(error)
    for key in asked:
        pipe.send(failed or _outcome(found, key))


def _outcome(measures: Measures, key: Key) -> tuple[str, dict[str, Any]]:
    try:
        return "ok", measures[key]()
    except Exception as error:  # whatever a library raises is this row's
        return _told(error)


def _told(error: Exception) -> tuple[str, dict[str, Any]]:
    """What became of a measurement. What this machine cannot run is no failure."""
    said = str(error).strip()
    reason = (said or type(error).__name__).splitlines()[0]
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & set(_CANNOT_KINDS) or any(words in said for words in _CANNOT):
        return "skipped", {"reason": reason}
    trace = "".join(traceback.format_exception(error))[-_MOST_TRACE:]
    return "failed", {"reason": f"{type(error).__name__}: {reason}", "trace": trace}
