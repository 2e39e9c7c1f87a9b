"""A child process that runs cases one at a time, within a limit of seconds. After a hang or a crash it is replaced."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .processes import MARK, end_marked
from .verdict import Verdict, fault

__all__ = ["Child", "Task"]

_ROOT = Path(__file__).parents[1]  # the folder that holds the package
_MOST_PREPARING_SECONDS = 300  # for imports and valid files, on busy cores
_GRACE_SECONDS = 10  # that the child may take to end itself after its limit
_MOST_DETAIL = 4000  # characters of a trace


@dataclass(frozen=True)
class Task:
    """A case as a call: `module.function(**arguments)` returns a `Verdict`.

    Attributes:
        module, function: the function in this package.
        arguments: JSON values.
        seconds: the limit; a longer run is a hang.
        most_bytes: the most memory that the case may add; more is a fault. None: not limited.
        preparation: JSON arguments of `module.prepare`, called once per process and arguments, without a limit. None:
            nothing to prepare.
    """

    module: str
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    seconds: float = 5
    most_bytes: int | None = 500_000_000
    preparation: dict[str, Any] | None = None


class Child:
    """Runs tasks in a process that is started when needed. One thread uses it; another one may call `end`.

    Args:
        folder: for the files of the process.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._mark = ""
        self._trace = folder / "stderr"
        self.ended = False

    def run(self, task: Task) -> Verdict:
        """Run a task. A hang, a crash or an error that the function does not expect is a fault."""
        if self.ended:
            return fault("ended", "the process was ended")
        process = self._started()
        assert process.stdin is not None
        started = time.monotonic()
        try:
            process.stdin.write(json.dumps(asdict(task)).encode() + b"\n")
            process.stdin.flush()
            line = self._answer(process, task.seconds + _MOST_PREPARING_SECONDS + _GRACE_SECONDS)
        except BrokenPipeError:
            line = b""
        if line:
            return Verdict.from_json(json.loads(line))
        return self._death(process, time.monotonic() - started)

    def end(self) -> None:
        """End the process and all that it started, from any thread. A running task then counts as ended."""
        self.ended = True
        process = self._process
        if process is not None:
            process.kill()
            end_marked(self._mark)

    def close(self) -> None:
        """End the process and all that it started, when no task is running."""
        self.ended = True
        self._stop()

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self._mark = uuid.uuid4().hex
            path = os.pathsep.join(filter(None, [str(_ROOT), str(_ROOT / "support"), os.environ.get("PYTHONPATH")]))
            environment = os.environ | {
                MARK: self._mark,
                "PYTHONPATH": path,
                "LATENTRT_CACHE": str(self.folder / "cache"),
                "ORT_DISABLE_TELEMETRY": "1",
            }
            with self._trace.open("ab") as trace:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "campaigns.child_main"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=trace,
                    env=environment,
                    cwd=self.folder,
                    start_new_session=True,  # Ctrl-C is for the frame, which then ends its children
                )
        return self._process

    def _answer(self, process: "subprocess.Popen[bytes]", seconds: float) -> bytes:
        assert process.stdout is not None
        deadline = time.monotonic() + seconds
        found = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not found.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return b""
                piece = os.read(process.stdout.fileno(), 1 << 16)
                if not piece:
                    return b""
                found += piece
        return found

    def _death(self, process: "subprocess.Popen[bytes]", seconds: float) -> Verdict:
        """The verdict on a process that gave no answer."""
        time.sleep(0.1)  # for the status of a process that is ending
        code = process.poll()
        self._stop()
        trace = self._trace.read_text(encoding="utf-8", errors="replace")[-_MOST_DETAIL:]
        self._trace.write_bytes(b"")
        if code is None or "Timeout (" in trace:  # as faulthandler writes it
            verdict = fault("hang", f"{trace}\nno end after {seconds:.0f} s")
        else:
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            verdict = fault("crash", f"{trace}\nthe process ended with {name}")
        return Verdict(verdict.ending, verdict.kind, verdict.detail, seconds)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        end_marked(self._mark)
