"""One question to a process of its own, and its answer."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Reply", "ask"]


@dataclass(frozen=True)
class Reply:
    """What a process answered (None: nothing), the code that it ended with, and the last line that it logged."""

    answer: dict[str, Any] | None
    returncode: int
    said: list[str]


def ask(module: str, question: Mapping[str, Any]) -> Reply:
    """Run a module in a fresh interpreter: a line of JSON in, a line of JSON out. On an exception, KeyboardInterrupt
    too, the process is ended first."""
    # -P: a json.py in the user's folder is none of our business.
    command = [sys.executable, "-P", "-m", module]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8"
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(question) + "\n")
                process.stdin.flush()
            text = process.stdout.readline()
        except BaseException:
            process.kill()
            raise
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
            process.wait()
        log.seek(0)
        said = log.read().decode(errors="replace").strip().splitlines()[-1:]
    return Reply(json.loads(text) if text else None, process.returncode, said)
