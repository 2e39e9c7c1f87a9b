"""The worker process of `subprocess_call`: it runs one call, answers, and ends when its parent process ends."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from ..errors import LatentRTError

__all__ = ["serve_one_call"]


def serve_one_call(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Read one JSON object from standard input, call `work` with it, and write the result to standard output.

    If `work` raises a LatentRTError or a MemoryError, the result is `{"error": ...}`. The parent keeps standard input
    open. When it closes, the parent has ended, and this process ends too.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches this process too, but the parent process ends it
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to standard error, not between the answers
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer = work(order)
    except LatentRTError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": "not enough memory"}
    answers.write(json.dumps(answer) + "\n")
    answers.close()


def _end_with_parent() -> None:
    os.read(0, 1)  # returns when the parent closes its end; nothing more is sent
    os._exit(1)
