"""A call that runs in a separate Python process. `worker.py` is the other end."""

import contextlib
import json
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

from ..errors import EngineError
from .interpreter import module_command, worker_environment

__all__ = ["SubprocessResult", "call_in_subprocess", "describe_exit"]

_POLL_SECONDS = 0.05


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
    with _log_file() as log:
        process = _started(module, log)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(order) + "\n")
                process.stdin.flush()
            received: list[str] = []
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
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines()
    return SubprocessResult(json.loads(answer) if answer else None, process.returncode, lines[-1] if lines else None)


def describe_exit(returncode: int) -> str:
    """How a process ended, by its exit code: a verb phrase for a message."""
    return (
        "was ended by the system, as when memory runs out"
        if _was_killed(returncode)
        else f"ended with code {returncode}"
    )


def _was_killed(returncode: int) -> bool:
    return returncode in (-9, 137)


def _log_file() -> IO[bytes]:
    """A file for the standard error of the process. It disappears when it is closed."""
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise _not_started(error) from error


def _started(module: str, log: IO[bytes]) -> "subprocess.Popen[str]":
    try:
        return subprocess.Popen(
            module_command(module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
            env=worker_environment(),
        )
    except OSError as error:
        raise _not_started(error) from error


def _not_started(error: OSError) -> EngineError:
    reason = error.strerror or str(error)
    return EngineError(f"no Python process could be started to measure in: {reason} (see `ulimit -a`)")


def _read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    with contextlib.suppress(ValueError):  # the call ended and closed it
        return process.stdout.readline()
    return ""
