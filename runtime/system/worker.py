"""The other side of `child_process`: a process that measures one thing, answers, and ends with whoever asked."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from ..errors import LatentRTError

__all__ = ["answer_once"]


def answer_once(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Read one JSON object from standard input, and write what `work` makes of it to standard output, or
    `{"error": ...}`. Standard input stays open: when it closes, whoever asked is gone, and so is this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; ours ends this one
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
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
    os.read(0, 1)  # nothing comes any more: it returns when the other end is closed
    os._exit(1)
