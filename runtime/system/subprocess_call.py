"""A call that runs in a separate Python process. `worker.py` is the other end."""

import contextlib
import json
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

from ..errors import EngineError
from .interpreter import module_command, worker_environment

__all__ = ["SubprocessResult", "call_in_subprocess", "describe_exit"]

_POLL_SECONDS = 0.05
_LAST_LINE_SECONDS = 1.0  # to wait for the end of standard error, which a grandchild process may keep open
_TAIL_BYTES = 1 << 16  # of standard error, which are kept


@dataclass(frozen=True)
class SubprocessResult:
    """How a call in a separate process ended.

    Attributes:
        answer: what the call returned. None if the process ended without an answer.
        returncode: the exit code of the process. It means nothing if there is an answer: the process may still be
            ending by itself when the call closes its standard input.
        stderr_tail: the last line of its standard error. None if it wrote none.
    """

    answer: dict[str, Any] | None
    returncode: int
    stderr_tail: str | None

    @property
    def failure(self) -> str:
        """Why a process without an answer ended, for a message."""
        reason = f": {self.stderr_tail}" if self.stderr_tail is not None and not _was_killed(self.returncode) else ""
        return f"the process {describe_exit(self.returncode)}{reason}"


def call_in_subprocess(
    module: str, order: Mapping[str, Any], check: Callable[[], None] = lambda: None
) -> SubprocessResult:
    """Run a module in a fresh Python process, and wait for its answer.

    If this raises, including KeyboardInterrupt, the process is killed first.

    Args:
        module: the module, which calls `worker.serve_one_call`.
        order: the argument of the call, which is sent as one line of JSON.
        check: called while the process runs. It may raise to stop the call.

    Raises:
        EngineError: this program has no Python interpreter to start, or the system starts no process.
    """
    # Standard error goes through a pipe and not to a temporary file: a container may have no folder for such files.
    process = _started(module)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    errors = _LastLine(process.stderr)
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(order).encode("ascii") + b"\n")
            process.stdin.flush()
        received: list[bytes] = []
        reader = threading.Thread(target=lambda: received.append(_read_line(process)), daemon=True)
        reader.start()
        while reader.is_alive():
            check()
            reader.join(_POLL_SECONDS)
        answer = received[0]
    except BaseException:
        process.kill()
        raise
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()  # the process ends when its standard input closes
        process.wait()
        process.stdout.close()
        tail = errors.text()
    return SubprocessResult(json.loads(answer) if answer else None, process.returncode, tail)


def describe_exit(returncode: int) -> str:
    """How a process ended, by its exit code: a verb phrase for a message."""
    return (
        "was ended by the system, as when memory runs out"
        if _was_killed(returncode)
        else f"ended with code {returncode}"
    )


def _was_killed(returncode: int) -> bool:
    return returncode in (-9, 137)


def _started(module: str) -> "subprocess.Popen[bytes]":
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(module_command(module), stdin=pipe, stdout=pipe, stderr=pipe, env=worker_environment())
    except OSError as error:
        raise _not_started(error) from error


def _not_started(error: OSError) -> EngineError:
    reason = error.strerror or str(error)
    return EngineError(f"no Python process could be started to measure in: {reason} (see `ulimit -a`)")


def _read_line(process: "subprocess.Popen[bytes]") -> bytes:
    assert process.stdout is not None
    with contextlib.suppress(ValueError):  # the call ended and closed it
        return process.stdout.readline()
    return b""


class _LastLine:
    """Reads a stream in a thread, so that its writer never waits, and keeps the last line."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._kept = stream, b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def text(self) -> str | None:
        """The last line, or None if there is none. It is called after the process ended."""
        self._thread.join(_LAST_LINE_SECONDS)
        lines = self._kept.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else None

    def _read(self) -> None:
        with self._stream:
            while piece := self._stream.read1(_TAIL_BYTES):  # type: ignore[attr-defined]
                self._kept = (self._kept + piece)[-_TAIL_BYTES:]
