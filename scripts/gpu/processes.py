"""Runs measurements in processes of their own: a process that hangs or dies loses only its own row."""

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
_MAX_TRACE = 3000  # characters of a traceback that the report keeps, from its end
_GRACE_SECONDS = 3.0  # time in which a process must end after its last answer

Key = tuple[str, str]
"""A measurement: (part, contender)."""
Measures = Mapping[Key, Callable[[], dict[str, Any]]]
"""Function of each measurement; it returns plain values for JSON."""

# Messages of libraries that cannot run here: ONNX Runtime without a kernel for a type, CUDA without one for the GPU.
_CANNOT = (
    "NOT_IMPLEMENTED",
    "Could not find an implementation",
    "no kernel image is available",
)
_CANNOT_KINDS = ("BackendUnavailable", "MissingExtra", "DeviceMemoryError", "OutOfMemoryError", "Unable")


class Unable(Exception):
    """A measurement is impossible here; the message is the reason."""


class Budget:
    """The time budget of the whole run, which starts when the object is made."""

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
    """The measurements of one process.

    Attributes:
        case: name of the case.
        asked: the measurements.
        measures: called in the process with `arguments`; returns the function of each measurement.
        arguments: arguments of `measures`.
        limit_seconds: time limit of each measurement; that of the first includes the start of the process.
        unless: reason why the job is skipped; None runs it.
        alone: False if the job may run while another job is running.
        meanwhile: True if the job needs no GPU, so that following jobs that are not `alone` may run in parallel.
        environment: environment variables of the process.
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
    """A running job. It starts when the object is made."""

    def __init__(self, budget: Budget, job: Job) -> None:
        self.job = job
        self._budget = budget
        self._pending = list(job.asked)
        self._stopped = job.unless
        self._process: Any = None
        if self._stopped is None and self._has_time:
            self._start()

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each measurement as soon as it is done.

        A row has "part", "case", "by", "status", and the measured values or, unless the status is "ok", the "reason".
        The other statuses are "skipped", "timed out" and "failed". After a timeout the remaining measurements are
        skipped. After the process ended, they go on in a new process.
        """
        try:
            while self._pending:
                status, values = self._next()
                part, by = self._pending.pop(0)
                yield {"part": part, "case": self.job.case, "by": by, "status": status, **values}
        finally:
            self.end()

    def end(self) -> int | None:
        """End the process and its children, and return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        connection.wait([process.sentinel], 0 if self._pending else _GRACE_SECONDS)
        with contextlib.suppress(ProcessLookupError):  # the process has ended, or does not lead a group yet
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
    os.setsid()  # children, such as builds and compilers, end with the process
    failed: tuple[str, dict[str, Any]] | None = None
    found: Measures = {}
    try:
        found = measures(*arguments)
    except Exception as error:
        failed = _failure(error)
    for key in asked:
        pipe.send(failed or _outcome(found, key))


def _outcome(measures: Measures, key: Key) -> tuple[str, dict[str, Any]]:
    try:
        return "ok", measures[key]()
    except Exception as error:  # an exception of any library becomes the row's reason
        return _failure(error)


def _failure(error: Exception) -> tuple[str, dict[str, Any]]:
    """Return the status and the values of a measurement that raised. Being unable to run here is no failure."""
    message = str(error).strip()
    reason = (message or type(error).__name__).splitlines()[0]
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & set(_CANNOT_KINDS) or any(words in message for words in _CANNOT):
        return "skipped", {"reason": reason}
    trace = "".join(traceback.format_exception(error))[-_MAX_TRACE:]
    return "failed", {"reason": f"{type(error).__name__}: {reason}", "trace": trace}
