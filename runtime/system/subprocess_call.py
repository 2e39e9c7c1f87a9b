"""One question to a process of its own, and its answer."""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Reply", "ask", "how_ended"]

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Reply:
    """What a process answered (None: nothing), the code that it ended with, and the last line that it logged."""

    answer: dict[str, Any] | None
    returncode: int
    said: list[str]

    @property
    def ending(self) -> str:
        """How it ended, for a message: what a process without an answer died of."""
        said = f": {self.said[-1]}" if self.said and not _was_killed(self.returncode) else ""
        return f"the process {how_ended(self.returncode)}{said}"


def ask(module: str, question: Mapping[str, Any], check: Callable[[], None] = lambda: None) -> Reply:
    """Run a module in a fresh interpreter: a line of JSON in, a line of JSON out. `check` is called while it runs, and
    may raise. On an exception, KeyboardInterrupt too, the process is ended first."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            _command(module), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8"
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(question) + "\n")
                process.stdin.flush()
            said: list[str] = []
            reader = threading.Thread(target=lambda: said.append(_line_of(process)), daemon=True)
            reader.start()
            while reader.is_alive():
                check()
                reader.join(_POLL_SECONDS)
            text = said[0]
        except BaseException:
            process.kill()
            raise
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # which ends it, if it has not
            process.wait()
            process.stdout.close()
        log.seek(0)
        logged = log.read().decode(errors="replace").strip().splitlines()[-1:]
    return Reply(json.loads(text) if text else None, process.returncode, logged)


def how_ended(returncode: int) -> str:
    """What became of a process that gave no answer."""
    return (
        "was ended by the system, as when memory runs out"
        if _was_killed(returncode)
        else f"ended with code {returncode}"
    )


def _was_killed(returncode: int) -> bool:
    return returncode in (-9, 137)


def _command(module: str) -> list[str]:
    # -P: a json.py in the user's folder is none of our business.
    return [sys.executable, "-P", "-m", module]


def _line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    with contextlib.suppress(ValueError):  # it was closed meanwhile
        return process.stdout.readline()
    return ""
